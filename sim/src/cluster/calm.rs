//! Calms: everything is mended, and the cluster must recover. It answers, all members hold the same, watchers have seen
//! everything, and leases that nobody holds end.

use super::clients::{Ask, Caller};
use super::node::{at_of, tree_content};
use super::options::{MS, SECOND, Time};
use super::rights::check_auth;
use super::v2::check_v2;
use super::world::{Broken, Event, World};
use plinth_engine::trees::TreeId;
use plinth_raft::PeerState;
use std::collections::BTreeMap;

/// A calm must have brought the cluster back by then.
const CALM_MAX: Time = 60 * SECOND;
/// A member that was announced a snapshot, and does not copy it, may be so for this long, at most.
const SNAPSHOT_BEGINS: Time = 8 * SECOND;
/// How long after a calm leases that nobody holds may still be there, at most: the longest TTL, what an election adds,
/// a second try, drift.
const LEASES_GONE: Time = 30 * SECOND;

impl World {
    /// Mends everything and waits until all is well.
    pub(super) fn calm(&mut self) -> Result<(), Broken> {
        self.tell(|| "a calm begins".into());
        self.net.calm_down();
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            (node.stands_until, node.wakes_in, node.slow, node.stuck.1) = (0, 0, (1, 0), 0);
            node.log.crash_at(u64::MAX);
            node.log.fail_at(u64::MAX, 0);
            node.full_until = 0;
            node.log.set_capacity(None);
            node.limit_data(None);
            if !node.is_up() && !node.is_retired {
                self.start(at)?;
            }
        }
        self.is_well = false;
        self.plan(0, Event::Probe);
        let end = self.now + CALM_MAX;
        let mut waiting = BTreeMap::new();
        loop {
            let until = self.now + 200 * MS;
            while self.next(until)? {}
            self.check_snapshots_begin(&mut waiting)?;
            match self.why_not_well() {
                None => return Ok(()),
                Some(why) if self.now >= end => {
                    let state = self.describe();
                    return Err(format!("no recovery after faults: {why}\n{state}").into());
                }
                Some(_) => {}
            }
        }
    }

    /// A member that needs a snapshot of the leader begins to copy it soon, whatever became of the copies before.
    fn check_snapshots_begin(&self, waiting: &mut BTreeMap<usize, Time>) -> Result<(), Broken> {
        let leader = self.leader().and_then(|leader| self.nodes[leader].process.as_ref());
        let peers = leader.map(|process| process.member.group().status().peers).unwrap_or_default();
        let waits = |at: usize| {
            let idle = self.nodes[at].process.as_ref().is_some_and(|process| process.fetch.is_idle());
            idle && peers.iter().any(|peer| at_of(peer.member) == at && peer.state == PeerState::Snapshot)
        };
        for at in 0..self.nodes.len() {
            let since = *waiting.entry(at).or_insert(self.now);
            if !waits(at) {
                waiting.remove(&at);
            } else if self.now > since + SNAPSHOT_BEGINS {
                return Err(format!("member {at} waits for its snapshot, which nobody copies").into());
            }
        }
        Ok(())
    }

    /// Members of the configuration that has been applied last.
    pub(super) fn members(&self) -> Vec<usize> {
        let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let furthest = processes.max_by_key(|process| process.member.store().applied().index);
        let conf = furthest.map(|process| process.member.group().status().conf).unwrap_or_default();
        conf.members().into_iter().map(at_of).collect()
    }

    /// The members' state, for messages.
    fn describe(&self) -> String {
        let mut lines = vec![format!("{:?}", self.options)];
        for node in &self.nodes {
            lines.push(match &node.process {
                None => format!("member {} is down, retired: {}", node.at, node.is_retired),
                Some(process) => {
                    let status = process.member.group().status();
                    let (served, fetches) = (process.source.len(), process.fetch.current());
                    format!("member {}: serves {served}, fetches {fetches:?}, {status:?}", node.at)
                }
            });
        }
        lines.extend(self.watchers.iter().map(|watcher| format!("{watcher:?}")));
        lines.join("\n")
    }

    fn why_not_well(&self) -> Option<String> {
        if !self.is_well {
            return Some("nobody answers".into());
        }
        let revision = self.truth.revision();
        let members = self.members();
        if members.is_empty() {
            return Some("nobody is a member".into());
        }
        let mut indexes = Vec::new();
        for at in members {
            let Some(process) = &self.nodes[at].process else { return Some(format!("member {at} is down")) };
            let store = process.member.store();
            if store.revision() != revision || !process.member.is_between_entries() {
                return Some(format!("member {at} is at revision {} of {revision}", store.revision()));
            }
            if store.finished_compact_revision() < store.compact_revision() {
                let (done, asked) = (store.finished_compact_revision(), store.compact_revision());
                return Some(format!("member {at} has compacted up to revision {done} of {asked}"));
            }
            indexes.push(store.applied().index);
        }
        if indexes.iter().any(|index| *index != indexes[0]) {
            return Some(format!("members have applied {indexes:?}"));
        }
        if !self.calls.is_empty() {
            return Some("questions are open".into());
        }
        let watchers = 0..self.watchers.len();
        watchers.filter(|number| !self.is_watcher_done(*number)).map(|number| format!("watcher {number} lags")).next()
    }

    /// Leases that nobody holds end.
    pub(super) fn await_ends_of_leases(&mut self) -> Result<(), Broken> {
        let end = self.now + LEASES_GONE;
        loop {
            let leases = |at: &usize| self.nodes[*at].process.as_ref().map_or(1, |p| p.member.store().leases().len());
            let left: usize = self.members().iter().map(leases).sum();
            if left == 0 && self.why_not_well().is_none() {
                break;
            }
            if self.now > end {
                return Err(format!("{left} leases never end, or {:?}", self.why_not_well()).into());
            }
            let until = self.now + 500 * MS;
            while self.next(until)? {}
        }
        let revision = self.truth.revision();
        let kept = self.truth.range_at(b"lease/", b"lease0", revision);
        if !kept.is_empty() {
            return Err(format!("all leases have ended, and left {kept:?}").into());
        }
        Ok(())
    }

    /// All members hold the same: pairs, leases, member records, users and roles, and of history what compaction leaves, so that none needs
    /// more space than another.
    pub(super) fn compare(&mut self) -> Result<(), Broken> {
        self.compare_kept()?;
        let mut first = None;
        for at in self.members() {
            let process = self.nodes[at].process.as_mut().expect("all is well");
            let store = process.member.store_mut();
            self.truth.check_store(store).map_err(|why| format!("member {at}: {why}"))?;
            let hash = store.hash_kv(0).map_err(|error| format!("member {at}: {error}"))?;
            check_auth(store).map_err(|why| format!("member {at}: {why}"))?;
            check_v2(store).map_err(|why| format!("member {at}: {why}"))?;
            let contents = TreeId::ALL.into_iter().filter(|tree| *tree != TreeId::Meta && *tree != TreeId::Alarm);
            let contents: Result<Vec<_>, _> = contents.map(|tree| tree_content(store, tree)).collect();
            let found = (hash, contents?, store.applied());
            store.trees().check().map_err(|error| format!("member {at}: {error}"))?;
            self.note(u64::from(hash.hash));
            match &first {
                None => first = Some(found),
                Some(first) if *first != found => {
                    return Err(format!("members differ: {first:?}; member {at}: {found:?}").into());
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Asks somebody to write something, until that works.
    pub(super) fn probe(&mut self) {
        if self.in_storm || self.is_well {
            return;
        }
        let members = self.members();
        if !members.is_empty() {
            let at = members[self.random.below(members.len() as u64) as usize];
            self.call(Caller::Probe, at, Ask::Put(vec![self.options.keys + 1]));
        }
        self.plan(SECOND, Event::Probe);
    }
}
