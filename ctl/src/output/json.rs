//! JSON as Go's `encoding/json` writes the API's types: fields in their order, zero values mostly left out, byte
//! strings in base64, 64-bit numbers as numbers.

use bytes::Bytes;
use plinth_api::proto::etcdserverpb::ResponseHeader;
use plinth_api::proto::mvccpb::KeyValue;
use std::fmt::Write;

/// A JSON value that keeps the order of its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    Number(i128),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl Json {
    /// An object without fields, to be built with [`Json::with`] and [`Json::nonzero`].
    pub fn object() -> Json {
        Json::Object(Vec::new())
    }

    /// Adds a field.
    pub fn with(mut self, name: &'static str, value: impl Into<Json>) -> Json {
        if let Json::Object(fields) = &mut self {
            fields.push((name, value.into()));
        }
        self
    }

    /// Adds a field unless its value is zero.
    pub fn nonzero(self, name: &'static str, value: impl Into<Json>) -> Json {
        let value = value.into();
        let zero = match &value {
            Json::Null => true,
            Json::Bool(value) => !value,
            Json::Number(number) => *number == 0,
            Json::Text(text) => text.is_empty(),
            Json::List(list) => list.is_empty(),
            Json::Object(_) => false,
        };
        if zero { self } else { self.with(name, value) }
    }

    /// An array.
    pub fn list<T>(items: &[T], json: impl Fn(&T) -> Json) -> Json {
        Json::List(items.iter().map(json).collect())
    }

    /// An array, or `null` instead of an empty one.
    pub fn list_or_null<T>(items: &[T], json: impl Fn(&T) -> Json) -> Json {
        if items.is_empty() { Json::Null } else { Json::list(items, json) }
    }

    /// The text.
    pub fn render(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Json::Number(number) => {
                let _ = write!(out, "{number}");
            }
            Json::Text(text) => write_text(out, text),
            Json::List(items) => write_all(out, ['[', ']'], items, |out, item| item.write(out)),
            Json::Object(fields) => write_all(out, ['{', '}'], fields, |out, (name, value)| {
                write_text(out, name);
                out.push(':');
                value.write(out);
            }),
        }
    }
}

fn write_all<T>(out: &mut String, ends: [char; 2], items: &[T], each: impl Fn(&mut String, &T)) {
    out.push(ends[0]);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        each(out, item);
    }
    out.push(ends[1]);
}

/// Go also escapes what would end a script element, and line separators.
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\0'..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl From<$number> for Json {
            fn from(number: $number) -> Json {
                Json::Number(number.into())
            }
        })*
    };
}

numbers!(i32, u32, i64, u64);

impl From<bool> for Json {
    fn from(value: bool) -> Json {
        Json::Bool(value)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Json {
        Json::Text(text)
    }
}

impl From<&Bytes> for Json {
    fn from(bytes: &Bytes) -> Json {
        Json::Text(base64(bytes))
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Json {
        value.map_or(Json::Null, Into::into)
    }
}

/// The header every answer carries.
impl From<&ResponseHeader> for Json {
    fn from(header: &ResponseHeader) -> Json {
        header_fields(Json::object(), Some(header))
    }
}

impl From<&KeyValue> for Json {
    fn from(kv: &KeyValue) -> Json {
        Json::object()
            .nonzero("key", &kv.key)
            .nonzero("create_revision", kv.create_revision)
            .nonzero("mod_revision", kv.mod_revision)
            .nonzero("version", kv.version)
            .nonzero("value", &kv.value)
            .nonzero("lease", kv.lease)
    }
}

/// The header with ids as hexadecimal text.
pub fn hex_header(header: Option<&ResponseHeader>) -> Json {
    let header = header.cloned().unwrap_or_default();
    Json::object()
        .with("cluster_id", format!("{:x}", header.cluster_id))
        .with("member_id", format!("{:x}", header.member_id))
        .nonzero("revision", header.revision)
        .nonzero("raft_term", header.raft_term)
}

/// Adds the fields of a header to an object, as the client's lease types do.
pub fn header_fields(object: Json, header: Option<&ResponseHeader>) -> Json {
    let header = header.cloned().unwrap_or_default();
    object
        .nonzero("cluster_id", header.cluster_id)
        .nonzero("member_id", header.member_id)
        .nonzero("revision", header.revision)
        .nonzero("raft_term", header.raft_term)
}

/// Standard base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let group = u32::from_be_bytes(group);
        for digit in 0..4 {
            let index = group >> (18 - 6 * digit) & 63;
            out.push(if digit <= chunk.len() { char::from(DIGITS[index as usize]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_with_padding() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("\u{3fe}~", "z75+")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn text_is_escaped_and_valid() {
        let text = "a\"\\\n\u{1}<é>&\u{2028}";
        let rendered = Json::from(text).render();
        assert!(rendered.contains("\\u003c") && rendered.contains("\\u2028"), "{rendered}");
        assert_eq!(serde_json::from_str::<String>(&rendered).expect("valid JSON"), text);
    }

    #[test]
    fn zero_values_are_left_out() {
        let header = ResponseHeader { cluster_id: u64::MAX, member_id: 0, revision: 3, raft_term: 0 };
        let json = Json::object().with("header", &header).nonzero("more", false).with("Events", Json::Null);
        assert_eq!(json.render(), r#"{"header":{"cluster_id":18446744073709551615,"revision":3},"Events":null}"#);
    }
}
