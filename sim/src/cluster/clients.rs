//! Clients of keys: what they ask, what they are told, and the history of it that is checked at the end.
//!
//! A client asks one thing at a time, of any member, and does not know the outcome if no answer comes in time. Every
//! answer is checked against what is true at the revision it names, and against what had been acknowledged when the
//! question was asked; the history of each key goes through the checker of `linear`.

use super::bugs::Bug;
use super::options::{MS, SECOND, Time};
use super::protobuf;
use super::rights::author;
use super::truth::{Pair, decode_range, decode_ranges, value_of};
use super::world::{Broken, Event, World};
use crate::linear::{self, Action, Operation, Verdict};
use bytes::Bytes;
use plinth_engine::auth::AuthChange;
use plinth_engine::command::{Command, Compare, CompareTarget, DeleteRange, Op, Put, Txn};
use plinth_engine::error::OpError;
use plinth_engine::store::Outcome;
use plinth_engine::store::range::RangeQuery;
use plinth_member::compare::Check;
use plinth_member::keeper::Renewing;
use plinth_net::due::Due;
use plinth_raft::MemberChange;
use plinth_v2::V2Command;
use std::collections::BTreeMap;

/// Clients give up after this at the latest, most of them earlier.
pub(super) const PATIENCE: Time = 6 * SECOND;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    Client(usize),
    Holder(usize),
    /// Who administers the cluster.
    Admin,
    /// Who looks whether the cluster is well.
    Probe,
    /// A leader who compares all members.
    Checker,
    /// Whoever takes many leases and leaves them alone.
    Crowd,
    /// Who administers users.
    Chief,
    /// Who uses the v2 store.
    V2,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Puts keys in one revision.
    Put(Vec<u64>),
    /// Puts a key if it holds the value of an operation, or does not exist.
    Swap(u64, Option<u64>),
    Delete(u64),
    /// Reads a key; linearizable or not.
    Get(u64, bool),
    /// Reads a key at an older revision, linearizable.
    GetAt(u64, i64),
    /// Reads all keys, linearizable.
    Scan,
    Compact(i64),
    /// Grants a lease of so many seconds.
    Grant(i64, i64),
    /// Puts the key of a lease.
    PutLeased(i64),
    KeepAlive(i64),
    Revoke(i64),
    Change(MemberChange),
    /// A linearizable moment for a comparison.
    Compare,
    /// Changes users and roles.
    Rights(AuthChange),
    /// Changes the v2 store.
    V2(V2Command),
}

/// A question under way.
#[derive(Clone, Debug)]
pub struct Call {
    pub caller: Caller,
    pub at: usize,
    pub ask: Ask,
    pub began: Time,
    /// What had been acknowledged by then.
    pub(super) floor: i64,
    /// The renewal under way of a lease for it.
    pub renewing: Option<Renewing>,
    /// What is due on its stream, if it has one.
    pub due: Due,
    /// The comparison that waits for this moment.
    pub check: Option<Check>,
}

impl Call {
    /// A question that is asked now.
    pub fn new(caller: Caller, at: usize, ask: Ask, now: Time) -> Call {
        Call { caller, at, ask, began: now, floor: 0, renewing: None, due: Due::default(), check: None }
    }
}

/// What comes back.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It was done, at a revision.
    Done(i64, Vec<u8>),
    /// It was not done and never will be.
    Refused,
    /// It may have been done, or may still be.
    Unknown,
    /// Pairs read at the store's revision.
    Read(i64, Vec<u8>),
    /// The lease is alive for the granted time from now, and the stream of the keep-alive is over.
    Renewed,
    /// The stream is over, without an answer.
    Ended,
}

/// Name of a key.
pub fn key_name(key: u64) -> Vec<u8> {
    format!("key/{key:04}").into_bytes()
}

/// Name of the key that hangs on a lease.
pub fn lease_key(lease: i64) -> Vec<u8> {
    format!("lease/{lease:06}").into_bytes()
}

