//! The store against a naive model, through random commands, reads, compaction steps and restarts.
//!
//! Proptest prints the shrunk steps and the seed of a failure, and keeps the seed in `proptest-regressions`.

mod backing;
mod generate;
mod model;

use std::ops::ControlFlow;

use plinth_engine::budget::Budget;
use plinth_engine::budget::WorkBudget;
use plinth_engine::command::{Command, CommandRef, Range};
use plinth_engine::error::{Error, OpError};
use plinth_engine::lease::Millis;
use plinth_engine::revision::Revision;
use plinth_engine::store::compact::CompactProgress;
use plinth_engine::store::hash::HashStep;
use plinth_engine::store::job::Job;
use plinth_engine::store::range::{RangeQuery, Step as RangeStep};
use plinth_engine::store::{EntryId, Outcome, Store, StoreConfig};
use plinth_engine::trees::{MemTrees, TreeId, Trees};
use plinth_engine::watch::{EventBatchBuilder, EventMode};
use proptest::prelude::*;

use backing::Backing;
use generate::{Step, steps};
use model::Model;

fn refusal<V>(result: Result<V, Error>) -> Result<V, OpError> {
    result.map_err(|error| match error {
        Error::Refused(op) => op,
        Error::Broken(error) => panic!("memory does not break: {error}"),
    })
}

fn config(hashes: bool) -> StoreConfig {
    StoreConfig { quota_bytes: -1, compaction_hashes: hashes, ..StoreConfig::default() }
}

struct Run<B> {
    store: Store<B>,
    model: Model,
    index: u64,
    hashes: bool,
    /// What was applied since the last flush, with the answers: after a restart the log is replayed.
    log: Vec<(EntryId, Command, model::Answer)>,
    /// Compactions not known to be complete: previous and new compact revision, and whether a hash will be told.
    hash_due: Vec<(i64, i64)>,
}

