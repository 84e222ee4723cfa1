//! Clients that write and read a few keys at a time, and a record of what they saw, in which there must be one order.

use super::cluster::{Cluster, connect};
use super::common::client::*;
use plinth_random::Random;
use plinth_sim::linear::{Action, Operation, State, Verdict, check};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Clients at work at the same time, spread over the members.
const WORKERS: usize = 6;
/// Keys in use at a time.
const KEYS: u64 = 3;
/// After this long other keys are used, so that the history of each is short.
const KEY_MILLIS: u64 = 150;
/// Loads that were started by this process.
static LOADS: AtomicU64 = AtomicU64::new(0);
/// A request is given up after this long; it may still happen.
const PATIENCE: Duration = Duration::from_secs(3);

/// From the environment or the clock; the seed is printed, and repeats the choices.
pub fn random() -> Random {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    Random::from_variable("PLINTH_CLUSTER_SEED", clock)
}

/// See the module.
pub struct History {
    /// Another one for each load of a process, so that its keys are new.
    load: u64,
    start: Instant,
    next: AtomicU64,
    acknowledged: AtomicU64,
    failed: AtomicU64,
    operations: Mutex<HashMap<String, Vec<Operation>>>,
    is_over: AtomicBool,
}

/// Clients at work.
pub struct Load {
    history: Arc<History>,
    workers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    /// Clients begin to work on the members at `seats`.
    pub fn start(cluster: &Cluster, seats: &[usize], random: &mut Random) -> Load {
        let history = Arc::new(History {
            load: LOADS.fetch_add(1, Ordering::Relaxed),
            start: Instant::now(),
            next: AtomicU64::new(1),
            acknowledged: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            operations: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let workers = (0..WORKERS).map(|worker| {
            let endpoint = cluster.seats[seats[worker % seats.len()]].endpoint();
            tokio::spawn(work(history.clone(), endpoint, random.fork()))
        });
        let workers = workers.collect();
        Load { history, workers }
    }

    /// Writes and reads that have succeeded.
    pub fn acknowledged(&self) -> u64 {
        self.history.acknowledged.load(Ordering::Relaxed)
    }

    /// Ends the clients, reads every key once more at every seat, and checks the whole history.
    pub async fn finish(self, cluster: &Cluster, seats: &[usize]) {
        self.history.is_over.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.await.expect("a worker ends");
        }
        for &seat in seats {
            let mut client = cluster.client(seat).await;
            self.history.read_all(&mut client).await;
        }
        cluster.wait_until_equal(seats).await;
        let history = &self.history;
        let (done, failed) =
            (self.history.acknowledged.load(Ordering::Relaxed), history.failed.load(Ordering::Relaxed));
        println!("{done} operations, {failed} without an answer");
        assert!(done > 20, "hardly anything was done");
        let mut unknown = 0;
        for (key, operations) in &*history.operations.lock().expect("not poisoned") {
            match check(operations) {
                Verdict::Linearizable => {}
                Verdict::GaveUp => unknown += 1,
                verdict => panic!("the history of {key} has no order: {verdict:?}\n{operations:#?}"),
            }
        }
        assert!(unknown < 3, "{unknown} histories are too long to be checked");
    }
}

impl History {
    fn micros(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn record(&self, key: &str, operation: Operation) {
        self.operations.lock().expect("not poisoned").entry(key.to_string()).or_default().push(operation);
    }

    async fn read_all(&self, client: &mut Client) {
        let keys: Vec<String> = self.operations.lock().expect("not poisoned").keys().cloned().collect();
        for key in keys {
            let (number, began) = (self.number(), self.micros());
            let deadline = Instant::now() + Duration::from_secs(30);
            let found = loop {
                match get(client, &key).await {
                    Ok(found) => break found,
                    Err(error) => assert!(Instant::now() < deadline, "{key}: {error}"),
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            };
            self.record(&key, Operation { number, began, ended: Some(self.micros()), action: Action::Get(found) });
        }
    }
}

async fn work(history: Arc<History>, endpoint: String, mut random: Random) {
    let mut client = connect(&endpoint).await;
    while !history.is_over.load(Ordering::Relaxed) {
        let began = history.micros();
        let key = format!("{}-{}-{}", history.load, began / 1000 / KEY_MILLIS, random.below(KEYS));
        let number = history.number();
        let intent = Intent::choose(number, &mut random);
        let outcome = tokio::time::timeout(PATIENCE, intent.carry_out(&mut client, &key)).await;
        match outcome {
            Ok(Ok(action)) => {
                history.acknowledged.fetch_add(1, Ordering::Relaxed);
                history.record(&key, Operation { number, began, ended: Some(history.micros()), action });
            }
            Ok(Err(_)) | Err(_) => {
                history.failed.fetch_add(1, Ordering::Relaxed);
                if let Some(action) = intent.unanswered() {
                    history.record(&key, Operation { number, began, ended: None, action });
                }
                client = connect(&endpoint).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(random.below(4))).await;
    }
}

/// What a client is about to do.
#[derive(Clone, Copy)]
enum Intent {
    Put(u64),
    Get,
    Cas { expected: Option<u64>, value: u64 },
    Delete,
}

impl Intent {
    fn choose(number: u64, random: &mut Random) -> Intent {
        match random.below(10) {
            0..4 => Intent::Get,
            4..7 => Intent::Put(number),
            7 => Intent::Delete,
            8 => Intent::Cas { expected: None, value: number },
            _ => Intent::Cas { expected: Some(number.saturating_sub(1 + random.below(8))), value: number },
        }
    }

    /// What it may have done if there was no answer.
    fn unanswered(self) -> Option<Action> {
        match self {
            Intent::Put(value) => Some(Action::Put(value)),
            Intent::Get => None,
            Intent::Cas { expected, value } => Some(Action::Cas { expected, value, swapped: None }),
            Intent::Delete => Some(Action::Delete(None)),
        }
    }

    async fn carry_out(self, client: &mut Client, key: &str) -> Result<Action, Error> {
        match self {
            Intent::Put(value) => client.put(key, value.to_string(), None).await.map(|_| Action::Put(value)),
            Intent::Get => get(client, key).await.map(Action::Get),
            Intent::Cas { expected, value } => {
                let compare = match expected {
                    None => Compare::version(key, CompareOp::Equal, 0),
                    Some(expected) => Compare::value(key, CompareOp::Equal, expected.to_string()),
                };
                let txn = Txn::new().when([compare]).and_then([TxnOp::put(key, value.to_string(), None)]);
                let swapped = Some(client.txn(txn).await?.succeeded());
                Ok(Action::Cas { expected, value, swapped })
            }
            Intent::Delete => client.delete(key, None).await.map(|answer| Action::Delete(Some(answer.deleted() > 0))),
        }
    }
}

async fn get(client: &mut Client, key: &str) -> Result<State, Error> {
    let answer = client.get(key, None).await?;
    let pair = answer.kvs().first();
    Ok(pair.map(|pair| (pair.value_str().expect("text").parse().expect("a number"), pair.version())))
}
