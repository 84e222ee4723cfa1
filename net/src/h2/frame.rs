//! The bytes of HTTP/2 frames (RFC 9113 §4 and §6): headers, types, flags, settings, error codes.
//!
//! Only layout lives here; what a frame means is in `connection`.

use std::fmt;

/// What a client's connection begins with (§3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Size of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 9;
/// SETTINGS_MAX_FRAME_SIZE before a peer says otherwise, and the least it may say.
pub const FRAME_BYTES_DEFAULT: u32 = 16_384;
/// The most SETTINGS_MAX_FRAME_SIZE may say.
pub const FRAME_BYTES_LIMIT: u32 = (1 << 24) - 1;
/// Flow-control windows before anybody says otherwise.
pub const WINDOW_DEFAULT: i32 = 65_535;
/// The most a window may hold.
pub const WINDOW_MAX: i64 = (1 << 31) - 1;
/// Size of one setting.
pub const SETTING_BYTES: usize = 6;

/// A stream identifier (§5.1.1). Zero is the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u32);

impl StreamId {
    /// The connection itself.
    pub const CONNECTION: StreamId = StreamId(0);
    /// The highest there is.
    pub const MAX: StreamId = StreamId((1 << 31) - 1);

    /// From a wire value; the reserved bit is ignored.
    pub fn from_wire(value: u32) -> StreamId {
        StreamId(value & StreamId::MAX.0)
    }

    /// The value on the wire.
    pub fn get(self) -> u32 {
        self.0
    }

    /// Whether a client may open a stream with it.
    pub fn is_client_initiated(self) -> bool {
        self.0 % 2 == 1
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Frame types (§6).
pub mod kind {
    #![allow(missing_docs, reason = "the names are the RFC's")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Frame flags (§6).
pub mod flag {
    #![allow(missing_docs, reason = "the names are the RFC's")]
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Settings (§6.5.2).
pub mod setting {
    #![allow(missing_docs, reason = "the names are the RFC's")]
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Error codes (§7). Codes we do not know are kept as they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u32);

#[allow(missing_docs, reason = "the names are the RFC's")]
impl ErrorCode {
    pub const NO_ERROR: ErrorCode = ErrorCode(0);
    pub const PROTOCOL_ERROR: ErrorCode = ErrorCode(1);
    pub const INTERNAL_ERROR: ErrorCode = ErrorCode(2);
    pub const FLOW_CONTROL_ERROR: ErrorCode = ErrorCode(3);
    pub const SETTINGS_TIMEOUT: ErrorCode = ErrorCode(4);
    pub const STREAM_CLOSED: ErrorCode = ErrorCode(5);
    pub const FRAME_SIZE_ERROR: ErrorCode = ErrorCode(6);
    pub const REFUSED_STREAM: ErrorCode = ErrorCode(7);
    pub const CANCEL: ErrorCode = ErrorCode(8);
    pub const COMPRESSION_ERROR: ErrorCode = ErrorCode(9);
    pub const ENHANCE_YOUR_CALM: ErrorCode = ErrorCode(11);
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        match NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "error code {}", self.0),
        }
    }
}

/// The nine bytes before every frame's payload (§4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of payload.
    pub length: u32,
    /// Frame type, see `kind`.
    pub kind: u8,
    /// Flags, see `flag`.
    pub flags: u8,
    pub stream: StreamId,
}

impl FrameHeader {
    /// Reads a header.
    pub fn parse(bytes: &[u8; FRAME_HEADER_BYTES]) -> FrameHeader {
        FrameHeader {
            length: u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]),
            kind: bytes[3],
            flags: bytes[4],
            stream: StreamId::from_wire(u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]])),
        }
    }

    /// The header as bytes.
    pub fn to_bytes(self) -> [u8; FRAME_HEADER_BYTES] {
        assert!(self.length <= FRAME_BYTES_LIMIT);
        let length = self.length.to_be_bytes();
        let stream = self.stream.0.to_be_bytes();
        [length[1], length[2], length[3], self.kind, self.flags, stream[0], stream[1], stream[2], stream[3]]
    }

    /// Whether a flag is set.
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Appends the header.
    pub fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_bytes());
    }
}

