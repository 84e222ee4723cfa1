//! Just enough protobuf to look into answers: fields of varints and of bytes.

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its number.
    pub number: u64,
    /// Its value, if it is a varint.
    pub int: i64,
    /// Its bytes, if it has some.
    pub bytes: &'a [u8],
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The fields of a message; nothing if the bytes are not one.
pub fn fields(mut bytes: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let number = tag >> 3;
        match tag & 7 {
            0 => fields.push(Field { number, int: varint(&mut bytes)? as i64, bytes: &[] }),
            2 => {
                let len = varint(&mut bytes)? as usize;
                let (content, rest) = bytes.split_at_checked(len)?;
                bytes = rest;
                fields.push(Field { number, int: 0, bytes: content });
            }
            _ => return None,
        }
    }
    Some(fields)
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
