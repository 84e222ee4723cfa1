//! A cluster in one thread: members with disks that lose what was not flushed, stores that lag behind, and a network that
//! holds every message until somebody delivers it. The checks of Raft's promises run all the time, see [`Checks`].
//!
//! Scripts (`scripts.rs`) drive it by verbs, random schedules (`chaos.rs`) by dice.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod checks;
pub mod node;
pub mod trace;

use std::collections::BTreeMap;

use bytes::Bytes;
use plinth_raft::error::{ProposeError, StepError};
use plinth_raft::{ConfChange, ConfState, GroupConfig, GroupId, MemberId, PeerBody, PeerMessage, SnapshotMeta, log};

use checks::Checks;
use node::{Disk, Node, Store};

/// How members are made.
#[derive(Clone)]
pub struct Options {
    pub seed: u64,
    /// Changes what `GroupConfig::new` says.
    pub tune: fn(&mut GroupConfig),
}

impl Default for Options {
    fn default() -> Self {
        Options { seed: 1, tune: |_| {} }
    }
}

/// A snapshot that was pinned: what the bytes on the wire would be.
pub type Images = BTreeMap<u64, Store>;

pub struct Cluster {
    pub options: Options,
    pub nodes: BTreeMap<u64, Node>,
    /// Messages on their way, in the order they were sent.
    pub network: Vec<PeerMessage>,
    /// Pairs that cannot reach each other, in both directions.
    pub cut: Vec<(u64, u64)>,
    pub images: Images,
    pub checks: Checks,
    pub trace: trace::Trace,
    /// `stabilize` leaves wishes for snapshots alone.
    pub snapshots_by_hand: bool,
    /// Reads under way: what had been committed when the read began.
    pub reads: BTreeMap<u64, u64>,
    pub reads_served: u64,
}

impl Cluster {
    pub fn new(options: Options) -> Cluster {
        Cluster {
            options,
            nodes: BTreeMap::new(),
            network: Vec::new(),
            cut: Vec::new(),
            images: Images::new(),
            checks: Checks::default(),
            trace: trace::Trace::default(),
            snapshots_by_hand: false,
            reads: BTreeMap::new(),
            reads_served: 0,
        }
    }

    /// A cluster whose members were bootstrapped as voters, as the server does it: through the log.
    pub fn bootstrapped(options: Options, voters: &[u64]) -> Cluster {
        let mut cluster = Cluster::new(options);
        let members = voters.iter().map(|id| (MemberId(*id), Bytes::new())).collect();
        let bootstrap = log::bootstrap(members);
        for id in voters {
            let mut disk = Disk::default();
            disk.entries(&bootstrap.entries);
            disk.hard_state(&bootstrap.hard_state);
            disk.durable = disk.records.len();
            cluster.add(*id, disk, Store::default());
        }
        cluster
    }

    /// A member with this disk and store.
    pub fn add(&mut self, id: u64, disk: Disk, store: Store) {
        let mut node = Node::new(MemberId(id), disk, store);
        node.start(&self.options, &mut self.checks);
        self.nodes.insert(id, node);
    }

    /// A member that joins: no log, no configuration.
    pub fn join(&mut self, id: u64) {
        self.add(id, Disk::default(), Store::default());
    }

