//! Messages in a body: five bytes (compressed flag, length), then the message (gRPC over HTTP/2, "Length-Prefixed-Message").
//!
//! Invariants: a message that arrives in one piece is a slice of what was read, never a copy; the memory of one that
//! does not grows with what has really arrived, not with what was announced.
//!
//! A compressed message is unpacked in steps, between which others get their turn, and never beyond the bound that holds
//! for every message. Answers are not compressed: clients take both.

use std::io::Read;

use bytes::buf::Reader;
use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;

use super::status::{Code, Status};

/// Size of the prefix.
pub const PREFIX_BYTES: usize = 5;
/// How much is set aside at once for a message of which only the beginning has arrived.
const RESERVE_BYTES_MAX: usize = 64 << 10;
/// What is unpacked in one step: about a tenth of a millisecond.
const UNPACK_BYTES: usize = 64 << 10;

/// How the messages of a body are compressed, those that are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coding {
    /// Not at all.
    #[default]
    Identity,
    /// As a gzip file each.
    Gzip,
}

impl Coding {
    /// What we can unpack, as `grpc-accept-encoding` says it.
    pub const ACCEPTED: &'static str = "gzip";

    /// By its name in `grpc-encoding`.
    pub fn by_name(name: &[u8]) -> Option<Coding> {
        match name {
            b"" | b"identity" => Some(Coding::Identity),
            b"gzip" => Some(Coding::Gzip),
            _ => None,
        }
    }
}

/// What a look into a body yields.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    Message(Bytes),
    /// There is more to do for the next one; it took its time so far.
    Busy,
    /// More has to arrive.
    Nothing,
}

/// A message that is being unpacked.
struct Unpacking {
    source: MultiGzDecoder<Reader<Bytes>>,
    packed_bytes: usize,
    message: Vec<u8>,
}

/// The prefix of an uncompressed message.
pub fn prefix(length: usize) -> [u8; PREFIX_BYTES] {
    let length = u32::try_from(length).expect("a message is smaller than 4 GiB");
    let [a, b, c, d] = length.to_be_bytes();
    [0, a, b, c, d]
}

/// Cuts one body into messages.
#[derive(Default)]
pub struct MessageReader {
    coding: Coding,
    /// What has arrived and not been looked at.
    chunk: Bytes,
    /// Beginning of a message whose end has not arrived, with its prefix.
    partial: Vec<u8>,
    unpacking: Option<Box<Unpacking>>,
}

impl MessageReader {
    /// For a body whose messages may be compressed.
    pub fn new(coding: Coding) -> MessageReader {
        MessageReader { coding, ..MessageReader::default() }
    }

    /// Appends a piece of the body. All messages before it must have been taken.
    pub fn push(&mut self, chunk: Bytes) {
        assert!(self.chunk.is_empty(), "messages are taken until there is none");
        self.chunk = chunk;
    }

    /// Whether the body may end here.
    pub fn is_at_boundary(&self) -> bool {
        self.chunk.is_empty() && self.partial.is_empty() && self.unpacking.is_none()
    }

    /// Bytes held for an incomplete message.
    pub fn partial_bytes(&self) -> usize {
        let unpacked = self.unpacking.as_ref().map_or(0, |unpacking| unpacking.packed_bytes + unpacking.message.len());
        self.partial.len() + unpacked
    }

    /// The next complete message, if there is one, or a step towards it.
    pub fn next(&mut self, max_bytes: usize) -> Result<Taken, Status> {
        if self.unpacking.is_none() {
            match self.next_frame(max_bytes)? {
                None => return Ok(Taken::Nothing),
                Some((false, message)) => return Ok(Taken::Message(message)),
                Some((true, packed)) => {
                    let (packed_bytes, source) = (packed.len(), MultiGzDecoder::new(packed.reader()));
                    self.unpacking = Some(Box::new(Unpacking { source, packed_bytes, message: Vec::new() }));
                }
            }
        }
        let unpacking = self.unpacking.as_mut().expect("it was just there");
        if !unpacking.step(max_bytes)? {
            return Ok(Taken::Busy);
        }
        let unpacked = self.unpacking.take().expect("it was just there");
        Ok(Taken::Message(unpacked.message.into()))
    }

