//! The server's side of an HTTP/2 connection, without any I/O: bytes in, events and bytes out.
//!
//! ```text
//!                      ┌───────────────────────────────────────────────┐
//!   receive(bytes) ──▶ │ frames ▶ recv.rs ▶ streams ▶ poll_event       │ ──▶ Event, one at a time
//!                      │                                               │
//!   send_*(stream) ──▶ │ send.rs ▶ stream queues ▶ flush ▶ Output      │ ──▶ bytes for the socket
//!                      └───────────────────────────────────────────────┘
//! ```
//!
//! The shell calls `receive` with what it read, `poll_event` until it says `None`, then `flush`, and writes `output`.
//! It calls `on_timeout` at `deadline`. `poll_event` may be interleaved with any of the sending functions.
//!
//! Phases: `Preface ▶ Settings ▶ Open ▶ Closed`. In `Closed` (an error of the connection, from either side) nothing is
//! read any more; what is in the output is written and the socket closed.
//!
//! Invariants: after an error the table of streams is left as it is, and the shell ends the calls that belong to them;
//! every frame that asks for an answer is charged to a budget of `limits`.
//!
//! Deliberately absent: server push, priorities (read and ignored, as RFC 9113 §5.3.2 allows), CONNECT as more than a
//! method name.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;

use super::frame::{self, ErrorCode, FRAME_BYTES_DEFAULT, FRAME_HEADER_BYTES, FrameHeader, PREFACE, StreamId, setting};
use super::header_block::{HeadCache, RequestHead};
use super::hpack::{Decoder, Encoder};
use super::keepalive::{Due, Keepalive, KeepaliveConfig};
use super::limits::{
    Budget, CONNECTION_WINDOW, HEADER_LIST_BYTES_MAX, IDLE_FRAME_BUDGET, OUTPUT_READ_PAUSE_BYTES, RESET_BUDGET,
    SETTINGS_BUDGET, STREAM_ERROR_BUDGET, STREAM_WINDOW,
};
use super::output::Output;
use super::stream::{ClosedStreams, StreamKey, Streams};

/// SETTINGS_HEADER_TABLE_SIZE as we leave it.
const HEADER_TABLE_BYTES: usize = 4096;
/// Payload of the ping that tells us that a client has seen our first GOAWAY.
const DRAIN_PING: [u8; 8] = *b"drain\0\0\0";
/// Payload of the ping to a silent client.
const KEEPALIVE_PING: [u8; 8] = *b"alive\0\0\0";

/// Settings of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// SETTINGS_MAX_CONCURRENT_STREAMS; `u32::MAX` is no limit.
    pub max_concurrent_streams: u32,
    /// Keep-alive.
    pub keepalive: KeepaliveConfig,
}

/// What a connection tells the layer above.
#[derive(Debug)]
pub enum Event<D> {
    /// A request began. `end`: it has no body.
    Request {
        /// Its stream.
        key: StreamKey,
        /// Its fields.
        head: Rc<RequestHead<D>>,
        /// Nothing follows.
        end: bool,
    },
    /// Part of a body, possibly empty. `end`: the last one.
    Data {
        /// Its stream.
        key: StreamKey,
        /// The bytes.
        data: Bytes,
        /// Nothing follows.
        end: bool,
    },
    /// The stream is gone, by the client's wish or by its fault. Nothing can be sent on it any more.
    Reset {
        /// The stream.
        key: StreamKey,
    },
}

impl<D> std::fmt::Debug for RequestHead<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.fields()).finish()
    }
}

/// What was wrong with a frame, and what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Connection(ErrorCode, &'static str),
    Stream(StreamId, ErrorCode),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Preface,
    Settings,
    Open,
    Closed,
}

/// How far a graceful shutdown has come (RFC 9113 §6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drain {
    No,
    /// The client was told to open no more streams; those already on their way are still served.
    Announced,
    /// Streams above this one are ignored.
    After(StreamId),
}

/// What a HEADERS frame says besides its block.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockStart {
    pub(super) stream: StreamId,
    pub(super) end_stream: bool,
    pub(super) depends_on_itself: bool,
}

/// A header block that is not complete yet.
pub(super) struct PartialBlock {
    pub(super) start: BlockStart,
    pub(super) block: Vec<u8>,
    pub(super) continuations: u32,
}

pub(super) struct Budgets {
    pub(super) resets: Budget,
    pub(super) settings: Budget,
    pub(super) idle_frames: Budget,
    pub(super) stream_errors: Budget,
}