/// Appends a header whose length is filled in by `end_frame`, and returns its place.
pub fn begin_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: StreamId) -> usize {
    let at = out.len();
    FrameHeader { length: 0, kind, flags, stream }.put(out);
    at
}

/// Fills in the length of the frame begun at `at`, which is the last one in `out`.
pub fn end_frame(out: &mut [u8], at: usize) {
    let length = out.len() - at - FRAME_HEADER_BYTES;
    assert!(length <= FRAME_BYTES_LIMIT as usize);
    out[at..at + 3].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
}

/// Appends a SETTINGS frame.
pub fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let at = begin_frame(out, kind::SETTINGS, 0, StreamId::CONNECTION);
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
    end_frame(out, at);
}

/// Appends the acknowledgement of a SETTINGS frame.
pub fn put_settings_ack(out: &mut Vec<u8>) {
    FrameHeader { length: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: StreamId::CONNECTION }.put(out);
}

/// Appends a PING frame or its acknowledgement.
pub fn put_ping(out: &mut Vec<u8>, ack: bool, payload: [u8; 8]) {
    let flags = if ack { flag::ACK } else { 0 };
    FrameHeader { length: 8, kind: kind::PING, flags, stream: StreamId::CONNECTION }.put(out);
    out.extend_from_slice(&payload);
}

/// Appends a WINDOW_UPDATE frame.
pub fn put_window_update(out: &mut Vec<u8>, stream: StreamId, increment: u32) {
    assert!(increment > 0 && i64::from(increment) <= WINDOW_MAX);
    FrameHeader { length: 4, kind: kind::WINDOW_UPDATE, flags: 0, stream }.put(out);
    out.extend_from_slice(&increment.to_be_bytes());
}

/// Appends a RST_STREAM frame.
pub fn put_rst_stream(out: &mut Vec<u8>, stream: StreamId, code: ErrorCode) {
    FrameHeader { length: 4, kind: kind::RST_STREAM, flags: 0, stream }.put(out);
    out.extend_from_slice(&code.0.to_be_bytes());
}

/// Appends a GOAWAY frame.
pub fn put_goaway(out: &mut Vec<u8>, last: StreamId, code: ErrorCode, debug: &str) {
    let at = begin_frame(out, kind::GOAWAY, 0, StreamId::CONNECTION);
    out.extend_from_slice(&last.0.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
    out.extend_from_slice(debug.as_bytes());
    end_frame(out, at);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive() {
        let header = FrameHeader { length: 0x01_02_03, kind: 9, flags: 0x2d, stream: StreamId::MAX };
        assert_eq!(header.to_bytes(), [1, 2, 3, 9, 0x2d, 0x7f, 0xff, 0xff, 0xff]);
        assert_eq!(FrameHeader::parse(&header.to_bytes()), header);
    }

    #[test]
    fn the_reserved_bit_is_ignored() {
        let header = FrameHeader::parse(&[0, 0, 0, 0, 0, 0x80, 0, 0, 5]);
        assert_eq!(header.stream.get(), 5);
    }

    #[test]
    fn frames_as_bytes() {
        let mut out = Vec::new();
        put_settings(&mut out, &[(setting::INITIAL_WINDOW_SIZE, 7)]);
        put_settings_ack(&mut out);
        put_ping(&mut out, true, [1, 2, 3, 4, 5, 6, 7, 8]);
        put_window_update(&mut out, StreamId::from_wire(3), 9);
        put_rst_stream(&mut out, StreamId::from_wire(3), ErrorCode::CANCEL);
        put_goaway(&mut out, StreamId::from_wire(3), ErrorCode::ENHANCE_YOUR_CALM, "hi");
        let expected: &[&[u8]] = &[
            &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 7],
            &[0, 0, 0, 4, 1, 0, 0, 0, 0],
            &[0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0, 0, 4, 8, 0, 0, 0, 0, 3, 0, 0, 0, 9],
            &[0, 0, 4, 3, 0, 0, 0, 0, 3, 0, 0, 0, 8],
            &[0, 0, 10, 7, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 11, b'h', b'i'],
        ];
        assert_eq!(out, expected.concat());
    }
}
