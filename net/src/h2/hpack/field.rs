//! A header field, classified once.
//!
//! Fields live in the static and dynamic tables and are shared from there (`Rc`), so what has to be known about a field
//! (is the name well-formed, is it a pseudo-header, may it appear at all in HTTP/2) is found out once, when the field
//! enters a table, and not for every request that refers to it.

use std::fmt;

/// What a field means to HTTP/2 (RFC 9113 §8.2 and §8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldClass {
    /// `:method`
    Method,
    /// `:scheme`
    Scheme,
    /// `:path`
    Path,
    /// `:authority`
    Authority,
    /// `content-length`
    ContentLength,
    /// Any other well-formed field.
    Regular,
    /// An unknown pseudo-header, a malformed name or value, or a field that belongs to HTTP/1 connections.
    Forbidden,
}

/// Overhead of a table entry as RFC 7541 §4.1 counts it.
pub const FIELD_OVERHEAD_BYTES: usize = 32;

/// One name and value.
pub struct Field {
    /// Name, then value.
    bytes: Box<[u8]>,
    name_len: u32,
    class: FieldClass,
}

impl Field {
    /// Copies and classifies a field.
    pub fn new(name: &[u8], value: &[u8]) -> Field {
        let mut bytes = Vec::with_capacity(name.len() + value.len());
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(value);
        Field { bytes: bytes.into(), name_len: name.len() as u32, class: classify(name, value) }
    }

    /// Name, in lower case unless the class is `Forbidden`.
    pub fn name(&self) -> &[u8] {
        &self.bytes[..self.name_len as usize]
    }

    /// Value.
    pub fn value(&self) -> &[u8] {
        &self.bytes[self.name_len as usize..]
    }

    /// What it is.
    pub fn class(&self) -> FieldClass {
        self.class
    }

    /// Size as RFC 7541 §4.1 and SETTINGS_MAX_HEADER_LIST_SIZE count it.
    pub fn size(&self) -> usize {
        self.bytes.len() + FIELD_OVERHEAD_BYTES
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name().escape_ascii(), self.value().escape_ascii())
    }
}

fn classify(name: &[u8], value: &[u8]) -> FieldClass {
    if !is_valid_value(value) {
        return FieldClass::Forbidden;
    }
    match name {
        b":method" => FieldClass::Method,
        b":scheme" => FieldClass::Scheme,
        b":path" => FieldClass::Path,
        b":authority" => FieldClass::Authority,
        b"content-length" => FieldClass::ContentLength,
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
            FieldClass::Forbidden
        }
        b"te" if value != b"trailers" => FieldClass::Forbidden,
        _ if is_valid_name(name) => FieldClass::Regular,
        _ => FieldClass::Forbidden,
    }
}

/// A token (RFC 9110 §5.6.2) without capital letters.
fn is_valid_name(name: &[u8]) -> bool {
    let is_token = |byte: &u8| {
        matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*')
            || matches!(byte, b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
    };
    !name.is_empty() && name.iter().all(is_token)
}

/// No NUL, CR or LF anywhere, no blank at either end (RFC 9113 §8.2.1).
fn is_valid_value(value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !blank(value.first()) && !blank(value.last()) && !value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let cases: &[(&str, &str, FieldClass)] = &[
            (":method", "POST", FieldClass::Method),
            (":path", "/a", FieldClass::Path),
            (":scheme", "http", FieldClass::Scheme),
            (":authority", "h", FieldClass::Authority),
            (":status", "200", FieldClass::Forbidden),
            (":unknown", "", FieldClass::Forbidden),
            ("content-length", "5", FieldClass::ContentLength),
            ("te", "trailers", FieldClass::Regular),
            ("te", "gzip", FieldClass::Forbidden),
            ("connection", "close", FieldClass::Forbidden),
            ("upgrade", "x", FieldClass::Forbidden),
            ("transfer-encoding", "chunked", FieldClass::Forbidden),
            ("grpc-timeout", "1S", FieldClass::Regular),
            ("Capital", "x", FieldClass::Forbidden),
            ("", "x", FieldClass::Forbidden),
            ("a b", "x", FieldClass::Forbidden),
            ("token", " x", FieldClass::Forbidden),
            ("token", "x\t", FieldClass::Forbidden),
            ("token", "a\nb", FieldClass::Forbidden),
            ("token", "a b", FieldClass::Regular),
            ("token", "", FieldClass::Regular),
        ];
        for (name, value, class) in cases {
            let field = Field::new(name.as_bytes(), value.as_bytes());
            assert_eq!(field.class(), *class, "{field:?}");
            assert_eq!(field.size(), name.len() + value.len() + 32, "{field:?}");
        }
    }
}
