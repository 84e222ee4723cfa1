//! Integers out of JSON numbers: `1e3`, `1.50e1` and `-0` are some, `1.5` is none.

/// The digits of a JSON number's integer, with its sign, or nothing if it is none. `text` must be a number and nothing
/// else.
fn normalized(text: &[u8]) -> Option<(bool, Vec<u8>)> {
    /// Digits of the largest number of 64 bits.
    const DIGITS_MAX: i64 = 20;
    let (negative, rest) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (whole, rest) = rest.split_at(digits(rest));
    let is_whole = !whole.is_empty() && (whole.len() == 1 || whole[0] != b'0');
    let (fraction, rest) = match rest.strip_prefix(b".") {
        Some(rest) => {
            let (fraction, rest) = rest.split_at(digits(rest));
            (Some(fraction), rest)
        }
        None => (None, rest),
    };
    let exponent = match rest {
        [] => None,
        [b'e' | b'E', exponent @ ..] => Some(exponent),
        _ => return None,
    };
    if !is_whole || fraction.is_some_and(<[u8]>::is_empty) {
        return None;
    }
    let exponent: i64 = match exponent {
        // No more than 32 bits of it; and Rust, too, takes a sign in front.
        Some(exponent) => std::str::from_utf8(exponent).ok()?.parse::<i32>().ok()?.into(),
        None => 0,
    };
    let whole = if whole == b"0" { &[][..] } else { whole };
    let fraction = fraction.unwrap_or_default();
    let fraction = &fraction[..fraction.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1)];
    if whole.is_empty() && fraction.is_empty() {
        return Some((false, b"0".to_vec()));
    }
    let (whole_len, fraction_len) = (whole.len() as i64, fraction.len() as i64);
    let mut number = whole.to_vec();
    if exponent >= 0 {
        if fraction_len > exponent || whole_len + exponent > DIGITS_MAX {
            return None;
        }
        number.extend_from_slice(fraction);
        number.resize((whole_len + exponent) as usize, b'0');
    } else {
        let kept = usize::try_from(whole_len + exponent).ok()?;
        if fraction_len > 0 || number[kept..].iter().any(|digit| *digit != b'0') {
            return None;
        }
        number.truncate(kept);
    }
    Some((negative, number))
}

/// A signed integer of 64 bits.
pub(super) fn signed(text: &[u8]) -> Option<i64> {
    if let Some(small) = plain(text) {
        return Some(small as i64);
    }
    let (negative, digits) = normalized(text)?;
    let digits = String::from_utf8(digits).ok()?;
    if negative { format!("-{digits}").parse().ok() } else { digits.parse().ok() }
}

/// An unsigned integer of 64 bits.
pub(super) fn unsigned(text: &[u8]) -> Option<u64> {
    if let Some(small) = plain(text) {
        return Some(small);
    }
    let (negative, digits) = normalized(text)?;
    if negative { None } else { String::from_utf8(digits).ok()?.parse().ok() }
}

/// The usual case: up to 18 digits and nothing else, which fits any kind.
fn plain(text: &[u8]) -> Option<u64> {
    let leads = matches!(text, [b'0'] | [b'1'..=b'9', ..]);
    if !leads || text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}
