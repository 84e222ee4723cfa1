//! Between the core and the disk: what a `Ready` hands out, and what it must wait for.

use super::Group;
use crate::core::log::Flight;
use crate::core::{Outgoing, Waiter};
use crate::message::PeerBody;
use crate::ready::Ready;
use crate::types::{Entry, EntryKind, HardState, ReadState};

impl Group {
    /// Whether `entry` must wait until a hard state that commits it is durable.
    fn waits(entry: &Entry, durable: &HardState) -> bool {
        entry.kind == EntryKind::ConfChange && entry.index > durable.commit
    }

    /// Whether there is a committed entry to hand out.
    pub(super) fn can_release(&self) -> bool {
        self.core.log.next_to_release().is_some_and(|entry| !Self::waits(entry, &self.durable))
    }

    /// Whether a configuration change is committed, and no hard state says so that is at least on its way.
    ///
    /// Not only when it could be applied: a follower that gets two changes in one append, the first of them committed,
    /// writes both behind a hard state that does not reach them. If it acknowledged them before the next one, and lost
    /// that, it would campaign with a configuration that is two changes old.
    pub(super) fn needs_barrier(&self) -> bool {
        self.core.log.has_conf_change(self.written.commit)
    }

    /// Hands out committed entries up to the first configuration change that must wait.
    pub(super) fn hand_out_committed(&mut self, ready: &mut Ready) {
        let (mut bytes, limit) = (0, self.core.config.committed_bytes_per_ready);
        while let Some(entry) = self.core.log.next_to_release().filter(|entry| !Self::waits(entry, &self.durable)) {
            bytes += entry.data.len() as u64;
            if bytes > limit && !ready.committed.is_empty() {
                return;
            }
            if entry.kind == EntryKind::ConfChange {
                self.conf_changes.push_back(entry.index);
            }
            let before = ready.committed.last().map_or(self.core.log.released(), |before: &Entry| before.index);
            assert!(entry.index == before + 1, "entries are applied in order, each once");
            ready.committed.push(entry.clone());
            self.core.log.release();
        }
    }

    /// The hard state, if it has to be written: for a new term or vote, ahead of a configuration change, and (the commit
    /// index is then free) beside anything else that is written.
    ///
    /// It is written before the entries of the same `Ready`. If a crash keeps the one and loses the others, older entries
    /// may be in their place: its commit index must not reach that far.
    pub(super) fn hard_state_to_write(&mut self, ready: &Ready) -> Option<HardState> {
        let mut now = self.core.hard_state();
        if let Some(first) = ready.entries.first() {
            now.commit = now.commit.min(first.index - 1);
        }
        let voted = (now.term, now.vote) != (self.written.term, self.written.vote);
        let beside = (!ready.entries.is_empty() || ready.snapshot.is_some()) && now.commit != self.written.commit;
        if !voted && !beside && !self.needs_barrier() {
            return None;
        }
        assert!(now.commit >= self.written.commit, "what was committed stays committed");
        self.written = now;
        Some(now)
    }

    /// Remembers what is on its way to the disk.
    pub(super) fn note_in_flight(&mut self, ready: &Ready) {
        if ready.must_persist() {
            self.core.log.depart(Flight {
                number: ready.number,
                hard_state: self.written,
                snapshot: ready.snapshot.as_ref().map(|meta| meta.id.index),
                last: ready.entries.last().map_or(0, |entry| entry.index),
                since: self.core.ticks(),
            });
        }
    }

    /// Promises wait for the disk, everything waits for a term that is not durable, but for proposals that are passed on: they
    /// are of no term, and a member whose disk does not answer can still have them carried out by others. What a barrier is needed for waits for
    /// the next `Ready`, which has the hard state.
    pub(super) fn hand_out_messages(&mut self, ready: &mut Ready) {
        let is_term_durable = self.durable.term >= self.core.role().term;
        let is_idle = self.core.log.flights().is_empty();
        assert!(is_term_durable || !is_idle, "nothing is said in a term that a crash could take back");
        let are_promises_held = self.needs_barrier();
        let is_due = |outgoing: &mut Outgoing| !(are_promises_held && outgoing.is_promise);
        for Outgoing { message, is_promise } in self.core.outbox.extract_if(.., is_due) {
            let is_of_no_term = message.body == PeerBody::Propose;
            assert!(!is_of_no_term || (message.term == 0 && !is_promise), "who passes something on promises nothing");
            let at_once = is_idle || is_of_no_term || (is_term_durable && !is_promise);
            if at_once { &mut ready.messages } else { &mut ready.persisted_messages }.push(message);
        }
    }

    pub(super) fn hand_out_reads(&mut self, ready: &mut Ready) {
        while let Some((waiters, index)) = self.core.rounds.take_answered() {
            for waiter in &waiters {
                match *waiter {
                    Waiter::Local(token) => ready.read_states.push(ReadState { token, index }),
                    Waiter::Remote { member, round } => {
                        let body = PeerBody::ReadIndexResponse { round, index };
                        ready.messages.push(self.core.message(member, body));
                    }
                }
            }
            self.core.rounds.recycle(waiters);
        }
        ready.failed_reads = self.core.rounds.take_failed();
    }
}
