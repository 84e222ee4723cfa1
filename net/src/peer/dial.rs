//! The side that dials: the task of one lane to one peer, which keeps it open.
//!
//! ```text
//!   attempt (all addresses in turn) --ok--> open --over--> pause --> attempt
//!      '--failed--> pause, twice as long each time --> attempt
//! ```
//!
//! Invariants: nothing but the hello is said before the answer has come; a lane that was open only for a moment counts
//! as a failed attempt, so that a peer which accepts and hangs up is not asked in a loop; why a lane is not open is
//! told once, however often it is tried. A peer that connects to us is tried at once.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::rt::Timer;

use super::core::Core;
use super::lane_task::{Connection, ConnectionError, End, Watch};
use super::link::{Link, OpenLane, count};
use super::opening::read_opening;
use super::outbox::Outbox;
use super::requests::{RequestError, Requests};
use super::wire::{Answer, Frame, FrameDecoder, FrameKind, Hello, VERSION_HIGHEST, VERSION_LOWEST, Verdict, WireError};
use super::{Answerer, Lane, Refusal};
use crate::transport::{Resolver, Stream, Target, timed_out, write_all};
use crate::wait::within;

/// Different reasons that are told before a lane has opened.
const REASONS_MAX: usize = 4;

/// Keeps one lane to one peer open until the link is closed.
pub(super) async fn dial(core: Rc<Core>, link: Rc<Link>, lane: Lane) {
    let mut backoff = Backoff::new(&core);
    let mut told = Told::default();
    let mut resolver = Resolver::new();
    while !link.is_closed() {
        let bell = &link.lane(lane).bell;
        let Some(attempt) = bell.unless_rung(attempt(&core, &link, lane, &mut resolver)).await else {
            backoff = Backoff::new(&core);
            continue;
        };
        match attempt {
            Ok((stream, decoder)) => {
                told = Told::default();
                link.refused.set(None);
                let opened = Instant::now();
                let error = run(&core, &link, lane, stream, decoder).await;
                if link.is_closed() {
                    return;
                }
                if opened.elapsed() > core.config.options.backoff_max {
                    backoff = Backoff::new(&core);
                }
                core.handler.disconnected(link.id, lane, &error.to_string());
                core.handler.unreachable(link.id);
            }
            Err(error) => {
                if error.is_nobody_there() {
                    core.handler.gone(link.id);
                }
                told.tell(&core, &link, lane, error);
            }
        }
        // New addresses, a sign of life, or the end cut the pause short.
        let pause = Timer::new(backoff.pause(core.random()));
        let _ = bell.unless_rung(link.lane(lane).nudge.unless_rung(pause)).await;
    }
}

/// What the handler has been told since the lane was open last.
#[derive(Default)]
struct Told {
    reasons: Vec<String>,
}

impl Told {
    fn tell(&mut self, core: &Core, link: &Link, lane: Lane, error: DialError) {
        if let DialError::Refused(refusal) = error {
            // The lanes are refused for the same reason; the first one says so.
            if link.refused.replace(Some(refusal)) != Some(refusal) {
                core.handler.refused(link.id, refusal);
            }
            return;
        }
        let reason = error.to_string();
        if self.reasons.len() < REASONS_MAX && !self.reasons.contains(&reason) {
            core.handler.disconnected(link.id, lane, &reason);
            self.reasons.push(reason);
        }
    }
}

