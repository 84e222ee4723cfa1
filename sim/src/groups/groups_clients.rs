//! Clients of keys: each speaks to one machine at a time about one group, and remembers what it saw.

use super::groups_bugs::Bug;
use super::groups_options::{GROUPS, MACHINES, MS, SECOND};
use super::groups_store::{Command, Wish};
use super::groups_world::{Broken, Event, World};
use crate::linear::{Action, Operation, Verdict, check};
use plinth_raft::GroupId;
use std::collections::BTreeMap;

/// Keys of a group that are in use at a time.
const KEYS: u64 = 2;
/// After this long others are, so that the history of each is short.
const KEY_SPAN: u64 = 50 * MS;
/// A request is given up after this; it may still happen.
const PATIENCE: u64 = 2 * SECOND;

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) client: Option<usize>,
    pub(super) at: usize,
    pub(super) id: GroupId,
    pub(super) key: u64,
    /// Nothing for a read.
    pub(super) wish: Option<Wish>,
    pub(super) began: u64,
}

/// By group and key: what was done to it.
pub(super) type History = BTreeMap<(GroupId, u64), Vec<Operation>>;

impl World {
    /// A client's next request.
    pub(super) fn client(&mut self, client: usize) {
        let at = self.random.below(MACHINES as u64) as usize;
        let id = GroupId(self.random.below(self.options.busy.min(u64::from(GROUPS))) as u32);
        let key = self.now / KEY_SPAN * KEYS + self.random.below(KEYS);
        let wish = match self.random.below(10) {
            0..4 => None,
            4..8 => Some(Wish::Put),
            8 => Some(Wish::Swap(0)),
            _ => Some(Wish::Swap(self.last_call.saturating_sub(self.random.below(4)))),
        };
        self.ask(Some(client), at, id, key, wish);
    }

    /// Sends a request; its number.
    pub(super) fn ask(&mut self, client: Option<usize>, at: usize, id: GroupId, key: u64, wish: Option<Wish>) -> u64 {
        self.last_call += 1;
        let call = self.last_call;
        self.calls.insert(call, Call { client, at, id, key, wish, began: self.now });
        let delay = 20 + self.random.below(self.options.delay);
        self.plan(delay, Event::Arrive { call });
        self.plan(PATIENCE, Event::GiveUp { call });
        call
    }

    /// A request is at its machine.
    pub(super) fn arrive(&mut self, call: u64) {
        let Some(Call { at, id, key, wish, .. }) = self.calls.get(&call).copied() else { return };
        if self.stands(at) {
            return;
        }
        let bug = self.bug;
        let Some(process) = &mut self.machines[at].process else { return };
        if process.groups.get(id).is_none() {
            return self.reply(call, None, 0);
        }
        let Some(wish) = wish else {
            match bug {
                Some(Bug::ReadsWithoutRound) => process.reads.push((id, 0, call)),
                _ => process.groups.read_index(id, call),
            }
            self.plan_pump(at);
            return self.serve_reads(at);
        };
        if process.groups.propose(id, Command { call, key, wish }.encode()).is_err() {
            return self.reply(call, None, 0);
        }
        if bug == Some(Bug::AcknowledgedTooEarly) && wish == Wish::Put {
            self.applied(at, id, call, true, 0);
        }
        self.plan_pump(at);
    }

    /// A write is applied somewhere; whoever was asked for it answers.
    pub(super) fn applied(&mut self, at: usize, id: GroupId, call: u64, puts: bool, index: u64) {
        let Some(asked) = self.calls.get(&call).copied().filter(|asked| asked.at == at && asked.id == id) else {
            return;
        };
        let value = call;
        let action = match asked.wish {
            Some(Wish::Put) => Action::Put(value),
            Some(Wish::Swap(expected)) => {
                let expected = (expected != 0).then_some(expected);
                Action::Cas { expected, value, swapped: Some(puts) }
            }
            None => return,
        };
        self.reply(call, Some(action), index);
    }

    /// Answers the reads that have waited for what is applied now.
    pub(super) fn serve_reads(&mut self, at: usize) {
        let Some(process) = &mut self.machines[at].process else { return };
        let stores = &process.stores;
        let is_due =
            |(id, index, _): &(GroupId, u64, u64)| stores.get(id).is_some_and(|store| store.applied.index >= *index);
        let due: Vec<_> = process.reads.iter().copied().filter(is_due).collect();
        process.reads.retain(|read| !due.contains(read));
        for (id, _, call) in due {
            let Some(asked) = self.calls.get(&call) else { continue };
            let found = self.machines[at].process.as_ref().expect("it runs").stores[&id].keys.get(&asked.key).copied();
            self.reply(call, Some(Action::Get(found)), 0);
        }
    }

    /// A request has its answer; nothing if it failed, or nobody knows.
    pub(super) fn reply(&mut self, call: u64, action: Option<Action>, index: u64) {
        let Some(asked) = self.calls.remove(&call) else { return };
        let unanswered = match asked.wish {
            Some(Wish::Put) => Some(Action::Put(call)),
            Some(Wish::Swap(expected)) => {
                Some(Action::Cas { expected: (expected != 0).then_some(expected), value: call, swapped: None })
            }
            None => None,
        };
        let ended = action.is_some().then_some(self.now);
        if let Some(action) = action.or(unanswered) {
            let operation = Operation { number: call, began: asked.began, ended, action };
            self.history.entry((asked.id, asked.key)).or_default().push(operation);
        }
        match (action, asked.wish) {
            (Some(_), None) => self.outcome.reads += 1,
            (Some(_), Some(_)) => {
                if self.watched_calls.remove(&call) {
                    self.acknowledged_calls.insert(call);
                }
                self.outcome.acknowledged += 1;
                let last = self.acknowledged.entry(asked.id).or_default();
                *last = index.max(*last);
            }
            _ => {}
        }
        if let Some(client) = asked.client
            && self.in_storm
        {
            let pause = 1 + self.random.below(2 * self.options.think);
            self.plan(pause, Event::Client { client });
        } else if let Some(client) = asked.client {
            self.resting.push(client);
        }
    }

    /// What clients saw of each key has one order.
    pub(super) fn check_history(&mut self) -> Result<(), Broken> {
        for ((id, key), operations) in &self.history {
            self.outcome.checked += operations.len() as u64;
            match check(operations) {
                Verdict::Linearizable => {}
                Verdict::GaveUp => self.outcome.unchecked += 1,
                verdict => return Err(format!("group {id}, key {key} has no order: {verdict:?}").into()),
            }
        }
        Ok(())
    }
}
