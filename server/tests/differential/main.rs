//! Differential test: the same operations are sent to a real etcd and to Plinth, and every answer, every error
//! (code and text) and every watch event must be equal.
//!
//! Sequences come from seeds. A failure prints its seed, the operation, the difference, and the shortest sequence
//! found that still shows it. Settings (environment):
//!
//! | variable | meaning | default |
//! | --- | --- | --- |
//! | `PLINTH_ETCD_BIN` | the etcd to compare with | `target/etcds/3.5/usr/bin/etcd`, see `tools/install-etcd` |
//! | `PLINTH_DIFF_REQUIRED` | set: a missing etcd is a failure, not a skip | unset |
//! | `PLINTH_DIFF_SEEDS` | how many seeds, counted from 1 | 2 |
//! | `PLINTH_DIFF_SEED` | this one seed instead | |
//! | `PLINTH_DIFF_OPS` | operations per seed | 300 |
//! | `PLINTH_DIFF_SHRINK_SECONDS` | time for cutting a failing sequence down | 60 |
//! | `PLINTH_DIFF_SUBJECT` | another binary to test instead of Plinth | |
//!
//! Layout: `op` is an operation, `generate` makes them, `run` sends them to both, `side` and `watching` to one server,
//! `users` makes sequences with users, `asking` asks about them, `streams` follows the watches, `normal` says what counts as equal (and lists the tolerated differences), `contract` checks
//! what only etcd 3.7 could say, `plant` breaks the subject on purpose, `shrink` cuts a failing sequence down.

mod asking;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod contract;
mod generate;
mod normal;
mod op;
mod plant;
mod process;
mod run;
mod shrink;
mod side;
mod streams;
mod users;
mod watching;

use plant::{Fault, Plant};
use run::{Pair, Servers};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// One test at a time: each runs two servers, and waits are bounded.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Operations and seeds of the harness's own tests.
const SELF_TEST_OPS: usize = 300;
const SELF_TEST_SEEDS: [u64; 2] = [11, 12];
/// How often a run is repeated that shows nothing because the machine is too busy.
const VOID_RUNS_MAX: usize = 3;

#[test]
fn plinth_answers_as_etcd_does() {
    let Some(etcd) = reference("plinth_answers_as_etcd_does") else { return };
    for seed in seeds() {
        check(&etcd, &subject(), seed, operations());
    }
}

/// The same, of several users whose rights come and go.
#[test]
fn plinth_lets_in_whom_etcd_lets_in() {
    let Some(etcd) = reference("plinth_lets_in_whom_etcd_lets_in") else { return };
    let is_old = process::version(&etcd) < side::CONTRACT;
    for seed in seeds() {
        let folder = tempfile::tempdir().expect("a folder");
        let arguments = users::arguments(seed, folder.path());
        let subject = subject();
        let servers = Servers { reference: &etcd, subject: &subject, arguments: &arguments };
        check_sequence(servers, seed, &users::sequence(seed, operations(), is_old), "plinth_lets_in");
    }
}

/// Where the reference that runs is older than the contract, and cannot be asked.
#[test]
fn plinth_answers_as_the_contract_says() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    block_on(contract::check(&subject()));
}

/// The harness itself: an etcd must be found equal to another etcd, and the sequences must reach the corners.
#[test]
fn etcd_answers_as_etcd_does() {
    let Some(etcd) = reference("etcd_answers_as_etcd_does") else { return };
    let mut refusals = std::collections::BTreeSet::new();
    for seed in SELF_TEST_SEEDS {
        let seen = check(&etcd, &etcd, seed, SELF_TEST_OPS);
        assert!(seen.events > 100, "hardly any events: {seen:#?}");
        assert!(seen.operations.len() > 15, "few kinds of operations: {seen:#?}");
        refusals.extend(seen.refusals.into_keys());
    }
    for text in ["compacted", "future", "duplicate key", "key is not provided", "lease not found", "space exceeded"] {
        assert!(refusals.iter().any(|refusal| refusal.contains(text)), "never saw {text:?} in {refusals:#?}");
    }
}

