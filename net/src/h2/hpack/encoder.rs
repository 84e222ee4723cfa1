//! Encoding of response header blocks.
//!
//! A gRPC server sends the same two or three fields all the time. They are inserted into the peer's dynamic table when
//! first used and are one byte each from then on. Everything else (error texts) is sent as a plain literal that never
//! enters the table, so the inserted fields are never evicted and their indices never move after the last insertion.
//!
//! Deliberately absent: Huffman coding (it costs more than the bytes it saves on short texts).

use super::table::STATIC_LEN;
use crate::h2::hpack::field::FIELD_OVERHEAD_BYTES;

/// Size of the dynamic table before the peer says otherwise.
const TABLE_BYTES_DEFAULT: u32 = 4096;

/// Fields of responses that are worth a place in the peer's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constant(usize);

impl Constant {
    /// `content-type: application/grpc`
    pub const CONTENT_TYPE_GRPC: Constant = Constant(0);
    /// `grpc-status: 0`
    pub const GRPC_STATUS_OK: Constant = Constant(1);

    const COUNT: usize = 2;
    const FIELDS: [(&'static str, &'static str); Constant::COUNT] =
        [("content-type", "application/grpc"), ("grpc-status", "0")];

    /// What all of them take in the table.
    const TABLE_BYTES: usize = {
        let mut total = 0;
        let mut i = 0;
        while i < Constant::COUNT {
            total += Constant::FIELDS[i].0.len() + Constant::FIELDS[i].1.len() + FIELD_OVERHEAD_BYTES;
            i += 1;
        }
        total
    };
}

const _: () = assert!(Constant::TABLE_BYTES <= TABLE_BYTES_DEFAULT as usize);

/// Encodes the header blocks we send on one connection.
#[derive(Debug)]
pub struct Encoder {
    /// For each constant, how many had been inserted before it, once it has been.
    inserted: [Option<u8>; Constant::COUNT],
    count: u8,
    /// Size of the peer's table as we use it. Only ever lowered.
    table_bytes: u32,
    /// The peer has lowered its bound: the next block has to begin with our new size.
    announce_size: bool,
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder::new()
    }
}

impl Encoder {
    /// An encoder for a peer with a default table.
    pub fn new() -> Encoder {
        Encoder { inserted: [None; Constant::COUNT], count: 0, table_bytes: TABLE_BYTES_DEFAULT, announce_size: false }
    }

    /// The peer sent SETTINGS_HEADER_TABLE_SIZE. A larger table than before is not used.
    pub fn limit_table(&mut self, bytes: u32) {
        if bytes >= self.table_bytes {
            return;
        }
        self.table_bytes = bytes;
        self.announce_size = true;
        if (bytes as usize) < Constant::TABLE_BYTES {
            // The peer evicts on our size update; what is left in its table is not used any more.
            self.inserted = [None; Constant::COUNT];
        }
    }

    /// Begins a block. Every block has to.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if self.announce_size {
            self.announce_size = false;
            integer(out, 0x20, 5, self.table_bytes);
        }
    }

    /// Appends `:status`.
    pub fn status(&self, out: &mut Vec<u8>, status: u16) {
        match status {
            200 => out.push(0x88),
            400 => out.push(0x8c),
            404 => out.push(0x8d),
            _ => {
                // Literal without indexing, name from the static table (8 is `:status: 200`).
                out.extend_from_slice(&[0x08, 3]);
                out.extend_from_slice(&[b'0' + (status / 100 % 10) as u8, b'0' + (status / 10 % 10) as u8]);
                out.push(b'0' + (status % 10) as u8);
            }
        }
    }

    /// Appends a constant field.
    pub fn constant(&mut self, out: &mut Vec<u8>, constant: Constant) {
        if let Some(before) = self.inserted[constant.0] {
            // The newest entry has the lowest index.
            let index = STATIC_LEN as u32 + u32::from(self.count - before);
            integer(out, 0x80, 7, index);
            return;
        }
        let (name, value) = Constant::FIELDS[constant.0];
        if (self.table_bytes as usize) < Constant::TABLE_BYTES {
            self.literal(out, name.as_bytes(), value.as_bytes());
            return;
        }
        out.push(0x40);
        string(out, name.as_bytes());
        string(out, value.as_bytes());
        self.inserted[constant.0] = Some(self.count);
        self.count += 1;
    }

    /// Appends a field that stays out of the table.
    pub fn literal(&self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        out.push(0x00);
        string(out, name);
        string(out, value);
    }
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    integer(out, 0, 7, u32::try_from(bytes.len()).expect("header fields are small"));
    out.extend_from_slice(bytes);
}

