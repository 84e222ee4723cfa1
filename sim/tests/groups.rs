//! A few seeds of many groups, and bugs that are planted in them; the binary runs thousands.

use plinth_sim::groups::{Bug, Outcome, run, run_with};
use std::panic::catch_unwind;

#[test]
fn thirty_seeds_keep_every_promise_and_repeat_exactly() {
    let mut sum = Outcome::default();
    for seed in 1..=30 {
        let done = run(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        if seed % 10 == 0 {
            assert_eq!(run(seed).as_ref(), Ok(&done), "seed {seed}: two runs differ");
        }
        sum.acknowledged += done.acknowledged;
        sum.reads += done.reads;
        sum.checked += done.checked;
        sum.crashes += done.crashes;
        sum.elections += done.elections;
        sum.snapshots += done.snapshots;
        sum.moved += done.moved;
        sum.refused_groups += done.refused_groups;
        sum.refused_logs += done.refused_logs;
    }
    // The weather leaves nothing out.
    assert!([sum.acknowledged, sum.reads, sum.checked].iter().all(|figure| *figure > 1000), "{sum:?}");
    assert!([sum.refused_groups, sum.refused_logs].iter().all(|figure| *figure > 5), "{sum:?}");
    assert!([sum.crashes, sum.elections, sum.snapshots, sum.moved].iter().all(|figure| *figure > 5), "{sum:?}");
}

/// Panics of the cores count: they are loud.
#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for (bug, seeds) in Bug::ALL {
        let found = (1..=seeds).find_map(|seed| match catch_unwind(|| run_with(seed, Some(bug))) {
            Ok(Ok(_)) => None,
            Ok(Err(why)) => Some((seed, why.lines().next().unwrap_or_default().to_string())),
            Err(_) => Some((seed, "a panic".to_string())),
        });
        match found {
            Some((seed, why)) => println!("{bug:?}: seed {seed} of {seeds}: {why}"),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
