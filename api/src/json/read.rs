//! A JSON object becomes a message of protobuf, by the rules of Go's `protojson` with unknown fields left out.
//!
//! The syntax was checked before ([`super::Scanner`]); what is looked at here is what values mean. Lengths of messages
//! inside messages are known only at their end: they are kept beside the bytes, and put where they belong in one pass.

use super::{FieldSpec, Kind, MessageSpec, number};
use crate::wire::{put_varint, varint_len};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::borrow::Cow;

/// Messages inside each other. Each takes stack here, and no call takes more than a few hundred transactions inside each
/// other, which are two messages each.
pub const DEPTH_MAX: usize = 500;

/// As Go decodes: bits that are left over do not matter.
const fn engine(alphabet: &alphabet::Alphabet, padding: DecodePaddingMode) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(alphabet, config.with_decode_padding_mode(padding))
}

/// By alphabet, then without and with padding.
static ENGINES: [[GeneralPurpose; 2]; 2] = [
    [
        engine(&alphabet::STANDARD, DecodePaddingMode::RequireNone),
        engine(&alphabet::STANDARD, DecodePaddingMode::RequireCanonical),
    ],
    [
        engine(&alphabet::URL_SAFE, DecodePaddingMode::RequireNone),
        engine(&alphabet::URL_SAFE, DecodePaddingMode::RequireCanonical),
    ],
];

/// `\u` and four digits.
const HALF_BYTES: usize = 6;

/// What Go says of a value that ends too soon.
const TRUNCATED: &str = "proto: unexpected EOF";

/// Where the length of a message belongs, and what it is.
struct Length {
    at: usize,
    bytes: usize,
}

struct Reader<'a> {
    json: &'a [u8],
    at: usize,
    out: Vec<u8>,
    lengths: Vec<Length>,
    /// Bytes that the lengths which are known will take.
    inserted: usize,
}

/// Makes a message of one JSON value, which a [`super::Scanner`] has found.
///
/// # Errors
/// The text of the error, as Go words it: a value of another type than its field, a field given twice, and the like.
pub fn read(spec: &'static MessageSpec, json: &[u8]) -> Result<Vec<u8>, String> {
    let mut reader = Reader { json, at: 0, out: Vec::with_capacity(json.len()), lengths: Vec::new(), inserted: 0 };
    reader.message(spec, DEPTH_MAX)?;
    Ok(reader.finish())
}

impl<'a> Reader<'a> {
    fn finish(self) -> Vec<u8> {
        if self.lengths.is_empty() {
            return self.out;
        }
        let mut whole = Vec::with_capacity(self.out.len() + self.inserted);
        let mut from = 0;
        for length in &self.lengths {
            whole.extend_from_slice(&self.out[from..length.at]);
            put_varint(&mut whole, length.bytes as u64);
            from = length.at;
        }
        whole.extend_from_slice(&self.out[from..]);
        assert_eq!(whole.len(), self.out.len() + self.inserted, "every length was counted");
        whole
    }

    fn peek(&mut self) -> u8 {
        while matches!(self.json.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.json.get(self.at).copied().unwrap_or(0)
    }

    /// `(line L:C)` of a place.
    fn position(&self, at: usize) -> String {
        let before = &self.json[..at];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let last = &before[before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)..];
        format!("(line {line}:{})", String::from_utf8_lossy(last).chars().count() + 1)
    }

    fn fault(&self, at: usize, what: &str) -> String {
        format!("proto: {}: {what}", self.position(at))
    }

    fn syntax(&self, at: usize, what: &str) -> String {
        format!("proto: syntax error {}: {what}", self.position(at))
    }

    /// The bytes of the token here: a bracket, or a whole scalar.
    fn token(&mut self) -> &[u8] {
        let start = self.at;
        match self.peek() {
            b'{' | b'}' | b'[' | b']' => self.at += 1,
            b'"' => self.skip_text(),
            _ => self.skip_word(),
        }
        &self.json[start..self.at]
    }

    fn skip_word(&mut self) {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        self.at += self.json[self.at..].iter().take_while(|byte| is_part(byte)).count();
    }

