//! Messages in a body: five bytes (compressed flag, length), then the message (gRPC over HTTP/2, "Length-Prefixed-Message").
//!
//! Invariants: a message that arrives in one piece is a slice of what was read, never a copy; the memory of one that
//! does not grows with what has really arrived, not with what was announced.
//!
//! Deliberately absent: decompression. A client must not compress what the server has not said it accepts.

use bytes::{Buf, Bytes};

use super::status::{Code, Status};

/// Size of the prefix.
pub const PREFIX_BYTES: usize = 5;
/// How much is set aside at once for a message of which only the beginning has arrived.
const RESERVE_BYTES_MAX: usize = 64 << 10;

/// The prefix of an uncompressed message.
pub fn prefix(length: usize) -> [u8; PREFIX_BYTES] {
    let length = u32::try_from(length).expect("a message is smaller than 4 GiB");
    let [a, b, c, d] = length.to_be_bytes();
    [0, a, b, c, d]
}

/// Cuts one body into messages.
#[derive(Debug, Default)]
pub struct MessageReader {
    /// What has arrived and not been looked at.
    chunk: Bytes,
    /// Beginning of a message whose end has not arrived, with its prefix.
    partial: Vec<u8>,
}

impl MessageReader {
    /// Appends a piece of the body. All messages before it must have been taken.
    pub fn push(&mut self, chunk: Bytes) {
        assert!(self.chunk.is_empty(), "messages are taken until there is none");
        self.chunk = chunk;
    }

    /// Whether the body may end here.
    pub fn is_at_boundary(&self) -> bool {
        self.chunk.is_empty() && self.partial.is_empty()
    }

    /// Bytes held for an incomplete message.
    pub fn partial_bytes(&self) -> usize {
        self.partial.len()
    }

    /// The next complete message, if there is one.
    pub fn next(&mut self, max_bytes: usize) -> Result<Option<Bytes>, Status> {
        if self.partial.is_empty() {
            if self.chunk.len() >= PREFIX_BYTES {
                let length = check_prefix(self.chunk.first_chunk().expect("the length was checked"), max_bytes)?;
                if self.chunk.len() >= PREFIX_BYTES + length {
                    self.chunk.advance(PREFIX_BYTES);
                    return Ok(Some(self.chunk.split_to(length)));
                }
            }
            if self.chunk.is_empty() {
                return Ok(None);
            }
        }
        self.gather(max_bytes)
    }

    /// Completes a message that came in pieces.
    fn gather(&mut self, max_bytes: usize) -> Result<Option<Bytes>, Status> {
        self.move_to_partial(PREFIX_BYTES);
        let Some(prefix) = self.partial.first_chunk() else { return Ok(None) };
        let whole = PREFIX_BYTES + check_prefix(prefix, max_bytes)?;
        self.partial.reserve((whole - self.partial.len()).min(RESERVE_BYTES_MAX));
        self.move_to_partial(whole);
        if self.partial.len() < whole {
            return Ok(None);
        }
        let mut message = Bytes::from(std::mem::take(&mut self.partial));
        message.advance(PREFIX_BYTES);
        Ok(Some(message))
    }

    fn move_to_partial(&mut self, until: usize) {
        let count = until.saturating_sub(self.partial.len()).min(self.chunk.len());
        self.partial.extend_from_slice(&self.chunk[..count]);
        self.chunk.advance(count);
    }
}

/// Length of the message behind this prefix.
fn check_prefix(prefix: &[u8; PREFIX_BYTES], max_bytes: usize) -> Result<usize, Status> {
    let [flag, a, b, c, d] = *prefix;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > max_bytes {
        let text = format!("grpc: received message larger than max ({length} vs. {max_bytes})");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    match flag {
        0 => Ok(length),
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
                while let Some(message) = reader.next(100).unwrap() {
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
        let message = reader.next(100).unwrap().unwrap();
        assert_eq!(message.as_ptr(), chunk[PREFIX_BYTES..].as_ptr());
    }

    #[test]
    fn an_announced_length_reserves_little() {
        let mut reader = MessageReader::default();
        reader.push(Bytes::copy_from_slice(&prefix(1 << 30)));
        assert_eq!(reader.next(1 << 30), Ok(None));
        assert!(reader.partial.capacity() <= 2 * RESERVE_BYTES_MAX);
        assert_eq!(reader.partial_bytes(), PREFIX_BYTES);
        assert!(!reader.is_at_boundary());
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
                let mut result = Ok(None);
                for piece in prefix.chunks(step) {
                    reader.push(Bytes::copy_from_slice(piece));
                    result = reader.next(10);
                }
                assert_eq!(result, Err(Status::new(code, text)), "{name}, pieces of {step}");
            }
        }
    }
}
