//! Every planted bug is found within a bounded number of seeds: a simulator that finds none proves nothing.

use plinth_sim::cluster::{Bug, run_with};
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The first seed that finds a bug, and how. Panics of the cores count: they are loud.
fn find(bug: Bug, seeds: u64) -> Option<(u64, String)> {
    (1..=seeds).find_map(|seed| match catch_unwind(|| run_with(seed, Some(bug))) {
        Ok(Ok(_)) => None,
        Ok(Err(why)) => Some((seed, why.lines().next().unwrap_or_default().to_string())),
        Err(_) => Some((seed, "a panic".to_string())),
    })
}

#[test]
fn every_planted_bug_is_found() {
    let next = AtomicUsize::new(0);
    let missed: Vec<Bug> = std::thread::scope(|scope| {
        let work = || {
            let mut missed = Vec::new();
            while let Some(&(bug, seeds)) = Bug::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                match find(bug, seeds) {
                    Some((seed, why)) => println!("{bug:?}: seed {seed} of {seeds}: {why}"),
                    None => missed.push(bug),
                }
            }
            missed
        };
        let other = scope.spawn(work);
        let mut missed = work();
        missed.extend(other.join().expect("no panic gets out"));
        missed
    });
    assert!(missed.is_empty(), "not found: {missed:?}");
}