impl World {
    /// A client's turn.
    pub(super) fn client(&mut self, client: usize) {
        let think = 1 + self.random.below(2 * self.options.think);
        if !self.in_storm {
            self.clients[client].is_resting = true;
            return;
        }
        let ask = self.draw_ask(client);
        let at = self.pick_member(client);
        let sent = self.call(Caller::Client(client), at, ask);
        if !sent {
            self.plan(think, Event::Client { client });
        }
    }

    /// The member a client talks to: mostly the one it talked to before.
    fn pick_member(&mut self, client: usize) -> usize {
        let members = self.nodes.len() as u64;
        let last = self.clients[client].at;
        if last >= members as usize || self.random.chance(20) || !self.nodes[last].is_up() {
            self.clients[client].at = self.random.below(members) as usize;
        }
        self.clients[client].at
    }

    fn draw_ask(&mut self, client: usize) -> Ask {
        let random = &mut self.random;
        let keys = self.options.keys;
        let key = random.below(keys);
        match random.below(100) {
            0..28 => Ask::Put(vec![key]),
            28..36 => {
                let mut all = vec![key, random.below(keys), random.below(keys)];
                all.sort_unstable();
                all.dedup();
                Ask::Put(all)
            }
            36..54 => {
                let known = self.clients[client].known.get(&key).copied().flatten();
                Ask::Swap(key, if random.chance(90) { known } else { None })
            }
            54..60 => Ask::Delete(key),
            60..82 => Ask::Get(key, true),
            82..88 => Ask::Get(key, false),
            88..91 => Ask::GetAt(key, self.acknowledged - random.below(10) as i64),
            91..96 => Ask::Scan,
            _ if self.options.compaction => Ask::Compact(self.acknowledged - random.below(20) as i64),
            _ => Ask::Get(key, true),
        }
    }

    /// Sends a question on its way; false if it is lost at once, for who wants to try again.
    pub(super) fn call(&mut self, caller: Caller, at: usize, ask: Ask) -> bool {
        self.last_call += 1;
        let number = self.last_call;
        let Some(delay) = self.net.client_delay(&mut self.random) else { return false };
        self.tell(|| format!("call {number} to member {at}: {ask:?}"));
        let floor = if caller == Caller::V2 { self.last_v2.cast_signed() } else { self.acknowledged };
        let call = Call { floor, ..Call::new(caller, at, ask, self.now) };
        self.calls.insert(number, call);
        self.plan(delay, Event::Arrive { call: number });
        let patience = if self.random.chance(70) { PATIENCE / 8 } else { PATIENCE };
        self.plan(patience, Event::GiveUp { call: number });
        true
    }

    /// A question reaches its member.
    pub(super) fn arrive(&mut self, number: u64) -> Result<(), Broken> {
        let Some(Call { caller, at, ask, .. }) = self.calls.get(&number) else { return Ok(()) };
        let (caller, at, ask) = (*caller, *at, ask.clone());
        let now = self.nodes[at].clock.read(self.now);
        let over = matches!(ask, Ask::KeepAlive(_)) && self.is_over_when_asked(number);
        let Some(process) = self.nodes[at].process.as_mut().filter(|_| !over) else {
            self.reply(number, if over { Answer::Ended } else { Answer::Refused });
            return Ok(());
        };
        let local = matches!(ask, Ask::Get(_, false));
        let unasked = self.bug == Some(Bug::ReadsWithoutRound) && process.member.is_leader();
        let renews = matches!(ask, Ask::KeepAlive(_)) && self.bug == Some(Bug::RenewalsWithoutRound);
        if local || renews || (unasked && matches!(ask, Ask::Get(..) | Ask::Scan)) {
            return self.readable(at, number);
        }
        let reads = matches!(ask, Ask::Get(..) | Ask::GetAt(..) | Ask::Scan | Ask::KeepAlive(_));
        let taken = if reads {
            process.member.read(number, now).is_ok()
        } else if let Ask::Change(change) = &ask {
            process.member.propose_change(change, number, now).is_ok()
        } else {
            let command = encode(number, &ask, self.options.value_bytes);
            let author = author(caller, process.member.store());
            let encode = |out: &mut Vec<u8>| {
                if let Some(author) = author {
                    author.encode_into(out);
                }
                command.encode_into(out);
            };
            process.member.submit(encode, number, now).is_ok()
        };
        if !taken {
            self.reply(number, Answer::Refused);
        } else if self.bug == Some(Bug::AcknowledgedTooEarly) && matches!(ask, Ask::Put(_)) {
            let revision = self.nodes[at].process.as_ref().expect("it runs").member.store().revision();
            self.reply(number, Answer::Done(revision + 1, Vec::new()));
        }
        self.plan_pump(at);
        Ok(())
    }

