//! Protobuf's encoding by hand: for hot answers, which are written straight into a connection's buffer, and for readers
//! that look at a field or two of a message.
//!
//! Field numbers are those of `proto/rpc.proto`. Writers omit numbers at their default, as proto3 asks, so that the bytes
//! are what etcd would send.

/// Splits a varint off the front; `None` if there is none.
#[inline]
pub fn take_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            // The tenth byte has room for one bit of a number of 64.
            return (i < 9 || byte <= 1).then_some((value, &bytes[i + 1..]));
        }
    }
    None
}

/// Bytes that `value` takes as a varint: 1 to 10.
#[inline]
pub const fn varint_len(value: u64) -> usize {
    ((64 - (value | 1).leading_zeros()) as usize).div_ceil(7)
}

/// Appends a varint of least length.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    let mut bytes = [0; 10];
    let mut len = 0;
    while value >= 0x80 {
        bytes[len] = value as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    bytes[len] = value as u8;
    out.extend_from_slice(&bytes[..=len]);
}

/// Appends a varint field unless it is zero.
pub fn field_varint(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_varint(out, u64::from(number) << 3);
        put_varint(out, value);
    }
}

/// Appends a length-delimited field, also when empty.
pub fn field_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Appends a message field whose length is known only after its content is written.
pub fn field_message(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    put_varint(out, u64::from(number) << 3 | 2);
    // Nearly every nested message is shorter than 128 bytes: one byte is left for the length, more are made if needed.
    let at = out.len();
    out.push(0);
    write(out);
    let len = out.len() - at - 1;
    if len < 0x80 {
        out[at] = len as u8;
        return;
    }
    let mut prefix = Vec::with_capacity(10);
    put_varint(&mut prefix, len as u64);
    out.splice(at..=at, prefix);
}

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
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

/// The fields of `message` in the order of the wire. What is not a field ends them; [`Fields::rest`] tells that from the
/// end of the message.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

impl<'a> Fields<'a> {
    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<(u64, Value<'a>)> {
        let (tag, rest) = take_varint(self.rest)?;
        let (value, rest) = match tag & 7 {
            0 => take_varint(rest).map(|(value, rest)| (Value::Varint(value), rest))?,
            1 => (Value::Fixed, rest.get(8..)?),
            2 => {
                let (len, rest) = take_varint(rest)?;
                let (content, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
                (Value::Bytes(content), rest)
            }
            5 => (Value::Fixed, rest.get(4..)?),
            _ => return None,
        };
        self.rest = rest;
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

    #[test]
    fn varints_of_every_length_read_back() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1_u64 << shift) - 1] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value), "{value}");
                assert_eq!(take_varint(&out), Some((value, &[][..])));
                assert_eq!(take_varint(&out[..out.len() - 1]), None);
            }
        }
        assert_eq!(take_varint(&[0xff; 11]), None);
        assert_eq!(take_varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]), None, "65 bits");
    }

    #[test]
    fn fields_are_found_and_nonsense_ends_them() {
        let message = [0x08, 0x96, 0x01, 0x12, 2, b'a', b'b', 0x1d, 0, 0, 0, 0, 0x20, 1];
        let found: Vec<_> = fields(&message).collect();
        let expected = [(1, Value::Varint(150)), (2, Value::Bytes(b"ab")), (3, Value::Fixed), (4, Value::Varint(1))];
        assert_eq!(found, expected);
        for bad in [&[0x08][..], &[0x12, 3, 1], &[0x0d, 0, 0, 0], &[0x0b], &[0xff; 11]] {
            let mut fields = fields(bad);
            assert_eq!(fields.next(), None);
            assert_eq!(fields.rest(), bad, "what is no field stays where it is");
        }
    }
}

#[cfg(all(test, feature = "types"))]
mod tests_with_types {
    use super::*;
    use crate::proto::etcdserverpb::{PutResponse, RangeResponse, ResponseHeader};
    use crate::proto::mvccpb::KeyValue;
    use prost::Message;

    #[test]
    fn long_nested_messages_get_a_long_length() {
        for len in [0, 1, 127, 128, 20_000] {
            let mut out = Vec::new();
            field_message(&mut out, 2, |out| field_bytes(out, 5, &vec![7; len]));
            let decoded = RangeResponse::decode(out.as_slice()).expect("valid");
            assert_eq!(decoded.kvs[0].value.len(), len);
        }
    }

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
}
