//! `mvccpb.KeyValue` by hand: what tree `Rev` stores, what a range answers with and what a watch event carries.
//!
//! Canonical means: fields in order of their numbers, each at most once, defaults left out, varints of least length.
//! `HashKV` runs over these bytes, so they have to be the ones that etcd would have written.

use plinth_api::wire::{put_varint, take_varint, varint_len};

/// Key, value and history marks of a stored pair. A tombstone has only its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeyValue<'a> {
    pub key: &'a [u8],
    /// Revision of the put that created the key.
    pub create_revision: i64,
    /// Revision of the last change.
    pub mod_revision: i64,
    /// Number of puts since the key was created.
    pub version: i64,
    pub value: &'a [u8],
    /// The attached lease; 0 for none.
    pub lease: i64,
}

/// Stored bytes are not a canonical pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("stored pair of {len} bytes is damaged at byte {at}")]
pub struct KvError {
    /// Length of the pair.
    pub len: usize,
    /// Where decoding stopped.
    pub at: usize,
}

const TAG_KEY: u8 = 0x0a;
const TAG_CREATE: u8 = 0x10;
const TAG_MOD: u8 = 0x18;
const TAG_VERSION: u8 = 0x20;
const TAG_VALUE: u8 = 0x2a;
const TAG_LEASE: u8 = 0x30;

impl<'a> KeyValue<'a> {
    /// Length of the encoded pair.
    pub fn encoded_len(&self) -> usize {
        bytes_field_len(self.key)
            + int_field_len(self.create_revision)
            + int_field_len(self.mod_revision)
            + int_field_len(self.version)
            + bytes_field_len(self.value)
            + int_field_len(self.lease)
    }

    /// Appends the encoded pair.
    #[inline]
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        put_bytes_field(out, TAG_KEY, self.key);
        put_int_field(out, TAG_CREATE, self.create_revision);
        put_int_field(out, TAG_MOD, self.mod_revision);
        put_int_field(out, TAG_VERSION, self.version);
        put_bytes_field(out, TAG_VALUE, self.value);
        put_int_field(out, TAG_LEASE, self.lease);
    }

    /// Reads an encoded pair.
    #[inline]
    pub fn decode(bytes: &'a [u8]) -> Result<Self, KvError> {
        let mut reader = Reader { bytes, at: 0 };
        let pair = Self {
            key: reader.bytes_field(TAG_KEY)?,
            create_revision: reader.int_field(TAG_CREATE)?,
            mod_revision: reader.int_field(TAG_MOD)?,
            version: reader.int_field(TAG_VERSION)?,
            value: reader.bytes_field(TAG_VALUE)?,
            lease: reader.int_field(TAG_LEASE)?,
        };
        if reader.at == bytes.len() { Ok(pair) } else { Err(reader.error()) }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn error(&self) -> KvError {
        KvError { len: self.bytes.len(), at: self.at }
    }

    #[inline]
    fn tag(&mut self, tag: u8) -> bool {
        let found = self.bytes.get(self.at) == Some(&tag);
        self.at += usize::from(found);
        found
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, KvError> {
        let (value, rest) = take_varint(&self.bytes[self.at..]).ok_or(self.error())?;
        self.at = self.bytes.len() - rest.len();
        Ok(value)
    }

    #[inline]
    fn int_field(&mut self, tag: u8) -> Result<i64, KvError> {
        if self.tag(tag) { self.varint().map(|value| value as i64) } else { Ok(0) }
    }

    #[inline]
    fn bytes_field(&mut self, tag: u8) -> Result<&'a [u8], KvError> {
        if !self.tag(tag) {
            return Ok(&[]);
        }
        let len = self.varint()? as usize;
        let end = self.at.checked_add(len).filter(|&end| end <= self.bytes.len()).ok_or(self.error())?;
        let field = &self.bytes[self.at..end];
        self.at = end;
        Ok(field)
    }
}

/// Appends an integer field unless it is 0. Tags here are single bytes, as all of the API's are.
#[inline]
pub fn put_int_field(out: &mut Vec<u8>, tag: u8, value: i64) {
    if value != 0 {
        out.push(tag);
        put_varint(out, value as u64);
    }
}

/// Appends a bytes field unless it is empty.
#[inline]
pub fn put_bytes_field(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    if !value.is_empty() {
        put_message_field(out, tag, value);
    }
}

/// Appends an embedded message (or a member of a union), even if it is empty.
#[inline]
pub fn put_message_field(out: &mut Vec<u8>, tag: u8, message: &[u8]) {
    out.push(tag);
    put_varint(out, message.len() as u64);
    out.extend_from_slice(message);
}

fn int_field_len(value: i64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value as u64) }
}

fn bytes_field_len(value: &[u8]) -> usize {
    if value.is_empty() { 0 } else { 1 + varint_len(value.len() as u64) + value.len() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_pair() {
        let pair = KeyValue { key: b"foo", create_revision: 2, mod_revision: 300, version: 7, value: b"bar", lease: 1 };
        let mut bytes = Vec::new();
        pair.encode_into(&mut bytes);
        assert_eq!(bytes, b"\x0a\x03foo\x10\x02\x18\xac\x02\x20\x07\x2a\x03bar\x30\x01");
        let tombstone = KeyValue { key: b"foo", ..KeyValue::default() };
        bytes.clear();
        tombstone.encode_into(&mut bytes);
        assert_eq!(bytes, b"\x0a\x03foo");
    }

    #[test]
    fn damage_is_noticed() {
        for bad in [&b"\x0a\x04foo"[..], b"\x0a\x03foo\x10", b"\x10\x02\x0a\x01a", b"\x0a\x03foo\x38\x01", b"\x0a\x80"]
        {
            assert!(KeyValue::decode(bad).is_err(), "{bad:x?}");
        }
        let overlong = [&[0x10][..], &[0xff; 9], &[2]].concat();
        assert!(KeyValue::decode(&overlong).is_err());
    }

    proptest! {
        /// Any bytes are refused, or mean a pair that encodes to no more than them.
        #[test]
        fn hostile_bytes_are_refused_or_mean_a_pair(
            fields in prop::collection::vec((0..9u8, any::<u8>(), prop::collection::vec(any::<u8>(), 0..6)), 0..8),
        ) {
            let field = |(number, varint, rest): (u8, u8, Vec<u8>)| [vec![number << 3 | varint & 2, varint], rest].concat();
            let bytes: Vec<u8> = fields.into_iter().flat_map(field).collect();
            if let Ok(pair) = KeyValue::decode(&bytes) {
                let mut again = Vec::new();
                pair.encode_into(&mut again);
                prop_assert!(again.len() <= bytes.len());
                prop_assert_eq!(KeyValue::decode(&again), Ok(pair));
            }
        }

        #[test]
        fn decode_reverses_encode(
            key: Vec<u8>, value: Vec<u8>, create_revision: i64, mod_revision in 0..1000i64, version: i64, lease: i64,
        ) {
            let pair = KeyValue { key: &key, create_revision, mod_revision, version, value: &value, lease };
            let mut bytes = Vec::new();
            pair.encode_into(&mut bytes);
            prop_assert_eq!(bytes.len(), pair.encoded_len());
            prop_assert_eq!(KeyValue::decode(&bytes), Ok(pair));
            for len in 0..bytes.len() {
                prop_assert_ne!(KeyValue::decode(&bytes[..len]), Ok(pair));
            }
        }
    }
}