    fn skip_text(&mut self) {
        self.at += 1;
        while self.json[self.at] != b'"' {
            self.at += if self.json[self.at] == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
    }

    fn unexpected(&mut self) -> String {
        self.peek();
        let at = self.at;
        let token = String::from_utf8_lossy(self.token()).into_owned();
        self.syntax(at, &format!("unexpected token {token}"))
    }

    fn message(&mut self, spec: &'static MessageSpec, depth: usize) -> Result<(), String> {
        if depth == 0 {
            return Err("proto: exceeded max recursion depth".to_string());
        }
        if self.peek() != b'{' {
            return Err(self.unexpected());
        }
        self.at += 1;
        let (mut seen, mut chosen) = (0_u64, Vec::new());
        loop {
            match self.peek() {
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                b',' => self.at += 1,
                _ => self.member(spec, depth, &mut seen, &mut chosen)?,
            }
        }
    }

    /// One name with its value.
    fn member(
        &mut self,
        spec: &'static MessageSpec,
        depth: usize,
        seen: &mut u64,
        chosen: &mut Vec<&'static str>,
    ) -> Result<(), String> {
        let start = self.at;
        let name = self.text()?;
        let named = |field: &FieldSpec| field.json_name == name || field.name == name;
        let found = spec.fields.iter().position(named);
        let raw = start..self.at;
        let raw_name = |reader: &Self| String::from_utf8_lossy(&reader.json[raw.clone()]).into_owned();
        let colon = self.peek();
        assert_eq!(colon, b':', "the syntax was checked");
        self.at += 1;
        let Some(index) = found else { return self.skip() };
        let field = &spec.fields[index];
        if *seen >> index & 1 == 1 {
            return Err(self.fault(start, &format!("duplicate field {}", raw_name(self))));
        }
        *seen |= 1 << index;
        if self.peek() == b'n' {
            self.skip_word();
            return Ok(());
        }
        if field.is_list {
            return self.list(field, depth);
        }
        if let Some(oneof) = field.oneof {
            if chosen.contains(&oneof) {
                let text = format!("error parsing {}, oneof {oneof} is already set", raw_name(self));
                return Err(self.fault(start, &text));
            }
            chosen.push(oneof);
        }
        self.value(field, depth)
    }

    fn list(&mut self, field: &'static FieldSpec, depth: usize) -> Result<(), String> {
        if self.peek() != b'[' {
            return Err(self.unexpected());
        }
        self.at += 1;
        loop {
            match self.peek() {
                b']' => {
                    self.at += 1;
                    return Ok(());
                }
                b',' => self.at += 1,
                _ => self.value(field, depth)?,
            }
        }
    }

    fn value(&mut self, field: &'static FieldSpec, depth: usize) -> Result<(), String> {
        // What equals the default is left out, unless that it was given says something.
        let is_kept = |is_default: bool| !is_default || field.is_list || field.oneof.is_some();
        let first = self.peek();
        let start = self.at;
        let varint = match (field.kind, first) {
            (Kind::Message(spec), _) => return self.nested(field.number, spec, depth),
            (Kind::Bool, b't' | b'f') => {
                self.skip_word();
                Some(u64::from(first == b't'))
            }
            (Kind::Text, b'"') => {
                let text = self.text()?;
                if is_kept(text.is_empty()) {
                    put_bytes(&mut self.out, field.number, text.as_bytes());
                }
                return Ok(());
            }
            (Kind::Bytes, b'"') => {
                let text = self.text()?;
                let bytes = decode(&text).ok_or_else(|| self.invalid(field, start))?;
                if is_kept(bytes.is_empty()) {
                    put_bytes(&mut self.out, field.number, &bytes);
                }
                return Ok(());
            }
            (Kind::Enum(names), b'"') => {
                let text = self.text()?;
                let Some((_, value)) = names.iter().find(|(name, _)| *name == text) else { return Ok(()) };
                if is_kept(*value == 0) {
                    put_number(&mut self.out, field.number, i64::from(*value) as u64);
                }
                return Ok(());
            }
            (Kind::Int64 | Kind::Uint64 | Kind::Uint32, b'"') => {
                let text = self.text()?;
                integer(field.kind, text.as_bytes())
            }
            (Kind::Int64 | Kind::Uint64 | Kind::Uint32 | Kind::Enum(_), b'-' | b'0'..=b'9') => {
                self.skip_word();
                integer(field.kind, &self.json[start..self.at])
            }
            _ => None,
        };
        let Some(value) = varint else { return Err(self.invalid(field, start)) };
        if is_kept(value == 0) {
            put_number(&mut self.out, field.number, value);
        }
        Ok(())
    }

    fn invalid(&mut self, field: &FieldSpec, start: usize) -> String {
        self.at = start;
        let token = String::from_utf8_lossy(self.token()).into_owned();
        self.fault(start, &format!("invalid value for {} field {}: {token}", field.kind.name(), field.json_name))
    }

    fn nested(&mut self, number: u32, spec: &'static MessageSpec, depth: usize) -> Result<(), String> {
        put_varint(&mut self.out, u64::from(number) << 3 | 2);
        let (index, at, inserted) = (self.lengths.len(), self.out.len(), self.inserted);
        self.lengths.push(Length { at, bytes: 0 });
        self.message(spec, depth - 1)?;
        let bytes = self.out.len() - at + self.inserted - inserted;
        self.lengths[index].bytes = bytes;
        self.inserted += varint_len(bytes as u64);
        Ok(())
    }

    /// Skips a value of a field that is not known.
    fn skip(&mut self) -> Result<(), String> {
        let mut open = 0_usize;
        loop {
            match self.peek() {
                b'{' | b'[' => {
                    self.at += 1;
                    open += 1;
                }
                b'}' | b']' => {
                    self.at += 1;
                    open -= 1;
                }
                b',' | b':' => {
                    self.at += 1;
                    continue;
                }
                b'"' => {
                    self.text()?;
                }
                _ => self.skip_word(),
            }
            if open == 0 {
                return Ok(());
            }
        }
    }

    /// The string here, without its escapes.
    fn text(&mut self) -> Result<Cow<'a, str>, String> {
        let (start, json) = (self.at, self.json);
        self.skip_text();
        let content = &json[start + 1..self.at - 1];
        let Ok(mut rest) = std::str::from_utf8(content) else {
            return Err(self.syntax(start, "invalid UTF-8 in string"));
        };
        if !rest.contains('\\') {
            return Ok(Cow::Borrowed(rest));
        }
        let mut text = String::with_capacity(content.len());
        while let Some(escape) = rest.find('\\') {
            text.push_str(&rest[..escape]);
            rest = &rest[escape + 1..];
            let (character, length) = match rest.as_bytes()[0] {
                b'b' => ('\u{8}', 1),
                b'f' => ('\u{c}', 1),
                b'n' => ('\n', 1),
                b'r' => ('\r', 1),
                b't' => ('\t', 1),
                b'u' => match code_point(rest) {
                    Some(found) => found,
                    None => {
                        // Where the other half would be, whatever is there.
                        let behind = &json[self.at - 1 - (rest.len() - 5)..];
                        return Err(match behind.get(..HALF_BYTES) {
                            Some(shown) => self.syntax(start, &bad_escape(shown)),
                            None => TRUNCATED.to_string(),
                        });
                    }
                },
                other => (char::from(other), 1),
            };
            text.push(character);
            rest = &rest[length..];
        }
        text.push_str(rest);
        Ok(Cow::Owned(text))
    }
}

