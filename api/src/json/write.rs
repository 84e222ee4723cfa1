//! A message of protobuf becomes JSON, by the rules of Go's `protojson` as etcd's gateway sets them: proto names, no
//! defaults, numbers of 64 bits as text, bytes in base64.
//!
//! What is on the wire at its default is left out as if it were not, unless it is one of a choice. Fields are written in
//! the order of the wire, which is the order of their numbers; where it is not, they are put in order first.

use super::{FieldSpec, Kind, MessageSpec};
use crate::wire::{Value, fields, take_varint};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::Write;

/// Which characters of a text are escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escapes {
    /// What JSON asks for.
    Least,
    /// What would matter in a script of HTML, too, as in the lines of streams.
    Html,
}

/// The bytes are not this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Appends the JSON of a message.
///
/// # Errors
/// The bytes are not this message; what was appended by then is of no use.
pub fn write(spec: &MessageSpec, message: &[u8], escapes: Escapes, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let (mut all, mut last, mut is_sorted) = (fields(message), 0, true);
    for (number, _) in all.by_ref() {
        is_sorted &= last <= number;
        last = number;
    }
    if !all.rest().is_empty() {
        return Err(Malformed);
    }
    if is_sorted {
        return write_fields(spec, fields(message), escapes, out);
    }
    let mut all: Vec<_> = fields(message).collect();
    all.sort_by_key(|(number, _)| *number);
    write_fields(spec, all.into_iter(), escapes, out)
}

fn write_fields<'a>(
    spec: &MessageSpec,
    values: impl Iterator<Item = (u64, Value<'a>)>,
    escapes: Escapes,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    out.push(b'{');
    let start = out.len();
    let mut open_list = None;
    let mut next = 0;
    for (number, value) in values {
        // Numbers only grow, and tables are in their order.
        let found = spec.fields[next..].iter().position(|field| u64::from(field.number) == number);
        let Some(index) = found else { continue };
        next += index;
        let field = &spec.fields[next];
        if field.is_list {
            if open_list == Some(number) {
                out.push(b',');
            } else {
                end_list(&mut open_list, out);
                name(field, start, out);
                out.push(b'[');
                open_list = Some(number);
            }
            write_element(field, value, escapes, out)?;
            continue;
        }
        end_list(&mut open_list, out);
        if field.oneof.is_some() || !is_default(field.kind, value) {
            name(field, start, out);
            write_value(field.kind, value, escapes, out)?;
        }
    }
    end_list(&mut open_list, out);
    out.push(b'}');
    Ok(())
}

fn end_list(open: &mut Option<u64>, out: &mut Vec<u8>) {
    if open.take().is_some() {
        out.push(b']');
    }
}

fn name(field: &FieldSpec, start: usize, out: &mut Vec<u8>) {
    if out.len() > start {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(field.name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn is_default(kind: Kind, value: Value<'_>) -> bool {
    match (kind, value) {
        (Kind::Message(_), _) => false,
        (_, Value::Varint(value)) => value == 0,
        (_, Value::Bytes(bytes)) => bytes.is_empty(),
        (_, Value::Fixed) => false,
    }
}

/// One element of a list, or several numbers that were packed.
fn write_element(field: &FieldSpec, value: Value<'_>, escapes: Escapes, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let (Value::Bytes(mut packed), false) = (value, matches!(field.kind, Kind::Text | Kind::Bytes | Kind::Message(_)))
    else {
        return write_value(field.kind, value, escapes, out);
    };
    let mut is_first = true;
    while !packed.is_empty() {
        let (number, rest) = take_varint(packed).ok_or(Malformed)?;
        packed = rest;
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        write_value(field.kind, Value::Varint(number), escapes, out)?;
    }
    Ok(())
}

fn write_value(kind: Kind, value: Value<'_>, escapes: Escapes, out: &mut Vec<u8>) -> Result<(), Malformed> {
    match (kind, value) {
        (Kind::Bool, Value::Varint(value)) => out.extend_from_slice(if value == 0 { b"false" } else { b"true" }),
        (Kind::Int64, Value::Varint(value)) => put(out, format_args!("\"{}\"", value.cast_signed())),
        (Kind::Uint64, Value::Varint(value)) => put(out, format_args!("\"{value}\"")),
        (Kind::Uint32, Value::Varint(value)) => put(out, format_args!("{}", value as u32)),
        (Kind::Enum(names), Value::Varint(value)) => {
            let value = value as i32;
            match names.iter().find(|(_, number)| *number == value) {
                Some((name, _)) => put(out, format_args!("\"{name}\"")),
                None => put(out, format_args!("{value}")),
            }
        }
        (Kind::Text, Value::Bytes(bytes)) => {
            push_string(out, std::str::from_utf8(bytes).map_err(|_| Malformed)?, escapes);
        }
        (Kind::Bytes, Value::Bytes(bytes)) => {
            let at = out.len() + 1;
            let length = base64::encoded_len(bytes.len(), true).ok_or(Malformed)?;
            out.push(b'"');
            out.resize(at + length, 0);
            STANDARD.encode_slice(bytes, &mut out[at..]).map_err(|_| Malformed)?;
            out.push(b'"');
        }
        (Kind::Message(spec), Value::Bytes(bytes)) => write(spec, bytes, escapes, out)?,
        _ => return Err(Malformed),
    }
    Ok(())
}

/// Appends a JSON string.
pub fn push_string(out: &mut Vec<u8>, text: &str, escapes: Escapes) {
    out.push(b'"');
    for character in text.chars() {
        let is_html = matches!(character, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\0'..' ' => put(out, format_args!("\\u{:04x}", u32::from(character))),
            _ if is_html && escapes == Escapes::Html => put(out, format_args!("\\u{:04x}", u32::from(character))),
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes everything");
}
