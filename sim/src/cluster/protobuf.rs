//! Answers as lists of fields, whole or not at all.

use plinth_api::wire::{self, Value};

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    pub number: u64,
    /// Its value, if it is a varint.
    pub int: i64,
    /// Its bytes, if it has some.
    pub bytes: &'a [u8],
}

/// The fields of a message; nothing if the bytes are not one.
pub fn fields(message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut read = wire::fields(message);
    let mut fields = Vec::new();
    for (number, value) in &mut read {
        fields.push(match value {
            Value::Varint(value) => Field { number, int: value.cast_signed(), bytes: &[] },
            Value::Bytes(bytes) => Field { number, int: 0, bytes },
            Value::Fixed => return None,
        });
    }
    read.rest().is_empty().then_some(fields)
}

/// The last value of a varint field; 0 if it is missing.
pub fn int(fields: &[Field<'_>], number: u64) -> i64 {
    fields.iter().rfind(|field| field.number == number).map_or(0, |field| field.int)
}

/// The last value of a bytes field, if it is there.
pub fn bytes<'a>(fields: &[Field<'a>], number: u64) -> Option<&'a [u8]> {
    fields.iter().rfind(|field| field.number == number).map(|field| field.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_and_nonsense_is_refused() {
        let message = [0x08, 0x96, 0x01, 0x12, 2, b'a', b'b', 0x18, 1];
        let found = fields(&message).expect("a message");
        assert_eq!((int(&found, 1), bytes(&found, 2), int(&found, 3), int(&found, 4)), (150, Some(&b"ab"[..]), 1, 0));
        for bad in [&[0x08][..], &[0x12, 3, 1], &[0x0d, 0, 0, 0, 0], &[0xff; 11]] {
            assert_eq!(fields(bad), None);
        }
    }
}
