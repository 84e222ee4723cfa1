//! What the generator sends: one file per family of workloads, and here what they have in common.
//!
//! A workload is a number of *sources*, one per slot (a slot has at most one request in flight). Sources are
//! seeded, so that the same spec sends the same requests, and cheap: most only patch digits into a template.

mod cas;
mod kv;
mod mixed;

use crate::endpoint::Endpoint;
use crate::grpc::{Keep, Method};
use bytes::Bytes;
use clap::ValueEnum;
use plinth_api::methods;
use plinth_random::Random;
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Prefix of every key the generator writes.
pub const PREFIX: &str = "/perf/";

/// The workloads by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Puts to random keys of a fixed set.
    Put,
    /// Puts and linearizable reads of one random key in turns.
    PutAndRange,
    /// Linearizable reads of one random key.
    Range,
    /// Serializable reads of one random key.
    RangeSerializable,
    /// Linearizable reads of all keys with one prefix.
    RangePrefix,
    /// Transactions that put if the key is as this client last saw it.
    TxnCas,
    /// Puts below one prefix that many watchers watch.
    WatchFanout,
    /// Puts to many keys that have one watcher each.
    WatchKeys,
    /// Keep-alives of leases.
    LeaseKeepalive,
    /// Reads, lists, guarded updates, creations and deletions, with watchers, in the proportions of a
    /// Kubernetes API server.
    Mixed,
    /// Guarded updates, reads, small lists and leases, with watchers, as of a Kubernetes API server whose cluster rests.
    Apiserver,
    /// Puts to new keys, each once.
    Fill,
    /// Deletions of single existing keys, each once.
    Delete,
}

impl Kind {
    /// The name as given on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().expect("no workload is hidden").get_name().to_owned()
    }

    /// Whether every request is a durable write, so that none can be faster than a flush.
    pub fn writes(self) -> bool {
        matches!(self, Kind::Put | Kind::TxnCas | Kind::Fill | Kind::Delete)
    }
}

/// Everything that determines a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    pub kind: Kind,
    pub connections: usize,
    /// Requests in flight per connection.
    pub streams: usize,
    /// Size of the set of keys (leases for lease-keepalive).
    pub keys: u64,
    /// Bytes per value.
    pub value_bytes: usize,
    /// Keys per prefix read.
    pub prefix_keys: u64,
    /// Watchers, spread over `watch_connections`.
    pub watchers: usize,
    /// Connections, and Watch streams, for watchers.
    pub watch_connections: usize,
    /// Requests per second of an open loop; none for a closed loop.
    pub rate: Option<f64>,
    /// Length of the measured window.
    pub seconds: f64,
    /// Time before the window.
    pub warmup_seconds: f64,
    /// Most requests per run; ends the run when reached. Fill and delete end by themselves, with their keys.
    pub max_requests: Option<u64>,
    /// Step of the latency series.
    pub interval_seconds: f64,
    /// Threads of the generator.
    pub threads: usize,
    pub seed: u64,
}

impl Spec {
    /// The usual form of a workload.
    pub fn usual(kind: Kind) -> Spec {
        let plain = Spec {
            kind,
            connections: 100,
            streams: 10,
            keys: 10_000,
            value_bytes: 256,
            prefix_keys: 100,
            watchers: 0,
            watch_connections: 0,
            rate: None,
            seconds: 10.0,
            warmup_seconds: 2.0,
            max_requests: None,
            interval_seconds: 0.25,
            threads: 1,
            seed: 1,
        };
        match kind {
            Kind::Put | Kind::PutAndRange | Kind::Range | Kind::RangeSerializable | Kind::TxnCas => plain,
            Kind::RangePrefix => Spec { connections: 10, ..plain },
            Kind::WatchFanout => {
                Spec { connections: 1, watchers: 1_000, watch_connections: 10, rate: Some(100.0), keys: 1_000, ..plain }
            }
            Kind::WatchKeys => {
                Spec { connections: 10, watchers: 10_000, watch_connections: 10, rate: Some(5_000.0), ..plain }
            }
            Kind::LeaseKeepalive => Spec { keys: 1_000, ..plain },
            Kind::Mixed => Spec { connections: 20, watchers: 20, watch_connections: 20, value_bytes: 1024, ..plain },
            Kind::Apiserver => Spec {
                connections: 10,
                watchers: 30,
                watch_connections: 30,
                value_bytes: 1024,
                rate: Some(1_000.0),
                ..plain
            },
            Kind::Fill => Spec { keys: 200_000, seconds: 120.0, warmup_seconds: 0.0, ..plain },
            Kind::Delete => Spec { keys: 200_000, seconds: 120.0, warmup_seconds: 0.0, ..plain },
        }
    }

    /// Whether the numbers go together.
    pub fn check(&self) -> Result<(), String> {
        let refuse = |text: &str| Err(format!("{}: {text}", self.kind.name()));
        if self.connections == 0 || self.streams == 0 || self.threads == 0 || self.keys == 0 {
            return refuse("connections, streams, threads and keys must not be 0");
        }
        if self.threads > self.connections {
            return refuse("every thread needs a connection");
        }
        if self.keys >= 1_000_000_000 {
            return refuse("keys have ten digits, with room to spare");
        }
        if self.kind == Kind::RangePrefix && (self.prefix_keys == 0 || self.prefix_keys > self.keys) {
            return refuse("prefix-keys must be between 1 and keys");
        }
        if self.kind == Kind::WatchKeys && self.watchers as u64 != self.keys {
            return refuse("needs as many watchers as keys");
        }
        let watches = matches!(self.kind, Kind::WatchFanout | Kind::WatchKeys);
        if (watches && self.watchers == 0) || (self.watchers > 0) != (self.watch_connections > 0) {
            return refuse("watchers and watch-connections go together");
        }
        if self.watchers > 0 && (self.watchers < self.watch_connections || self.value_bytes < STAMP_BYTES) {
            return refuse("every watch connection needs a watcher, and values 8 bytes for a time stamp");
        }
        if !(self.seconds > 0.0 && self.warmup_seconds >= 0.0 && self.seconds < 86_400.0) {
            return refuse("seconds must be above 0 and below a day");
        }
        Ok(())
    }