/// The character of `u0041`, or of two such that belong together, and how long that is.
fn code_point(rest: &str) -> Option<(char, usize)> {
    let unit = |at: usize| u16::from_str_radix(rest.get(at..at + 4)?, 16).ok();
    let first = unit(1)?;
    if let Some(character) = char::from_u32(u32::from(first)) {
        return Some((character, 5));
    }
    let second = rest.get(5..7).filter(|between| *between == "\\u").and_then(|_| unit(7))?;
    let decoded = char::decode_utf16([first, second]).next()?.ok()?;
    Some((decoded, 11))
}

/// What is wrong with half a pair: Go shows what stands in place of the other half.
fn bad_escape(shown: &[u8]) -> String {
    format!("invalid escape code {:?} in string", String::from_utf8_lossy(shown))
}

/// A number, in the bits that protobuf writes.
fn integer(kind: Kind, text: &[u8]) -> Option<u64> {
    match kind {
        Kind::Int64 => number::signed(text).map(i64::cast_unsigned),
        Kind::Uint64 => number::unsigned(text),
        Kind::Uint32 => number::unsigned(text).filter(|value| *value <= u64::from(u32::MAX)),
        Kind::Enum(_) => {
            number::signed(text).and_then(|value| i32::try_from(value).ok()).map(|value| value as i64 as u64)
        }
        Kind::Bool | Kind::Text | Kind::Bytes | Kind::Message(_) => None,
    }
}

/// Bytes in either alphabet, with padding if the length asks for it. Go skips line ends.
fn decode(text: &str) -> Option<Vec<u8>> {
    let is_url = text.contains(['-', '_']);
    let engine = &ENGINES[usize::from(is_url)][usize::from(text.len().is_multiple_of(4))];
    if text.contains(['\r', '\n']) {
        return engine.decode(text.replace(['\r', '\n'], "")).ok();
    }
    engine.decode(text).ok()
}

fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

fn put_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    crate::wire::field_bytes(out, number, value);
}
