//! Applying in steps: a command that changes or looks at many keys would hold the reactor for seconds.
//!
//! Between two steps of a command nothing else is applied and nothing flushed, so what it does is the same in one step or
//! many, on every member. Reads go on: the changes so far are above the current revision, which moves with the last step.

use crate::author::Author;
use crate::body::Body;
use crate::budget::Budget;
use crate::command::{ArchivedDeleteRange, CommandRef};
use crate::error::{Error, OpError, StoreError};
use crate::follow::ArchivedFollowChange;
use crate::index::KeyRange;
use crate::kv_codec;
use crate::lease::{Millis, Revoked};
use crate::store::delete::Deleting;
use crate::store::txn::TxnRun;
use crate::store::{Outcome, Store, Write, refused};
use crate::trees::{TreeId, Trees};

/// How far a command has come; nothing before its first step and after its last.
#[derive(Debug, Default)]
pub struct Job(Option<Box<Run>>);

impl Job {
    /// Whether a command is half applied.
    pub fn is_under_way(&self) -> bool {
        self.0.is_some()
    }
}

/// A command that may need several steps.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, in its place for as long as it runs")]
enum Run {
    Delete(DeleteRun),
    Revoke(RevokeRun),
    Txn(TxnRun),
    V2 { run: plinth_v2::tree::Run, reply: bool },
}

#[derive(Debug)]
struct DeleteRun {
    write: Write,
    deleting: Deleting,
    body: Body,
    reply: bool,
}

#[derive(Debug)]
struct RevokeRun {
    id: i64,
    revoked: Revoked,
    is_sorted: bool,
    write: Write,
}

impl<T: Trees> Store<T> {
    /// Goes on applying a command of its author until it is done or the budget is spent. `reply` says whether somebody waits for the
    /// outcome's body; `now` only feeds lease deadlines. To be called with the same command until there is an outcome or
    /// an error.
    pub fn apply_step(
        &mut self,
        job: &mut Job,
        (author, command): (Option<Author<'_>>, CommandRef<'_>),
        now: Millis,
        reply: bool,
        budget: &mut Budget,
    ) -> Result<Option<Outcome>, Error> {
        if let Some(mut run) = job.0.take() {
            let outcome = self.run_some(&mut run, command, budget)?;
            if outcome.is_none() {
                job.0 = Some(run);
            }
            return Ok(outcome);
        }
        self.refuse_while_following(command)?;
        self.refuse_under_alarm(command)?;
        self.check_author(author, command).map_err(OpError::Auth)?;
        let mut run = match self.begin_run(command, reply)? {
            Some(run) => run,
            None => {
                match command {
                    CommandRef::Put(put) => budget.write(put.value.len()),
                    CommandRef::Follow(ArchivedFollowChange::Records(told)) => {
                        told.records.iter().for_each(|record| budget.write(record.pair.len()));
                    }
                    _ => budget.write(0),
                }
                return self.apply_short(command, now, reply).map(Some);
            }
        };
        let outcome = self.run_some(&mut run, command, budget)?;
        if outcome.is_none() {
            job.0 = Some(Box::new(run));
        }
        Ok(outcome)
    }

    /// Begins a command that may need several steps.
    fn begin_run(&mut self, command: CommandRef<'_>, reply: bool) -> Result<Option<Run>, Error> {
        Ok(Some(match command {
            CommandRef::Txn(txn) => Run::Txn(self.begin_txn(txn, reply)),
            CommandRef::DeleteRange(_) => {
                let (write, body) = (self.begin_write(), Body::default());
                Run::Delete(DeleteRun { deleting: Deleting::new(&write, &body), write, body, reply })
            }
            CommandRef::LeaseRevoke(revoke) => Run::Revoke(self.begin_revoke(revoke.id.to_native())?),
            // Nothing happens if the entry is of another term: its leader may have extended the lease.
            CommandRef::LeaseExpire(expiry) if expiry.term.to_native() == self.applied.term => {
                Run::Revoke(self.begin_revoke(expiry.id.to_native())?)
            }
            CommandRef::V2(_) => Run::V2 { run: plinth_v2::tree::Run::default(), reply },
            _ => return Ok(None),
        }))
    }

    fn run_some(
        &mut self,
        run: &mut Run,
        command: CommandRef<'_>,
        budget: &mut Budget,
    ) -> Result<Option<Outcome>, Error> {
        match (run, command) {
            (Run::Txn(run), CommandRef::Txn(txn)) => self.txn_some(run, txn, budget),
            (Run::Delete(run), CommandRef::DeleteRange(delete)) => Ok(self.delete_some(run, delete, budget)?),
            (Run::Revoke(run), CommandRef::LeaseRevoke(_) | CommandRef::LeaseExpire(_)) => {
                Ok(self.revoke_some(run, budget)?)
            }
            (Run::V2 { run, reply }, CommandRef::V2(command)) => {
                let body = self.apply_v2_some(run, command, *reply, budget)?;
                Ok(body.map(|body| Outcome { revision: self.revision, body: body.into() }))
            }
            _ => panic!("a command that was begun is applied to its end before another one"),
        }
    }

    fn delete_some(
        &mut self,
        run: &mut DeleteRun,
        delete: &ArchivedDeleteRange,
        budget: &mut Budget,
    ) -> Result<Option<Outcome>, StoreError> {
        let DeleteRun { write, deleting, body, reply } = run;
        let range = KeyRange::new(&delete.key, &delete.range_end);
        let pairs = (*reply && delete.prev_kv).then_some(&mut *body);
        if !self.delete_keys(write, range, deleting, pairs, budget)? {
            return Ok(None);
        }
        if *reply {
            let mut head = Vec::new();
            kv_codec::put_int_field(&mut head, 0x10, deleting.count(write));
            body.put_before(deleting.mark, &head);
        }
        let revision = self.end_write(write);
        Ok(Some(Outcome { revision, body: std::mem::take(body) }))
    }

    fn begin_revoke(&mut self, id: i64) -> Result<RevokeRun, Error> {
        let revoked = self.lessor.begin_revoke(id).map_err(refused)?;
        self.counters.leases_revoked += 1;
        Ok(RevokeRun { id, revoked, is_sorted: false, write: self.begin_write() })
    }

    fn revoke_some(&mut self, run: &mut RevokeRun, budget: &mut Budget) -> Result<Option<Outcome>, StoreError> {
        let RevokeRun { id, revoked, is_sorted, write } = run;
        *is_sorted = *is_sorted || self.lessor.sort_revoked(revoked, budget);
        if !*is_sorted {
            return Ok(None);
        }
        loop {
            if budget.is_spent() {
                return Ok(None);
            }
            let Some(key) = self.lessor.next_revoked(revoked) else { break };
            self.counters.deletes += 1;
            let paused = self.write_delete(write, KeyRange::One(&key), None, budget)?;
            assert!(paused.is_none(), "one key is deleted at once");
        }
        let revision = self.end_write(write);
        self.trees.remove(TreeId::Lease, &id.to_be_bytes())?;
        Ok(Some(Outcome { revision, body: Body::default() }))
    }
}
