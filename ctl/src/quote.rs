//! Text as Go's formatting writes and reads it: quoted strings, durations, sizes, byte escapes.
//!
//! Pure functions. Where Go and Rust disagree about rarely used printable characters, the escaped form may differ.

use plinth_api::go::{self, NumberError};
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

/// Reads a Go duration that is not negative: `5s`, `1m30s`, `250ms`, `1.5h`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let nanos = go::parse_duration(text)?;
    let nanos = u64::try_from(nanos).map_err(|_| format!("time: invalid duration {}", quoted(text.as_bytes())))?;
    Ok(Duration::from_nanos(nanos))
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
    go::parse_int(text).map_err(|error| match error {
        NumberError::Syntax => refused("ParseInt", text, "invalid syntax"),
        NumberError::Range => refused("ParseInt", text, "value out of range"),
    })
}

fn number_error(function: &str, text: &str, error: &std::num::ParseIntError) -> String {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let what = match error.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    refused(function, text, what)
}

fn refused(function: &str, text: &str, what: &str) -> String {
    format!("strconv.{function}: parsing {}: {what}", quoted(text.as_bytes()))
}

/// Go's boolean words.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    go::parse_bool(text).ok_or_else(|| refused("ParseBool", text, "invalid syntax"))
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
