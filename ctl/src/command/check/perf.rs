//! `check perf`: a minute of writes at a given rate. Passes if nine of ten were done, none took half a second, and they
//! took about equally long.

use super::After;
use super::load::{Load, Shape, Write, place, report_errors, see_that_it_is_empty, tidy_up, write};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::print::print;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long it takes.
const TIME: Duration = Duration::from_secs(60);

const LOADS: [Load; 4] = [
    Load { limit: 150, clients: 50 },
    Load { limit: 1000, clients: 200 },
    Load { limit: 8000, clients: 500 },
    Load { limit: 15000, clients: 1000 },
];

const KEY_BYTES: usize = 256;
const VALUE_BYTES: usize = 1024;

/// Runs the command.
pub async fn run(context: &Context, load: &str, prefix: &str, after: After) -> Result<(), Failure> {
    let load = LOADS[place(load)?];
    let hint = format!("'etcdctl del --prefix {prefix}'");
    see_that_it_is_empty(&context.cluster(), prefix, &hint).await?;
    let shape = Shape { prefix: prefix.to_owned(), key_bytes: KEY_BYTES, value: vec![0; VALUE_BYTES].into() };
    let start = Instant::now();
    let due = move |number: u64| {
        let at = Duration::from_micros(number * 1_000_000 / load.limit);
        (at < TIME && start.elapsed() < TIME).then(|| start + at)
    };
    let writes = tokio::select! {
        writes = write(context, load, &shape, Arc::new(due)) => writes,
        _ = tokio::signal::ctrl_c() => {
            tidy_up(context, prefix, After { auto_compact: false, auto_defrag: false }).await?;
            return Err(Failure::new(Exit::Error, "context canceled"));
        }
    };
    let took = start.elapsed();
    tidy_up(context, prefix, after).await?;
    let failed = report_errors(&writes)?;
    let (text, passed) = verdict(&writes, took, load.limit);
    print(text.as_bytes())?;
    let passed = passed && !failed;
    print(if passed { b"PASS\n" } else { b"FAIL\n" })?;
    if passed { Ok(()) } else { Err(Failure::new(Exit::Error, "")) }
}

/// What the figures say, and whether they are good enough.
fn verdict(writes: &[Write], took: Duration, limit: u64) -> (String, bool) {
    let times: Vec<f64> =
        writes.iter().filter(|write| write.error.is_empty()).map(|write| write.took.as_secs_f64()).collect();
    let count = times.len().max(1) as f64;
    let rate = times.len() as f64 / took.as_secs_f64();
    let slowest = times.iter().copied().fold(0.0, f64::max);
    let mean = times.iter().sum::<f64>() / count;
    let deviation = (times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / count).sqrt();
    let writes = rate as u64 + 1;
    let (fast, prompt, even) = (rate / limit as f64 > 0.9, slowest <= 0.5, deviation <= 0.1);
    let mut text = match fast {
        true => format!("PASS: Throughput is {writes} writes/s\n"),
        false => format!("FAIL: Throughput too low: {writes} writes/s\n"),
    };
    text += &match prompt {
        true => format!("PASS: Slowest request took {slowest:.6}s\n"),
        false => format!("Slowest request took too long: {slowest:.6}s\n"),
    };
    text += &match even {
        true => format!("PASS: Stddev is {deviation:.6}s\n"),
        false => format!("Stddev too high: {deviation:.6}s\n"),
    };
    (text, fast && prompt && even)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let writes = |millis: &[u64]| -> Vec<Write> {
            let write = |millis: &u64| Write { took: Duration::from_millis(*millis), error: String::new() };
            millis.iter().map(write).collect()
        };
        let second = Duration::from_secs(1);
        let text = "PASS: Throughput is 11 writes/s\nPASS: Slowest request took 0.002000s\n\
                    PASS: Stddev is 0.000000s\n";
        assert_eq!(verdict(&writes(&[2; 10]), second, 10), (text.to_owned(), true));
        let text = "FAIL: Throughput too low: 3 writes/s\nSlowest request took too long: 0.800000s\n\
                    Stddev too high: 0.300000s\n";
        assert_eq!(verdict(&writes(&[200, 800]), second, 10), (text.to_owned(), false));
        assert!(!verdict(&[], second, 10).1);
    }
}
