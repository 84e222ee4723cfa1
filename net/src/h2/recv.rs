//! Frames of the client, type by type (RFC 9113 §6).

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;

use super::connection::{BlockStart, Connection, Drain, Event, Fault, PartialBlock, Phase};
use super::frame::{
    self, ErrorCode, FRAME_BYTES_DEFAULT, FRAME_BYTES_LIMIT, FRAME_HEADER_BYTES, FrameHeader, SETTING_BYTES, StreamId,
    WINDOW_MAX, flag, kind, setting,
};
use super::header_block::{RequestHead, check_trailers};
use super::limits::{
    CONNECTION_WINDOW, CONTINUATIONS_MAX, HEADER_BLOCK_BYTES_MAX, HEADER_LIST_BYTES_MAX, PATIENT_STREAM_AGE,
    STREAM_WINDOW,
};
use super::stream::{Ending, State};

type Handled<D> = Result<Option<Event<D>>, Fault>;

const fn protocol_error(reason: &'static str) -> Fault {
    Fault::Connection(ErrorCode::PROTOCOL_ERROR, reason)
}

const fn size_error(reason: &'static str) -> Fault {
    Fault::Connection(ErrorCode::FRAME_SIZE_ERROR, reason)
}

const FLOOD: ErrorCode = ErrorCode::ENHANCE_YOUR_CALM;

impl<D> Connection<D> {
    /// Handles the complete frame at `at` in `bytes`.
    pub(super) fn on_frame(&mut self, bytes: &Bytes, at: usize, now: Instant) -> Handled<D> {
        let header = FrameHeader::parse(bytes[at..].first_chunk().expect("the caller has the whole frame"));
        let start = at + FRAME_HEADER_BYTES;
        let payload = &bytes[start..start + header.length as usize];
        if self.block.is_some() && header.kind != kind::CONTINUATION {
            return Err(protocol_error("header block interrupted"));
        }
        if self.phase == Phase::Settings {
            if header.kind != kind::SETTINGS || header.has(flag::ACK) {
                return Err(protocol_error("the first frame is not SETTINGS"));
            }
            self.phase = Phase::Open;
        }
        match header.kind {
            kind::DATA => self.on_data(header, bytes, start, now),
            kind::HEADERS => self.on_headers(header, payload),
            kind::CONTINUATION => self.on_continuation(header, payload),
            kind::RST_STREAM => self.on_rst_stream(header, payload, now),
            kind::WINDOW_UPDATE => self.on_window_update(header, payload).map(|()| None),
            kind::SETTINGS => self.on_settings(header, payload, now).map(|()| None),
            kind::PING => self.on_ping(header, payload, now).map(|()| None),
            kind::PRIORITY => self.on_priority(header, payload, now).map(|()| None),
            kind::GOAWAY => on_goaway(header, payload).map(|()| None),
            kind::PUSH_PROMISE => Err(protocol_error("clients cannot push")),
            _ => self.charge_idle_frame(now).map(|()| None),
        }
    }

    /// A frame that changes nothing.
    fn charge_idle_frame(&mut self, now: Instant) -> Result<(), Fault> {
        if self.budgets.idle_frames.take(now) { Ok(()) } else { Err(Fault::Connection(FLOOD, "too_many_idle_frames")) }
    }

    fn is_idle(&self, id: StreamId) -> bool {
        id > self.last_stream || !id.is_client_initiated()
    }

    fn on_data(&mut self, header: FrameHeader, bytes: &Bytes, start: usize, now: Instant) -> Handled<D> {
        let (id, length) = (header.stream, header.length as i32);
        if self.is_idle(id) {
            return Err(protocol_error("DATA on a stream that was not opened"));
        }
        let payload = &bytes[start..start + header.length as usize];
        let body = if header.has(flag::PADDED) {
            let (&padding, rest) =
                payload.split_first().ok_or(size_error("DATA too short for its padding's length"))?;
            let length = rest.len().checked_sub(usize::from(padding));
            &rest[..length.ok_or(protocol_error("padding exceeds the frame"))?]
        } else {
            payload
        };
        let end = header.has(flag::END_STREAM);
        if body.is_empty() && !end {
            self.charge_idle_frame(now)?;
        }
        self.take_connection_window(length)?;
        let Some(key) = self.streams.find(id) else {
            return match self.closed.ending(id) {
                Some(Ending::ResetByUs) => Ok(None),
                _ => Err(Fault::Stream(id, ErrorCode::STREAM_CLOSED)),
            };
        };
        let stream = self.streams.get_mut(key).expect("it was just found");
        if stream.state == State::HalfClosedRemote {
            return Err(Fault::Stream(id, ErrorCode::STREAM_CLOSED));
        }
        if length > stream.recv_window {
            return Err(Fault::Stream(id, ErrorCode::FLOW_CONTROL_ERROR));
        }
        if let Some(left) = &mut stream.content_left {
            let rest = left.checked_sub(body.len() as u64).filter(|rest| !end || *rest == 0);
            *left = rest.ok_or(Fault::Stream(id, ErrorCode::PROTOCOL_ERROR))?;
        }
        if end {
            stream.state = State::HalfClosedRemote;
        } else {
            stream.recv_window -= length;
            stream.recv_uncredited += length;
            if stream.recv_uncredited >= STREAM_WINDOW / 2 {
                frame::put_window_update(self.output.buffer(), id, stream.recv_uncredited as u32);
                stream.recv_window += stream.recv_uncredited;
                stream.recv_uncredited = 0;
            }
            if body.is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(Event::Data { key, data: bytes.slice_ref(body), end }))
    }

