//! Values as flags, environment and configuration file write them, in the notation of Go's `flag` package.
//!
//! Reading a value checks its form only. What it means, and whether it fits its neighbours, is decided later.

use plinth_api::go::{NumberError, parse_bool, parse_duration, parse_int, parse_uint};

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
            Kind::Uint(64) => parse_uint(text, 64).map(Value::Uint).map_err(number_error),
            // etcd reads these itself and lets the reason of the library through.
            Kind::Uint(bits) => parse_uint(text, bits).map(Value::Uint).map_err(number_error).map_err(|reason| {
                let reason = if reason == "parse error" { "invalid syntax" } else { &reason };
                format!("strconv.ParseUint: parsing {text:?}: {reason}")
            }),
            Kind::Int => parse_int(text).map(Value::Int).map_err(number_error),
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

/// What etcd says of a number that cannot be read.
fn number_error(error: NumberError) -> String {
    match error {
        NumberError::Syntax => "parse error".to_owned(),
        NumberError::Range => "value out of range".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_what_is_said_of_others() {
        assert_eq!(Kind::Int.read("-0x1F"), Ok(Value::Int(-31)));
        assert_eq!(Kind::Int.read("9223372036854775808"), Err("value out of range".to_owned()));
        assert_eq!(Kind::Int.read("1e3"), Err("parse error".to_owned()));
        assert_eq!(Kind::Uint(32).read("4294967295"), Ok(Value::Uint(4_294_967_295)));
        let reason = |text: &str| Kind::Uint(32).read(text).expect_err("too large or malformed");
        assert_eq!(reason("4294967296"), "strconv.ParseUint: parsing \"4294967296\": value out of range");
        assert_eq!(reason("x"), "strconv.ParseUint: parsing \"x\": invalid syntax");
        assert_eq!(Kind::Uint(64).read("-1"), Err("parse error".to_owned()));
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
