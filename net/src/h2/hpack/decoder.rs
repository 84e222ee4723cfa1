//! Decoding of header blocks (RFC 7541 §3 and §6).
//!
//! Invariants: the dynamic table follows the peer's exactly, so a block is always decoded to its end, even when its
//! fields are no longer collected because the list is too long; any error here is an error of the connection.

use std::rc::Rc;

use super::field::Field;
use super::huffman;
use super::table::Table;

/// Why a block cannot be decoded. The table is then unusable (COMPRESSION_ERROR).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HpackError {
    /// The block ends inside a field.
    #[error("header block is cut short")]
    Truncated,
    /// An integer does not fit 32 bits.
    #[error("integer too large")]
    IntegerTooLarge,
    /// An index refers to nothing.
    #[error("index {0} refers to no entry")]
    Index(u32),
    /// A string's Huffman code is malformed.
    #[error("malformed Huffman code")]
    Huffman,
    /// A table size update behind a field, or a third one.
    #[error("table size update in the wrong place")]
    SizeUpdatePlace,
    /// A table size update beyond the bound we announced.
    #[error("table size {0} exceeds the announced bound")]
    SizeUpdateTooLarge(u32),
}

/// Decodes the header blocks of one direction of one connection.
pub struct Decoder {
    table: Table,
    /// SETTINGS_HEADER_TABLE_SIZE as we announced it.
    table_bytes_max: usize,
    /// Reused for Huffman-coded strings.
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    /// A decoder whose dynamic table may use `table_bytes_max`.
    pub fn new(table_bytes_max: usize) -> Decoder {
        Decoder { table: Table::new(table_bytes_max), table_bytes_max, name: Vec::new(), value: Vec::new() }
    }

    /// Differs whenever the same bytes may decode to something else.
    pub fn version(&self) -> u64 {
        self.table.version()
    }

    /// Decodes a complete block, appending its fields to `fields` until their sizes exceed `list_bytes_max`.
    /// Returns whether they stayed within it.
    pub fn decode(
        &mut self,
        block: &[u8],
        list_bytes_max: usize,
        fields: &mut Vec<Rc<Field>>,
    ) -> Result<bool, HpackError> {
        let mut input = Input { bytes: block };
        let mut list_bytes = 0;
        let mut updates = 0;
        while let Some(first) = input.peek() {
            let field = if first & 0x80 != 0 {
                let index = input.integer(7)?;
                Rc::clone(self.table.get(index as usize).ok_or(HpackError::Index(index))?)
            } else if first & 0xe0 == 0x20 {
                if list_bytes > 0 || updates == 2 {
                    return Err(HpackError::SizeUpdatePlace);
                }
                updates += 1;
                self.resize(input.integer(5)?)?;
                continue;
            } else {
                self.literal(&mut input, first & 0x40 != 0)?
            };
            // A field is at least 32 bytes large, so `list_bytes` also says whether there has been one.
            list_bytes += field.size();
            if list_bytes <= list_bytes_max {
                fields.push(field);
            }
        }
        Ok(list_bytes <= list_bytes_max)
    }

    fn resize(&mut self, size: u32) -> Result<(), HpackError> {
        if size as usize > self.table_bytes_max {
            return Err(HpackError::SizeUpdateTooLarge(size));
        }
        self.table.set_limit(size as usize);
        Ok(())
    }

    /// A literal field, indexed from now on or not (§6.2).
    fn literal(&mut self, input: &mut Input<'_>, indexed: bool) -> Result<Rc<Field>, HpackError> {
        let index = input.integer(if indexed { 6 } else { 4 })?;
        let named;
        let name: &[u8] = if index == 0 {
            input.string(&mut self.name)?
        } else {
            named = self.table.get(index as usize).ok_or(HpackError::Index(index))?;
            named.name()
        };
        let field = Rc::new(Field::new(name, input.string(&mut self.value)?));
        if indexed {
            self.table.insert(Rc::clone(&field));
        }
        Ok(field)
    }
}

