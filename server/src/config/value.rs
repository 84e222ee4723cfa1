//! Values as flags, environment and configuration file write them, in the notation of Go's `flag` package.
//!
//! Reading a value checks its form only. What it means, and whether it fits its neighbours, is decided later.

use std::time::Duration;

use super::gates;
use super::url::{Url, parse_urls};

/// What kind of value a flag takes, hence how its text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true`, `false` and Go's other spellings; on the command line the value may be left out.
    Bool,
    /// An unsigned integer of so many bits, in base 10, 16 (`0x`), 8 (`0`, `0o`) or 2 (`0b`).
    Uint(u32),
    /// A signed integer of 64 bits, same notations.
    Int,
    /// A duration such as `1m30s`; nanoseconds as an integer in a configuration file.
    Duration,
    /// Any text.
    Text,
    /// One of the given words.
    Choice(&'static [&'static str]),
    /// A comma-separated list of the given words.
    Choices(&'static [&'static str]),
    /// Comma-separated listen or advertise URLs: sorted, without duplicates. Empty text leaves the default.
    Urls,
    /// Like `Urls`, or `*` for any.
    Origins,
    /// A comma-separated set of texts: sorted, without duplicates.
    Set,
    /// A comma-separated list of texts, in the order given.
    List,
    /// `Gate=bool,...`; later assignments add to earlier ones.
    Gates,
}

/// A value of some [`Kind`], its form checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Uint`].
    Uint(u64),
    /// Of [`Kind::Int`].
    Int(i64),
    /// Of [`Kind::Duration`], in nanoseconds. Go's durations are signed.
    Duration(i64),
    /// Of [`Kind::Text`] and [`Kind::Choice`].
    Text(String),
    /// Of [`Kind::Urls`].
    Urls(Vec<Url>),
    /// Of [`Kind::Origins`], [`Kind::Set`], [`Kind::List`] and [`Kind::Choices`].
    List(Vec<String>),
    /// Of [`Kind::Gates`], in the order set.
    Gates(Vec<(gates::Name, bool)>),
}

impl Kind {
    /// Reads `text`. The error is the reason alone, in Go's words; the caller says which flag it was.
    pub fn read(self, text: &str) -> Result<Value, String> {
        match self {
            Kind::Bool => parse_bool(text).map(Value::Bool).ok_or_else(|| "parse error".to_owned()),
            Kind::Uint(64) => parse_uint(text, 64).map(Value::Uint),
            // etcd reads these itself and lets the reason of the library through.
            Kind::Uint(bits) => parse_uint(text, bits).map(Value::Uint).map_err(|reason| {
                let reason = if reason == "parse error" { "invalid syntax" } else { &reason };
                format!("strconv.ParseUint: parsing {text:?}: {reason}")
            }),
            Kind::Int => parse_int(text).map(Value::Int),
            Kind::Duration => parse_duration(text).map(Value::Duration).map_err(|_| "parse error".to_owned()),
            Kind::Text => Ok(Value::Text(text.to_owned())),
            Kind::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Kind::Choice(_) => Err("invalid value".to_owned()),
            Kind::Choices(words) => match text.split(',').find(|word| !words.contains(word)) {
                Some(word) => Err(format!("invalid value {word:?}")),
                None => Ok(Value::List(sorted_set(text.split(',')))),
            },
            Kind::Urls => parse_urls(text.split(',')).map(|urls| Value::Urls(without_duplicates(urls))),
            Kind::Origins if text == "*" => Ok(Value::List(vec!["*".to_owned()])),
            Kind::Origins => {
                let urls = parse_urls(text.split(','))?;
                Ok(Value::List(without_duplicates(urls).iter().map(Url::to_string).collect()))
            }
            Kind::Set => Ok(Value::List(sorted_set(text.split(',')))),
            Kind::List => Ok(Value::List(text.split(',').map(str::to_owned).collect())),
            Kind::Gates => gates::parse(text).map(Value::Gates),
        }
    }

