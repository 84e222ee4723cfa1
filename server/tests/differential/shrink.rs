//! Cuts a failing sequence down: drops ever smaller parts as long as the rest still fails.

use super::op::{self, Op};
use super::run::{Pair, Servers};
use std::time::{Duration, Instant};

/// Time for the search; what has been reached by then is shown. `PLINTH_DIFF_SHRINK_SECONDS` changes it.
const SECONDS_DEFAULT: u64 = 60;

/// The shortest failing part found, as text. Each try runs on fresh servers.
pub async fn shortest(servers: Servers<'_>, ops: &[Op]) -> String {
    let seconds = std::env::var("PLINTH_DIFF_SHRINK_SECONDS").ok().and_then(|text| text.parse().ok());
    let deadline = Instant::now() + Duration::from_secs(seconds.unwrap_or(SECONDS_DEFAULT));
    let mut best = ops.to_vec();
    let mut what = None;
    let mut part = best.len().div_ceil(2);
    while part > 0 && Instant::now() < deadline {
        let mut start = 0;
        let mut dropped = false;
        while start < best.len() && Instant::now() < deadline {
            let end = best.len().min(start + part);
            let candidate: Vec<Op> = best[..start].iter().chain(&best[end..]).cloned().collect();
            match fails(servers, &candidate).await {
                Some((at, text)) => {
                    best = candidate;
                    best.truncate(at + 1);
                    what = Some(text);
                    dropped = true;
                }
                None => start = end,
            }
        }
        if part == 1 && !dropped {
            break;
        }
        part = if part == 1 { 1 } else { part.div_ceil(2) };
    }
    match what {
        Some(what) => {
            format!("shortest sequence found ({} operations):\n{}fails with:\n{what}", best.len(), op::show(&best))
        }
        None => "no shorter sequence fails".to_owned(),
    }
}

async fn fails(servers: Servers<'_>, ops: &[Op]) -> Option<(usize, String)> {
    let mut pair = Pair::start(servers).await.ok()?;
    pair.run(ops).await.err().map(|mismatch| (mismatch.at, mismatch.what))
}
