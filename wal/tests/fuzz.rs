//! Mutation fuzz of the decoder. `PLINTH_FUZZ_SEED` and `PLINTH_FUZZ_ROUNDS` choose the run; a failure names its seed.

use plinth_wal::sim_disk::fuzz;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn damaged_logs_never_panic_and_never_invent() {
    let (seed, rounds) = (number("PLINTH_FUZZ_SEED", 1), number("PLINTH_FUZZ_ROUNDS", 4000));
    println!("seed {seed}, {rounds} rounds");
    let summary = fuzz(seed, rounds);
    println!("{summary:?}");
    if rounds >= 1000 {
        let parts = [summary.opened, summary.refused, summary.repaired];
        assert!(parts.iter().all(|part| *part > rounds / 20), "{summary:?}: the damage is too strong or too weak");
    }
}
