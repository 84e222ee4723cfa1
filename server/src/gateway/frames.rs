//! Frames of websockets (RFC 6455), without any I/O: bytes of a client in, messages out; and frames of ours.
//!
//! Invariants: a message is complete when it is handed out, whatever frames it came in; it is bounded by
//! [`MESSAGE_BYTES_MAX`]. After an error the connection is to be closed, with the code that the error names.

/// Largest message of a client.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// What a control frame carries at most.
const CONTROL_BYTES_MAX: usize = 125;

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message, of text or not.
    Message(Vec<u8>),
    /// To be answered with the same bytes.
    Ping(Vec<u8>),
    /// It will send no more.
    Close,
}

/// Why what was sent is no frame that may come here: the code to close with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation(pub u16);

const PROTOCOL: Violation = Violation(1002);
const TOO_BIG: Violation = Violation(1009);

/// Takes frames apart.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes that are not a whole frame yet.
    input: Vec<u8>,
    /// The frames of a message that has not ended.
    message: Option<Vec<u8>>,
}

struct Frame {
    is_last: bool,
    opcode: u8,
    payload: Vec<u8>,
    /// Bytes of the whole frame.
    length: usize,
}

impl Decoder {
    /// Takes bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// What has come, once it is complete.
    ///
    /// # Errors
    /// It breaks the protocol, or a message is too large.
    pub fn next(&mut self) -> Result<Option<Event>, Violation> {
        while let Some(frame) = self.frame()? {
            self.input.drain(..frame.length);
            match (frame.opcode, self.message.take()) {
                (0, Some(mut message)) => {
                    if message.len() + frame.payload.len() > MESSAGE_BYTES_MAX {
                        return Err(TOO_BIG);
                    }
                    message.extend_from_slice(&frame.payload);
                    if frame.is_last {
                        return Ok(Some(Event::Message(message)));
                    }
                    self.message = Some(message);
                }
                (1 | 2, None) if frame.is_last => return Ok(Some(Event::Message(frame.payload))),
                (1 | 2, None) => self.message = Some(frame.payload),
                (8..=10, message) => {
                    self.message = message;
                    match frame.opcode {
                        8 => return Ok(Some(Event::Close)),
                        9 => return Ok(Some(Event::Ping(frame.payload))),
                        // An answer that nobody asked for.
                        _ => {}
                    }
                }
                _ => return Err(PROTOCOL),
            }
        }
        Ok(None)
    }

    /// The frame at the front, if it is there whole.
    fn frame(&self) -> Result<Option<Frame>, Violation> {
        let [first, second, rest @ ..] = &self.input[..] else { return Ok(None) };
        let (opcode, is_last) = (first & 0x0f, first & 0x80 != 0);
        // No extension was agreed on, and every frame of a client is masked.
        if first & 0x70 != 0 || second & 0x80 == 0 {
            return Err(PROTOCOL);
        }
        let (length, rest) = match second & 0x7f {
            126 => match rest.split_first_chunk::<2>() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            short => (u64::from(short), rest),
        };
        let is_control = opcode & 8 != 0;
        if is_control && (!is_last || length > CONTROL_BYTES_MAX as u64) {
            return Err(PROTOCOL);
        }
        let length = usize::try_from(length).ok().filter(|length| *length <= MESSAGE_BYTES_MAX).ok_or(TOO_BIG)?;
        let Some((mask, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let Some(masked) = rest.get(..length) else { return Ok(None) };
        let payload = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        Ok(Some(Frame { is_last, opcode, payload, length: self.input.len() - rest.len() + length }))
    }
}

/// A frame of text that is a message.
pub fn text(payload: &[u8]) -> Vec<u8> {
    frame(0x1, payload)
}

/// The answer to a ping.
pub fn pong(payload: &[u8]) -> Vec<u8> {
    frame(0xa, payload)
}

/// The last frame, with a code that says why.
pub fn close(code: u16) -> Vec<u8> {
    frame(0x8, &code.to_be_bytes())
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 10);
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..=125 => out.push(length as u8),
        length @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = frame(first & 0x0f, payload);
        out[0] = first;
        out[1] |= 0x80;
        let head = out.len() - payload.len();
        let mask = [1, 2, 3, 4];
        out[head..].iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        out.splice(head..head, mask);
        out
    }

    fn events(bytes: &[u8], size: usize) -> (Vec<Event>, Option<Violation>) {
        let (mut decoder, mut events) = (Decoder::default(), Vec::new());
        for piece in bytes.chunks(size) {
            decoder.push(piece);
            loop {
                match decoder.next() {
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => break,
                    Err(violation) => return (events, Some(violation)),
                }
            }
        }
        (events, None)
    }

    #[test]
    fn messages_are_put_together_whatever_they_come_in() {
        let long = vec![7; 70_000];
        let frames = [
            masked(0x81, b"one"),
            masked(0x01, b"t"),
            masked(0x89, b"ping"),
            masked(0x00, b"w"),
            masked(0x8a, b"unasked"),
            masked(0x80, b"o"),
            masked(0x82, &long),
            masked(0x81, &[]),
            masked(0x88, &[3, 232]),
        ]
        .concat();
        for size in [1, 5, 1000, frames.len()] {
            let (found, violation) = events(&frames, size);
            let expected = [
                Event::Message(b"one".to_vec()),
                Event::Ping(b"ping".to_vec()),
                Event::Message(b"two".to_vec()),
                Event::Message(long.clone()),
                Event::Message(Vec::new()),
                Event::Close,
            ];
            assert_eq!((found == expected, violation), (true, None), "in pieces of {size}");
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_told_apart_from_what_is_too_large() {
        let big = (MESSAGE_BYTES_MAX as u64 + 1).to_be_bytes();
        let half = masked(0x01, &vec![0; MESSAGE_BYTES_MAX / 2 + 1]);
        let rest = masked(0x80, &vec![0; MESSAGE_BYTES_MAX / 2 + 1]);
        for (bytes, violation) in [
            (frame(1, b"not masked"), PROTOCOL),
            (masked(0xc1, b"compressed"), PROTOCOL),
            (masked(0x80, b"nothing to go on with"), PROTOCOL),
            ([masked(0x01, b"a"), masked(0x81, b"b")].concat(), PROTOCOL),
            (masked(0x83, b"unknown"), PROTOCOL),
            (masked(0x09, b"a ping in pieces"), PROTOCOL),
            (masked(0x89, &[0; 126]), PROTOCOL),
            ([&[0x82, 0xff][..], &big, &[0; 4]].concat(), TOO_BIG),
            ([half, rest].concat(), TOO_BIG),
        ] {
            assert_eq!(events(&bytes, bytes.len()).1, Some(violation));
        }
    }

    #[test]
    fn frames_of_ours_have_the_shortest_length() {
        assert_eq!(text(b"hi"), [0x81, 2, b'h', b'i']);
        assert_eq!(pong(b""), [0x8a, 0]);
        assert_eq!(close(1000), [0x88, 2, 3, 232]);
        assert_eq!(text(&[0; 126])[..4], [0x81, 126, 0, 126]);
        assert_eq!(text(&[0; 65_536])[..10], [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }
}