    /// Requests that can be in flight at once.
    pub fn slots(&self) -> usize {
        self.connections * self.streams
    }

    /// Keys that must be there before the run.
    pub fn keys_before(&self) -> u64 {
        match self.kind {
            Kind::PutAndRange
            | Kind::Range
            | Kind::RangeSerializable
            | Kind::RangePrefix
            | Kind::TxnCas
            | Kind::Mixed
            | Kind::Apiserver
            | Kind::Delete => self.keys,
            Kind::Put | Kind::WatchFanout | Kind::WatchKeys | Kind::LeaseKeepalive | Kind::Fill => 0,
        }
    }

    /// How many watchers get each put.
    pub fn events_per_put(&self) -> u64 {
        match self.kind {
            Kind::WatchFanout => self.watchers as u64,
            Kind::WatchKeys => 1,
            _ => 0,
        }
    }

    /// Names of the kinds of requests told apart in reports; the index is [`Job::class`].
    pub fn classes(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Put | Kind::WatchFanout | Kind::WatchKeys | Kind::Fill => &["put"],
            Kind::PutAndRange => &["put", "range"],
            Kind::Range | Kind::RangeSerializable => &["range"],
            Kind::RangePrefix => &["range-prefix"],
            Kind::TxnCas => &["txn"],
            Kind::LeaseKeepalive => &["keepalive"],
            Kind::Mixed => mixed::MIXED.classes,
            Kind::Apiserver => mixed::APISERVER.classes,
            Kind::Delete => &["delete"],
        }
    }
}

/// One request to send.
pub struct Job {
    pub method: Rc<Method>,
    pub framed: Bytes,
    /// Whether the source wants the answer.
    pub keep: Keep,
    /// The kind of request, an index into [`Spec::classes`].
    pub class: usize,
}

/// Where a slot gets its requests.
pub trait Source {
    /// The next request; `None` when there are no more.
    fn next(&mut self) -> Option<Job>;
    /// Takes the answer to the last one, if it was kept.
    fn answered(&mut self, _message: &[u8]) {}
}

/// The request heads of one server.
pub struct Methods {
    range: Rc<Method>,
    put: Rc<Method>,
    delete_range: Rc<Method>,
    txn: Rc<Method>,
    lease_grant: Rc<Method>,
}

impl Methods {
    /// The methods at this address.
    pub fn new(address: Endpoint) -> Methods {
        let method = |path| Rc::new(Method::new(address, path));
        Methods {
            range: method(methods::RANGE.path),
            put: method(methods::PUT.path),
            delete_range: method(methods::DELETE_RANGE.path),
            txn: method(methods::TXN.path),
            lease_grant: method(methods::LEASE_GRANT.path),
        }
    }
}

/// The source of slot `slot` of a run. Lease keep-alives have no source: their slots are streams.
pub fn source(spec: &Spec, methods: &Methods, slot: usize) -> Box<dyn Source> {
    match spec.kind {
        Kind::Put | Kind::WatchFanout | Kind::WatchKeys => Box::new(kv::Puts::random(spec, methods, slot)),
        Kind::PutAndRange => Box::new(kv::PutsAndRanges::new(spec, methods, slot)),
        Kind::Fill => Box::new(kv::Puts::sequential(spec, methods, slot)),
        Kind::Range => Box::new(kv::Ranges::single(spec, methods, slot, false)),
        Kind::RangeSerializable => Box::new(kv::Ranges::single(spec, methods, slot, true)),
        Kind::RangePrefix => Box::new(kv::Ranges::prefixes(spec, methods, slot)),
        Kind::Delete => Box::new(kv::Deletes::new(spec, methods, slot)),
        Kind::TxnCas => Box::new(cas::Cas::new(spec, methods, slot)),
        Kind::Mixed => Box::new(mixed::Mixed::new(&mixed::MIXED, spec, methods, slot)),
        Kind::Apiserver => Box::new(mixed::Mixed::new(&mixed::APISERVER, spec, methods, slot)),
        Kind::LeaseKeepalive => unreachable!("lease keep-alives are streams, see drive::keepalive"),
    }
}

/// Key number `number`. All keys have the same length and sort by number.
pub fn key(number: u64) -> Vec<u8> {
    format!("{PREFIX}{number:010}").into_bytes()
}

/// A value that does not compress, the same for every call.
pub fn value(bytes: usize) -> Vec<u8> {
    let mut random = Random::new(0x5eed);
    (0..bytes).map(|_| random.bits() as u8).collect()
}

/// Marks the first bytes of a value as a time stamp, if there is room.
pub const STAMP_BYTES: usize = 8;

/// Nanoseconds since this process first asked; what puts carry so that watchers can tell the delay.
pub fn stamp_now() -> u64 {
    u64::try_from(epoch().elapsed().as_nanos()).expect("a process lives less than 500 years")
}

/// The moment a stamp stands for.
pub fn stamp_time(stamp: u64) -> Instant {
    epoch() + Duration::from_nanos(stamp)
}

fn epoch() -> Instant {
    static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// The generator of one slot of a run.
pub fn random_of_slot(spec: &Spec, slot: usize) -> Random {
    let mut seeds = Random::new(spec.seed);
    Random::new(seeds.bits() ^ (slot as u64).wrapping_mul(0xd1b5_4a32_d192_ed03))
}
