//! The side that accepts: listens, tells members from HTTP by the first byte, and decides who may come in.
//!
//! Invariants: a connection that has not said who it is has a deadline, and their number a bound; a member is let in
//! only after cluster, receiver, version and the handler have agreed; the newest connection of a member's lane
//! replaces the older one, which the member must have given up.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::rt::{TcpStream, sleep};
use bytes::Bytes;

use super::Refusal;
use super::core::Core;
use super::inbound::Inbound;
use super::lane_task::{Connection, ConnectionError, Watch};
use super::link::count;
use super::opening::{read_opening, read_some};
use super::outbox::Outbox;
use super::wire::{Answer, FrameDecoder, HELLO_MAGIC, Hello, Told, Verdict};
use crate::grpc::{Call, Method, Service, StreamHandler, StreamReply, UnaryReply};
use crate::http1::{Http1Reply, Http1Request};
use crate::server::{Phase, Subscription, serve_http1};
use crate::sys;
use crate::transport::{Accepted, Acceptor, Listener, PeerAddress, Stream, write_all};
use crate::wait::within;

/// How long accepting pauses when the system has no descriptor or memory to spare.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection may speak HTTP. It is for looking around, and places are few.
const HTTP_TIME_MAX: Duration = Duration::from_secs(30);
/// Accepts until the transport stops.
pub(super) async fn listen(core: Rc<Core>, listener: Listener, acceptor: Acceptor) {
    let subscription = core.shutdown.subscribe(false);
    loop {
        match unless_stopped(&subscription, listener.accept()).await {
            None => return,
            Some(Ok((stream, address))) => welcome(&core, &acceptor, stream, address),
            // The system is short of something; it gets time to recover.
            Some(Err(_)) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn unless_stopped<F: Future>(subscription: &Subscription, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match subscription.poll_phase(cx, Phase::Draining) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => future.as_mut().poll(cx).map(Some),
    })
    .await
}

/// A place among a bounded number.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(taken: &Rc<Cell<usize>>, max: usize) -> Option<Place> {
        (taken.get() < max).then(|| {
            taken.set(taken.get() + 1);
            Place(Rc::clone(taken))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Takes a new connection, if there is room for one more stranger.
fn welcome(core: &Rc<Core>, acceptor: &Acceptor, stream: TcpStream, address: PeerAddress) {
    let Some(place) = Place::take(&core.strangers, core.config.options.strangers_max) else { return };
    // Fails only if the other side is gone already.
    if sys::prepare_peer(&stream).is_err() {
        return;
    }
    let (task_core, acceptor) = (Rc::clone(core), acceptor.clone());
    core.spawn(async move {
        let subscription = task_core.shutdown.subscribe(false);
        let _ = unless_stopped(&subscription, serve(&task_core, &acceptor, stream, address, place)).await;
    });
}

async fn serve(core: &Rc<Core>, acceptor: &Acceptor, stream: TcpStream, address: PeerAddress, place: Place) {
    let limit = core.config.options.dead_after;
    let Some(Some(accepted)) = within(limit, acceptor.accept(stream, address)).await else { return };
    let Accepted { mut stream, peer, first } = accepted;
    let mut first = Bytes::from(first);
    if first.is_empty() {
        let Some(Ok(read)) = within(limit, read_some(&mut stream, &core.read_buffer)).await else { return };
        first = read;
    }
    if first[0] == HELLO_MAGIC[0] {
        let hello = within(limit, read_opening(&mut stream, &core.read_buffer, first.into(), Hello::decode_with)).await;
        let Some(Ok(((hello, told), rest))) = hello else { return };
        drop(place);
        return serve_member(core, stream, hello, told, rest).await;
    }
    drop(place);
    let max = core.config.options.http_connections_max;
    let Some(_place) = Place::take(&core.http_connections, max) else { return };
    let service = Rc::new(Pages(Rc::clone(core)));
    let (limits, buffer) = (core.config.options.http, Rc::clone(&core.read_buffer));
    let served = serve_http1(stream, peer, first.into(), service, limits, buffer, &core.shutdown);
    let _ = within(HTTP_TIME_MAX, served).await;
}

/// Everything that may speak against a member.
fn judge(core: &Core, hello: &Hello) -> Result<u16, Refusal> {
    let config = &core.config;
    let version = hello.common_version().ok_or(Refusal::Version)?;
    if hello.cluster != config.cluster {
        return Err(Refusal::ClusterMismatch);
    }
    if hello.to != config.member {
        return Err(Refusal::NotForMe);
    }
    if hello.from == config.member {
        return Err(Refusal::UnknownSender);
    }
    core.handler.admit(hello.from, hello.cluster)?;
    Ok(version)
}

async fn serve_member(core: &Rc<Core>, mut stream: Stream, hello: Hello, told: Told, rest: Bytes) {
    let member = core.config.member;
    let version = match judge(core, &hello) {
        Ok(version) => version,
        Err(refusal) => {
            let rejection = (hello.from, hello.cluster, refusal);
            let new = core.rejections.borrow_mut().is_new(rejection, Instant::now());
            if new {
                core.handler.rejected(hello.from, hello.cluster, refusal);
            }
            let answer = Answer { member, verdict: Verdict::Refused(refusal) };
            // Nothing but the hello was sent before the answer, so closing does not cut it off.
            let _ = within(core.config.options.connect_timeout, write_all(&mut stream, &answer.encode())).await;
            return;
        }
    };
    let outbox = Rc::new(Outbox::default());
    let answer = Answer { member, verdict: Verdict::Accepted { version } };
    outbox.output.borrow_mut().buffer().extend_from_slice(&answer.encode());
    let key = (hello.from, hello.lane);
    let older = core.inbound.borrow_mut().insert(key, Rc::clone(&outbox));
    if let Some(older) = older {
        older.close();
    }
    core.handler.introduced(hello.from, told);
    core.nudge(hello.from);
    let error = run(core, stream, &hello, &outbox, rest).await;
    outbox.close();
    let mut inbound = core.inbound.borrow_mut();
    if inbound.get(&key).is_some_and(|current| Rc::ptr_eq(current, &outbox)) {
        inbound.remove(&key);
    }
    drop(inbound);
    if !matches!(error, ConnectionError::Closed | ConnectionError::Ended) {
        count(&core.traffic(hello.from).received_failures);
        core.handler.inbound_lost(hello.from, hello.lane, &error.to_string());
    }
}

async fn run(core: &Rc<Core>, stream: Stream, hello: &Hello, outbox: &Rc<Outbox>, rest: Bytes) -> ConnectionError {
    let options = &core.config.options;
    let mut decoder = FrameDecoder::new(options.frame_bytes_max);
    decoder.receive(rest);
    let end = Inbound {
        core: Rc::clone(core),
        from: hello.from,
        lane: hello.lane,
        outbox: Rc::clone(outbox),
        traffic: core.traffic(hello.from),
        unanswered: Rc::default(),
    };
    let buffer = Rc::clone(&core.read_buffer);
    Connection::new(stream, Rc::clone(outbox), Rc::new(end), decoder, buffer, Watch::Listens, options.dead_after).await
}

/// HTTP on the members' port: no gRPC, one handler.
struct Pages(Rc<Core>);

impl Service for Pages {
    fn methods(&self) -> &'static [Method] {
        &[]
    }

    fn unary(&self, _method: usize, _call: &Call, _body: Bytes, _reply: UnaryReply) {
        unreachable!("there are no methods");
    }

    fn stream(&self, _method: usize, _call: &Call, _reply: StreamReply) -> Box<dyn StreamHandler> {
        unreachable!("there are no methods");
    }

    fn http1(&self, request: Http1Request, reply: Http1Reply) {
        self.0.handler.http(request, reply);
    }
}
