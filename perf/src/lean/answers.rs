//! Answers out of HTTP/2 frames. Header blocks that were seen before and left the dynamic table alone are not decoded
//! again: a server says "OK" in the same few bytes every time.

use crate::grpc::{CallError, percent_decode};
use plinth_net::h2::frame::{
    FRAME_HEADER_BYTES, FrameHeader, SETTING_BYTES, StreamId, WINDOW_DEFAULT, flag, kind, put_ping, put_settings_ack,
    put_window_update, setting,
};
use plinth_net::h2::hpack::{Decoder, Field};
use rustc_hash::FxHashMap;
use std::rc::Rc;

/// gRPC's message prefix.
const PREFIX_BYTES: usize = 5;
/// Dynamic table size before anybody says otherwise.
const TABLE_BYTES: usize = 4_096;
/// Largest list of header fields taken.
const FIELDS_BYTES_MAX: usize = 64 << 10;
/// Credit is returned in steps of this size; the window announced is many times as large.
const CREDIT_STEP: usize = 16 << 20;

/// What happened on a connection.
pub enum Event {
    Answer {
        stream: u32,
        /// The message, empty if it was not wanted.
        result: Result<Vec<u8>, CallError>,
    },
    /// The peer's settings, as far as they matter to requests.
    Settings {
        /// Window of new streams.
        window: Option<u32>,
        frame_bytes: Option<u32>,
        /// Most streams at once.
        streams: Option<u32>,
    },
    Credit(u32),
    /// A frame to be sent back.
    Reply(Vec<u8>),
    /// The peer wants no more requests.
    GoAway,
}

/// An answer on its way.
#[derive(Default)]
struct Partial {
    keep: bool,
    body: Vec<u8>,
    body_bytes: usize,
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Eq)]
struct Status {
    code: u16,
    message: String,
}

/// The receiving side of a connection.
pub struct Answers {
    input: Vec<u8>,
    at: usize,
    decoder: Decoder,
    fields: Vec<Rc<Field>>,
    /// Blocks known to change nothing, with the table's version and what they say.
    known: Vec<(u64, Vec<u8>, Option<Status>)>,
    partial: FxHashMap<u32, Partial>,
    uncredited: usize,
}

impl Answers {
    /// Nothing received yet.
    pub fn new() -> Answers {
        Answers {
            input: Vec::new(),
            at: 0,
            decoder: Decoder::new(TABLE_BYTES),
            fields: Vec::new(),
            known: Vec::new(),
            partial: FxHashMap::default(),
            uncredited: 0,
        }
    }

