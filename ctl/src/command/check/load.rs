//! What both checks do: see that nothing is in the way, write with many clients, and tidy up.

use super::After;
use crate::cluster::Cluster;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::print::print;
use crate::quote::quoted;
use bytes::Bytes;
use plinth_api::methods::{COMPACT, DEFRAGMENT, DELETE_RANGE, PUT, RANGE};
use plinth_api::proto::etcdserverpb::{
    CompactionRequest, DefragmentRequest, DeleteRangeRequest, PutRequest, RangeRequest,
};
use plinth_api::range::prefix_end;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Clients that write, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Writes a second, or writes in all.
    pub limit: u64,
    pub clients: usize,
}

/// How one write went.
#[derive(Clone, Debug)]
pub struct Write {
    pub took: Duration,
    /// Empty if it succeeded.
    pub error: String,
}

/// What is written.
#[derive(Clone, Debug)]
pub struct Shape {
    /// What every key starts with.
    pub prefix: String,
    /// Length of a key behind the prefix.
    pub key_bytes: usize,
    pub value: Bytes,
}

impl Shape {
    fn put(&self, number: u64) -> PutRequest {
        let Shape { prefix, key_bytes, value } = self;
        let key = format!("{prefix}{number:0key_bytes$}");
        PutRequest { key: key.into(), value: value.clone(), ..PutRequest::default() }
    }
}

/// When a write is due.
pub type Due = Arc<dyn Fn(u64) -> Option<Instant> + Send + Sync>;

/// The place of a load in a list of four.
pub fn place(name: &str) -> Result<usize, Failure> {
    match name {
        "s" | "small" => Ok(0),
        "m" | "medium" => Ok(1),
        "l" | "large" => Ok(2),
        "xl" | "xLarge" => Ok(3),
        _ => Err(Failure::new(Exit::BadFeature, format!("unknown load option {name}"))),
    }
}

/// Refuses to write where keys are: they would be deleted.
pub async fn see_that_it_is_empty(cluster: &Cluster, prefix: &str, hint: &str) -> Result<(), Failure> {
    let range_end = prefix_end(prefix.as_bytes()).into();
    let request = RangeRequest { key: prefix.to_owned().into(), range_end, limit: 1, ..RangeRequest::default() };
    if cluster.call(&RANGE, request).await?.kvs.is_empty() {
        return Ok(());
    }
    let text = format!("prefix {} has keys. Delete with {hint} first", quoted(prefix.as_bytes()));
    Err(Failure::new(Exit::InvalidInput, text))
}

/// Writes with many clients, each write when it is due, until none is.
pub async fn write(context: &Context, load: Load, shape: &Shape, due: Due) -> Vec<Write> {
    let next = Arc::new(AtomicU64::new(0));
    let (done, mut writes) = mpsc::unbounded_channel();
    let mut clients = JoinSet::new();
    for _ in 0..load.clients {
        let (next, shape, done, due) = (next.clone(), shape.clone(), done.clone(), due.clone());
        let cluster = context.cluster();
        clients.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(at) = due(number) else { break };
                sleep_until(at).await;
                let start = Instant::now();
                let error = cluster.call(&PUT, shape.put(number)).await.err();
                let error = error.map_or(String::new(), |failure| failure.text);
                // Nobody has dropped the receiver yet.
                let _ = done.send(Write { took: start.elapsed(), error });
            }
        });
    }
    drop(done);
    let mut all = Vec::new();
    while let Some(write) = writes.recv().await {
        all.push(write);
    }
    all
}

/// The errors among writes, each with its count; false if there are none.
pub fn report_errors(writes: &[Write]) -> Result<bool, Failure> {
    let mut errors = BTreeMap::<&str, usize>::new();
    for write in writes.iter().filter(|write| !write.error.is_empty()) {
        *errors.entry(&write.error).or_default() += 1;
    }
    if errors.is_empty() {
        return Ok(false);
    }
    let lines = errors.iter().map(|(error, count)| format!("FAIL: ERROR({error}) -> {count}\n"));
    print(format!("FAIL: too many errors\n{}", lines.collect::<String>()).as_bytes())?;
    Ok(true)
}

/// Deletes what was written, and what else was asked for.
pub async fn tidy_up(context: &Context, prefix: &str, after: After) -> Result<(), Failure> {
    let cluster = context.cluster();
    let range_end = prefix_end(prefix.as_bytes()).into();
    let request = DeleteRangeRequest { key: prefix.to_owned().into(), range_end, prev_kv: false };
    let deleted = match cluster.call(&DELETE_RANGE, request).await {
        Ok(deleted) => deleted,
        Err(failure) => {
            let text = format!("FAIL: Cleanup failed during key deletion: ERROR({})\n", failure.text);
            return print(text.as_bytes());
        }
    };
    if after.auto_compact {
        let revision = deleted.header.map_or(0, |header| header.revision);
        print(format!("Compacting with revision {revision}\n").as_bytes())?;
        cluster.call(&COMPACT, CompactionRequest { revision, physical: true }).await?;
        print(format!("Compacted with revision {revision}\n").as_bytes())?;
    }
    if after.auto_defrag {
        for endpoint in &context.endpoints {
            let name = quoted(endpoint.as_bytes());
            print(format!("Defragmenting {name}\n").as_bytes())?;
            context.only(endpoint).call(&DEFRAGMENT, DefragmentRequest {}).await?;
            print(format!("Defragmented {name}\n").as_bytes())?;
        }
    }
    Ok(())
}
