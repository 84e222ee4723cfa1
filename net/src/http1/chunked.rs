//! The chunked transfer coding, decoded incrementally.
//!
//! ```text
//! Size ──n>0──▶ Data ──▶ DataEnd ──▶ Size ──n=0──▶ Trailer ──blank line──▶ Done
//! ```
//!
//! Invariants: lines between chunks end in CRLF, never in a bare LF (a known way to smuggle requests); the overhead
//! a sender may cause is bounded relative to its data. Trailer fields are checked for length and thrown away.

use super::Http1Error;

/// A chunk-size line (with extensions) or a trailer line must fit this.
const LINE_BYTES_MAX: usize = 4096;
/// All trailer lines together.
const TRAILER_BYTES_MAX: usize = 4096;
/// Overhead granted for each chunk, beside twice its data.
const OVERHEAD_BYTES_PER_CHUNK: u64 = 16;
/// Overhead beyond what was granted that may pile up before the sender counts as hostile.
const OVERHEAD_BYTES_MAX: u64 = 16 * 1024;

#[derive(Debug)]
pub(super) struct ChunkedBody {
    bytes: Vec<u8>,
    phase: Phase,
    overhead: u64,
    trailer_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Size,
    Data { left: usize },
    DataEnd,
    Trailer,
    Done,
}

impl ChunkedBody {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), phase: Phase::Size, overhead: 0, trailer_bytes: 0 }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        assert_eq!(self.phase, Phase::Done, "an incomplete chunked body was taken");
        self.bytes
    }

    /// What was decoded since the last time.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Decodes as much of `input` as there is. Returns the bytes consumed and whether the body is complete. With
    /// `in_pieces` the bound is that of what was not taken yet: a chunk that does not fit waits until it has room.
    pub(super) fn fill(
        &mut self,
        input: &[u8],
        body_bytes_max: usize,
        in_pieces: bool,
    ) -> Result<(usize, bool), Http1Error> {
        let mut at = 0;
        while self.phase != Phase::Done {
            let rest = &input[at..];
            let consumed = match self.phase {
                Phase::Size => self.size_line(rest, body_bytes_max, in_pieces)?,
                Phase::Data { left } => self.data(rest, left),
                Phase::DataEnd => self.data_end(rest)?,
                Phase::Trailer => self.trailer_line(rest)?,
                Phase::Done => unreachable!("the loop ends here"),
            };
            if consumed == 0 {
                return Ok((at, false));
            }
            at += consumed;
        }
        Ok((at, true))
    }

    fn size_line(&mut self, input: &[u8], body_bytes_max: usize, in_pieces: bool) -> Result<usize, Http1Error> {
        let Some(line) = take_line(input)? else { return Ok(0) };
        let size = parse_size(line)?;
        let room = body_bytes_max - self.bytes.len();
        if in_pieces && size > room as u64 && size <= body_bytes_max as u64 {
            return Ok(0);
        }
        if size > room as u64 {
            return Err(Http1Error::BodyTooLarge);
        }
        let granted = OVERHEAD_BYTES_PER_CHUNK + 2 * size;
        self.overhead = (self.overhead + line.len() as u64 + 2).saturating_sub(granted);
        if self.overhead > OVERHEAD_BYTES_MAX {
            return Err(Http1Error::Malformed("chunked encoding contains too much non-data"));
        }
        self.phase = match size {
            0 => Phase::Trailer,
            size => Phase::Data { left: size as usize },
        };
        Ok(line.len() + 2)
    }

    fn data(&mut self, input: &[u8], left: usize) -> usize {
        let take = input.len().min(left);
        self.bytes.extend_from_slice(&input[..take]);
        self.phase = if take == left { Phase::DataEnd } else { Phase::Data { left: left - take } };
        take
    }

    fn data_end(&mut self, input: &[u8]) -> Result<usize, Http1Error> {
        match input {
            [] | [b'\r'] => Ok(0),
            [b'\r', b'\n', ..] => {
                self.phase = Phase::Size;
                Ok(2)
            }
            _ => Err(Http1Error::Malformed("malformed chunked encoding")),
        }
    }

    fn trailer_line(&mut self, input: &[u8]) -> Result<usize, Http1Error> {
        let Some(line) = take_line(input)? else { return Ok(0) };
        self.trailer_bytes += line.len() + 2;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(Http1Error::Malformed("suspiciously long trailer behind a chunked body"));
        }
        if line.is_empty() {
            self.phase = Phase::Done;
        } else if !line.contains(&b':') {
            return Err(Http1Error::Malformed("malformed trailer"));
        }
        Ok(line.len() + 2)
    }
}

/// The line at the front of `input` without its CRLF, or `None` if it has not ended yet.
fn take_line(input: &[u8]) -> Result<Option<&[u8]>, Http1Error> {
    let window = &input[..input.len().min(LINE_BYTES_MAX)];
    let Some(line_feed) = window.iter().position(|&byte| byte == b'\n') else {
        let too_long = input.len() >= LINE_BYTES_MAX;
        return if too_long { Err(Http1Error::Malformed("chunk header line too long")) } else { Ok(None) };
    };
    match window[..line_feed].iter().position(|&byte| byte == b'\r') {
        None => Err(Http1Error::Malformed("chunked line ends with bare LF")),
        Some(carriage) if carriage + 1 == line_feed => Ok(Some(&window[..carriage])),
        Some(_) => Err(Http1Error::Malformed("invalid CR in chunked line")),
    }
}

/// The hexadecimal size in front of any chunk extension.
fn parse_size(line: &[u8]) -> Result<u64, Http1Error> {
    let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
    if digits.is_empty() {
        return Err(Http1Error::Malformed("empty hex number for chunk length"));
    }
    if digits.len() > 16 {
        return Err(Http1Error::Malformed("http chunk length too large"));
    }
    digits.iter().try_fold(0u64, |size, &byte| {
        let digit = (byte as char).to_digit(16).ok_or(Http1Error::Malformed("invalid byte in chunk length"))?;
        Ok(size << 4 | u64::from(digit))
    })
}