/// The pauses between attempts.
struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    fn new(core: &Core) -> Backoff {
        let options = &core.config.options;
        Backoff { next: options.backoff_min, max: options.backoff_max }
    }

    /// The next pause: between a half of its nominal length and all of it.
    fn pause(&mut self, random: u64) -> Duration {
        let nominal = self.next;
        self.next = (nominal * 2).min(self.max);
        nominal.mul_f64(0.5 + 0.5 * (random >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// Why a lane could not be opened.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("the peer has no address")]
    NoAddress,
    #[error("{address}: {error}")]
    Io { address: String, error: io::Error },
    #[error("{address}: {error}")]
    Malformed { address: String, error: ConnectionError },
    #[error("{address}: another member ({member:x}) accepted")]
    WrongMember { address: String, member: u64 },
    #[error(transparent)]
    Refused(Refusal),
}

type Opened = (Stream, FrameDecoder);

impl DialError {
    /// The more telling one of two: a refusal, or that somebody may be there, otherwise the later one.
    fn or_later(self, later: DialError) -> DialError {
        let may_be_there = !matches!(self, DialError::NoAddress) && !self.is_nobody_there() && later.is_nobody_there();
        if matches!(self, DialError::Refused(_)) || may_be_there { self } else { later }
    }

    /// Whether the machine of every address says that no process listens.
    fn is_nobody_there(&self) -> bool {
        matches!(self, DialError::Io { error, .. } if error.kind() == io::ErrorKind::ConnectionRefused)
    }
}

/// Tries all addresses.
async fn attempt(core: &Core, link: &Link, lane: Lane, resolver: &mut Resolver) -> Result<Opened, DialError> {
    let mut failure = DialError::NoAddress;
    let addresses = link.addresses();
    resolver.keep_only(|name| addresses.iter().any(|target| target.address == name));
    for target in addresses.iter() {
        match try_name(core, link, lane, resolver, target).await {
            Ok(opened) => return Ok(opened),
            Err(error) => failure = failure.or_later(error),
        }
    }
    Err(failure)
}

async fn try_name(
    core: &Core,
    link: &Link,
    lane: Lane,
    resolver: &mut Resolver,
    target: &Target,
) -> Result<Opened, DialError> {
    let limit = core.config.options.connect_timeout;
    let address = target.address.as_str();
    let failed = |error: io::Error| DialError::Io { address: address.to_owned(), error };
    let resolved = within(limit, resolver.resolve(&target.address)).await;
    let resolved = resolved.unwrap_or_else(|| Err(timed_out("the name was not resolved in time"))).map_err(failed)?;
    let mut failure = DialError::NoAddress;
    for socket_address in resolved {
        let connected = core.connector.connect_to(target, socket_address, limit).await;
        let error = match connected {
            Err(error) => failed(error),
            Ok(stream) => match within(limit, greet(core, link, lane, stream, address)).await {
                Some(Ok(opened)) => return Ok(opened),
                Some(Err(error)) => error,
                None => failed(timed_out("the peer did not answer the hello in time")),
            },
        };
        failure = failure.or_later(error);
    }
    Err(failure)
}

/// Says hello and waits for the answer.
async fn greet(core: &Core, link: &Link, lane: Lane, mut stream: Stream, address: &str) -> Result<Opened, DialError> {
    let failed = |error: io::Error| DialError::Io { address: address.to_owned(), error };
    let hello = Hello::new(core.config.cluster, core.config.member, link.id, lane);
    let own_addresses = core.own_addresses.borrow().clone();
    write_all(&mut stream, &hello.encode_with(&own_addresses, core.config.reads)).await.map_err(failed)?;
    let read = read_opening(&mut stream, &core.read_buffer, Vec::new(), Answer::decode).await;
    let (answer, rest) = read.map_err(|error| DialError::Malformed { address: address.to_owned(), error })?;
    let version = match answer.verdict {
        Verdict::Refused(refusal) => return Err(DialError::Refused(refusal)),
        Verdict::Accepted { version } => version,
    };
    if answer.member != link.id {
        return Err(DialError::WrongMember { address: address.to_owned(), member: answer.member });
    }
    if !(VERSION_LOWEST..=VERSION_HIGHEST).contains(&version) {
        return Err(DialError::Refused(Refusal::Version));
    }
    let mut decoder = FrameDecoder::new(core.config.options.frame_bytes_max);
    decoder.receive(rest);
    Ok((stream, decoder))
}

/// Runs an open lane until it is over.
async fn run(core: &Rc<Core>, link: &Rc<Link>, lane: Lane, stream: Stream, decoder: FrameDecoder) -> ConnectionError {
    let (outbox, requests) = (Rc::new(Outbox::default()), Rc::new(Requests::default()));
    let options = &core.config.options;
    let end = Outbound { core: Rc::clone(core), link: Rc::clone(link), lane, requests: Rc::clone(&requests) };
    let watch = Watch::pings(options.ping_interval);
    let buffer = Rc::clone(&core.read_buffer);
    let mut connection =
        Connection::new(stream, Rc::clone(&outbox), Rc::new(end), decoder, buffer, watch, options.dead_after);
    let state = link.lane(lane);
    state.overflowed.set(false);
    state.set_open(Some(OpenLane {
        outbox: Rc::clone(&outbox),
        requests: Rc::clone(&requests),
        since: Instant::now(),
    }));
    core.handler.connected(link.id, lane);
    let error = poll_fn(|cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        // Told from here, because whoever sends is not prepared to be called back.
        if polled.is_pending() && lane == Lane::Bulk && state.overflowed.replace(false) && !outbox.is_closed() {
            core.handler.unreachable(link.id);
        }
        polled
    })
    .await;
    state.set_open(None);
    outbox.close();
    requests.end();
    count(&link.traffic.disconnects);
    error
}

/// The dialer behind a connection.
struct Outbound {
    core: Rc<Core>,
    link: Rc<Link>,
    lane: Lane,
    requests: Rc<Requests>,
}

impl End for Outbound {
    fn frame(&self, frame: Frame) -> Result<(), WireError> {
        let outcome = match frame.head.kind {
            FrameKind::Response => Ok(frame.payload),
            FrameKind::Failure if frame.head.code == Answerer::BUSY => Err(RequestError::Busy),
            FrameKind::Failure => Err(RequestError::Refused(frame.head.code)),
            kind => return Err(WireError::Direction(kind)),
        };
        self.requests.complete(frame.head.id, outcome);
        Ok(())
    }

    fn may_read(&self, _queued_bytes: usize) -> bool {
        true
    }

    fn transferred(&self, received: usize, sent: usize) {
        self.link.traffic.transferred(received, sent);
    }

    fn round_trip(&self, time: Duration) {
        if self.lane == Lane::Urgent {
            self.link.round_trip.set(Some(time));
        }
        self.core.handler.round_trip(self.link.id, self.lane, time);
    }
}
