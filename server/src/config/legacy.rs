//! Names of flags that etcd 3.7 ignores or refuses but manifests still hold.
//!
//! A drop-in starts where an older etcd did: an old name with a successor is taken as the successor, one without is
//! ignored if its value asks for nothing, and refused if it asks for something that is gone.

use plinth_api::go::parse_bool;

/// What an old name means.
#[derive(Clone, Copy, Debug)]
pub enum Meaning {
    /// The flag of this name took its place, with the same kind of value.
    Renamed(&'static str),
    /// A boolean that became this feature gate.
    Gate(&'static str),
    /// Nothing any more. The value may be left out.
    Ignored,
    /// Nothing any more, as long as the value is one of these; anything else asks for what is gone, namely this.
    IgnoredIf(&'static [&'static str], &'static str),
    /// `--debug` of 3.4: true means `--log-level=debug`.
    DebugLevel,
}

/// An old name.
#[derive(Debug)]
pub struct OldFlag {
    /// The name without dashes in front.
    pub name: &'static str,
    /// What it means now.
    pub meaning: Meaning,
    /// Whether the value may be left out on the command line, as with all booleans.
    pub value_optional: bool,
}

use Meaning::{DebugLevel, Gate, Ignored, IgnoredIf, Renamed};

const fn renamed(name: &'static str, to: &'static str) -> OldFlag {
    OldFlag { name, meaning: Renamed(to), value_optional: false }
}

const fn renamed_bool(name: &'static str, to: &'static str) -> OldFlag {
    OldFlag { name, meaning: Renamed(to), value_optional: true }
}

const fn gate(name: &'static str, gate: &'static str) -> OldFlag {
    OldFlag { name, meaning: Gate(gate), value_optional: true }
}

const fn ignored(name: &'static str) -> OldFlag {
    OldFlag { name, meaning: Ignored, value_optional: true }
}

const fn ignored_value(name: &'static str) -> OldFlag {
    OldFlag { name, meaning: Ignored, value_optional: false }
}

const fn gone(name: &'static str, harmless: &'static [&'static str], what: &'static str) -> OldFlag {
    OldFlag { name, meaning: IgnoredIf(harmless, what), value_optional: false }
}

const V2_DISCOVERY: &str = "v2 discovery was removed; use --discovery-token and --discovery-endpoints";
const V2_API: &str = "the v2 API over v3 keys was removed in etcd 3.6";
const V2_PROXY: &str = "the v2 proxy was removed in etcd 3.6";

/// The table, by origin.
pub const OLD_FLAGS: &[OldFlag] = &[
    // Ignored by etcd 3.7 itself.
    ignored("cluster-active-size"),
    ignored("cluster-remove-delay"),
    ignored("cluster-sync-interval"),
    ignored("config"),
    ignored("force"),
    ignored("max-result-buffer"),
    ignored("max-retry-attempts"),
    ignored("peer-heartbeat-interval"),
    ignored("peer-election-timeout"),
    ignored("retry-interval"),
    ignored("snapshot"),
    ignored("v"),
    ignored("vv"),
    ignored("test.coverprofile"),
    ignored("test.outputdir"),
    // 3.4 to 3.6: experimental names.
    gate("experimental-initial-corrupt-check", "InitialCorruptCheck"),
    gate("experimental-compact-hash-check-enabled", "CompactHashCheck"),
    gate("experimental-enable-lease-checkpoint", "LeaseCheckpoint"),
    gate("experimental-enable-lease-checkpoint-persist", "LeaseCheckpointPersist"),
    gate("experimental-txn-mode-write-with-shared-buffer", "TxnModeWriteWithSharedBuffer"),
    gate("experimental-stop-grpc-service-on-defrag", "StopGRPCServiceOnDefrag"),
    renamed("experimental-watch-progress-notify-interval", "watch-progress-notify-interval"),
    renamed("experimental-corrupt-check-time", "corrupt-check-time"),
    renamed("experimental-compact-hash-check-time", "compact-hash-check-time"),
    renamed("experimental-compaction-batch-limit", "compaction-batch-limit"),
    renamed("experimental-compaction-sleep-interval", "compaction-sleep-interval"),
    renamed("experimental-downgrade-check-time", "downgrade-check-time"),
    renamed("experimental-warning-apply-duration", "warning-apply-duration"),
    renamed("experimental-warning-unary-request-duration", "warning-unary-request-duration"),
    renamed("experimental-bootstrap-defrag-threshold-megabytes", "bootstrap-defrag-threshold-megabytes"),
    renamed_bool("experimental-memory-mlock", "memory-mlock"),
    renamed("experimental-max-learners", "max-learners"),
    renamed("experimental-snapshot-catchup-entries", "snapshot-catchup-entries"),
    renamed("experimental-snapshot-catch-up-entries", "snapshot-catchup-entries"),
    renamed_bool("experimental-peer-skip-client-san-verification", "peer-skip-client-san-verification"),
    renamed_bool("experimental-enable-distributed-tracing", "enable-distributed-tracing"),
    renamed("experimental-distributed-tracing-address", "distributed-tracing-address"),
    renamed("experimental-distributed-tracing-service-name", "distributed-tracing-service-name"),
    renamed("experimental-distributed-tracing-instance-id", "distributed-tracing-instance-id"),
    renamed("experimental-distributed-tracing-sampling-rate", "distributed-tracing-sampling-rate"),
    // Up to 3.6 and older: the v2 store, its proxy and its discovery.
    gone("discovery", &[""], V2_DISCOVERY),
    gone("discovery-proxy", &[""], V2_DISCOVERY),
    gone("experimental-enable-v2v3", &[""], V2_API),
    gone("proxy", &["off"], V2_PROXY),
    ignored_value("proxy-failure-wait"),
    ignored_value("proxy-refresh-interval"),
    ignored_value("proxy-dial-timeout"),
    ignored_value("proxy-write-timeout"),
    ignored_value("proxy-read-timeout"),
    // 3.3 and 3.4.
    OldFlag { name: "debug", meaning: DebugLevel, value_optional: true },
    renamed("log-output", "log-outputs"),
    ignored_value("log-package-levels"),
    renamed("experimental-backend-bbolt-freelist-type", "backend-bbolt-freelist-type"),
    ignored("next-cluster-version-compatible"),
    // 0.4.
    gone("peers", &[""], "etcd 0.4's peer list was removed; use --initial-cluster"),
    gone("peers-file", &[""], "etcd 0.4's peer list was removed; use --initial-cluster"),
];

/// The old flag of this name.
pub fn find(name: &str) -> Option<&'static OldFlag> {
    OLD_FLAGS.iter().find(|flag| flag.name == name)
}

/// What is to be done with an old flag's value.
#[derive(Debug, PartialEq, Eq)]
pub enum Translation {
    /// Set this flag to this text instead.
    Set(&'static str, String),
    Nothing,
}

impl OldFlag {
    /// Turns a value of the old flag into what it means now. The error is the reason it is refused.
    pub fn translate(&self, text: &str) -> Result<Translation, String> {
        let boolean = || parse_bool(text).ok_or_else(|| "parse error".to_owned());
        match self.meaning {
            Renamed(to) => Ok(Translation::Set(to, text.to_owned())),
            Gate(gate) => Ok(Translation::Set("feature-gates", format!("{gate}={}", boolean()?))),
            DebugLevel if boolean()? => Ok(Translation::Set("log-level", "debug".to_owned())),
            DebugLevel | Ignored => Ok(Translation::Nothing),
            IgnoredIf(harmless, _) if harmless.contains(&text) => Ok(Translation::Nothing),
            IgnoredIf(_, what) => Err(what.to_owned()),
        }
    }

    /// The warning to give when the flag is used.
    pub fn warning(&self) -> String {
        let name = self.name;
        match self.meaning {
            Renamed(to) => format!("--{name} is deprecated. Use '--{to}' instead."),
            Gate(gate) => format!("--{name} is deprecated. Use '--feature-gates={gate}=true' instead."),
            DebugLevel => format!("--{name} is deprecated. Use '--log-level=debug' instead."),
            Ignored | IgnoredIf(..) => format!("--{name} is no longer supported - ignoring"),
        }
    }
}