    /// A command was applied where somebody waits for it.
    pub(super) fn applied(&mut self, at: usize, number: u64, result: Result<Outcome, OpError>) -> Result<(), Broken> {
        match result {
            Ok(_) if self.calls.get(&number).is_some_and(|call| matches!(call.ask, Ask::KeepAlive(_))) => {
                return self.checkpoint_cleared(at, number);
            }
            Ok(outcome) => self.reply(number, Answer::Done(outcome.revision, outcome.body.into_vec())),
            Err(OpError::Auth(refusal)) => {
                if let Some(revision) = self.truth.revision_of(number) {
                    let why = format!("{refusal}, says member {at}, and it took effect at revision {revision}");
                    return Err(format!("call {number}: {why}").into());
                }
                self.outcome.denied += 1;
                self.reply(number, Answer::Refused);
            }
            Err(_) => self.reply(number, Answer::Refused),
        }
        Ok(())
    }

    /// A read may be served.
    pub(super) fn readable(&mut self, at: usize, number: u64) -> Result<(), Broken> {
        let Some(call) = self.calls.get(&number) else { return Ok(()) };
        let process = self.nodes[at].process.as_ref().expect("it runs");
        let name;
        let query = match &call.ask {
            Ask::KeepAlive(lease) => {
                let lease = *lease;
                return self.keep_alive(at, number, lease);
            }
            Ask::Compare => return self.judge(at, number),
            Ask::Get(key, _) => {
                name = key_name(*key);
                RangeQuery { key: &name, ..RangeQuery::default() }
            }
            Ask::GetAt(key, revision) => {
                name = key_name(*key);
                RangeQuery { key: &name, revision: *revision, ..RangeQuery::default() }
            }
            _ => RangeQuery { key: b"key/", range_end: b"key0", ..RangeQuery::default() },
        };
        let mut pairs = Vec::new();
        let answer = match process.member.store().range(&query, &mut pairs) {
            Ok(summary) => Answer::Read(summary.revision, pairs),
            Err(plinth_engine::error::Error::Refused(_)) => Answer::Refused,
            Err(error) => return Err(error.to_string().into()),
        };
        self.reply(number, answer);
        Ok(())
    }

    /// Sends an answer on its way, which may be lost.
    pub(super) fn reply(&mut self, number: u64, answer: Answer) {
        if !self.calls.contains_key(&number) {
            return;
        }
        if let Some(delay) = self.net.client_delay(&mut self.random) {
            self.plan(delay, Event::Answer { call: number, answer });
        }
    }

    /// An answer reaches who asked, or patience is at an end.
    pub(super) fn answer(&mut self, number: u64, answer: Answer) -> Result<(), Broken> {
        let Some(call) = self.calls.remove(&number) else { return Ok(()) };
        self.note(number);
        self.tell(|| match &answer {
            Answer::Read(revision, _) => format!("call {number} is answered: read at {revision}"),
            answer => format!("call {number} is answered: {answer:?}"),
        });
        match call.caller {
            Caller::Client(client) => {
                self.check_answer(number, &call, &answer).map_err(|why| format!("call {number} ({call:?}): {why}"))?;
                self.record(number, client, &call, &answer);
                let think = 1 + self.random.below(2 * self.options.think);
                self.plan(think, Event::Client { client });
            }
            Caller::Holder(holder) => self.holder_answered(holder, &call, &answer)?,
            Caller::Admin => self.admin_answered(&call, &answer),
            Caller::Checker | Caller::Crowd | Caller::Chief => {}
            Caller::V2 => self.v2_answered(&call, &answer).map_err(|why| format!("call {number}: {why}"))?,
            Caller::Probe => self.is_well |= matches!(answer, Answer::Done(..)),
        }
        Ok(())
    }

