//! What members say to each other: connections, frames, requests with answers; and HTTP on the same port.
//!
//! ```text
//!   send, request --> Outbox --> Connection ==== urgent, bulk, snapshot ====> Connection --> PeerHandler
//!        Link (one per peer)      (dial)          one connection each           (accept)       message, request
//!   Requests <-- responses, pongs <==============================================  Answerer
//! ```
//!
//! Every member dials three connections to every other one. Messages and requests travel from the one who dials to the
//! one who accepts; only answers come back. So each direction between two members has connections of its own, and
//! nobody has to decide whose connection wins.
//!
//! Invariants: messages of one lane to one peer arrive in order or not at all; a lane never waits for another one;
//! every queue has a bound in bytes, and what exceeds it is dropped at once and said so; of each peer and lane at most
//! one accepted connection lives, the newest; nothing here blocks a reactor: names are resolved on threads of their own.
//!
//! - [`Peers`]: the handle, which one reactor owns
//! - `link`, `dial`, `requests`: the side that dials; `accept`, `inbound`: the side that accepts
//! - [`turn_away`]: the port before there is a member behind it
//! - `core`: what all their tasks share; `opening`: what either side reads before both have agreed to talk
//! - `lane_task`, `outbox`: one connection of either side, once they have
//! - [`wire`]: the bytes
//!
//! Not here: what messages mean, who is a member (the handler is asked) and retries of what was dropped.

mod accept;
mod core;
mod dial;
mod inbound;
mod lane_task;
mod link;
mod opening;
mod outbox;
mod peer_options;
mod peers;
mod refusal;
mod requests;
mod starting;
pub mod wire;

use std::time::Duration;

use bytes::Bytes;

pub use inbound::Answerer;
pub use link::PeerStatus;
pub use peer_options::{PeerConfig, PeerOptions};
pub use peers::Peers;
pub use refusal::Refusal;
pub use requests::RequestError;
pub use starting::turn_away;
pub use wire::Told;

use crate::http1::{Http1Reply, Http1Request};

/// What a connection is for, so that the small and urgent never waits behind the bulky.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lane {
    /// Votes, heartbeats, acknowledgements, read rounds.
    Urgent = 0,
    /// Entries.
    Bulk = 1,
    /// Pieces of snapshots.
    Snapshot = 2,
}

impl Lane {
    /// All of them, in the order of their numbers.
    pub const ALL: [Lane; 3] = [Lane::Urgent, Lane::Bulk, Lane::Snapshot];

    /// The lane with this number.
    pub fn from_byte(byte: u8) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| *lane as u8 == byte)
    }

    /// The name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Lane::Urgent => "urgent",
            Lane::Bulk => "bulk",
            Lane::Snapshot => "snapshot",
        }
    }
}

impl std::fmt::Display for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Who stands behind the transport. Called from its tasks, never from within a call to [`Peers`]; may call [`Peers`].
/// Must not block.
pub trait PeerHandler: 'static {
    /// Whether `from` may talk to us. Cluster, receiver and version have been checked.
    fn admit(&self, from: u64, cluster: u64) -> Result<(), Refusal>;

    /// `from` was let in, and says this of itself; nothing if it is of a version that does not say.
    fn introduced(&self, from: u64, told: Told) {
        let _ = (from, told);
    }

    /// A message arrived. Messages of one sender and lane come in the order they were sent. Small payloads share a
    /// block of 256 KiB with others of their time: who keeps few of them for long should copy them.
    fn message(&self, from: u64, lane: Lane, payload: Bytes);

    /// A request arrived. It may be answered now or later.
    fn request(&self, from: u64, kind: u16, body: Bytes, answer: Answerer);

    /// A connection to this peer broke, or bulk messages to it were dropped: what was sent may be lost.
    fn unreachable(&self, id: u64);

    /// A lane to this peer is open.
    fn connected(&self, id: u64, lane: Lane);

    /// A lane to this peer is not open: it broke, or could not be opened. Told once for each reason until it opens.
    fn disconnected(&self, id: u64, lane: Lane, why: &str);

    /// This peer does not let us in. Told once until the reason changes.
    fn refused(&self, id: u64, refusal: Refusal);

    /// A request over HTTP on the port of the members.
    fn http(&self, request: Http1Request, reply: Http1Reply);

    /// We did not let somebody in who said to be `from` of `cluster`. Told once for each reason, more or less.
    fn rejected(&self, from: u64, cluster: u64, refusal: Refusal) {
        let _ = (from, cluster, refusal);
    }

    /// A connection of `from` to us is over, and not because `from` closed it.
    fn inbound_lost(&self, from: u64, lane: Lane, why: &str) {
        let _ = (from, lane, why);
    }

    /// Nobody listens where this peer should: its machine is there, its process is not. Told at every attempt.
    fn gone(&self, id: u64) {
        let _ = id;
    }

    /// A ping to this peer was answered.
    fn round_trip(&self, id: u64, lane: Lane, time: Duration) {
        let _ = (id, lane, time);
    }
}
