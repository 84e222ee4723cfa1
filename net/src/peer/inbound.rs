//! The side that accepts, once it has: hands messages and requests over, and carries answers back.
//!
//! Invariant: every request that is read is answered exactly once, by a response or a failure.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::Lane;
use super::core::Core;
use super::lane_task::End;
use super::link::Traffic;
use super::outbox::Outbox;
use super::wire::{Frame, FrameHead, FrameKind, WireError};

/// The acceptor behind a connection.
pub(super) struct Inbound {
    pub(super) core: Rc<Core>,
    pub(super) from: u64,
    pub(super) lane: Lane,
    pub(super) outbox: Rc<Outbox>,
    pub(super) traffic: Rc<Traffic>,
    /// Requests that have not been answered.
    pub(super) unanswered: Rc<Cell<usize>>,
}

impl Inbound {
    fn request(&self, frame: Frame) {
        let options = &self.core.config.options;
        let id = frame.head.id;
        if self.unanswered.get() >= options.requests_max {
            return self.outbox.push_empty(FrameHead { kind: FrameKind::Failure, code: Answerer::BUSY, id });
        }
        self.unanswered.set(self.unanswered.get() + 1);
        let answerer = Answerer {
            outbox: Rc::clone(&self.outbox),
            unanswered: Rc::clone(&self.unanswered),
            bytes_max: options.frame_bytes_max,
            id,
            answered: false,
        };
        self.core.handler.request(self.from, frame.head.code, frame.payload, answerer);
    }
}

impl End for Inbound {
    fn frame(&self, frame: Frame) -> Result<(), WireError> {
        match frame.head.kind {
            FrameKind::Message => self.core.handler.message(self.from, self.lane, frame.payload),
            FrameKind::Request => self.request(frame),
            kind => return Err(WireError::Direction(kind)),
        }
        Ok(())
    }

    fn may_read(&self, queued_bytes: usize) -> bool {
        queued_bytes < self.core.config.options.response_bytes_max
    }

    fn transferred(&self, received: usize, sent: usize) {
        self.traffic.transferred(received, sent);
    }

    fn round_trip(&self, _time: Duration) {}
}

/// The answer to a request, to be given once, now or later. Dropped without one, the request has failed.
#[must_use = "a request must be answered"]
pub struct Answerer {
    outbox: Rc<Outbox>,
    unanswered: Rc<Cell<usize>>,
    bytes_max: usize,
    id: u32,
    answered: bool,
}

impl Answerer {
    /// The code of a request whose answerer was dropped.
    pub const DROPPED: u16 = u16::MAX;
    /// The code of an answer larger than a frame.
    pub const TOO_LARGE: u16 = u16::MAX - 1;
    /// The code of a request beyond those that may wait.
    pub(super) const BUSY: u16 = u16::MAX - 2;

    /// Answers.
    pub fn answer(mut self, body: impl Into<Bytes>) {
        let body = body.into();
        if body.len() > self.bytes_max {
            return self.fail(Self::TOO_LARGE);
        }
        self.answered = true;
        let head = FrameHead { kind: FrameKind::Response, code: 0, id: self.id };
        // Answers always fit: the requests that may wait for one are counted. If the connection is gone, so is the
        // one who asked.
        let _ = self.outbox.push(head, &[], &mut vec![body], usize::MAX);
    }

    /// Says why there is no answer. Codes from `0xfff0` on are the transport's own.
    pub fn fail(mut self, code: u16) {
        self.answered = true;
        self.outbox.push_empty(FrameHead { kind: FrameKind::Failure, code, id: self.id });
    }

    /// Whether nobody waits any more.
    pub fn is_lost(&self) -> bool {
        self.outbox.is_closed()
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.unanswered.set(self.unanswered.get() - 1);
        if !self.answered {
            self.outbox.push_empty(FrameHead { kind: FrameKind::Failure, code: Self::DROPPED, id: self.id });
        }
    }
}
