//! A few seeds of whole clusters; CI runs thousands of them with the binary.

use plinth_sim::cluster::{Outcome, run};

#[test]
fn forty_seeds_keep_every_promise_and_repeat_exactly() {
    let mut sum = Outcome::default();
    for seed in 1..=40 {
        let done = run(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        if seed % 8 == 0 {
            assert_eq!(run(seed), Ok(done), "seed {seed}: two runs differ");
        }
        sum.acknowledged += done.acknowledged;
        sum.reads += done.reads;
        sum.checked += done.checked;
        sum.renewals += done.renewals;
        sum.cleared += done.cleared;
        sum.watched += done.watched;
        sum.crashes += done.crashes;
        sum.elections += done.elections;
        sum.snapshots += done.snapshots;
        sum.changes += done.changes;
        sum.denied += done.denied;
    }
    // The weather leaves nothing out.
    let figures = [sum.acknowledged, sum.reads, sum.checked, sum.renewals, sum.watched, sum.denied];
    assert!(figures.iter().all(|figure| *figure > 200), "{sum:?}");
    let figures = [sum.crashes, sum.elections, sum.snapshots, sum.changes];
    assert!(figures.iter().all(|figure| *figure > 5), "{sum:?}");
    assert!(sum.cleared > 0, "{sum:?}");
}