    fn check_answer(&mut self, number: u64, call: &Call, answer: &Answer) -> Result<(), String> {
        match answer {
            Answer::Done(revision, body) => self.check_write(number, call, *revision, body)?,
            Answer::Read(revision, pairs) => self.check_read(call, *revision, pairs)?,
            _ => return Ok(()),
        }
        if let Answer::Done(revision, _) | Answer::Read(revision, _) = answer
            && !matches!(call.ask, Ask::Get(_, false) | Ask::GetAt(..))
        {
            self.acknowledged = self.acknowledged.max(*revision);
        }
        Ok(())
    }

    /// A write took effect at the revision named, after everything acknowledged before it began.
    fn check_write(&mut self, number: u64, call: &Call, revision: i64, body: &[u8]) -> Result<(), String> {
        self.outcome.acknowledged += 1;
        let writes = match &call.ask {
            Ask::Put(_) => true,
            Ask::Swap(..) => succeeded(body)?,
            _ => false,
        };
        if writes && self.truth.revision_of(number) != Some(revision) {
            let found = self.truth.revision_of(number);
            return Err(format!("acknowledged at revision {revision}, and took effect at {found:?}"));
        }
        if revision < call.floor + i64::from(writes) {
            return Err(format!("done at revision {revision}, behind {} that was acknowledged before", call.floor));
        }
        Ok(())
    }

    /// A read told what was true at its revision, which is not behind what was acknowledged before it began.
    fn check_read(&mut self, call: &Call, revision: i64, pairs: &[u8]) -> Result<(), String> {
        self.outcome.reads += 1;
        if !matches!(call.ask, Ask::Get(_, false)) && revision < call.floor {
            return Err(format!("read at revision {revision}, behind {} that was acknowledged before", call.floor));
        }
        if revision > self.truth.revision() {
            // The member went down in the middle of an entry, and nobody else has applied it yet.
            return Ok(());
        }
        let found = decode_ranges(pairs)?;
        let expected = match &call.ask {
            Ask::Scan => self.truth.range_at(b"key/", b"key0", revision),
            Ask::GetAt(key, at) => self.true_pair(*key, if *at <= 0 { revision } else { *at }),
            Ask::Get(key, _) => self.true_pair(*key, revision),
            other => return Err(format!("{other:?} is answered as a read")),
        };
        if found != expected {
            return Err(format!("read {found:?} at revision {revision} instead of {expected:?}"));
        }
        Ok(())
    }

    fn true_pair(&self, key: u64, revision: i64) -> Vec<(Vec<u8>, Pair)> {
        let key = key_name(key);
        let pair = self.truth.at(&key, revision);
        pair.map(|pair| (key, pair)).into_iter().collect()
    }

    /// Adds an operation to the history, and to what the client knows.
    fn record(&mut self, number: u64, client: usize, call: &Call, answer: &Answer) {
        let ended = match answer {
            Answer::Refused => return,
            Answer::Unknown => None,
            _ => Some(self.now),
        };
        let known = &mut self.clients[client].known;
        let mut actions = Vec::new();
        match (&call.ask, answer) {
            (Ask::Put(keys), _) => {
                known.extend(keys.iter().map(|key| (*key, Some(number))));
                actions.extend(keys.iter().map(|key| (*key, Action::Put(number))));
            }
            (Ask::Swap(key, expected), _) => {
                let swapped = if let Answer::Done(_, body) = answer { succeeded(body).ok() } else { None };
                if swapped == Some(true) {
                    known.insert(*key, Some(number));
                }
                actions.push((*key, Action::Cas { expected: *expected, value: number, swapped }));
            }
            (Ask::Delete(key), _) => {
                known.insert(*key, None);
                let deleted = if let Answer::Done(_, body) = answer { deleted(body) } else { None };
                actions.push((*key, Action::Delete(deleted)));
            }
            (Ask::Get(key, linearizable), Answer::Read(_, pairs)) => {
                let found = decode_range(pairs).ok().flatten().map(|(pair, _)| (pair.written_by, pair.version));
                known.insert(*key, found.map(|(value, _)| value));
                if *linearizable {
                    actions.push((*key, Action::Get(found)));
                }
            }
            _ => {}
        }
        for (key, action) in actions {
            self.history.entry(key).or_default().push(Operation { number, began: call.began, ended, action });
        }
    }

