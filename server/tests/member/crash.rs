//! kill -9 under load, again and again: a log kept by the clients says what was acknowledged, and all of it is there.

use super::common::client::*;
use super::server::Server;
use plinth_random::Random;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const WRITERS: usize = 8;

/// Highest number acknowledged, and highest number sent, per key.
type Acknowledged = Arc<Mutex<HashMap<String, (u64, u64)>>>;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_no_acknowledged_write() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    let mut random = Random::from_variable("PLINTH_KILL_SEED", clock);
    let mut server = Server::start(&[]);
    let acknowledged: Acknowledged = Arc::default();
    let mut revision = 0;
    for round in 0..number("PLINTH_KILL_ROUNDS").unwrap_or(3) {
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            writers.push(tokio::spawn(write(server.client().await, writer, acknowledged.clone())));
        }
        tokio::time::sleep(Duration::from_millis(100 + random.below(700))).await;
        server.kill();
        for writer in writers {
            revision = revision.max(writer.await.expect("a writer ends when the server does"));
        }
        server.restart();
        check(&server, &acknowledged, revision, round).await;
    }
    let total: u64 = acknowledged.lock().expect("not poisoned").values().map(|(acked, _)| acked).sum();
    println!("{total} acknowledged writes survived");
    assert!(total > 0, "the writers wrote nothing");
}

/// Writes growing numbers to two keys until the server is gone; the last acknowledged revision.
async fn write(mut kv: Client, writer: usize, acknowledged: Acknowledged) -> i64 {
    let mut revision = 0;
    loop {
        for key in 0..2 {
            let key = format!("w/{writer}/{key}");
            let n = {
                let mut known = acknowledged.lock().expect("not poisoned");
                let entry = known.entry(key.clone()).or_default();
                entry.1 += 1;
                entry.1
            };
            let put = tokio::time::timeout(Duration::from_secs(10), kv.put(key.clone(), n.to_string(), None)).await;
            let Ok(Ok(answer)) = put else { return revision };
            let at = answer.header().expect("header").revision();
            assert!(at > revision, "revisions grow");
            revision = at;
            acknowledged.lock().expect("not poisoned").get_mut(&key).expect("known").0 = n;
        }
    }
}

async fn check(server: &Server, acknowledged: &Acknowledged, revision: i64, round: u64) {
    let mut kv = server.client().await;
    let known = acknowledged.lock().expect("not poisoned").clone();
    for (key, (acked, sent)) in known {
        let got = kv.get(key.clone(), None).await.expect("get");
        let now = got.header().expect("header").revision();
        assert!(now >= revision, "round {round}: revision {now} after {revision} was acknowledged");
        let stored: u64 = got.kvs().first().map_or(0, |pair| pair.value_str().expect("text").parse().expect("number"));
        assert!(stored >= acked, "round {round}: {key} holds {stored}, {acked} was acknowledged");
        assert!(stored <= sent, "round {round}: {key} holds {stored}, only {sent} was sent");
        if let Some(pair) = got.kvs().first() {
            assert!(pair.version() as u64 <= stored, "round {round}: no number was written twice");
        }
    }
}