    fn take_connection_window(&mut self, length: i32) -> Result<(), Fault> {
        if length > self.recv_window {
            return Err(Fault::Connection(ErrorCode::FLOW_CONTROL_ERROR, "connection window exceeded"));
        }
        self.recv_window -= length;
        self.recv_uncredited += length;
        if self.recv_uncredited >= CONNECTION_WINDOW / 2 {
            let increment = self.recv_uncredited;
            frame::put_window_update(self.output.buffer(), StreamId::CONNECTION, increment as u32);
            self.recv_window += increment;
            self.recv_uncredited = 0;
        }
        Ok(())
    }

    fn on_headers(&mut self, header: FrameHeader, payload: &[u8]) -> Handled<D> {
        let id = header.stream;
        if !id.is_client_initiated() {
            return Err(protocol_error("HEADERS on a stream no client may open"));
        }
        let (mut block, mut padding) = (payload, 0);
        if header.has(flag::PADDED) {
            let (&length, rest) =
                block.split_first().ok_or(size_error("HEADERS too short for its padding's length"))?;
            (block, padding) = (rest, usize::from(length));
        }
        let mut depends_on_itself = false;
        if header.has(flag::PRIORITY) {
            let (priority, rest) =
                block.split_first_chunk::<5>().ok_or(size_error("HEADERS too short for its priority"))?;
            block = rest;
            depends_on_itself = dependency(priority) == id;
        }
        let length = block.len().checked_sub(padding).ok_or(protocol_error("padding exceeds the frame"))?;
        block = &block[..length];
        let start = BlockStart { stream: id, end_stream: header.has(flag::END_STREAM), depends_on_itself };
        if header.has(flag::END_HEADERS) {
            return self.on_block(start, block);
        }
        self.block = Some(PartialBlock { start, block: block.to_vec(), continuations: 0 });
        Ok(None)
    }

    fn on_continuation(&mut self, header: FrameHeader, payload: &[u8]) -> Handled<D> {
        let Some(mut partial) = self.block.take() else {
            return Err(protocol_error("CONTINUATION without HEADERS"));
        };
        if partial.start.stream != header.stream {
            return Err(protocol_error("CONTINUATION of another stream"));
        }
        partial.continuations += 1;
        if partial.continuations > CONTINUATIONS_MAX || partial.block.len() + payload.len() > HEADER_BLOCK_BYTES_MAX {
            return Err(Fault::Connection(FLOOD, "header_block_too_large"));
        }
        partial.block.extend_from_slice(payload);
        if header.has(flag::END_HEADERS) {
            return self.on_block(partial.start, &partial.block);
        }
        self.block = Some(partial);
        Ok(None)
    }

    /// A complete header block: a new request, trailers, or something too late.
    fn on_block(&mut self, start: BlockStart, block: &[u8]) -> Handled<D> {
        let (id, end_stream) = (start.stream, start.end_stream);
        if start.depends_on_itself {
            // It costs the stream, whatever its state, but the block has to be decoded for the table's sake.
            self.decode_fields(block)?;
            return Err(Fault::Stream(id, ErrorCode::PROTOCOL_ERROR));
        }
        if let Some(key) = self.streams.find(id) {
            let fields = self.decode_fields(block)?;
            let stream = self.streams.get_mut(key).expect("it was just found");
            if stream.state == State::HalfClosedRemote {
                return Err(Fault::Stream(id, ErrorCode::STREAM_CLOSED));
            }
            let fields = fields.ok_or(Fault::Stream(id, ErrorCode::FRAME_SIZE_ERROR))?;
            let complete = stream.content_left.is_none_or(|left| left == 0);
            if !end_stream || !complete || check_trailers(&fields).is_err() {
                return Err(Fault::Stream(id, ErrorCode::PROTOCOL_ERROR));
            }
            stream.state = State::HalfClosedRemote;
            return Ok(Some(Event::Data { key, data: Bytes::new(), end: true }));
        }
        if id <= self.last_stream {
            self.decode_fields(block)?;
            return match self.closed.ending(id) {
                Some(Ending::ResetByUs) => Ok(None),
                Some(Ending::Finished) => {
                    Err(Fault::Connection(ErrorCode::STREAM_CLOSED, "HEADERS on a closed stream"))
                }
                None => Err(protocol_error("stream identifier is not new")),
            };
        }
        if matches!(self.drain, Drain::After(last) if id > last) {
            self.decode_fields(block)?;
            return Ok(None);
        }
        self.last_stream = id;
        self.on_request(id, end_stream, block)
    }

