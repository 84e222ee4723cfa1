//! The handle of the transport, which begins its tasks.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::rt;
use bytes::Bytes;

use super::accept::listen;
use super::core::Core;
use super::dial::dial;
use super::link::{Link, PeerStatus, count};
use super::requests::RequestError;
use super::wire::{FrameHead, FrameKind, HEAD_BYTES};
use super::{Lane, PeerConfig, PeerHandler};
use crate::server::Shutdown;
use crate::transport::{Acceptor, Connector, Listener, Target};
use crate::wait::within;

/// The transport of one member: its peers and the connections with them. Belongs to one reactor. Dropped, it stops.
///
/// A handler that needs it should hold a [`std::rc::Weak`]: the transport holds its handler.
pub struct Peers {
    core: Rc<Core>,
}

impl Peers {
    /// A transport without peers, which dials them by `connector`. Its tasks run in the task queue that this is called in.
    ///
    /// # Panics
    ///
    /// If a bound makes no sense: frames of 4 GiB, a lane for bulk that has no room for a frame, times of zero.
    pub fn new(config: PeerConfig, connector: Connector, handler: Rc<dyn PeerHandler>) -> Rc<Peers> {
        let options = &config.options;
        assert!(u32::try_from(options.frame_bytes_max).is_ok());
        assert!(options.bulk_bytes_max >= options.frame_bytes_max + HEAD_BYTES);
        assert!(options.ping_interval < options.dead_after);
        assert!(!options.connect_timeout.is_zero());
        assert!(!options.backoff_min.is_zero());
        assert!(options.backoff_min <= options.backoff_max);
        let core = Core {
            random: Cell::new(config.seed),
            config,
            handler,
            queue: rt::current_queue(),
            connector,
            read_buffer: Rc::default(),
            shutdown: Shutdown::new(),
            links: RefCell::default(),
            traffic: RefCell::default(),
            inbound: RefCell::default(),
            strangers: Rc::default(),
            http_connections: Rc::default(),
            rejections: RefCell::default(),
            own_addresses: RefCell::new(Rc::default()),
        };
        Rc::new(Peers { core: Rc::new(core) })
    }

    /// Accepts members, and HTTP/1.1, on this listener until the transport stops. Several listeners are fine.
    pub fn listen(&self, listener: Listener, acceptor: Acceptor) {
        self.core.spawn(listen(Rc::clone(&self.core), listener, acceptor));
    }

    /// Where this member listens: whoever it connects to is told, and may not know it otherwise. What exceeds
    /// [`OPENING_BYTES_MAX`](super::wire::OPENING_BYTES_MAX) is left out.
    pub fn tell_addresses(&self, addresses: Vec<String>) {
        *self.core.own_addresses.borrow_mut() = addresses.into();
    }

    /// A peer to talk to, or new addresses (as [`Target::parse`] reads them) of one. Lanes are opened, and opened again, until it is
    /// removed. This member itself is no peer.
    pub fn set_peer(&self, id: u64, addresses: Vec<String>) {
        if id == self.core.config.member || self.core.is_stopped() {
            return;
        }
        let addresses = addresses.iter().map(|address| Target::parse(address)).collect();
        let known = self.core.links.borrow().get(&id).cloned();
        if let Some(link) = known {
            return link.set_addresses(addresses);
        }
        let link = Rc::new(Link::new(id, addresses, self.core.traffic(id)));
        self.core.links.borrow_mut().insert(id, Rc::clone(&link));
        for lane in Lane::ALL {
            self.core.spawn(dial(Rc::clone(&self.core), Rc::clone(&link), lane));
        }
    }

    /// Closes all connections with this peer, in both directions, and forgets it. Whether it may connect again is the
    /// handler's decision.
    pub fn remove_peer(&self, id: u64) {
        let link = self.core.links.borrow_mut().remove(&id);
        if let Some(link) = link {
            link.close();
        }
        self.core.close_inbound(|from| from == id);
        self.core.traffic.borrow_mut().remove(&id);
    }

    /// The peers, in the order of their ids.
    pub fn ids(&self) -> Vec<u64> {
        self.core.links.borrow().keys().copied().collect()
    }

    /// Queues a message that consists of `head` and then of `parts`, which is emptied in any case; large parts are not
    /// copied. False if it was dropped: there is no connection, the lane has no room, or it is larger than a frame.
    /// True promises nothing: connections break.
    pub fn send(&self, to: u64, lane: Lane, head: &[u8], parts: &mut Vec<Bytes>) -> bool {
        let links = self.core.links.borrow();
        let Some(link) = links.get(&to) else {
            parts.clear();
            return false;
        };
        let length = head.len() + parts.iter().map(Bytes::len).sum::<usize>();
        let open = link.lane(lane).open().filter(|_| length <= self.core.config.options.frame_bytes_max);
        let Some(open) = open else {
            parts.clear();
            count(&link.traffic.sent_failures);
            return false;
        };
        let frame = FrameHead { kind: FrameKind::Message, code: 0, id: 0 };
        let sent = open.outbox.push(frame, head, parts, self.core.config.options.lane_bytes_max(lane));
        if !sent {
            count(&link.traffic.sent_failures);
            link.lane(lane).overflowed.set(true);
            open.outbox.wake();
        }
        sent
    }

    /// Asks a peer and waits for its answer. `kind` is for the handler there.
    pub async fn request(
        &self,
        to: u64,
        lane: Lane,
        kind: u16,
        body: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<Bytes, RequestError> {
        let link = self.core.links.borrow().get(&to).cloned();
        let open = link.and_then(|link| link.lane(lane).open()).ok_or(RequestError::NotConnected)?;
        let (options, body) = (&self.core.config.options, body.into());
        let ticket = open.requests.open(options.requests_max)?;
        let frame = FrameHead { kind: FrameKind::Request, code: kind, id: ticket.id() };
        let fits = body.len() <= options.frame_bytes_max;
        if !fits || !open.outbox.push(frame, &[], &mut vec![body], options.lane_bytes_max(lane)) {
            return Err(RequestError::Busy);
        }
        within(timeout, ticket.outcome()).await.unwrap_or(Err(RequestError::Timeout))
    }

    /// How it stands with a peer.
    pub fn status(&self, id: u64) -> Option<PeerStatus> {
        self.core.links.borrow().get(&id).map(|link| link.status())
    }

    /// Since when this lane to a peer has been open, if it is.
    pub fn open_since(&self, id: u64, lane: Lane) -> Option<Instant> {
        let open = self.core.links.borrow().get(&id)?.lane(lane).open();
        open.map(|open| open.since)
    }

    /// Closes everything, for ever. The handler hears nothing more.
    pub fn stop(&self) {
        self.core.stop();
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.core.stop();
    }
}
