//! Reads single fields out of encoded protobuf messages without decoding the rest: the generator looks at
//! a few numbers of each answer and shares its processor with the server.
//!
//! A malformed message ends the iteration early; the callers check counts and would notice.

/// A field's value as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire types 1 and 5, which the API does not use.
    Fixed,
}

/// Iterates over the fields of one message.
pub struct Fields<'a> {
    rest: &'a [u8],
}

/// The fields of `message` in the order of the wire.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for (index, &byte) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<(u64, Value<'a>)> {
        if self.rest.is_empty() {
            return None;
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

/// The first field of this number that holds bytes.
pub fn bytes_field(message: &[u8], number: u64) -> Option<&[u8]> {
    fields(message).find_map(|field| match field {
        (found, Value::Bytes(bytes)) if found == number => Some(bytes),
        _ => None,
    })
}

/// The integer of this number; 0 where it is absent, as proto3 means it.
pub fn integer_field(message: &[u8], number: u64) -> i64 {
    let found = fields(message).find_map(|field| match field {
        (found, Value::Varint(value)) if found == number => Some(value),
        _ => None,
    });
    found.unwrap_or(0).cast_signed()
}

/// `header.revision` of any answer (field 1, then field 3).
pub fn header_revision(message: &[u8]) -> i64 {
    bytes_field(message, 1).map_or(0, |header| integer_field(header, 3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::mvccpb::KeyValue;
    use crate::api::{PutResponse, ResponseHeader};
    use prost::Message;

    #[test]
    fn reads_what_prost_writes() {
        let header = ResponseHeader { cluster_id: u64::MAX, member_id: 2, revision: 1 << 40, raft_term: 3 };
        let kv = KeyValue { key: "k".into(), lease: -1, ..Default::default() };
        let answer = PutResponse { header: Some(header), prev_kv: Some(kv) }.encode_to_vec();
        assert_eq!(header_revision(&answer), 1 << 40);
        let kv = bytes_field(&answer, 2).expect("prev_kv is there");
        assert_eq!(bytes_field(kv, 1), Some(&b"k"[..]));
        assert_eq!(integer_field(kv, 6), -1);
        assert_eq!(integer_field(kv, 4), 0);
    }

    #[test]
    fn cut_messages_end_quietly() {
        let kv = KeyValue { key: "key".into(), value: "value".into(), mod_revision: 300, ..Default::default() };
        let whole = kv.encode_to_vec();
        for cut in 0..whole.len() {
            assert!(fields(&whole[..cut]).count() <= 3);
        }
    }
}