impl<B: Backing> Run<B> {
    fn new(hashes: bool) -> Self {
        let mut store = Store::open(B::create(), config(hashes)).expect("empty trees open");
        store.set_event_mode(EventMode::WithPrev);
        Self { store, model: Model::new(), index: 0, hashes, log: vec![], hash_due: vec![] }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Apply(command) => self.apply(command),
            Step::Compact(back) => {
                let command = Command::Compact { revision: self.model.revision - back };
                let (previous, was_idle) = (self.model.compact_revision, !self.store.is_compacting());
                self.apply(&command);
                if self.model.compact_revision != previous && was_idle && self.hashes {
                    self.hash_due.push((previous, self.model.compact_revision));
                }
            }
            Step::Range(range, back) => self.range(range, *back),
            Step::Work(records) => self.work(*records),
            Step::Flush => {
                self.store.trees_mut().flush();
                self.log.clear();
            }
            Step::Restart => self.restart(),
            Step::Hash(back) => self.hash(*back),
            Step::History(back) => self.history(*back),
        }
    }

    fn apply(&mut self, command: &Command) {
        if matches!(command, Command::Txn(txn) if txn.check(128).is_err()) {
            return; // refused before replication
        }
        self.index += 1;
        let id = EntryId { index: self.index, term: self.index / 10 + 1 };
        self.store.begin_entry(id).expect("memory does not break");
        let mut bytes = Vec::new();
        command.encode_into(&mut bytes);
        let archived = Command::access(&bytes).expect("what was encoded can be read");
        let before = self.model.revision;
        let expected = self.model.apply(command);
        self.read_only_txn(archived, &expected);
        let outcome = refusal(self.apply_in_steps(archived));
        assert_eq!(outcome.map(|outcome| (outcome.revision, outcome.body.into_vec())), expected, "{command:?}");
        self.log.push((id, command.clone(), expected));
        assert_eq!(self.store.revision(), self.model.revision);
        assert_eq!(self.store.compact_revision(), self.model.compact_revision);
        let batch = self.store.take_events();
        assert_eq!(
            (batch.previous(), batch.complete(), batch.revision()),
            (before, self.model.revision, self.model.revision)
        );
        let mut events = Vec::new();
        batch.events().for_each(|event| event.append_record(true, &mut events));
        assert_eq!(events, self.model.events(before + 1, self.model.revision), "{command:?}");
    }

    /// Applies in steps of some size. Between them history is compacted, and reads see nothing of the command.
    fn apply_in_steps(&mut self, command: CommandRef<'_>) -> Result<Outcome, Error> {
        const SIZES: [Budget; 4] = [
            Budget::UNBOUNDED,
            Budget { pairs: 1, bytes: 1, visits: 1 },
            Budget { pairs: 3, bytes: 100, visits: 2 },
            Budget { pairs: 2, bytes: 1000, visits: 7 },
        ];
        let all = RangeQuery { key: b"\0", range_end: b"\0", ..RangeQuery::default() };
        let before = self.everything(&all)?;
        let (mut job, mut steps) = (Job::default(), 0);
        loop {
            steps += 1;
            assert!(steps < 100_000, "it comes to an end");
            let mut budget = SIZES[self.index as usize % SIZES.len()];
            match self.store.apply_step(&mut job, (None, command), Millis(0), true, &mut budget)? {
                Some(outcome) => return Ok(outcome),
                None => assert!(job.is_under_way() && budget.is_spent(), "it pauses only when it has to"),
            }
            assert_eq!(self.everything(&all)?, before, "what is half applied is not seen");
            let work = WorkBudget { records: 1, bytes: usize::MAX };
            if let CompactProgress::Done { revision } = self.store.compact_step(work).expect("memory does not break") {
                self.compacted(revision);
            }
        }
    }

    fn everything(&self, all: &RangeQuery<'_>) -> Result<(Vec<u8>, u64), Error> {
        let mut out = Vec::new();
        let summary = self.store.range(all, &mut out)?;
        summary.append_fields(&mut out);
        Ok((out, self.store.revision() as u64))
    }

    fn read_only_txn(&mut self, command: CommandRef<'_>, expected: &model::Answer) {
        if let CommandRef::Txn(txn) = command
            && txn.is_read_only()
        {
            let outcome = refusal(self.store.read_txn(txn));
            assert_eq!(outcome.map(|outcome| (outcome.revision, outcome.body.into_vec())), *expected);
            let mut read = self.store.read_txn_start();
            let one = Budget { pairs: 1, bytes: 1, visits: 2 };
            let stepped = loop {
                if let Some(done) = refusal(self.store.read_txn_step(&mut read, txn, one)).transpose() {
                    break done;
                }
            };
            assert_eq!(stepped.map(|outcome| (outcome.revision, outcome.body.into_vec())), *expected, "in steps");
        }
    }

    fn range(&self, range: &Range, back: i64) {
        let mut range = range.clone();
        if back >= 0 {
            range.revision = self.model.revision + 1 - back;
        }
        let expected =
            self.model.range(&range, self.model.revision).map(|answer| (answer.0.len(), model::range_body(&answer)));
        let query = RangeQuery::from(&range);
        let mut out = Vec::new();
        let found = refusal(self.store.range(&query, &mut out)).map(|summary| {
            assert_eq!(summary.revision, self.model.revision);
            summary.append_fields(&mut out);
            (summary.kvs, out)
        });
        assert_eq!(found, expected, "{range:?}");
        for (pairs, visits) in [(1, 2), (3, 1000), (1000, 1)] {
            let budget = Budget { pairs, bytes: usize::MAX, visits };
            assert_eq!(refusal(self.range_in_steps(&query, budget)), expected, "{range:?} with {budget:?}");
        }
    }

    fn range_in_steps(&self, query: &RangeQuery<'_>, budget: Budget) -> Result<(usize, Vec<u8>), Error> {
        let mut cursor = self.store.range_start(query)?;
        let mut out = Vec::new();
        loop {
            match self.store.range_step(&mut cursor, budget, &mut out)? {
                RangeStep::More => {}
                RangeStep::Done(summary) => {
                    summary.append_fields(&mut out);
                    return Ok((summary.kvs, out));
                }
            }
        }
    }

    fn work(&mut self, records: usize) {
        for _ in 0..records {
            let progress =
                self.store.compact_step(WorkBudget { records, bytes: usize::MAX }).expect("memory does not break");
            if let CompactProgress::Done { revision } = progress {
                self.compacted(revision);
            }
        }
        if !self.store.is_compacting() {
            let kept = backing::records(self.store.trees());
            assert_eq!(kept, self.model.kept_records(), "after compaction at {}", self.model.compact_revision);
        }
    }

    fn compacted(&mut self, revision: i64) {
        assert_eq!(self.store.finished_compact_revision(), revision);
        let Some(at) = self.hash_due.iter().position(|due| due.1 == revision) else { return };
        let (previous, _) = self.hash_due.remove(at);
        let told = self.store.compaction_hashes().last().expect("the compaction was hashed");
        assert_eq!((told.compact_revision, told.revision), (previous, revision));
        assert_eq!(told.hash, self.model.hash_of_compaction(revision, previous));
        if revision > 0 {
            // (0 asks for the current revision, not for a compaction at 0)
            assert_eq!(self.store.hash_kv(revision).expect("known"), *told);
        }
    }

    /// Reopens from what the last flush left, which may be amid a compaction, and replays the log.
    fn restart(&mut self) {
        let left = self.store.trees().left_by_crash();
        let mut store = Store::open(left, config(self.hashes)).expect("stored trees open");
        for (id, command, answer) in &self.log {
            assert!(store.applied() < *id);
            store.begin_entry(*id).expect("memory does not break");
            let mut bytes = Vec::new();
            command.encode_into(&mut bytes);
            let archived = Command::access(&bytes).expect("what was encoded can be read");
            let outcome = refusal(store.apply_silently(archived, Millis(0)));
            let answer = answer.as_ref().map(|&(revision, _)| revision).map_err(|error| *error);
            assert_eq!(outcome.map(|outcome| outcome.revision), answer, "replay of {command:?}");
        }
        assert_eq!(store.applied(), self.store.applied());
        let events = store.take_events();
        assert_eq!((events.len(), events.revision()), (0, self.model.revision), "nobody watches while starting");
        assert_eq!(store.revision(), self.model.revision);
        assert_eq!(store.compact_revision(), self.model.compact_revision);
        assert_eq!(store.live_keys(), self.store.live_keys());
        for (&lease, &ttl) in &self.model.leases {
            assert_eq!(store.leases().stored_ttl(lease), Some((ttl, 0)));
            let mut keys: Vec<_> = store.leases().keys(lease).map(<[u8]>::to_vec).collect();
            keys.sort_unstable();
            assert_eq!(keys, self.model.attached(lease));
        }
        assert_eq!(store.leases().len(), self.model.leases.len());
        store.set_event_mode(EventMode::WithPrev);
        self.store = store;
        self.hash_due.clear();
    }

    fn hash(&self, back: i64) {
        let revision = self.model.revision + 1 - back;
        let known = self.store.compaction_hashes().iter().find(|hash| hash.revision == revision);
        let expected = match revision {
            _ if known.is_some() => return,
            0 => return,
            revision if revision > self.model.revision => Err(OpError::FutureRevision),
            revision if revision > 0 && revision < self.model.compact_revision => Err(OpError::Compacted),
            revision => Ok((self.model.hash_kv(revision, self.model.compact_revision), self.model.compact_revision)),
        };
        let found = refusal(self.store.hash_kv(revision));
        assert_eq!(found.map(|hash| (hash.hash, hash.compact_revision)), expected, "at {revision}");
        let Ok(mut cursor) = self.store.hash_kv_start(revision) else { return };
        loop {
            let step = refusal(self.store.hash_kv_step(&mut cursor, WorkBudget { records: 3, bytes: usize::MAX }));
            if let HashStep::Done(hash) = step.expect("started") {
                assert_eq!(Ok((hash.hash, hash.compact_revision)), expected);
                return;
            }
        }
    }

    /// Events rebuilt from history are those that were told live.
    fn history(&self, back: i64) {
        let from = (self.model.revision + 1 - back).max(self.model.compact_revision + 1);
        let mut builder = EventBatchBuilder::new(EventMode::WithPrev, from - 1);
        let visit = &mut |event: plinth_engine::store::history::HistoryEvent<'_>| {
            let Revision { main, sub } = event.revision;
            let before = self.store.kv_at(event.key, event.revision).expect("memory does not break");
            match event.is_delete {
                true => builder.delete(main, sub, event.key, before),
                false => builder.put(main, sub, event.is_create, event.pair, before.filter(|_| !event.is_create)),
            }
            ControlFlow::Continue(())
        };
        self.store.history(from, self.model.revision, visit).expect("memory does not break");
        let mut events = Vec::new();
        builder.finish(self.model.revision).events().for_each(|event| event.append_record(true, &mut events));
        assert_eq!(events, self.model.events(from, self.model.revision), "from {from}");
    }

    fn finish(&mut self) {
        self.work(10_000);
        assert!(!self.store.is_compacting());
        self.range(&Range { key: "\0".into(), range_end: "\0".into(), ..Range::default() }, -1);
        self.history(1 << 20);
        self.restart();
        self.range(&Range { key: "\0".into(), range_end: "\0".into(), ..Range::default() }, -1);
    }
}