    fn on_request(&mut self, id: StreamId, end_stream: bool, block: &[u8]) -> Handled<D> {
        let head = match self.heads.get(self.decoder.version(), block) {
            Some(head) => Rc::clone(head),
            None => {
                let before = self.decoder.version();
                let fields = self.decode_fields(block)?.ok_or(Fault::Stream(id, ErrorCode::FRAME_SIZE_ERROR))?;
                let head = RequestHead::new(fields).map_err(|_| Fault::Stream(id, ErrorCode::PROTOCOL_ERROR))?;
                let head = Rc::new(head);
                if before == self.decoder.version() {
                    self.heads.put(before, block, &head);
                }
                head
            }
        };
        if self.streams.len() >= self.config.max_concurrent_streams as usize {
            return Err(Fault::Stream(id, ErrorCode::REFUSED_STREAM));
        }
        let content_length = head.content_length();
        if end_stream && content_length.is_some_and(|length| length != 0) {
            return Err(Fault::Stream(id, ErrorCode::PROTOCOL_ERROR));
        }
        let state = if end_stream { State::HalfClosedRemote } else { State::Open };
        let key = self.streams.insert(id, state, self.peer_initial_window, content_length, self.input_at);
        Ok(Some(Event::Request { key, head, end: end_stream }))
    }

    /// The fields of a block, or `None` if there are too many.
    fn decode_fields(&mut self, block: &[u8]) -> Result<Option<Vec<Rc<super::hpack::Field>>>, Fault> {
        let mut fields = Vec::with_capacity(16);
        match self.decoder.decode(block, HEADER_LIST_BYTES_MAX, &mut fields) {
            Ok(within) => Ok(within.then_some(fields)),
            Err(_) => Err(Fault::Connection(ErrorCode::COMPRESSION_ERROR, "header block cannot be decoded")),
        }
    }

    fn on_rst_stream(&mut self, header: FrameHeader, payload: &[u8], now: Instant) -> Handled<D> {
        if payload.len() != 4 {
            return Err(size_error("RST_STREAM has four bytes"));
        }
        if self.is_idle(header.stream) {
            return Err(protocol_error("RST_STREAM on a stream that was not opened"));
        }
        // On a closed stream it is late, as when our answer and the client's change of mind cross.
        let Some(key) = self.streams.find(header.stream) else { return Ok(None) };
        let stream = self.streams.get(key).expect("it was just found");
        // What was answered counts only once the client can have seen it: a request, and behind it at once its reset,
        // makes us work for nothing, whatever we had begun to say.
        let served = stream.answered_at.is_some_and(|end| self.output.is_written(end));
        let patient = now.saturating_duration_since(stream.opened_at) >= PATIENT_STREAM_AGE;
        if !served && !patient && !self.budgets.resets.take(now) {
            return Err(Fault::Connection(FLOOD, "too_many_resets"));
        }
        self.streams.remove(key);
        self.closed.record(header.stream, Ending::Finished);
        Ok(Some(Event::Reset { key }))
    }

    fn on_window_update(&mut self, header: FrameHeader, payload: &[u8]) -> Result<(), Fault> {
        let bytes: [u8; 4] = payload.try_into().map_err(|_| size_error("WINDOW_UPDATE has four bytes"))?;
        let increment = i64::from(u32::from_be_bytes(bytes)) & WINDOW_MAX;
        if header.stream == StreamId::CONNECTION {
            if increment == 0 {
                return Err(protocol_error("WINDOW_UPDATE of nothing"));
            }
            self.send_window += increment;
            if self.send_window > WINDOW_MAX {
                return Err(Fault::Connection(ErrorCode::FLOW_CONTROL_ERROR, "connection window overflows"));
            }
            return Ok(());
        }
        if self.is_idle(header.stream) {
            return Err(protocol_error("WINDOW_UPDATE on a stream that was not opened"));
        }
        // On a closed stream it may just be late.
        let Some(key) = self.streams.find(header.stream) else { return Ok(()) };
        if increment == 0 {
            return Err(Fault::Stream(header.stream, ErrorCode::PROTOCOL_ERROR));
        }
        let stream = self.streams.get_mut(key).expect("it was just found");
        stream.send_window += increment;
        if stream.send_window > WINDOW_MAX {
            return Err(Fault::Stream(header.stream, ErrorCode::FLOW_CONTROL_ERROR));
        }
        self.schedule(key);
        Ok(())
    }

