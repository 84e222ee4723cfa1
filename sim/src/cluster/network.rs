//! The network between members: every message takes its time, some are lost, doubled or overtaken, and links are cut.
//!
//! A cut is a set of directed links, so that a member may be heard without hearing. Messages on their way when a link is
//! cut are lost as well.

use super::options::{MS, Options, Time};
use bytes::Bytes;
use plinth_member::compare::Hashed;
use plinth_raft::{Lane, PeerBody, PeerMessage};
use plinth_wal::sim_disk::Rng;
use std::collections::{BTreeMap, BTreeSet};

/// What travels.
#[derive(Clone, Debug)]
pub enum Packet {
    Peer(PeerMessage),
    /// A follower asks for a piece of a snapshot, or gives it up.
    Ask {
        /// Number of the snapshot, and page, to know the answer by.
        asked: (u64, u64),
        /// What it asks.
        question: Bytes,
    },
    /// The answer.
    Piece {
        /// What was asked for.
        asked: (u64, u64),
        /// The piece, if there is one.
        answer: Option<Bytes>,
    },
    /// The leader asks for the hash of the data at a revision.
    AskHash {
        revision: i64,
    },
    Hash {
        /// The revision asked for.
        revision: i64,
        /// The hash, unless the member has not come so far, or has compacted it.
        hashed: Option<Hashed>,
    },
}

impl Packet {
    fn lane(&self) -> u8 {
        match self {
            Packet::Peer(message) => match message.lane() {
                Lane::Urgent => 0,
                Lane::Bulk => 1,
                Lane::Snapshot => 2,
            },
            Packet::AskHash { .. } | Packet::Hash { .. } => 0,
            _ => 2,
        }
    }

    /// Whether it comes back on the connection of who asked.
    pub fn is_answer(&self) -> bool {
        matches!(self, Packet::Piece { .. } | Packet::Hash { .. })
    }

    /// A proposal that arrives twice is appended twice: transports must not do that.
    fn may_double(&self) -> bool {
        !matches!(self, Packet::Peer(PeerMessage { body: PeerBody::Propose, .. }))
    }
}

/// A proposal may be so late.
const LATE: Time = 4000 * MS;

/// See the module.
#[derive(Debug)]
pub struct Network {
    cut: BTreeSet<(usize, usize)>,
    loss: u64,
    duplicates: u64,
    reorder: bool,
    delay: Time,
    /// When the last message of each link and lane arrives.
    last: BTreeMap<(usize, usize, u8), Time>,
}

impl Network {
    /// A network without cuts.
    pub fn new(options: &Options) -> Network {
        Network {
            cut: BTreeSet::new(),
            loss: options.loss,
            duplicates: options.duplicates,
            reorder: options.reorder,
            delay: options.delay,
            last: BTreeMap::new(),
        }
    }

    /// Whether messages get from one member to another.
    pub fn is_open(&self, from: usize, to: usize) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// Cuts the links between two sets in one direction.
    pub fn cut(&mut self, from: &[usize], to: &[usize]) {
        self.cut.extend(from.iter().flat_map(|&from| to.iter().map(move |&to| (from, to))));
    }

    /// Mends all links.
    pub fn mend(&mut self) {
        self.cut.clear();
    }

    /// From now on nothing is lost or doubled.
    pub fn calm_down(&mut self) {
        self.mend();
        (self.loss, self.duplicates) = (0, 0);
    }

    /// The weather of a storm.
    pub fn rough(&mut self, options: &Options) {
        (self.loss, self.duplicates) = (options.loss, options.duplicates);
    }

    /// When a packet arrives: never, once, or twice.
    pub fn send(&mut self, random: &mut Rng, now: Time, from: usize, to: usize, packet: &Packet) -> Vec<Time> {
        if !self.is_open(from, to) || random.chance(self.loss) {
            return Vec::new();
        }
        let copies = if packet.may_double() && random.chance(self.duplicates) { 2 } else { 1 };
        let last = self.last.entry((from, to, packet.lane())).or_default();
        let mut arrivals = Vec::with_capacity(copies);
        for _ in 0..copies {
            let mut delay = 20 + random.below(self.delay);
            if random.chance(1) {
                delay += random.below(100 * MS);
            }
            let mut at = now + delay;
            if !self.reorder {
                at = at.max(*last);
                *last = at;
            }
            // What was handed over long ago may arrive when somebody else has led and the receiver leads again.
            if !packet.may_double() && random.chance(3) {
                at += random.below(LATE);
            }
            arrivals.push(at);
        }
        arrivals
    }

    /// The time a client's request or answer takes; nothing if it is lost.
    pub fn client_delay(&self, random: &mut Rng) -> Option<Time> {
        (!random.chance(self.loss / 2)).then(|| 20 + random.below(self.delay))
    }
}
