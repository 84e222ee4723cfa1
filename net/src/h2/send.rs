//! Answers: heads, messages, trailers, and the queues of streams whose window or whose turn has not come.
//!
//! A message that fits the windows is encoded straight into the output. What does not fit waits in its stream; `flush`
//! moves it on, one frame per stream and round, while the output is below its high-water mark.
//!
//! Invariants: no more is sent than both windows allow; the pieces of a stream keep their order; a stream is in
//! `sendable` at most once, and whenever it has a queue and a window.

use bytes::Bytes;

use super::connection::Connection;
use super::frame::{self, ErrorCode, FrameHeader, StreamId, flag, kind};
use super::hpack::Encoder;
use super::limits::{OUTPUT_HIGH_WATER_BYTES, SHARED_BODY_BYTES_MIN, STREAM_LOW_WATER_BYTES};
use super::stream::{Ending, LastWord, SendQueue, State, StreamKey, Trailers};

impl<D> Connection<D> {
    /// Sends response headers. Streams that have ended are ignored here and in all functions below.
    pub fn send_head(&mut self, key: StreamKey, encode: impl FnOnce(&mut Encoder, &mut Vec<u8>)) {
        if self.streams.get(key).is_some() {
            self.put_headers(key.id, false, encode);
            let end = self.output.end();
            self.streams.get_mut(key).expect("it was just there").answered_at = Some(end);
        }
    }

    /// Sends response headers that are the whole answer, and ends the stream.
    pub fn send_head_only(&mut self, key: StreamKey, encode: impl FnOnce(&mut Encoder, &mut Vec<u8>)) {
        if self.streams.get(key).is_some() {
            self.put_headers(key.id, true, encode);
            self.end_stream(key);
        }
    }

