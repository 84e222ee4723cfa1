//! Numbers, booleans and durations as Go writes and reads them: flags, configuration and logs of etcd have them so.

use std::time::Duration;

/// The spellings of Go's `strconv.ParseBool`.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Why a text is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberError {
    /// It is not written as one.
    Syntax,
    /// It is beyond the type.
    Range,
}

/// Digits and base of an integer literal as Go's base-0 parsing sees it, or `None` if it is not well-formed.
fn digits_and_base(text: &str) -> Option<(String, u32)> {
    let lower = text.to_ascii_lowercase();
    let (digits, base, prefixed) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16, true),
        [b'0', b'o', ..] => (&lower[2..], 8, true),
        [b'0', b'b', ..] => (&lower[2..], 2, true),
        [b'0', _, ..] => (&lower[1..], 8, true),
        _ => (lower.as_str(), 10, false),
    };
    // An underscore may stand between digits, or between the base's prefix and a digit.
    let mut may_follow = prefixed;
    for character in digits.chars() {
        match character {
            '_' if may_follow => may_follow = false,
            '_' => return None,
            digit if digit.is_digit(base) => may_follow = true,
            _ => return None,
        }
    }
    let ends_in_digit = digits.ends_with(|last: char| last != '_');
    let any_digit = !digits.is_empty() && ends_in_digit;
    any_digit.then(|| (digits.replace('_', ""), base))
}

/// An unsigned integer of 32 or 64 bits, in base 10, 16 (`0x`), 8 (`0`, `0o`) or 2 (`0b`).
pub fn parse_uint(text: &str, bits: u32) -> Result<u64, NumberError> {
    assert!(matches!(bits, 32 | 64), "Go's flags have 32 and 64 bits");
    let (digits, base) = digits_and_base(text).ok_or(NumberError::Syntax)?;
    let value = u64::from_str_radix(&digits, base).map_err(|_| NumberError::Range)?;
    if bits == 32 && value > u64::from(u32::MAX) { Err(NumberError::Range) } else { Ok(value) }
}

/// A signed integer of 64 bits, in the same notations.
pub fn parse_int(text: &str) -> Result<i64, NumberError> {
    let (negative, magnitude) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = i128::from(parse_uint(magnitude, 64)?);
    let value = if negative { -magnitude } else { magnitude };
    i64::try_from(value).map_err(|_| NumberError::Range)
}

/// Units of Go's durations in nanoseconds, longest names first so that `ms` is not read as `m`.
const DURATION_UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000), // U+00B5, micro sign
    ("μs", 1_000), // U+03BC, Greek letter mu
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3600 * 1_000_000_000),
];

/// Go's `time.ParseDuration`, in nanoseconds: `[-+](number unit)+`, where numbers may have a fraction and a lone `0` needs
/// no unit.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanoseconds: u128 = 0;
    while !rest.is_empty() {
        let whole = take_digits(&mut rest);
        let fraction = match rest.strip_prefix('.') {
            Some(behind) => {
                rest = behind;
                take_digits(&mut rest)
            }
            None => "",
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let name_end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(name_end);
        if name.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let Some((_, unit)) = DURATION_UNITS.iter().find(|(known, _)| *known == name) else {
            return Err(format!("time: unknown unit {name:?} in duration {text:?}"));
        };
        rest = behind;
        nanoseconds += scaled(whole, fraction, *unit).ok_or_else(invalid)?;
        if nanoseconds > 1 << 63 {
            return Err(invalid());
        }
    }
    let signed = if negative { -(nanoseconds as i128) } else { nanoseconds as i128 };
    i64::try_from(signed).map_err(|_| invalid())
}

fn take_digits<'a>(rest: &mut &'a str) -> &'a str {
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, behind) = rest.split_at(end);
    *rest = behind;
    digits
}

