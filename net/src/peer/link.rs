//! What this member knows of one peer: its addresses, its three lanes, and counts.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::outbox::Outbox;
use super::requests::Requests;
use super::{Lane, Refusal};
use crate::transport::Target;
use crate::wait::Bell;

/// How it stands with one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerStatus {
    /// Since when the urgent lane has been open, if it is.
    pub active_since: Option<Instant>,
    /// What the last ping on the urgent lane took.
    pub round_trip: Option<Duration>,
    /// Bytes sent, in both roles.
    pub sent_bytes: u64,
    /// Bytes received, in both roles.
    pub received_bytes: u64,
    /// Messages dropped, because there was no connection or no room.
    pub sent_failures: u64,
    /// Connections of the peer to us that ended because of what it sent, or did not send.
    pub received_failures: u64,
    /// How often a lane to the peer broke.
    pub disconnects: u64,
    /// Bytes that wait to be sent, of all lanes.
    pub queued_bytes: usize,
}

/// Counts of one peer, in both roles.
#[derive(Default)]
pub(super) struct Traffic {
    pub(super) sent_bytes: Cell<u64>,
    pub(super) received_bytes: Cell<u64>,
    pub(super) sent_failures: Cell<u64>,
    pub(super) received_failures: Cell<u64>,
    pub(super) disconnects: Cell<u64>,
}

impl Traffic {
    pub(super) fn transferred(&self, received: usize, sent: usize) {
        self.received_bytes.set(self.received_bytes.get() + received as u64);
        self.sent_bytes.set(self.sent_bytes.get() + sent as u64);
    }
}

/// Adds one.
pub(super) fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// A lane that is open.
#[derive(Clone)]
pub(super) struct OpenLane {
    pub(super) outbox: Rc<Outbox>,
    pub(super) requests: Rc<Requests>,
    pub(super) since: Instant,
}

/// One lane to a peer.
#[derive(Default)]
pub(super) struct LaneState {
    open: RefCell<Option<OpenLane>>,
    /// Rings when there are new addresses, or the link is closed.
    pub(super) bell: Bell,
    /// Rings when trying again is likely to succeed.
    pub(super) nudge: Bell,
    /// Messages were dropped since the handler was told.
    pub(super) overflowed: Cell<bool>,
}

impl LaneState {
    pub(super) fn open(&self) -> Option<OpenLane> {
        self.open.borrow().clone()
    }

    pub(super) fn set_open(&self, open: Option<OpenLane>) {
        let earlier = self.open.replace(open);
        drop(earlier);
    }
}

/// A peer to talk to.
pub(super) struct Link {
    pub(super) id: u64,
    addresses: RefCell<Rc<[Target]>>,
    lanes: [LaneState; 3],
    pub(super) traffic: Rc<Traffic>,
    pub(super) round_trip: Cell<Option<Duration>>,
    /// Why the peer did not let us in, since any lane was open last.
    pub(super) refused: Cell<Option<Refusal>>,
    closed: Cell<bool>,
}

impl Link {
    pub(super) fn new(id: u64, addresses: Vec<Target>, traffic: Rc<Traffic>) -> Link {
        Link {
            id,
            addresses: RefCell::new(addresses.into()),
            lanes: Default::default(),
            traffic,
            round_trip: Cell::new(None),
            refused: Cell::new(None),
            closed: Cell::new(false),
        }
    }

    pub(super) fn lane(&self, lane: Lane) -> &LaneState {
        &self.lanes[lane as usize]
    }

    pub(super) fn addresses(&self) -> Rc<[Target]> {
        Rc::clone(&self.addresses.borrow())
    }

    /// Lanes that are not open try the new addresses at once; open ones stay.
    pub(super) fn set_addresses(&self, addresses: Vec<Target>) {
        if self.addresses.borrow()[..] != addresses[..] {
            *self.addresses.borrow_mut() = addresses.into();
            self.lanes.iter().for_each(|lane| lane.bell.ring());
        }
    }

    /// The peer is there: lanes that are not open need not wait until they try again.
    pub(super) fn nudge(&self) {
        self.lanes.iter().filter(|lane| lane.open.borrow().is_none()).for_each(|lane| lane.nudge.ring());
    }

    pub(super) fn close(&self) {
        self.closed.set(true);
        for lane in &self.lanes {
            if let Some(open) = lane.open() {
                open.outbox.close();
            }
            lane.bell.ring();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    pub(super) fn status(&self) -> PeerStatus {
        let queued = |lane: &LaneState| lane.open.borrow().as_ref().map_or(0, |open| open.outbox.queued_bytes());
        let urgent = self.lane(Lane::Urgent).open();
        PeerStatus {
            active_since: urgent.map(|open| open.since),
            round_trip: self.round_trip.get(),
            sent_bytes: self.traffic.sent_bytes.get(),
            received_bytes: self.traffic.received_bytes.get(),
            sent_failures: self.traffic.sent_failures.get(),
            received_failures: self.traffic.received_failures.get(),
            disconnects: self.traffic.disconnects.get(),
            queued_bytes: self.lanes.iter().map(queued).sum(),
        }
    }
}