    pub fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).unwrap_or_else(|| panic!("there is no member {id}"))
    }

    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    pub fn leader(&self) -> Option<u64> {
        let leading = self.nodes.values().filter(|node| node.is_leader());
        leading.max_by_key(|node| node.group().term()).map(|node| node.id.0)
    }

    pub fn tick(&mut self, id: u64) {
        if let Some(group) = &mut self.node(id).group {
            group.tick();
        }
    }

    pub fn propose(&mut self, id: u64, data: &[u8]) -> Result<(), ProposeError> {
        let data = Bytes::copy_from_slice(data);
        match &mut self.node(id).group {
            Some(group) => group.propose(data),
            None => Err(ProposeError::NoLeader),
        }
    }

    pub fn propose_conf(&mut self, id: u64, change: &ConfChange) -> Result<(), ProposeError> {
        match &mut self.node(id).group {
            Some(group) => group.propose_conf_change(change),
            None => Err(ProposeError::NoLeader),
        }
    }

    /// Begins a read: whatever is committed now must be visible to it.
    pub fn read(&mut self, id: u64, token: u64) {
        let committed = self.checks.committed_max();
        if let Some(group) = &mut self.nodes.get_mut(&id).expect("a member").group {
            self.reads.insert(token, committed);
            group.read_index(token);
        }
    }

    /// Takes one `Ready` of a member and starts its flush. `false` if there was none.
    pub fn take_ready(&mut self, id: u64) -> bool {
        let node = self.nodes.get_mut(&id).expect("a member");
        let Some(ready) = node.group.as_mut().and_then(|group| group.ready()) else { return false };
        self.trace.ready(id, &ready);
        self.checks.ready(node, &ready);
        for read in &ready.read_states {
            let committed = self.reads.remove(&read.token).expect("a read is answered once");
            self.reads_served += 1;
            assert!(read.index >= committed, "read {} at {} misses {committed}", read.token, read.index);
        }
        for token in &ready.failed_reads {
            self.reads.remove(token).expect("a read fails once");
        }
        for to in &ready.snapshot_requests {
            node.snapshots_wanted.push(*to);
        }
        let messages = ready.messages.clone();
        node.begin_flush(ready, &self.images);
        self.send(messages);
        true
    }

    fn send(&mut self, messages: Vec<PeerMessage>) {
        messages.iter().for_each(|message| self.checks.sent(message));
        self.network.extend(messages);
    }

    /// Pins the store of a member as it is applied and offers it to a follower that asked.
    pub fn send_snapshot(&mut self, id: u64, to: MemberId) {
        let image = self.images.len() as u64 + 1;
        let node = self.nodes.get_mut(&id).expect("a member");
        node.snapshots_wanted.retain(|wanted| *wanted != to);
        self.images.insert(image, node.store.clone());
        let meta = SnapshotMeta {
            id: node.store.applied,
            conf: node.store.conf.clone(),
            context: Bytes::copy_from_slice(&image.to_le_bytes()),
        };
        self.trace.line(|| format!("{id} offers {to} a snapshot at {}", trace::id(meta.id)));
        node.group.as_mut().expect("it runs").provide_snapshot(to, meta);
    }

    /// Finishes the oldest flush of a member: its messages leave.
    pub fn finish_flush(&mut self, id: u64) -> bool {
        let node = self.nodes.get_mut(&id).expect("a member");
        let Some(messages) = node.finish_flush(&mut self.checks) else { return false };
        self.send(messages);
        true
    }

    /// Applies one committed entry.
    pub fn apply_one(&mut self, id: u64) -> bool {
        let node = self.nodes.get_mut(&id).expect("a member");
        let Some(entry) = node.apply_one() else { return false };
        self.trace.applied(id, &entry, &node.store.conf);
        self.checks.applied(node);
        true
    }

    /// Hands the message at this position to its receiver. Lost if the receiver is down or cut off.
    pub fn deliver(&mut self, at: usize) {
        let message = self.network.remove(at);
        self.receive(message);
    }

    /// A message arrives, wherever it came from.
    pub fn receive(&mut self, message: PeerMessage) {
        let (from, to) = (message.from.0, message.to.0);
        let blocked = self.cut.contains(&(from, to)) || self.cut.contains(&(to, from));
        let Some(node) = self.nodes.get_mut(&to).filter(|node| node.group.is_some() && !blocked) else {
            return self.lose(&message);
        };
        self.trace.received(&message);
        let snapshot = matches!(message.body, PeerBody::Snapshot(_));
        // Over the wire and back: what is decoded is what was sent.
        let frame = Bytes::from(message.encode());
        let decoded = PeerMessage::decode(&frame).expect("own frame");
        assert_eq!(decoded, message);
        let result = node.group.as_mut().expect("it runs").step(decoded);
        match result {
            Ok(()) | Err(StepError::UnknownPeer { .. } | StepError::Proposal { .. }) => {}
            Err(error) => panic!("{to} refuses {message:?}: {error}"),
        }
        if snapshot {
            self.report_snapshot(from, to, true);
        }
    }

    /// A message that is already off the network is lost; the sender of a snapshot notices.
    pub fn lose(&mut self, message: &PeerMessage) {
        self.trace.lost(message);
        if matches!(message.body, PeerBody::Snapshot(_)) {
            self.report_snapshot(message.from.0, message.to.0, false);
        }
    }

    fn report_snapshot(&mut self, from: u64, to: u64, arrived: bool) {
        if let Some(sender) = self.nodes.get_mut(&from).and_then(|node| node.group.as_mut()) {
            sender.report_snapshot(MemberId(to), arrived);
        }
    }

    /// The process dies. What was not flushed is lost; of the flush under way `torn` records survive.
    pub fn crash(&mut self, id: u64, torn: usize) {
        self.trace.line(|| format!("{id} crashes"));
        self.node(id).crash(torn);
    }

    pub fn restart(&mut self, id: u64) {
        self.trace.line(|| format!("{id} starts"));
        let (options, checks) = (self.options.clone(), &mut self.checks);
        self.nodes.get_mut(&id).expect("a member").start(&options, checks);
    }

    /// Lets these members work until nothing moves: flushes end, entries are applied, messages between them arrive.
    pub fn stabilize(&mut self, ids: &[u64]) {
        for _ in 0..100_000 {
            let mut moved = false;
            for &id in ids {
                while self.take_ready(id) {
                    moved = true;
                }
                while self.finish_flush(id) || self.apply_one(id) {
                    moved = true;
                }
                while !self.snapshots_by_hand
                    && let Some(to) = self.node(id).snapshots_wanted.first().copied()
                {
                    self.send_snapshot(id, to);
                    moved = true;
                }
            }
            let within = |m: &PeerMessage| ids.contains(&m.from.0) && ids.contains(&m.to.0);
            while let Some(at) = self.network.iter().position(within) {
                self.deliver(at);
                moved = true;
            }
            if !moved {
                return;
            }
        }
        panic!("it does not become quiet");
    }

    /// The configuration of the member that has applied most.
    pub fn conf(&self) -> ConfState {
        let furthest = self.nodes.values().max_by_key(|node| node.store.applied.index);
        furthest.map(|node| node.store.conf.clone()).unwrap_or_default()
    }
}

/// What a member is told about itself when it starts.
pub fn group_config(options: &Options, id: MemberId, life: u64, conf: &ConfState) -> GroupConfig {
    let mut config = GroupConfig::new(GroupId(7), id, options.seed ^ (life << 40));
    config.conf = conf.clone();
    (options.tune)(&mut config);
    config
}