    /// Whether the whole history is linearizable.
    pub(super) fn check_history(&mut self) -> Result<(), Broken> {
        for (key, operations) in &mut self.history {
            // What is known to have happened, or not, though no answer came: the search is shorter, and stricter.
            operations.retain_mut(|operation| {
                let writes = matches!(operation.action, Action::Put(_) | Action::Cas { .. });
                if operation.ended.is_some() || !writes {
                    return true;
                }
                operation.ended = self.effects.get(&operation.number).copied();
                if let Action::Cas { swapped, .. } = &mut operation.action {
                    *swapped = Some(true);
                }
                operation.ended.is_some()
            });
            self.outcome.checked += operations.len() as u64;
            match linear::check(operations) {
                Verdict::Linearizable => {}
                Verdict::GaveUp => return Err(format!("the history of key {key} takes too long to check").into()),
                Verdict::Violation { ordered, state, stuck } => {
                    let last = &ordered[ordered.len().saturating_sub(5)..];
                    let detail = format!("after {last:?} it holds {state:?}, and none of {stuck:?} fits");
                    return Err(format!("key {key} is not linearizable: {detail}").into());
                }
            }
        }
        Ok(())
    }
}

/// A client of keys.
#[derive(Debug, Default)]
pub struct Client {
    at: usize,
    /// The last operation known to have written each key.
    known: BTreeMap<u64, Option<u64>>,
    /// It waits for the next storm.
    pub is_resting: bool,
}

/// How long a client waits before its first question.
pub const FIRST_QUESTION: Time = 1500 * MS;

fn succeeded(body: &[u8]) -> Result<bool, String> {
    Ok(protobuf::int(&protobuf::fields(body).ok_or("an answer that does not parse")?, 2) != 0)
}

fn deleted(body: &[u8]) -> Option<bool> {
    protobuf::fields(body).map(|fields| protobuf::int(&fields, 2) != 0)
}

/// The command of a question that changes something.
pub fn encode(number: u64, ask: &Ask, value_bytes: u64) -> Command {
    let value = |number: u64| Bytes::from(value_of(number, value_bytes));
    let put = |key: Vec<u8>, lease| Put { key: key.into(), value: value(number), lease, ..Put::default() };
    match ask {
        Ask::Put(keys) if keys.len() == 1 => Command::Put(put(key_name(keys[0]), 0)),
        Ask::Put(keys) => {
            let success = keys.iter().map(|key| Op::Put(put(key_name(*key), 0))).collect();
            Command::Txn(Txn { success, ..Txn::default() })
        }
        Ask::Swap(key, expected) => {
            let compare = match expected {
                Some(other) => Compare { target: CompareTarget::Value, value: value(*other), ..Compare::default() },
                None => Compare { target: CompareTarget::Create, number: 0, ..Compare::default() },
            };
            let compare = vec![Compare { key: key_name(*key).into(), ..compare }];
            Command::Txn(Txn { compare, success: vec![Op::Put(put(key_name(*key), 0))], failure: Vec::new() })
        }
        Ask::Delete(key) => Command::DeleteRange(DeleteRange { key: key_name(*key).into(), ..DeleteRange::default() }),
        Ask::Compact(revision) => Command::Compact { revision: *revision },
        Ask::Grant(id, ttl) => Command::LeaseGrant { id: *id, ttl: *ttl },
        Ask::PutLeased(id) => Command::Put(put(lease_key(*id), *id)),
        Ask::Revoke(id) => Command::LeaseRevoke { id: *id },
        Ask::Rights(change) => Command::Auth(change.clone()),
        Ask::V2(command) => Command::V2(command.clone()),
        Ask::Get(..) | Ask::GetAt(..) | Ask::Scan | Ask::KeepAlive(_) | Ask::Change(_) | Ask::Compare => {
            panic!("{ask:?} is no command")
        }
    }
}
