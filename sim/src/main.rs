//! Runs seeds of the simulator: `plinth-sim --seeds 2000`, or one of them again: `plinth-sim --seed 17`.

use clap::Parser;
use plinth_sim::run;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// Simulates members with faults, seed by seed.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Only this one.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = match arguments.seed {
        Some(seed) => seed..seed + 1,
        None => arguments.first..arguments.first + arguments.seeds,
    };
    let mut failed = Vec::new();
    let mut totals = [0_u64; 5];
    for seed in seeds.clone() {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(seed)));
        let outcome = match outcome {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => {
                println!("seed {seed}: {error}");
                failed.push(seed);
                continue;
            }
            Err(_) => {
                println!("seed {seed}: panicked, see above");
                failed.push(seed);
                continue;
            }
        };
        if seed % 50 == 0 && run(seed).ok() != Some(outcome) {
            println!("seed {seed}: two runs differ");
            failed.push(seed);
        }
        let counts = [outcome.acknowledged, outcome.crashes, outcome.faults, outcome.refusals, outcome.reads];
        for (total, count) in totals.iter_mut().zip(counts) {
            *total += count;
        }
    }
    let [acknowledged, crashes, faults, refusals, reads] = totals;
    println!(
        "{acknowledged} acknowledged writes, {reads} reads, {crashes} crashes, {faults} disk faults, {refusals} loud \
         refusals after bit rot"
    );
    let count = seeds.end - seeds.start;
    println!("{} passed, {} failed", count - failed.len() as u64, failed.len());
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("replay: plinth-sim --seed {}", failed[0]);
    ExitCode::FAILURE
}