    fn on_settings(&mut self, header: FrameHeader, payload: &[u8], now: Instant) -> Result<(), Fault> {
        if header.stream != StreamId::CONNECTION {
            return Err(protocol_error("SETTINGS on a stream"));
        }
        if header.has(flag::ACK) {
            return if payload.is_empty() { Ok(()) } else { Err(size_error("SETTINGS acknowledgement with payload")) };
        }
        if !payload.len().is_multiple_of(SETTING_BYTES) {
            return Err(size_error("SETTINGS of a broken length"));
        }
        if !self.budgets.settings.take(now) {
            return Err(Fault::Connection(FLOOD, "too_many_settings"));
        }
        let mut window = self.peer_initial_window;
        for entry in payload.chunks_exact(SETTING_BYTES) {
            let id = u16::from_be_bytes([entry[0], entry[1]]);
            let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
            match id {
                setting::HEADER_TABLE_SIZE => self.encoder.limit_table(value),
                setting::ENABLE_PUSH if value > 1 => return Err(protocol_error("ENABLE_PUSH is neither 0 nor 1")),
                setting::INITIAL_WINDOW_SIZE => {
                    window = i64::from(value);
                    if window > WINDOW_MAX {
                        return Err(Fault::Connection(ErrorCode::FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE too large"));
                    }
                }
                setting::MAX_FRAME_SIZE => {
                    if !(FRAME_BYTES_DEFAULT..=FRAME_BYTES_LIMIT).contains(&value) {
                        return Err(protocol_error("MAX_FRAME_SIZE out of range"));
                    }
                    self.peer_frame_bytes = value;
                }
                _ => {}
            }
        }
        self.change_initial_window(window)?;
        frame::put_settings_ack(self.output.buffer());
        Ok(())
    }

    /// §6.9.2: the change applies to all streams, and may leave their windows negative.
    fn change_initial_window(&mut self, window: i64) -> Result<(), Fault> {
        let change = window - self.peer_initial_window;
        if change == 0 {
            return Ok(());
        }
        self.peer_initial_window = window;
        let mut waiting = Vec::new();
        for (key, stream) in self.streams.iter_mut() {
            stream.send_window += change;
            if stream.send_window > WINDOW_MAX {
                return Err(Fault::Connection(ErrorCode::FLOW_CONTROL_ERROR, "stream window overflows"));
            }
            if stream.queue.is_some() {
                waiting.push(key);
            }
        }
        for key in waiting {
            self.schedule(key);
        }
        Ok(())
    }

    fn on_ping(&mut self, header: FrameHeader, payload: &[u8], now: Instant) -> Result<(), Fault> {
        if header.stream != StreamId::CONNECTION {
            return Err(protocol_error("PING on a stream"));
        }
        let payload: [u8; 8] = payload.try_into().map_err(|_| size_error("PING has eight bytes"))?;
        if header.has(flag::ACK) {
            self.on_ping_ack(payload);
            return Ok(());
        }
        frame::put_ping(self.output.buffer(), true, payload);
        if self.keepalive.on_client_ping(!self.streams.is_empty(), now) {
            return Ok(());
        }
        Err(Fault::Connection(FLOOD, "too_many_pings"))
    }

    fn on_priority(&mut self, header: FrameHeader, payload: &[u8], now: Instant) -> Result<(), Fault> {
        if header.stream == StreamId::CONNECTION {
            return Err(protocol_error("PRIORITY of the connection"));
        }
        let payload: [u8; 5] =
            payload.try_into().map_err(|_| Fault::Stream(header.stream, ErrorCode::FRAME_SIZE_ERROR))?;
        if dependency(&payload) == header.stream {
            return Err(Fault::Stream(header.stream, ErrorCode::PROTOCOL_ERROR));
        }
        self.charge_idle_frame(now)
    }
}

/// The stream a priority depends on.
fn dependency(priority: &[u8; 5]) -> StreamId {
    StreamId::from_wire(u32::from_be_bytes([priority[0], priority[1], priority[2], priority[3]]))
}

/// The client will open no more streams. It closes the connection when those it has are done.
fn on_goaway(header: FrameHeader, payload: &[u8]) -> Result<(), Fault> {
    if header.stream != StreamId::CONNECTION {
        return Err(protocol_error("GOAWAY on a stream"));
    }
    if payload.len() < 8 {
        return Err(size_error("GOAWAY has eight bytes at least"));
    }
    Ok(())
}