    /// The next message as it came, and whether it is compressed.
    fn next_frame(&mut self, max_bytes: usize) -> Result<Option<(bool, Bytes)>, Status> {
        if self.partial.is_empty() {
            if let Some(prefix) = self.chunk.first_chunk() {
                let (packed, length) = check_prefix(prefix, max_bytes, self.coding)?;
                if self.chunk.len() >= PREFIX_BYTES + length {
                    self.chunk.advance(PREFIX_BYTES);
                    return Ok(Some((packed, self.chunk.split_to(length))));
                }
            }
            if self.chunk.is_empty() {
                return Ok(None);
            }
        }
        self.gather(max_bytes)
    }

    /// Completes a message that came in pieces.
    fn gather(&mut self, max_bytes: usize) -> Result<Option<(bool, Bytes)>, Status> {
        self.move_to_partial(PREFIX_BYTES);
        let Some(prefix) = self.partial.first_chunk() else { return Ok(None) };
        let (packed, length) = check_prefix(prefix, max_bytes, self.coding)?;
        let whole = PREFIX_BYTES + length;
        self.partial.reserve((whole - self.partial.len()).min(RESERVE_BYTES_MAX));
        self.move_to_partial(whole);
        if self.partial.len() < whole {
            return Ok(None);
        }
        let mut message = Bytes::from(std::mem::take(&mut self.partial));
        message.advance(PREFIX_BYTES);
        Ok(Some((packed, message)))
    }

    fn move_to_partial(&mut self, until: usize) {
        let count = until.saturating_sub(self.partial.len()).min(self.chunk.len());
        self.partial.extend_from_slice(&self.chunk[..count]);
        self.chunk.advance(count);
    }
}

