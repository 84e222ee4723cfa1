//! What is understood but not built yet. A feature that arrives removes its line here and nothing else.
//!
//! A setting is refused if ignoring it would break a promise its name makes (encryption, other members),
//! and only warned about if the server is as correct without it. Defaults that differ from etcd's are not told.

use super::gates::Gate;
use super::notice::Notice;
use super::settings::{Config, LogLevel};
use super::url::Url;
use std::time::Duration;

enum Consequence {
    Refuse,
    Warn,
    /// There is nothing here that it could change, for this reason.
    Idle(&'static str),
}

struct Missing {
    /// What is missing, as the subject of a sentence.
    what: &'static str,
    consequence: Consequence,
    /// Whether the configuration asks for it.
    asked: fn(&Config) -> bool,
}

use Consequence::{Idle, Refuse, Warn};

/// Defaults of flags that would be told apart otherwise.
const SNAPSHOT_ENTRIES: u64 = 10_000;
const FILES: u64 = 5;
const DOWNGRADE_INTERVAL: Duration = Duration::from_secs(5);

const NO_SUCH_FILES: &str = "files that are not needed any more are reused or removed at once";

/// The list.
const MISSING: &[Missing] = &[
    Missing { what: "Unix sockets between members", consequence: Refuse, asked: members_on_unix_sockets },
    Missing { what: "Distributed tracing", consequence: Refuse, asked: |c| c.monitoring.tracing },
    Missing { what: "--memory-mlock", consequence: Warn, asked: |c| c.memory_mlock },
    Missing { what: "--enable-pprof", consequence: Warn, asked: wants_profiles },
    Missing {
        what: "--pre-vote=false",
        consequence: Idle("votes are always asked for first"),
        asked: |c| !c.cluster.pre_vote,
    },
    Missing {
        what: "--snapshot-count",
        consequence: Idle("the log is shortened whenever the data file holds what is in it"),
        asked: |c| c.cluster.snapshot_entries != SNAPSHOT_ENTRIES,
    },
    Missing {
        what: "--max-snapshots",
        consequence: Idle(NO_SUCH_FILES),
        asked: |c| c.storage.snapshot_files_max != FILES,
    },
    Missing { what: "--max-wals", consequence: Idle(NO_SUCH_FILES), asked: |c| c.storage.wal_files_max != FILES },
    Missing {
        what: "--backend-bbolt-freelist-type",
        consequence: Idle("the data file has one kind of free list"),
        asked: |c| c.storage.freelist_type == "array",
    },
    Missing {
        what: "--downgrade-check-time",
        consequence: Idle("a downgrade ends when it is cancelled: no member ever is of the older release"),
        asked: |c| c.cluster.downgrade_check_interval != DOWNGRADE_INTERVAL,
    },
    Missing {
        what: "Gate SetMemberLocalAddr",
        consequence: Warn,
        asked: |c| c.gates.enabled(Gate::SetMemberLocalAddr),
    },
    Missing { what: "Gate PriorityRequest", consequence: Warn, asked: |c| c.gates.enabled(Gate::PriorityRequest) },
];

/// Applies the list. An error names everything that has to be taken out of the configuration.
pub(super) fn check(config: &Config, notices: &mut Vec<Notice>) -> Result<(), String> {
    let mut refused = Vec::new();
    for missing in MISSING.iter().filter(|missing| (missing.asked)(config)) {
        match missing.consequence {
            Refuse => refused.push(missing.what),
            Warn => notices.push(Notice::warn(format!("{} is not supported yet - ignoring", missing.what))),
            Idle(why) => notices.push(Notice::warn(format!("{} has no effect: {why}", missing.what))),
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(format!("not supported yet by this version: {}", refused.join("; "))) }
}

fn peer_urls(config: &Config) -> impl Iterator<Item = &Url> {
    config.addresses.listen_peer.iter().chain(&config.addresses.advertise_peer)
}

fn members_on_unix_sockets(config: &Config) -> bool {
    peer_urls(config).any(|url| url.scheme().is_unix())
}

/// By its flag; log level debug implies it without asking for it.
fn wants_profiles(config: &Config) -> bool {
    config.http.pprof && config.log.level != LogLevel::Debug
}