fn run<B: Backing>(steps: &[Step], hashes: bool) {
    let mut run = Run::<B>::new(hashes);
    steps.iter().for_each(|step| run.step(step));
    run.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]
    #[test]
    fn store_in_memory_agrees_with_model(steps in steps(), hashes: bool) {
        run::<backing::Memory>(&steps, hashes);
    }

    #[test]
    fn store_on_page_file_agrees_with_model(steps in steps(), hashes: bool) {
        run::<backing::File>(&steps, hashes);
    }
}

/// Before anything was compacted, 0 is a revision to compact at, though not one to ask a hash for.
#[test]
fn compaction_at_zero_agrees_with_model() {
    let put = Command::Put(plinth_engine::command::Put { key: "a".into(), ..Default::default() });
    run::<backing::Memory>(&[Step::Apply(put), Step::Compact(2), Step::Work(1)], true);
}

/// The whole-db hash does not depend on how it is cut into steps, and notices every change.
#[test]
fn db_hash_covers_every_tree() {
    let mut trees = MemTrees::new();
    for tree in TreeId::ALL {
        let key: &[u8] = if tree == TreeId::Rev { b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0" } else { b"unrelated" };
        if matches!(tree, TreeId::Rev | TreeId::Meta | TreeId::Members) {
            trees.insert(tree, key, b"\x0a\x01a\x10\x02\x18\x02\x20\x01").expect("memory does not break");
        }
    }
    let open = |trees: &MemTrees| Store::open(trees.clone(), config(false)).expect("the trees are sound");
    let whole = open(&trees).hash_db().expect("memory does not break");
    let mut cursor = plinth_engine::store::hash::DbHashCursor::default();
    let store = open(&trees);
    let stepped = loop {
        let step = store.hash_db_step(&mut cursor, WorkBudget { records: 1, bytes: usize::MAX });
        if let Some(hash) = step.expect("memory does not break") {
            break hash;
        }
    };
    assert_eq!(stepped, whole);
    trees.insert(TreeId::Members, b"unrelated", b"changed").expect("memory does not break");
    assert_ne!(open(&trees).hash_db().expect("memory does not break"), whole);
}