/// `whole.fraction` times `unit`, or `None` if that is beyond any duration.
fn scaled(whole: &str, fraction: &str, unit: u64) -> Option<u128> {
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
    let mut part: u128 = 0;
    let mut scale: u128 = 1;
    for digit in fraction.bytes().take(18) {
        part = part * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    Some(whole * u128::from(unit) + part * u128::from(unit) / scale)
}

/// A duration as Go prints it: `1m30s`, `100ms`, `1.5µs`, `0s`.
pub fn format_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    let with_fraction = |value: u128, unit: u128| {
        let fraction = value % unit;
        if fraction == 0 {
            return (value / unit).to_string();
        }
        let width = unit.ilog10() as usize;
        let digits = format!("{fraction:0width$}");
        format!("{}.{}", value / unit, digits.trim_end_matches('0'))
    };
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => format!("{}µs", with_fraction(nanoseconds, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", with_fraction(nanoseconds, 1_000_000)),
        _ => {
            let minutes = nanoseconds / 60_000_000_000;
            let seconds = with_fraction(nanoseconds % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_as_go_reads_them() {
        const CASES: &[(&str, Result<i64, NumberError>)] = &[
            ("0", Ok(0)),
            ("128", Ok(128)),
            ("0x10", Ok(16)),
            ("0X1F", Ok(31)),
            ("010", Ok(8)),
            ("0o17", Ok(15)),
            ("0b101", Ok(5)),
            ("1_000", Ok(1000)),
            ("0x_10", Ok(16)),
            ("+5", Ok(5)),
            ("-5", Ok(-5)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775808", Err(NumberError::Range)),
            ("99999999999999999999", Err(NumberError::Range)),
            ("", Err(NumberError::Syntax)),
            ("-", Err(NumberError::Syntax)),
            ("0x", Err(NumberError::Syntax)),
            ("08", Err(NumberError::Syntax)),
            ("1__0", Err(NumberError::Syntax)),
            ("_1", Err(NumberError::Syntax)),
            ("1_", Err(NumberError::Syntax)),
            ("1.5", Err(NumberError::Syntax)),
            ("1e3", Err(NumberError::Syntax)),
            (" 1", Err(NumberError::Syntax)),
            ("ten", Err(NumberError::Syntax)),
        ];
        for (text, expected) in CASES {
            assert_eq!(parse_int(text), *expected, "{text:?}");
        }
        assert_eq!(parse_uint("4294967295", 32), Ok(4_294_967_295));
        assert_eq!(parse_uint("4294967296", 32), Err(NumberError::Range));
        assert_eq!(parse_uint("-1", 64), Err(NumberError::Syntax));
    }

    #[test]
    fn durations_as_go_reads_them() {
        const SECOND: i64 = 1_000_000_000;
        const CASES: &[(&str, Option<i64>)] = &[
            ("0", Some(0)),
            ("5s", Some(5 * SECOND)),
            ("1m30s", Some(90 * SECOND)),
            ("1.5h", Some(5400 * SECOND)),
            (".5s", Some(SECOND / 2)),
            ("1.s", Some(SECOND)),
            ("100ms", Some(SECOND / 10)),
            ("3us", Some(3000)),
            ("3µs", Some(3000)),
            ("3μs", Some(3000)),
            ("7ns", Some(7)),
            ("-2s", Some(-2 * SECOND)),
            ("+2s", Some(2 * SECOND)),
            ("2540400h10m10s", Some((2_540_400 * 3600 + 610) * SECOND)),
            ("", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("5 s", None),
            ("5d", None),
            ("3000000h", None),
            ("99999999999999999999s", None),
        ];
        for (text, expected) in CASES {
            assert_eq!(parse_duration(text).ok(), *expected, "{text:?}");
        }
    }

    #[test]
    fn durations_as_go_prints_them() {
        const CASES: &[(u64, &str)] = &[
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (100_000_000, "100ms"),
            (1_000_000_000, "1s"),
            (90_050_000_000, "1m30.05s"),
            (600_000_000_000, "10m0s"),
            (7_200_000_000_000, "2h0m0s"),
        ];
        for (nanoseconds, text) in CASES {
            assert_eq!(format_duration(Duration::from_nanos(*nanoseconds)), *text);
            assert_eq!(parse_duration(text), Ok(*nanoseconds as i64), "what is printed can be read");
        }
    }
}