    /// Sends what `encode` appends, unless it says false: then it is as if nothing had been appended.
    pub fn send_encoded(&mut self, key: StreamKey, encode: impl FnOnce(&mut Vec<u8>) -> bool) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let window = stream.send_window.min(self.send_window).min(i64::from(self.peer_frame_bytes));
        if stream.queue.is_some() || window <= 0 || self.output.len() >= OUTPUT_HIGH_WATER_BYTES {
            let mut body = Vec::new();
            if encode(&mut body) {
                self.enqueue(key, body.into());
            }
            return;
        }
        let out = self.output.buffer();
        let at = frame::begin_frame(out, kind::DATA, 0, key.id);
        let start = out.len();
        if !encode(out) {
            out.truncate(at);
            return;
        }
        let length = (out.len() - start) as i64;
        if length <= window {
            frame::end_frame(out, at);
            stream.send_window -= length;
            self.send_window -= length;
            self.keepalive.on_answer();
            return;
        }
        let body = self.output.take_back(start);
        self.output.buffer().truncate(at);
        self.enqueue(key, body);
    }

    /// Sends a body that exists already, without copying it if it is large.
    pub fn send_bytes(&mut self, key: StreamKey, body: Bytes) {
        self.enqueue(key, body);
    }

    /// Ends the stream behind everything queued.
    pub fn send_trailers(&mut self, key: StreamKey, trailers: Trailers) {
        self.send_last_word(key, LastWord::Trailers(trailers));
    }

    /// Ends the stream behind everything queued, without trailers.
    pub fn send_end(&mut self, key: StreamKey) {
        self.send_last_word(key, LastWord::EndStream);
    }

    fn send_last_word(&mut self, key: StreamKey, last_word: LastWord) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        match &mut stream.queue {
            Some(queue) => queue.last_word = Some(last_word),
            None => self.put_last_word(key, &last_word),
        }
    }

    /// Ends the stream at once, dropping what is queued.
    pub fn reset(&mut self, key: StreamKey, code: ErrorCode) {
        if self.streams.remove(key).is_some() {
            frame::put_rst_stream(self.output.buffer(), key.id, code);
            self.closed.record(key.id, Ending::ResetByUs);
        }
    }

    /// Bytes that wait in the stream. What is in the output already is bounded for all streams together.
    pub fn queued_bytes(&self, key: StreamKey) -> usize {
        let queue = self.streams.get(key).and_then(|stream| stream.queue.as_ref());
        queue.map_or(0, |queue| queue.bytes)
    }

    /// The next stream whose queue was full and no longer is.
    pub fn poll_drained(&mut self) -> Option<StreamKey> {
        self.drained.pop()
    }

    /// Moves queued messages to the output as far as windows and room allow.
    pub fn flush(&mut self) {
        while self.output.len() < OUTPUT_HIGH_WATER_BYTES && self.send_window > 0 {
            let Some(key) = self.sendable.pop_front() else { return };
            self.flush_frame(key);
        }
    }

    /// Whether `flush` would do something.
    pub fn can_flush(&self) -> bool {
        !self.sendable.is_empty() && self.send_window > 0 && self.output.len() < OUTPUT_HIGH_WATER_BYTES
    }

    /// The stream may send now, if it has anything.
    pub(super) fn schedule(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if !stream.scheduled && stream.send_window > 0 && stream.queue.is_some() {
            stream.scheduled = true;
            self.sendable.push_back(key);
        }
    }

    fn enqueue(&mut self, key: StreamKey, body: Bytes) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if body.is_empty() {
            return;
        }
        let queue = stream.queue.get_or_insert_default();
        assert!(queue.last_word.is_none(), "nothing is sent behind the last word");
        queue.bytes += body.len();
        queue.was_full |= queue.bytes >= STREAM_LOW_WATER_BYTES;
        queue.pieces.push_back(body);
        self.schedule(key);
    }

    /// Sends one DATA frame of a scheduled stream.
    fn flush_frame(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.scheduled = false;
        let Some(queue) = &mut stream.queue else { return };
        let window = stream.send_window.min(self.send_window).min(i64::from(self.peer_frame_bytes));
        if window <= 0 {
            // It is scheduled again by the WINDOW_UPDATE it waits for.
            return;
        }
        let length = queue.bytes.min(window as usize);
        FrameHeader { length: length as u32, kind: kind::DATA, flags: 0, stream: key.id }.put(self.output.buffer());
        let mut left = length;
        while left > 0 {
            let piece = queue.pieces.front_mut().expect("the pieces add up to the queue's size");
            let next = piece.split_to(left.min(piece.len()));
            if piece.is_empty() {
                queue.pieces.pop_front();
            }
            left -= next.len();
            if next.len() >= SHARED_BODY_BYTES_MIN {
                self.output.splice(next);
            } else {
                self.output.buffer().extend_from_slice(&next);
            }
        }
        queue.bytes -= length;
        stream.send_window -= length as i64;
        self.send_window -= length as i64;
        self.keepalive.on_answer();
        if queue.was_full && queue.bytes < STREAM_LOW_WATER_BYTES {
            queue.was_full = false;
            self.drained.push(key);
        }
        if queue.bytes > 0 {
            self.schedule(key);
            return;
        }
        let SendQueue { last_word, .. } = *stream.queue.take().expect("it was just used");
        if let Some(last_word) = last_word {
            self.put_last_word(key, &last_word);
        }
    }

    fn put_last_word(&mut self, key: StreamKey, last_word: &LastWord) {
        match last_word {
            LastWord::Trailers(trailers) => self.put_headers(key.id, true, |encoder, out| {
                for constant in trailers.constants {
                    encoder.constant(out, *constant);
                }
                for (name, value) in &trailers.literals {
                    encoder.literal(out, name.as_bytes(), value.as_bytes());
                }
            }),
            LastWord::EndStream => {
                let header = FrameHeader { length: 0, kind: kind::DATA, flags: flag::END_STREAM, stream: key.id };
                header.put(self.output.buffer());
            }
        }
        self.end_stream(key);
    }

    /// END_STREAM has been sent.
    fn end_stream(&mut self, key: StreamKey) {
        let stream = self.streams.remove(key).expect("the caller has just seen it");
        self.budgets.resets.give_back();
        match stream.state {
            State::HalfClosedRemote => self.closed.record(key.id, Ending::Finished),
            State::Open => {
                frame::put_rst_stream(self.output.buffer(), key.id, ErrorCode::NO_ERROR);
                self.closed.record(key.id, Ending::ResetByUs);
            }
        }
    }

    /// Appends a header block: one HEADERS frame, and CONTINUATION frames if it does not fit.
    fn put_headers(&mut self, id: StreamId, end: bool, encode: impl FnOnce(&mut Encoder, &mut Vec<u8>)) {
        self.keepalive.on_answer();
        let out = self.output.buffer();
        let flags = if end { flag::END_STREAM | flag::END_HEADERS } else { flag::END_HEADERS };
        let at = frame::begin_frame(out, kind::HEADERS, flags, id);
        let start = out.len();
        self.encoder.begin(out);
        encode(&mut self.encoder, out);
        if out.len() - start <= self.peer_frame_bytes as usize {
            frame::end_frame(out, at);
            return;
        }
        let block = out.split_off(start);
        out.truncate(at);
        let mut pieces = block.chunks(self.peer_frame_bytes as usize).peekable();
        let mut next = (kind::HEADERS, flags & flag::END_STREAM);
        while let Some(piece) = pieces.next() {
            let last = if pieces.peek().is_none() { flag::END_HEADERS } else { 0 };
            FrameHeader { length: piece.len() as u32, kind: next.0, flags: next.1 | last, stream: id }.put(out);
            out.extend_from_slice(piece);
            next = (kind::CONTINUATION, 0);
        }
    }
}
