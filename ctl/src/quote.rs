//! Text as Go's formatting writes and reads it: quoted strings, durations, sizes, byte escapes.
//!
//! Pure functions. Where Go and Rust disagree about rarely used printable characters, the escaped form may differ.

use std::fmt::Write;
use std::time::Duration;

/// `%q`: double quotes, with escapes for what does not print and for bytes that are not UTF-8.
pub fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push_quoted(&mut out, c));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

fn push_quoted(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        ' '..='~' => out.push(c),
        _ if c.is_ascii() => {
            let _ = write!(out, "\\x{:02x}", u32::from(c));
        }
        _ if prints(c) => out.push(c),
        _ if u32::from(c) > 0xffff => {
            let _ = write!(out, "\\U{:08x}", u32::from(c));
        }
        _ => {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        }
    }
}

/// Behind a letter, combining marks count as printing, as they do in Go.
fn prints(c: char) -> bool {
    !c.is_whitespace() && format!("a{c}").escape_debug().count() == 2
}

/// Reads a double-quoted Go string at the start of `text`; gives its value and what follows it.
pub fn unquote(text: &str) -> Option<(Vec<u8>, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut value = Vec::new();
    loop {
        let c = rest.chars().next()?;
        rest = &rest[c.len_utf8()..];
        match c {
            '"' => return Some((value, rest)),
            '\\' => rest = unescape(rest, &mut value)?,
            c => value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// One escape, behind its backslash.
fn unescape<'a>(text: &'a str, value: &mut Vec<u8>) -> Option<&'a str> {
    let c = text.chars().next()?;
    let simple = match c {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        '"' => b'"',
        'x' => {
            return number(text, 1, 2, 16).and_then(|(n, rest)| Some((u8::try_from(n).ok()?, rest))).map(
                |(n, rest)| {
                    value.push(n);
                    rest
                },
            );
        }
        '0'..='7' => {
            return number(text, 0, 3, 8).and_then(|(n, rest)| Some((u8::try_from(n).ok()?, rest))).map(|(n, rest)| {
                value.push(n);
                rest
            });
        }
        'u' | 'U' => {
            let (code, rest) = number(text, 1, if c == 'u' { 4 } else { 8 }, 16)?;
            value.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(rest);
        }
        _ => return None,
    };
    value.push(simple);
    Some(&text[1..])
}

fn number(text: &str, from: usize, digits: usize, radix: u32) -> Option<(u32, &str)> {
    let slice = text.get(from..from + digits).filter(|slice| slice.chars().all(|c| c.is_digit(radix)))?;
    Some((u32::from_str_radix(slice, radix).ok()?, &text[from + digits..]))
}

/// `\x61\x62`, the form of keys and values under `--hex`.
pub fn hex_escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "\\x{byte:02x}");
        out
    })
}

/// A duration as Go prints it: `1.5s`, `12.3ms`, `2m0.5s`.
pub fn duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanos, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 6)),
        _ => {
            let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
            let seconds = decimal(rest, 9);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// `number / 10^digits` without trailing zeros.
fn decimal(number: u128, digits: usize) -> String {
    let unit = 10u128.pow(u32::try_from(digits).expect("a handful of digits"));
    let fraction = format!("{:0digits$}", number % unit);
    match fraction.trim_end_matches('0') {
        "" => (number / unit).to_string(),
        fraction => format!("{}.{fraction}", number / unit),
    }
}

/// Reads a Go duration: `5s`, `1m30s`, `250ms`, `1.5h`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {}", quoted(text.as_bytes()));
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.parse::<f64>().is_ok() {
        return Err(format!("time: missing unit in duration {}", quoted(text.as_bytes())));
    }
    let (mut rest, mut total) = (text, 0.0f64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(invalid()),
        };
        total += number * unit;
        rest = &rest[end..];
    }
    if text.is_empty() { Err(invalid()) } else { Duration::try_from_secs_f64(total).map_err(|_| invalid()) }
}

/// Reads a whole number in the given base as Go does, errors included.
pub fn parse_int(text: &str, base: u32) -> Result<i64, String> {
    i64::from_str_radix(text, base).map_err(|error| number_error("ParseInt", text, &error))
}

/// Reads a whole number without a sign.
pub fn parse_uint(text: &str, base: u32) -> Result<u64, String> {
    match text.starts_with('+') {
        true => Err(format!("strconv.ParseUint: parsing {}: invalid syntax", quoted(text.as_bytes()))),
        false => u64::from_str_radix(text, base).map_err(|error| number_error("ParseUint", text, &error)),
    }
}