    /// Announces a call.
    pub fn expect(&mut self, stream: u32, keep: bool) {
        self.partial.insert(stream, Partial { keep, ..Partial::default() });
    }

    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.input.drain(..self.at);
        self.at = 0;
        self.input.extend_from_slice(bytes);
    }

    /// The next event out of what was read.
    pub fn next(&mut self) -> Result<Option<Event>, CallError> {
        loop {
            let rest = &self.input[self.at..];
            let Some(header) = rest.first_chunk::<FRAME_HEADER_BYTES>().map(FrameHeader::parse) else {
                return Ok(None);
            };
            let end = FRAME_HEADER_BYTES + header.length as usize;
            if rest.len() < end {
                return Ok(None);
            }
            let payload = self.at + FRAME_HEADER_BYTES..self.at + end;
            self.at += end;
            if let Some(event) = self.frame(header, payload)? {
                return Ok(Some(event));
            }
        }
    }

    fn frame(&mut self, header: FrameHeader, payload: std::ops::Range<usize>) -> Result<Option<Event>, CallError> {
        let bytes = &self.input[payload.clone()];
        let stream = header.stream.get();
        match header.kind {
            kind::DATA => Ok(self.data(header, payload)),
            kind::HEADERS => self.headers(header, payload),
            kind::RST_STREAM => {
                self.partial.remove(&stream);
                let result = Err(CallError::Status { code: 13, message: format!("stream reset {bytes:?}") });
                Ok(Some(Event::Answer { stream, result }))
            }
            kind::SETTINGS if !header.has(flag::ACK) => Ok(Some(settings(bytes))),
            kind::PING if !header.has(flag::ACK) => {
                let payload = bytes.try_into().map_err(|_| CallError::Malformed("a PING of a wrong size"))?;
                let mut out = Vec::new();
                put_ping(&mut out, true, payload);
                Ok(Some(Event::Reply(out)))
            }
            kind::WINDOW_UPDATE if header.stream == StreamId::CONNECTION => {
                let credit = bytes.try_into().map_err(|_| CallError::Malformed("a WINDOW_UPDATE of a wrong size"))?;
                Ok(Some(Event::Credit(u32::from_be_bytes(credit))))
            }
            kind::GOAWAY => Ok(Some(Event::GoAway)),
            kind::CONTINUATION | kind::PUSH_PROMISE => Err(CallError::Malformed("a frame this client does not take")),
            _ => Ok(None),
        }
    }

    fn data(&mut self, header: FrameHeader, payload: std::ops::Range<usize>) -> Option<Event> {
        // Padding counts for flow control and would spoil the message; no gRPC server sends any.
        debug_assert!(!header.has(flag::PADDED));
        self.uncredited += payload.len();
        if let Some(partial) = self.partial.get_mut(&header.stream.get()) {
            partial.body_bytes += payload.len();
            if partial.keep {
                partial.body.extend_from_slice(&self.input[payload]);
            }
        }
        if self.uncredited < CREDIT_STEP {
            return None;
        }
        let mut out = Vec::new();
        put_window_update(&mut out, StreamId::CONNECTION, self.uncredited as u32);
        self.uncredited = 0;
        Some(Event::Reply(out))
    }

    fn headers(&mut self, header: FrameHeader, payload: std::ops::Range<usize>) -> Result<Option<Event>, CallError> {
        if !header.has(flag::END_HEADERS) || header.has(flag::PADDED) || header.has(flag::PRIORITY) {
            return Err(CallError::Malformed("a header block in a form this client does not take"));
        }
        let status = self.status(payload)?;
        let stream = header.stream.get();
        let Some(partial) = self.partial.get_mut(&stream) else { return Ok(None) };
        partial.status = status.or(partial.status.take());
        if !header.has(flag::END_STREAM) {
            return Ok(None);
        }
        let partial = self.partial.remove(&stream).expect("looked at just now");
        Ok(Some(Event::Answer { stream, result: partial.finish() }))
    }

    /// What a header block says of the call's status.
    fn status(&mut self, payload: std::ops::Range<usize>) -> Result<Option<Status>, CallError> {
        let block = &self.input[payload];
        let version = self.decoder.version();
        if let Some((_, _, status)) = self.known.iter().find(|(then, known, _)| *then == version && known == block) {
            return Ok(status.clone());
        }
        self.fields.clear();
        let decoded = self.decoder.decode(block, FIELDS_BYTES_MAX, &mut self.fields);
        decoded.map_err(|_| CallError::Malformed("an undecodable header block"))?;
        let find = |name: &[u8]| self.fields.iter().find(|field| field.name() == name).map(|field| field.value());
        if find(b":status").is_some_and(|status| status != b"200") {
            return Err(CallError::Malformed("HTTP status is not 200"));
        }
        let code = find(b"grpc-status").map(|code| String::from_utf8_lossy(code).parse().unwrap_or(2));
        let message = || find(b"grpc-message").map_or(String::new(), percent_decode);
        let status = code.map(|code| Status { code, message: message() });
        if self.decoder.version() == version && status.as_ref().is_none_or(|status| status.code == 0) {
            self.known.retain(|(then, _, _)| *then == version);
            self.known.push((version, block.to_vec(), status.clone()));
        }
        Ok(status)
    }
}

impl Partial {
    fn finish(self) -> Result<Vec<u8>, CallError> {
        match self.status {
            None => Err(CallError::Malformed("no grpc-status")),
            Some(Status { code: 0, .. }) if self.body_bytes < PREFIX_BYTES => {
                Err(CallError::Malformed("OK without a message"))
            }
            Some(Status { code: 0, .. }) => {
                let mut body = self.body;
                body.drain(..PREFIX_BYTES.min(body.len()));
                Ok(body)
            }
            Some(Status { code, message }) => Err(CallError::Status { code, message }),
        }
    }
}

fn settings(bytes: &[u8]) -> Event {
    let find = |wanted: u16| {
        let (entries, _) = bytes.as_chunks::<SETTING_BYTES>();
        let found = entries.iter().rev().find(|entry| u16::from_be_bytes([entry[0], entry[1]]) == wanted);
        found.map(|entry| u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]))
    };
    let window = find(setting::INITIAL_WINDOW_SIZE);
    debug_assert!(window.is_none_or(|window| window >= WINDOW_DEFAULT.cast_unsigned()));
    let (frame_bytes, streams) = (find(setting::MAX_FRAME_SIZE), find(setting::MAX_CONCURRENT_STREAMS));
    Event::Settings { window, frame_bytes, streams }
}

/// The acknowledgement of settings.
pub fn settings_ack() -> Vec<u8> {
    let mut out = Vec::new();
    put_settings_ack(&mut out);
    out
}