    /// The value when nothing was said: the flag's default text, where the empty text means "nothing" for lists.
    pub fn read_default(self, text: &str) -> Result<Value, String> {
        match self {
            Kind::Urls if text.is_empty() => Ok(Value::Urls(Vec::new())),
            Kind::Set | Kind::List | Kind::Choices(_) if text.is_empty() => Ok(Value::List(Vec::new())),
            _ => self.read(text),
        }
    }
}

fn without_duplicates(mut urls: Vec<Url>) -> Vec<Url> {
    urls.dedup(); // they come sorted
    urls
}

fn sorted_set<'a>(parts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut parts: Vec<String> = parts.map(str::to_owned).collect();
    parts.sort();
    parts.dedup();
    parts
}

/// The spellings of Go's `strconv.ParseBool`.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
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

fn parse_uint(text: &str, bits: u32) -> Result<u64, String> {
    assert!(matches!(bits, 32 | 64), "Go's flags have 32 and 64 bits");
    let (digits, base) = digits_and_base(text).ok_or("parse error")?;
    let value = u64::from_str_radix(&digits, base).map_err(|_| "value out of range")?;
    if bits == 32 && value > u64::from(u32::MAX) { Err("value out of range".to_owned()) } else { Ok(value) }
}

fn parse_int(text: &str) -> Result<i64, String> {
    let (negative, magnitude) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = i128::from(parse_uint(magnitude, 64)?);
    let value = if negative { -magnitude } else { magnitude };
    i64::try_from(value).map_err(|_| "value out of range".to_owned())
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

/// Go's `time.ParseDuration`: `[-+](number unit)+`, where numbers may have a fraction and a lone `0` needs no unit.
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

/// Writes a duration as Go prints it: `1m30s`, `100ms`, `1.5µs`, `0s`.
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
        const CASES: &[(&str, Result<i64, &str>)] = &[
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
            ("9223372036854775808", Err("value out of range")),
            ("99999999999999999999", Err("value out of range")),
            ("", Err("parse error")),
            ("-", Err("parse error")),
            ("0x", Err("parse error")),
            ("08", Err("parse error")),
            ("1__0", Err("parse error")),
            ("_1", Err("parse error")),
            ("1_", Err("parse error")),
            ("1.5", Err("parse error")),
            ("1e3", Err("parse error")),
            (" 1", Err("parse error")),
            ("ten", Err("parse error")),
        ];
        for (text, expected) in CASES {
            assert_eq!(parse_int(text), expected.map_err(str::to_owned), "{text:?}");
        }
        assert_eq!(Kind::Uint(32).read("4294967295"), Ok(Value::Uint(4_294_967_295)));
        let reason = |text: &str| Kind::Uint(32).read(text).expect_err("too large or malformed");
        assert_eq!(reason("4294967296"), "strconv.ParseUint: parsing \"4294967296\": value out of range");
        assert_eq!(reason("x"), "strconv.ParseUint: parsing \"x\": invalid syntax");
        assert_eq!(Kind::Uint(64).read("-1"), Err("parse error".to_owned()));
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

    #[test]
    fn lists_and_choices() {
        let texts = |texts: &[&str]| Value::List(texts.iter().map(|text| text.to_string()).collect());
        assert_eq!(Kind::Set.read("b,a,b"), Ok(texts(&["a", "b"])));
        assert_eq!(Kind::List.read("b,a,b"), Ok(texts(&["b", "a", "b"])));
        assert_eq!(Kind::Origins.read("*"), Ok(texts(&["*"])));
        assert_eq!(Kind::Origins.read("http://b:1,http://a:1"), Ok(texts(&["http://a:1", "http://b:1"])));
        assert!(Kind::Origins.read("a").is_err());
        assert_eq!(Kind::Choice(&["new", "existing"]).read("old"), Err("invalid value".to_owned()));
        assert_eq!(Kind::Choices(&["gone"]).read("gone,not-yet"), Err("invalid value \"not-yet\"".to_owned()));
        assert_eq!(Kind::Bool.read("yes"), Err("parse error".to_owned()));
    }
}