impl Unpacking {
    /// Goes on. Whether the message is complete.
    fn step(&mut self, max_bytes: usize) -> Result<bool, Status> {
        let before = self.message.len();
        let mut source = Read::by_ref(&mut self.source).take(UNPACK_BYTES as u64);
        if let Err(error) = source.read_to_end(&mut self.message) {
            let text = format!("grpc: failed to decompress the received message: {error}");
            return Err(Status::new(Code::Internal, text));
        }
        if self.message.len() > max_bytes {
            let text = format!("grpc: received message after decompression larger than max {max_bytes}");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        Ok(self.message.len() - before < UNPACK_BYTES)
    }
}

/// Whether the message behind this prefix is compressed, and its length.
fn check_prefix(prefix: &[u8; PREFIX_BYTES], max_bytes: usize, coding: Coding) -> Result<(bool, usize), Status> {
    let [flag, a, b, c, d] = *prefix;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > max_bytes {
        let text = format!("grpc: received message larger than max ({length} vs. {max_bytes})");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    match flag {
        0 => Ok((false, length)),
        1 if coding == Coding::Gzip => Ok((true, length)),
        1 => Err(Status::new(Code::Internal, "grpc: compressed flag set with identity or empty encoding")),
        _ => Err(Status::new(Code::Internal, format!("grpc: received unexpected payload format {flag}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(messages: &[&[u8]]) -> Vec<u8> {
        messages.iter().flat_map(|message| [&prefix(message.len()), *message].concat()).collect()
    }

    #[test]
    fn messages_survive_any_cutting() {
        let messages: [&[u8]; 4] = [b"first", b"", b"a longer second message", b"x"];
        let body = body(&messages);
        for step in 1..=body.len() {
            let mut reader = MessageReader::default();
            let mut found = Vec::new();
            for piece in body.chunks(step) {
                reader.push(Bytes::copy_from_slice(piece));
                while let Taken::Message(message) = reader.next(100).unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, messages, "pieces of {step}");
            assert!(reader.is_at_boundary(), "pieces of {step}");
        }
    }

    #[test]
    fn a_whole_message_is_not_copied() {
        let chunk = Bytes::from(body(&[b"message"]));
        let mut reader = MessageReader::default();
        reader.push(chunk.clone());
        let Taken::Message(message) = reader.next(100).unwrap() else { panic!("it is complete") };
        assert_eq!(message.as_ptr(), chunk[PREFIX_BYTES..].as_ptr());
    }

    #[test]
    fn an_announced_length_reserves_little() {
        let mut reader = MessageReader::default();
        reader.push(Bytes::copy_from_slice(&prefix(1 << 30)));
        assert_eq!(reader.next(1 << 30), Ok(Taken::Nothing));
        assert!(reader.partial.capacity() <= 2 * RESERVE_BYTES_MAX);
        assert_eq!(reader.partial_bytes(), PREFIX_BYTES);
        assert!(!reader.is_at_boundary());
    }

    fn packed(message: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, message).unwrap();
        let body = encoder.finish().unwrap();
        let mut frame = prefix(body.len()).to_vec();
        frame[0] = 1;
        [frame, body].concat()
    }

    #[test]
    fn packed_and_plain_messages_alternate() {
        let large = vec![7; 3 * UNPACK_BYTES + 1];
        let messages: [&[u8]; 5] = [b"first", b"", b"plain", &large, b"last"];
        let frames = messages.map(|message| if message == b"plain" { body(&[message]) } else { packed(message) });
        for step in [1, 7, 100_000] {
            let mut reader = MessageReader::new(Coding::Gzip);
            let (mut found, mut busy) = (Vec::new(), 0);
            for piece in frames.concat().chunks(step) {
                reader.push(Bytes::copy_from_slice(piece));
                loop {
                    match reader.next(large.len()).unwrap() {
                        Taken::Message(message) => found.push(message),
                        Taken::Busy => busy += 1,
                        Taken::Nothing => break,
                    }
                }
            }
            assert_eq!(found, messages, "pieces of {step}");
            assert_eq!(busy, 3, "the large one is unpacked in steps");
            assert!(reader.is_at_boundary() && reader.partial_bytes() == 0);
        }
    }

    #[test]
    fn a_small_message_does_not_become_a_large_one() {
        let bomb = packed(&vec![0; 64 << 20]);
        assert!(bomb.len() < 70_000);
        let mut reader = MessageReader::new(Coding::Gzip);
        reader.push(bomb.into());
        let max = 1 << 20;
        let refusal = loop {
            match reader.next(max) {
                Ok(Taken::Busy) => assert!(reader.partial_bytes() <= max + 70_000),
                result => break result.expect_err("it is too large"),
            }
        };
        let text = "grpc: received message after decompression larger than max 1048576";
        assert_eq!(refusal, Status::new(Code::ResourceExhausted, text));
    }

    #[test]
    fn what_cannot_be_unpacked_is_refused() {
        let whole = packed(b"some text that is long enough to be cut");
        let damaged = |at: usize| {
            let mut frame = whole.clone();
            frame[at] ^= 0xff;
            frame
        };
        let mut cut = whole[..whole.len() - 9].to_vec();
        cut[4] -= 9;
        for frame in [damaged(PREFIX_BYTES), damaged(whole.len() - 5), cut, vec![1, 0, 0, 0, 0]] {
            let mut reader = MessageReader::new(Coding::Gzip);
            reader.push(frame.clone().into());
            let refusal = reader.next(1 << 20).expect_err("it is damaged");
            assert_eq!(refusal.code, Code::Internal);
            assert!(refusal.message.starts_with("grpc: failed to decompress the received message: "), "{frame:?}");
        }
    }

    #[test]
    fn refusals() {
        let cases: [(&str, [u8; 5], Code, &str); 3] = [
            ("too large", prefix(11), Code::ResourceExhausted, "grpc: received message larger than max (11 vs. 10)"),
            (
                "compressed",
                [1, 0, 0, 0, 1],
                Code::Internal,
                "grpc: compressed flag set with identity or empty encoding",
            ),
            ("unknown flag", [7, 0, 0, 0, 1], Code::Internal, "grpc: received unexpected payload format 7"),
        ];
        for (name, prefix, code, text) in cases {
            for step in [1, 5] {
                let mut reader = MessageReader::default();
                let mut result = Ok(Taken::Nothing);
                for piece in prefix.chunks(step) {
                    reader.push(Bytes::copy_from_slice(piece));
                    result = reader.next(10);
                }
                assert_eq!(result, Err(Status::new(code, text)), "{name}, pieces of {step}");
            }
        }
    }
}