/// What is left of a block.
struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.first().copied()
    }

    fn byte(&mut self) -> Result<u8, HpackError> {
        let (&first, rest) = self.bytes.split_first().ok_or(HpackError::Truncated)?;
        self.bytes = rest;
        Ok(first)
    }

    /// An integer whose first `prefix_bits` share a byte with flags (§5.1).
    fn integer(&mut self, prefix_bits: u32) -> Result<u32, HpackError> {
        let mask = (1u8 << prefix_bits) - 1;
        let prefix = self.byte()? & mask;
        if prefix < mask {
            return Ok(u32::from(prefix));
        }
        let mut value = u64::from(mask);
        // Five bytes carry 35 bits: enough for 32, and an end to a run of continuation bytes.
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            value += u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| HpackError::IntegerTooLarge);
            }
        }
        Err(HpackError::IntegerTooLarge)
    }

    /// A string, decoded into `scratch` if it is Huffman-coded (§5.2).
    fn string<'b>(&mut self, scratch: &'b mut Vec<u8>) -> Result<&'b [u8], HpackError>
    where
        'a: 'b,
    {
        let coded = self.peek().ok_or(HpackError::Truncated)? & 0x80 != 0;
        let length = self.integer(7)? as usize;
        let raw = self.bytes.get(..length).ok_or(HpackError::Truncated)?;
        self.bytes = &self.bytes[length..];
        if !coded {
            return Ok(raw);
        }
        scratch.clear();
        huffman::decode(raw, scratch).map_err(|_| HpackError::Huffman)?;
        Ok(scratch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST_MAX: usize = 1 << 16;

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, HpackError> {
        let mut fields = Vec::new();
        decoder.decode(block, LIST_MAX, &mut fields)?;
        Ok(fields.iter().map(|field| format!("{field:?}")).collect())
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// RFC 7541 C.3 (plain) and C.4 (Huffman): three requests on one connection.
    #[test]
    fn requests_of_the_rfc() {
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let huffman = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        for blocks in [plain, huffman] {
            let mut decoder = Decoder::new(4096);
            let first = decoded(&mut decoder, &hex(blocks[0])).unwrap();
            assert_eq!(first, [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"]);
            let second = decoded(&mut decoder, &hex(blocks[1])).unwrap();
            assert_eq!(second[3..], [":authority: www.example.com", "cache-control: no-cache"]);
            let third = decoded(&mut decoder, &hex(blocks[2])).unwrap();
            assert_eq!(third[1..4], [":scheme: https", ":path: /index.html", ":authority: www.example.com"]);
            assert_eq!(third[4], "custom-key: custom-value");
        }
    }

    /// RFC 7541 C.6: responses with a table of 256 bytes, which evicts.
    #[test]
    fn evictions_of_the_rfc() {
        let blocks = [
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718
             63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7
             b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ];
        let mut decoder = Decoder::new(256);
        assert_eq!(decoded(&mut decoder, &hex(blocks[0])).unwrap()[0], ":status: 302");
        assert_eq!(
            decoded(&mut decoder, &hex(blocks[1])).unwrap(),
            [
                ":status: 307",
                "cache-control: private",
                "date: Mon, 21 Oct 2013 20:13:21 GMT",
                "location: https://www.example.com"
            ]
        );
        let last = decoded(&mut decoder, &hex(blocks[2])).unwrap();
        assert_eq!(last[0], ":status: 200");
        assert_eq!(last[4], "content-encoding: gzip");
        assert_eq!(last[5], "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
    }

    #[test]
    fn malformed_blocks() {
        let cases: &[(&str, &str, HpackError)] = &[
            ("index zero", "80", HpackError::Index(0)),
            ("index beyond the tables", "be", HpackError::Index(62)),
            ("name index beyond the tables", "7e 01 61", HpackError::Index(62)),
            ("string cut short", "40 0a 6162", HpackError::Truncated),
            ("no value", "44", HpackError::Truncated),
            ("integer cut short", "ff 80", HpackError::Truncated),
            ("integer of six bytes", "ff 80 80 80 80 80 01", HpackError::IntegerTooLarge),
            ("integer beyond 32 bits", "ff ff ff ff ff 7f", HpackError::IntegerTooLarge),
            ("Huffman padding", "44 83 6402 ff", HpackError::Huffman),
            ("size update behind a field", "82 20", HpackError::SizeUpdatePlace),
            ("three size updates", "20 20 20", HpackError::SizeUpdatePlace),
            ("size update beyond the bound", "3f e2 1f", HpackError::SizeUpdateTooLarge(4097)),
        ];
        for (name, block, error) in cases {
            assert_eq!(decoded(&mut Decoder::new(4096), &hex(block)), Err(*error), "{name}");
        }
    }

    #[test]
    fn size_updates_evict_and_bring_back_room() {
        let mut decoder = Decoder::new(4096);
        decoded(&mut decoder, &hex("4001 6101 31")).unwrap();
        assert_eq!(decoded(&mut decoder, &hex("be")).unwrap(), ["a: 1"]);
        assert_eq!(decoded(&mut decoder, &hex("20 3f e1 1f 82")).unwrap(), [":method: GET"]);
        assert_eq!(decoded(&mut decoder, &hex("be")), Err(HpackError::Index(62)));
    }

    #[test]
    fn a_list_beyond_the_limit_still_updates_the_table() {
        let mut decoder = Decoder::new(4096);
        let mut fields = Vec::new();
        // ":method: GET" (42 bytes) fits, the inserted "a: 1" (34 bytes) does not.
        assert!(!decoder.decode(&hex("82 4001 6101 31"), 42, &mut fields).unwrap());
        assert_eq!(fields.len(), 1);
        assert_eq!(decoded(&mut decoder, &hex("be")).unwrap(), ["a: 1"]);
    }

    #[test]
    fn never_indexed_and_unindexed_literals_leave_the_table_alone() {
        let mut decoder = Decoder::new(4096);
        let version = decoder.version();
        assert_eq!(decoded(&mut decoder, &hex("1001 6101 31")).unwrap(), ["a: 1"]);
        assert_eq!(decoded(&mut decoder, &hex("0001 6101 31")).unwrap(), ["a: 1"]);
        assert_eq!(decoder.version(), version);
    }
}