/// An integer whose first `prefix_bits` share a byte with `flags` (RFC 7541 §5.1).
fn integer(out: &mut Vec<u8>, flags: u8, prefix_bits: u32, value: u32) {
    let mask = (1u32 << prefix_bits) - 1;
    if value < mask {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::super::decoder::Decoder;
    use super::*;

    fn block(encoder: &mut Encoder, build: impl FnOnce(&mut Encoder, &mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        build(encoder, &mut out);
        out
    }

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Vec<String> {
        let mut fields = Vec::new();
        assert!(decoder.decode(block, 1 << 16, &mut fields).unwrap());
        fields.iter().map(|field| format!("{field:?}")).collect()
    }

    fn head(encoder: &mut Encoder, out: &mut Vec<u8>) {
        encoder.status(out, 200);
        encoder.constant(out, Constant::CONTENT_TYPE_GRPC);
    }

    fn trailers(encoder: &mut Encoder, out: &mut Vec<u8>) {
        encoder.constant(out, Constant::GRPC_STATUS_OK);
    }

    #[test]
    fn constants_shrink_to_one_byte_and_stay_decodable() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
        for round in 0..3 {
            let first = block(&mut encoder, head);
            assert_eq!(decoded(&mut decoder, &first), [":status: 200", "content-type: application/grpc"]);
            let last = block(&mut encoder, trailers);
            assert_eq!(decoded(&mut decoder, &last), ["grpc-status: 0"]);
            if round > 0 {
                assert_eq!((first.as_slice(), last.as_slice()), ([0x88, 0xbf].as_slice(), [0xbe].as_slice()));
            }
        }
    }

    #[test]
    fn either_constant_may_come_first() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
        for _ in 0..2 {
            let last = block(&mut encoder, trailers);
            assert_eq!(decoded(&mut decoder, &last), ["grpc-status: 0"]);
            let first = block(&mut encoder, head);
            assert_eq!(decoded(&mut decoder, &first), [":status: 200", "content-type: application/grpc"]);
        }
    }

    #[test]
    fn a_lowered_table_is_acknowledged_and_respected() {
        for bytes in [0, 60, Constant::TABLE_BYTES as u32, 4095, 4096, 65536] {
            let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
            for _ in 0..2 {
                decoded(&mut decoder, &block(&mut encoder, head));
                decoded(&mut decoder, &block(&mut encoder, trailers));
            }
            encoder.limit_table(bytes);
            for _ in 0..2 {
                let first = block(&mut encoder, head);
                assert_eq!(
                    decoded(&mut decoder, &first),
                    [":status: 200", "content-type: application/grpc"],
                    "{bytes}"
                );
                let last = block(&mut encoder, trailers);
                assert_eq!(decoded(&mut decoder, &last), ["grpc-status: 0"], "{bytes}");
            }
        }
    }

    #[test]
    fn statuses_and_long_literals() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
        for status in [200, 400, 404, 405, 415, 431, 503] {
            let coded = block(&mut encoder, |encoder, out| encoder.status(out, status));
            assert_eq!(decoded(&mut decoder, &coded), [format!(":status: {status}")]);
        }
        let text = "x".repeat(1000);
        let coded = block(&mut encoder, |encoder, out| encoder.literal(out, b"grpc-message", text.as_bytes()));
        assert_eq!(decoded(&mut decoder, &coded), [format!("grpc-message: {text}")]);
    }
}