/// One connection. `D` is what the layer above keeps with a request's head.
pub struct Connection<D> {
    pub(super) config: Config,
    pub(super) phase: Phase,
    input: Bytes,
    /// When it was read.
    pub(super) input_at: Instant,
    /// How much of `input` has been taken.
    taken: usize,
    /// A frame of which only the beginning has arrived.
    partial: Vec<u8>,
    pub(super) block: Option<PartialBlock>,
    pub(super) decoder: Decoder,
    pub(super) heads: HeadCache<D>,
    pub(super) encoder: Encoder,
    pub(super) streams: Streams,
    pub(super) last_stream: StreamId,
    pub(super) closed: ClosedStreams,
    pub(super) recv_window: i32,
    pub(super) recv_uncredited: i32,
    pub(super) send_window: i64,
    pub(super) peer_initial_window: i64,
    pub(super) peer_frame_bytes: u32,
    /// Streams with something to send and window for it.
    pub(super) sendable: VecDeque<StreamKey>,
    /// Streams whose queue has drained.
    pub(super) drained: Vec<StreamKey>,
    pub(super) output: Output,
    pub(super) keepalive: Keepalive,
    pub(super) budgets: Budgets,
    pub(super) drain: Drain,
}

impl<D> Connection<D> {
    /// A connection on which nothing has been read. Our settings are in the output.
    pub fn new(config: Config, now: Instant) -> Connection<D> {
        let mut output = Output::default();
        let mut settings = vec![
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW as u32),
            (setting::MAX_HEADER_LIST_SIZE, HEADER_LIST_BYTES_MAX as u32),
        ];
        if config.max_concurrent_streams != u32::MAX {
            settings.push((setting::MAX_CONCURRENT_STREAMS, config.max_concurrent_streams));
        }
        frame::put_settings(output.buffer(), &settings);
        let increment = CONNECTION_WINDOW - frame::WINDOW_DEFAULT;
        frame::put_window_update(output.buffer(), StreamId::CONNECTION, increment as u32);
        Connection {
            config,
            phase: Phase::Preface,
            input: Bytes::new(),
            input_at: now,
            taken: 0,
            partial: Vec::new(),
            block: None,
            decoder: Decoder::new(HEADER_TABLE_BYTES),
            heads: HeadCache::new(),
            encoder: Encoder::new(),
            streams: Streams::default(),
            last_stream: StreamId::CONNECTION,
            closed: ClosedStreams::new(),
            recv_window: CONNECTION_WINDOW,
            recv_uncredited: 0,
            send_window: i64::from(frame::WINDOW_DEFAULT),
            peer_initial_window: i64::from(frame::WINDOW_DEFAULT),
            peer_frame_bytes: FRAME_BYTES_DEFAULT,
            sendable: VecDeque::new(),
            drained: Vec::new(),
            output,
            keepalive: Keepalive::new(config.keepalive, now),
            budgets: Budgets {
                resets: Budget::new(RESET_BUDGET, now),
                settings: Budget::new(SETTINGS_BUDGET, now),
                idle_frames: Budget::new(IDLE_FRAME_BUDGET, now),
                stream_errors: Budget::new(STREAM_ERROR_BUDGET, now),
            },
            drain: Drain::No,
        }
    }

    /// Takes what was read. The previous input must have been used up (`poll_event` said `None`).
    pub fn receive(&mut self, bytes: Bytes, now: Instant) {
        assert!(self.taken == self.input.len() || self.phase == Phase::Closed);
        self.keepalive.on_read(now);
        self.input = bytes;
        self.input_at = now;
        self.taken = 0;
    }

    /// The next event of the input, or `None` when it is used up.
    pub fn poll_event(&mut self, now: Instant) -> Option<Event<D>> {
        let input = std::mem::take(&mut self.input);
        let event = self.poll_input(&input, now);
        if self.taken < input.len() {
            self.input = input;
        } else {
            self.taken = 0;
        }
        event
    }

    fn poll_input(&mut self, input: &Bytes, now: Instant) -> Option<Event<D>> {
        loop {
            let result = match self.phase {
                Phase::Closed => {
                    self.taken = input.len();
                    return None;
                }
                Phase::Preface => self.take_preface(input)?,
                Phase::Settings | Phase::Open => self.take_frame(input, now)?,
            };
            match result {
                Ok(None) => {}
                Ok(Some(event)) => return Some(event),
                Err(Fault::Connection(code, reason)) => self.close(code, reason),
                Err(Fault::Stream(id, code)) => {
                    if let Some(event) = self.on_stream_fault(id, code, now) {
                        return Some(event);
                    }
                }
            }
        }
    }

    /// `None` if more input is needed.
    fn take_preface(&mut self, input: &Bytes) -> Option<Result<Option<Event<D>>, Fault>> {
        let missing = PREFACE.len() - self.partial.len();
        let piece = missing.min(input.len() - self.taken);
        self.partial.extend_from_slice(&input[self.taken..self.taken + piece]);
        self.taken += piece;
        if !PREFACE.starts_with(&self.partial) {
            return Some(Err(Fault::Connection(ErrorCode::PROTOCOL_ERROR, "invalid connection preface")));
        }
        if self.partial.len() < PREFACE.len() {
            return None;
        }
        self.partial = Vec::new();
        self.phase = Phase::Settings;
        Some(Ok(None))
    }

    /// Handles the next frame. `None` if more input is needed; then the beginning of the frame is kept.
    fn take_frame(&mut self, input: &Bytes, now: Instant) -> Option<Result<Option<Event<D>>, Fault>> {
        if self.partial.is_empty() {
            let rest = &input[self.taken..];
            let length = match frame_length(rest) {
                Ok(length) => length,
                Err(fault) => return Some(Err(fault)),
            };
            if let Some(length) = length.filter(|length| *length <= rest.len()) {
                let at = self.taken;
                self.taken += length;
                return Some(self.on_frame(input, at, now));
            }
        }
        // Rare: the frame's end is in a later read. It is gathered in a buffer of its own.
        loop {
            let rest = &input[self.taken..];
            let wanted = match frame_length(&self.partial) {
                Ok(length) => length.unwrap_or(FRAME_HEADER_BYTES) - self.partial.len(),
                Err(fault) => return Some(Err(fault)),
            };
            if wanted == 0 {
                let frame = Bytes::from(std::mem::take(&mut self.partial));
                return Some(self.on_frame(&frame, 0, now));
            }
            if rest.is_empty() {
                return None;
            }
            let piece = wanted.min(rest.len());
            self.partial.extend_from_slice(&rest[..piece]);
            self.taken += piece;
        }
    }

    /// Ends the connection: a GOAWAY goes out, and nothing is read any more.
    pub fn close(&mut self, code: ErrorCode, reason: &str) {
        if self.phase != Phase::Closed {
            frame::put_goaway(self.output.buffer(), self.last_stream, code, reason);
            self.phase = Phase::Closed;
            self.taken = self.input.len();
        }
    }

    /// Resets a stream that broke a rule.
    fn on_stream_fault(&mut self, id: StreamId, code: ErrorCode, now: Instant) -> Option<Event<D>> {
        if !self.budgets.stream_errors.take(now) {
            self.close(ErrorCode::ENHANCE_YOUR_CALM, "too_many_stream_errors");
            return None;
        }
        if !id.is_client_initiated() {
            // A stream that nobody can open cannot be reset either (§6.4).
            self.close(code, "stream error on a stream no client may open");
            return None;
        }
        frame::put_rst_stream(self.output.buffer(), id, code);
        self.closed.record_reset(id);
        // A stream that was idle no longer is.
        self.last_stream = self.last_stream.max(id);
        let key = self.streams.find(id)?;
        self.streams.remove(key);
        Some(Event::Reset { key })
    }

    /// Whether the connection is over. What is in the output may still be written.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether there is input that has not been looked at.
    pub fn has_input(&self) -> bool {
        self.taken < self.input.len()
    }

    /// Whether the shell should go on reading.
    pub fn wants_read(&self) -> bool {
        self.phase != Phase::Closed && self.output.len() < OUTPUT_READ_PAUSE_BYTES
    }

    /// Begins a graceful shutdown: the client is told to open no more streams.
    pub fn start_drain(&mut self) {
        if self.drain == Drain::No && self.phase != Phase::Closed {
            self.drain = Drain::Announced;
            frame::put_goaway(self.output.buffer(), StreamId::MAX, ErrorCode::NO_ERROR, "graceful_stop");
            frame::put_ping(self.output.buffer(), false, DRAIN_PING);
        }
    }

    /// Whether a graceful shutdown is over: every stream has ended, and no more will come.
    pub fn is_drained(&self) -> bool {
        matches!(self.drain, Drain::After(_)) && self.streams.is_empty()
    }

    /// The client answered one of our pings.
    pub(super) fn on_ping_ack(&mut self, payload: [u8; 8]) {
        if payload == DRAIN_PING && self.drain == Drain::Announced {
            self.drain = Drain::After(self.last_stream);
            frame::put_goaway(self.output.buffer(), self.last_stream, ErrorCode::NO_ERROR, "");
        }
    }

    /// When `on_timeout` is to be called; may be later by the time it comes.
    pub fn deadline(&self) -> Option<Instant> {
        self.keepalive.deadline()
    }

    /// Does what is due. False if the client is dead and the connection to be dropped.
    #[must_use]
    pub fn on_timeout(&mut self, now: Instant) -> bool {
        match self.keepalive.on_timeout(now) {
            Due::Nothing => true,
            Due::Ping => {
                frame::put_ping(self.output.buffer(), false, KEEPALIVE_PING);
                true
            }
            Due::Close => false,
        }
    }

    /// Streams that are open.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// What is to be written.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }
}

/// Length of the frame at the beginning of `bytes` with its header, if the header is there.
fn frame_length(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let Some(header) = bytes.first_chunk() else { return Ok(None) };
    let length = FrameHeader::parse(header).length;
    if length > FRAME_BYTES_DEFAULT {
        return Err(Fault::Connection(ErrorCode::FRAME_SIZE_ERROR, "frame too large"));
    }
    Ok(Some(FRAME_HEADER_BYTES + length as usize))
}