/// The harness finds what it is there to find.
#[test]
fn planted_faults_are_found() {
    let Some(etcd) = reference("planted_faults_are_found") else { return };
    let faults = [
        Fault::Answer("more: true", "more: false"),
        Fault::Answer("count: 2", "count: 3"),
        Fault::Answer("mod_revision: ", "mod_revision: 1"),
        Fault::Answer("code: OutOfRange", "code: InvalidArgument"),
        Fault::Answer("etcdserver: duplicate key given", "etcdserver: duplicated key given"),
        Fault::Answer("revision: 1", "revision: 2"),
        Fault::Answer("raft_term: 3", "raft_term: 0"),
        Fault::Answer("succeeded: true", "succeeded: false"),
        Fault::Answer("hash: ", "hash: 1"),
        Fault::Answer("granted_ttl: 3", "granted_ttl: 4"),
        Fault::DropEvent,
        Fault::RepeatMessage,
        Fault::SwapEvents,
        Fault::DropPrevious,
        Fault::ControlRevision,
        Fault::CompactRevision,
    ];
    for fault in faults {
        let ops = generate::sequence(SELF_TEST_SEEDS[1], 4 * SELF_TEST_OPS);
        block_on(async {
            let servers = Servers { reference: &etcd, subject: &etcd, arguments: &[] };
            let mut pair = Pair::start(servers).await.expect("both start");
            pair.plant(Plant::new(fault));
            let result = pair.run(&ops).await;
            assert!(pair.planted(), "{fault:?} found no occasion");
            assert!(result.is_err(), "{fault:?} was not found");
        });
    }
}

/// The binary under test.
fn subject() -> PathBuf {
    let named = std::env::var_os("PLINTH_DIFF_SUBJECT").map(PathBuf::from);
    named.or(option_env!("CARGO_BIN_EXE_plinth").map(PathBuf::from)).expect("cargo names the binary")
}

/// The reference, unless there is none: then says that the test is skipped, or fails if it may not be.
fn reference(test: &str) -> Option<PathBuf> {
    let found = process::find_etcd();
    if found.is_none() {
        assert!(std::env::var_os("PLINTH_DIFF_REQUIRED").is_none(), "{test}: no etcd; run tools/install-etcd");
        // Past the capture of the test's output: a skipped test must not look like a passed one.
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: no etcd found; run tools/install-etcd");
    }
    found
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

fn seeds() -> std::ops::RangeInclusive<u64> {
    match number("PLINTH_DIFF_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("PLINTH_DIFF_SEEDS").unwrap_or(2),
    }
}

fn operations() -> usize {
    number("PLINTH_DIFF_OPS").unwrap_or(300) as usize
}

/// Runs one seed and panics with everything one needs if there is a difference.
fn check(etcd: &Path, subject: &Path, seed: u64, count: usize) -> run::Seen {
    let servers = Servers { reference: etcd, subject, arguments: &[] };
    check_sequence(servers, seed, &generate::sequence(seed, count), "plinth_answers")
}

fn check_sequence(servers: Servers<'_>, seed: u64, ops: &[op::Op], test: &str) -> run::Seen {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let count = ops.len();
    let started = std::time::Instant::now();
    let mut result = run_once(servers, ops);
    for _ in 0..VOID_RUNS_MAX {
        if result.as_ref().err().is_none_or(|mismatch| !mismatch.is_void) {
            break;
        }
        println!("seed {seed}: the machine is too busy for the reference, trying again");
        result = run_once(servers, ops);
    }
    let mismatch = match result {
        Ok(seen) => {
            println!("seed {seed}: {count} operations equal in {:?}: {seen:?}", started.elapsed());
            return seen;
        }
        Err(mismatch) => mismatch,
    };
    let shortest = block_on(shrink::shortest(servers, &ops[..ops.len().min(mismatch.at + 1)]));
    panic!(
        "seed {seed}, operation {} of {count}:\n{}\n{shortest}\nreplay: PLINTH_DIFF_SEED={seed} PLINTH_DIFF_OPS={count} \
         cargo test -p plinth --test differential {test}",
        mismatch.at, mismatch.what,
    )
}

fn run_once(servers: Servers<'_>, ops: &[op::Op]) -> Result<run::Seen, run::Mismatch> {
    block_on(async {
        let mut pair = Pair::start(servers).await.unwrap_or_else(|what| panic!("{what}"));
        pair.run(ops).await?;
        Ok(pair.into_seen())
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}
