//! Unary calls at the lowest cost: one task per connection drives all its slots, writes all requests that are due
//! with one system call, and completes all answers of a read at once. The crate `h2` serves one call at a time with a
//! task and several wake-ups each; on the same load it costs three times as much, which on a machine shared with the
//! server would limit the server.
//!
//! Deliberately absent: streams of messages (see [`crate::grpc`]), and requests larger than the server's initial
//! window, which would have to wait in the middle (see [`BODY_BYTES_MAX`]).

mod answers;
mod layer;
mod requests;

use crate::drive::Record;
use crate::endpoint::Endpoint;
use crate::grpc::{CallError, Keep};
use crate::pace::{Pace, Turn};
use crate::workload::{Job, Source};
use answers::{Answers, Event};
use layer::Layer;
use requests::Requests;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Largest request: fits the smallest window a server may start with.
pub const BODY_BYTES_MAX: usize = 65_535;
/// Read buffer.
const READ_BYTES: usize = 256 << 10;
/// Pause of a connection after a refused request, so that a refusing server is not hammered.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);

/// A connection ready for unary calls.
pub struct Line {
    socket: TcpStream,
    layer: Layer,
    requests: Requests,
}

/// A request in flight.
struct Call {
    slot: usize,
    class: usize,
    due: Instant,
}

/// The slots of one connection, and what they record to.
pub struct Crew {
    /// Number of the first slot within the thread.
    pub first_slot: usize,
    pub sources: Vec<Box<dyn Source>>,
    /// Whose turns they take.
    pub pace: Rc<Pace>,
    pub record: Rc<Record>,
}

impl Line {
    /// Connects.
    pub async fn open(address: Endpoint) -> io::Result<Line> {
        let (socket, layer) = Layer::of(address.dial().await?);
        Ok(Line { socket, layer, requests: Requests::new(address) })
    }

    /// Sends the requests of a crew until the run or their sources end.
    pub async fn run(self, crew: Crew) {
        let record = crew.record.clone();
        let mut work = Work::new(self.requests, crew);
        if let Err(error) = work.drive(self.socket, self.layer).await {
            let error = if error.is_status() { error } else { CallError::Malformed("the connection broke") };
            work.calls.drain().for_each(|(_, call)| record.failed(call.slot, &error));
        }
    }
}

struct Work {
    requests: Requests,
    answers: Answers,
    crew: Crew,
    calls: rustc_hash::FxHashMap<u32, Call>,
    idle: Vec<usize>,
    /// A request that waits for the peer's credit; no other is begun before it.
    held: Option<(usize, Instant, Job)>,
    over: bool,
    refused: bool,
}

impl Work {
    fn new(requests: Requests, crew: Crew) -> Work {
        let idle = (0..crew.sources.len()).rev().collect();
        let (calls, answers) = (Default::default(), Answers::new());
        Work { requests, answers, crew, calls, idle, held: None, over: false, refused: false }
    }

    async fn drive(&mut self, mut socket: TcpStream, mut layer: Layer) -> Result<(), CallError> {
        let (mut reader, writer) = socket.split();
        let mut buffer = vec![0; READ_BYTES];
        let pace = self.crew.pace.clone();
        // Behind the handshake the server may have spoken already.
        self.take(layer.open(&[])?)?;
        loop {
            self.issue();
            layer.send(&mut self.requests, &writer)?;
            // Without a call and without an idle slot, all sources have ended.
            if self.calls.is_empty() && self.held.is_none() && (self.over || self.idle.is_empty()) {
                return Ok(());
            }
            if std::mem::take(&mut self.refused) {
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
            let waits_for_turn = self.may_begin();
            tokio::select! {
                biased;
                read = reader.read(&mut buffer) => match read? {
                    0 => return Err(CallError::Malformed("the server closed the connection")),
                    bytes => self.take(layer.open(&buffer[..bytes])?)?,
                },
                writable = writer.writable(), if layer.is_blocked(&self.requests) => writable?,
                due = pace.next(), if waits_for_turn => match due {
                    Some(due) => self.begin(due),
                    None => self.over = true,
                },
            }
        }
    }

    /// Begins as many requests as are due and have a slot.
    fn issue(&mut self) {
        if let Some((slot, due, job)) = self.held.take() {
            self.send(slot, due, job);
        }
        while self.may_begin() {
            match self.crew.pace.try_next() {
                Turn::Due(due) => self.begin(due),
                Turn::Later => return,
                Turn::Over => self.over = true,
            }
        }
    }

    /// Begins a request in an idle slot. A slot whose source has no more is idle no longer.
    fn begin(&mut self, due: Instant) {
        let slot = self.idle.pop().expect("asked for a turn with an idle slot");
        self.crew.record.sent(self.crew.first_slot + slot, due);
        match self.crew.sources[slot].next() {
            Some(job) => self.send(slot, due, job),
            None => self.crew.record.retired(self.crew.first_slot + slot),
        }
    }

    fn send(&mut self, slot: usize, due: Instant, job: Job) {
        if !self.requests.fits(&job.framed) {
            self.held = Some((slot, due, job));
            return;
        }
        let stream = self.requests.send(&job.method, &job.framed);
        self.answers.expect(stream, job.keep == Keep::Body);
        self.calls.insert(stream, Call { slot: self.crew.first_slot + slot, class: job.class, due });
    }

    fn may_begin(&self) -> bool {
        !self.over && self.held.is_none() && !self.idle.is_empty() && self.requests.has_room()
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), CallError> {
        self.answers.push(bytes);
        let now = Instant::now();
        while let Some(event) = self.answers.next()? {
            match event {
                Event::Answer { stream, result } => {
                    let Some(call) = self.calls.remove(&stream) else { continue };
                    let slot = call.slot - self.crew.first_slot;
                    match result {
                        Ok(message) => {
                            self.crew.record.answered(call.slot, call.class, call.due, now);
                            if !message.is_empty() {
                                self.crew.sources[slot].answered(&message);
                            }
                        }
                        Err(error) => {
                            self.crew.record.failed(call.slot, &error);
                            self.refused = true;
                            self.over |= self.crew.record.is_broken();
                        }
                    }
                    self.idle.push(slot);
                }
                Event::Settings { window, frame_bytes, streams } => {
                    self.requests.settings(window, frame_bytes, streams);
                    self.requests.raw(&answers::settings_ack());
                }
                Event::Credit(bytes) => self.requests.credit(bytes),
                Event::Reply(frame) => self.requests.raw(&frame),
                Event::GoAway => return Err(CallError::Malformed("the server sent GOAWAY")),
            }
        }
        self.requests.completed(self.calls.len());
        Ok(())
    }
}
