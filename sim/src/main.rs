//! Runs seeds of the simulator: `plinth-sim --seeds 2000 --cluster` (or `--groups`), or one of them again: `plinth-sim
//! --cluster --seed 17`.

#![forbid(unsafe_code)]

use clap::Parser;
use plinth_sim::{cluster, disk_world, groups};
use std::cell::Cell;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

/// Simulates members with faults, seed by seed.
#[derive(Clone, Parser)]
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
    /// Tells what happens in the one seed of a cluster, or of many groups.
    #[arg(long, requires = "seed")]
    story: bool,
    /// Plants a bug in the clusters, by its name.
    #[arg(long, hide = true)]
    bug: Option<String>,
    /// Whole clusters instead of single members.
    #[arg(long)]
    cluster: bool,
    /// Machines with many groups on a shared log instead.
    #[arg(long, conflicts_with = "cluster")]
    groups: bool,
    /// Runs each seed twice, not only every fiftieth: both runs must leave the same trace.
    #[arg(long)]
    twice: bool,
    /// Threads to run seeds in; each seed stays in one.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// Seeds after which a long run says how far it is.
const PROGRESS: u64 = 5000;

/// What a seed came to: figures with their names, and a hash over everything that happened.
type Report = (Vec<(&'static str, u64)>, u64);

fn run_member(seed: u64) -> Result<Report, String> {
    let done = disk_world::run(seed)?;
    let figures = vec![
        ("acknowledged writes", done.acknowledged),
        ("reads", done.reads),
        ("crashes", done.crashes),
        ("disk faults", done.faults),
        ("loud refusals after bit rot", done.refusals),
    ];
    Ok((figures, done.trace))
}

fn run_cluster(seed: u64) -> Result<Report, String> {
    let done = cluster::run(seed)?;
    let figures = vec![
        ("acknowledged writes", done.acknowledged),
        ("reads", done.reads),
        ("operations of checked histories", done.checked),
        ("watched events", done.watched),
        ("lease renewals", done.renewals),
        ("of them replicated", done.cleared),
        ("crashes", done.crashes),
        ("elections", done.elections),
        ("snapshots installed", done.snapshots),
        ("changes of members", done.changes),
        ("moves", done.moves),
        ("comparisons of members", done.compared),
        ("handovers", done.handed_over),
        ("denied", done.denied),
    ];
    Ok((figures, done.trace))
}

fn run_groups(seed: u64) -> Result<Report, String> {
    let done = groups::run(seed)?;
    let figures = vec![
        ("acknowledged writes", done.acknowledged),
        ("reads", done.reads),
        ("operations of checked histories", done.checked),
        ("histories too long to check", done.unchecked),
        ("crashes", done.crashes),
        ("elections", done.elections),
        ("snapshots", done.snapshots),
        ("members moved", done.moved),
        ("parcels", done.parcels),
        ("messages in them", done.messages),
    ];
    Ok((figures, done.trace))
}

thread_local! {
    /// The seed that runs in this thread, for the message when it panics.
    static SEED: Cell<u64> = const { Cell::new(0) };
}

impl Arguments {
    fn run(&self, seed: u64) -> Result<Report, String> {
        SEED.set(seed);
        if self.groups {
            return self.run_of_groups(seed);
        }
        let named = |(bug, _): &(cluster::Bug, u64)| self.bug.as_ref().is_some_and(|name| *name == bug.name());
        let bug = cluster::Bug::ALL.into_iter().find(named).map(|(bug, _)| bug);
        if self.story {
            return cluster::tell(seed, bug).map(|_| Report::default());
        }
        if bug.is_some() {
            return cluster::run_with(seed, bug).map(|_| Report::default());
        }
        self.twice(seed, if self.cluster { run_cluster } else { run_member })
    }

    fn run_of_groups(&self, seed: u64) -> Result<Report, String> {
        let named = |(bug, _): &(groups::Bug, u64)| self.bug.as_ref().is_some_and(|name| *name == bug.name());
        let bug = groups::Bug::ALL.into_iter().find(named).map(|(bug, _)| bug);
        if self.story {
            return groups::tell(seed, bug).map(|_| Report::default());
        }
        if bug.is_some() {
            return groups::run_with(seed, bug).map(|_| Report::default());
        }
        self.twice(seed, run_groups)
    }

    /// Now and then a seed runs again.
    fn twice(&self, seed: u64, run: fn(u64) -> Result<Report, String>) -> Result<Report, String> {
        let report = run(seed)?;
        if (self.twice || seed.is_multiple_of(50)) && run(seed).ok().as_ref() != Some(&report) {
            return Err("two runs differ".into());
        }
        Ok(report)
    }

    fn replay(&self, seed: u64) -> String {
        let kind = match (self.cluster, self.groups) {
            (true, _) => " --cluster",
            (_, true) => " --groups",
            _ => "",
        };
        format!("replay: cargo run --release -p plinth-sim --{kind} --seed {seed}")
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (first, count) = match arguments.seed {
        Some(seed) => (seed, 1),
        None => (arguments.first, arguments.seeds),
    };
    let told = std::panic::take_hook();
    let replays = arguments.clone();
    std::panic::set_hook(Box::new(move |panic| {
        told(panic);
        // A release build ends here.
        println!("seed {}: panicked, see above; {}", SEED.get(), replays.replay(SEED.get()));
    }));
    let start = Instant::now();
    let next = AtomicU64::new(first);
    let (reports, inbox) = mpsc::channel();
    let mut totals: Vec<(&'static str, u64)> = Vec::new();
    let mut failed = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            let (arguments, next, reports) = (&arguments, &next, reports.clone());
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || reports.send((seed, arguments.run(seed))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(reports);
        for (done, (seed, report)) in (1_u64..).zip(inbox) {
            if done.is_multiple_of(PROGRESS) {
                println!(
                    "{done} seeds are done, {} failed, after {:.0} s",
                    failed.len(),
                    start.elapsed().as_secs_f64()
                );
            }
            match report {
                Ok((figures, _)) if totals.is_empty() => totals = figures,
                Ok((figures, _)) => {
                    for (total, figure) in totals.iter_mut().zip(figures) {
                        total.1 += figure.1;
                    }
                }
                Err(why) => {
                    // The whole story only for one seed.
                    let told = if arguments.seed.is_some() { &why[..] } else { why.lines().next().unwrap_or_default() };
                    println!("seed {seed}: {told}");
                    failed.push(seed);
                }
            }
        }
    });
    let totals: Vec<String> = totals.iter().map(|(name, total)| format!("{total} {name}")).collect();
    println!("{}", totals.join(", "));
    let passed = count - failed.len() as u64;
    println!("{passed} passed, {} failed, in {:.1} s", failed.len(), start.elapsed().as_secs_f64());
    failed.sort_unstable();
    match failed.first() {
        None => ExitCode::SUCCESS,
        Some(seed) => {
            println!("{}", arguments.replay(*seed));
            ExitCode::FAILURE
        }
    }
}