/// Reads the number of a flag, which may say its base: `12`, `0x1f`, `0o17`, `0b11`.
pub fn parse_flag_int(text: &str) -> Result<i64, String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.starts_with(['+', '-']) {
        return Err(format!("strconv.ParseInt: parsing {}: invalid syntax", quoted(text.as_bytes())));
    }
    i64::from_str_radix(&format!("{sign}{digits}"), base).map_err(|error| number_error("ParseInt", text, &error))
}

fn number_error(function: &str, text: &str, error: &std::num::ParseIntError) -> String {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let what = match error.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    format!("strconv.{function}: parsing {}: {what}", quoted(text.as_bytes()))
}

/// Go's boolean words.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quoted(text.as_bytes()))),
    }
}

/// A size in decimal units: `25 kB`, `2.1 GB`.
pub fn size(bytes: u64) -> String {
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let (mut unit, mut power) = (0, 1u64);
    while unit < 6 && bytes / power >= 1000 {
        power *= 1000;
        unit += 1;
    }
    let name = ["B", "kB", "MB", "GB", "TB", "PB", "EB"][unit];
    let value = (bytes as f64 / power as f64 * 10.0 + 0.5).floor() / 10.0;
    if value < 10.0 { format!("{value:.1} {name}") } else { format!("{value:.0} {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_like_go() {
        assert_eq!(quoted(b"a\"b\\\n\x00\x7f\xff"), r#""a\"b\\\n\x00\x7f\xff""#);
        assert_eq!(quoted("é\u{a0}\u{feff}".as_bytes()), "\"é\\u00a0\\ufeff\"");
        assert_eq!(hex_escaped(b"ab"), r"\x61\x62");
    }

    #[test]
    fn unquotes_what_it_quotes() {
        for bytes in [&b"plain"[..], b"a\"b\\\n\x00\xff", "é\u{a0}\u{1F600}".as_bytes(), b""] {
            assert_eq!(unquote(&quoted(bytes)), Some((bytes.to_vec(), "")));
        }
        assert_eq!(unquote("\"\\101\\u00e9\" rest"), Some(("Aé".as_bytes().to_vec(), " rest")));
        for broken in ["", "a", "\"a", "\"\\", "\"\\q\"", "\"\\xg0\"", "\"\\777\"", "\"\\ud800\"", "\"\\xé\""] {
            assert_eq!(unquote(broken), None, "{broken}");
        }
    }

    #[test]
    fn durations() {
        let printed = |nanos| duration(Duration::from_nanos(nanos));
        assert_eq!(printed(0), "0s");
        assert_eq!(printed(1_500), "1.5µs");
        assert_eq!(printed(12_345_678), "12.345678ms");
        assert_eq!(printed(2_000_000_000), "2s");
        assert_eq!(printed(3_661_500_000_000), "1h1m1.5s");
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for broken in ["", "5", "s", "5x", "-5s", "1..2s", "99999999999999999999h"] {
            assert!(parse_duration(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn numbers_and_their_errors() {
        assert_eq!((parse_int("-12", 10), parse_int("1f", 16), parse_uint("ff", 16)), (Ok(-12), Ok(31), Ok(255)));
        let invalid = "strconv.ParseInt: parsing \"x\": invalid syntax";
        assert_eq!(parse_int("x", 16).as_ref().map_err(String::as_str), Err(invalid));
        let range = "strconv.ParseUint: parsing \"1ffffffffffffffff\": value out of range";
        assert_eq!(parse_uint("1ffffffffffffffff", 16).as_ref().map_err(String::as_str), Err(range));
        assert!(parse_uint("-1", 16).is_err() && parse_uint("+1", 16).is_err());
        for (text, number) in [("12", 12), ("-12", -12), ("0x1f", 31), ("-0X1F", -31), ("017", 15), ("0", 0)] {
            assert_eq!(parse_flag_int(text), Ok(number), "{text}");
        }
        for broken in ["", "-", "--1", "0x", "0x-1", "9x", "9223372036854775808"] {
            assert!(parse_flag_int(broken).is_err(), "{broken}");
        }
        assert!(parse_bool("T") == Ok(true) && parse_bool("0") == Ok(false) && parse_bool("yes").is_err());
    }

    #[test]
    fn sizes() {
        for (bytes, text) in
            [(9, "9 B"), (20_480, "20 kB"), (2_147_483_648, "2.1 GB"), (999, "999 B"), (1_000, "1.0 kB")]
        {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(u64::MAX), "18 EB");
    }
}
