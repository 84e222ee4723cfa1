//! Feature gates: named switches for features that are not settled.
//!
//! The table is etcd's, so that manifests keep working; a gate whose feature Plinth does not need (because it has no
//! such buffer, or always does the better thing) is accepted and shown but changes nothing, as its line says.

use plinth_api::go::parse_bool;

/// How settled a feature is. Also a label of metric `etcd_server_feature_enabled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Off by default.
    Alpha,
    /// On by default.
    Beta,
}

impl Stage {
    /// The metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
        }
    }
}

macro_rules! gates {
    ($($(#[$doc:meta])* $gate:ident $stage:ident $default:literal,)*) => {
        /// A feature behind a gate.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Gate { $($(#[$doc])* $gate,)* }

        impl Gate {
            /// All gates, by name.
            pub const ALL: &'static [Gate] = &[$(Gate::$gate,)*];

            /// The name in `--feature-gates` and in the metric.
            pub fn as_str(self) -> &'static str {
                match self { $(Gate::$gate => stringify!($gate),)* }
            }

            /// How settled the feature is.
            pub fn stage(self) -> Stage {
                match self { $(Gate::$gate => Stage::$stage,)* }
            }

            /// Whether it is on when nothing is said.
            pub fn default_state(self) -> bool {
                match self { $(Gate::$gate => $default,)* }
            }
        }
    };
}

gates! {
    /// Compare the hashes of members at every compaction.
    CompactHashCheck Alpha false,
    /// Answer a keep-alive of a known lease without waiting for apply. Plinth always does.
    FastLeaseKeepAlive Beta true,
    /// Compare hashes with peers before serving.
    InitialCorruptCheck Alpha false,
    /// Replicate the remaining time of leases.
    LeaseCheckpoint Alpha false,
    /// Store the remaining time of leases; needs `LeaseCheckpoint`.
    LeaseCheckpointPersist Alpha false,
    /// Let lease revokes pass when too many requests wait to be applied.
    PriorityRequest Alpha false,
    /// Dial peers from the advertised address.
    SetMemberLocalAddr Alpha false,
    /// Report NOT_SERVING during defragmentation. Plinth's needs no pause.
    StopGRPCServiceOnDefrag Alpha false,
    /// A choice of buffers inside etcd's backend. Plinth has no such buffer.
    TxnModeWriteWithSharedBuffer Beta true,
}

/// What can stand left of `=`: a gate, or all gates of a stage that are not named themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// One gate.
    One(Gate),
    /// `AllAlpha` or `AllBeta`.
    All(Stage),
}

impl Name {
    fn parse(text: &str) -> Option<Name> {
        match text {
            "AllAlpha" => Some(Name::All(Stage::Alpha)),
            "AllBeta" => Some(Name::All(Stage::Beta)),
            _ => Gate::ALL.iter().find(|gate| gate.as_str() == text).copied().map(Name::One),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Name::One(gate) => gate.as_str(),
            Name::All(Stage::Alpha) => "AllAlpha",
            Name::All(Stage::Beta) => "AllBeta",
        }
    }
}

/// Reads `Gate=bool,...`.
pub(super) fn parse(text: &str) -> Result<Vec<(Name, bool)>, String> {
    let mut settings = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, state) = match part.split_once('=') {
            Some((name, state)) => (name.trim(), state.trim()),
            None => return Err(format!("missing bool value for {}", part.trim())),
        };
        let state = parse_bool(state).ok_or_else(|| {
            format!("invalid value of {name}={state}, err: strconv.ParseBool: parsing {state:?}: invalid syntax")
        })?;
        let name = Name::parse(name).ok_or_else(|| format!("unrecognized feature gate: {name}"))?;
        settings.push((name, state));
    }
    Ok(settings)
}

/// The state of all gates.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FeatureGates {
    settings: Vec<(Name, bool)>,
}

impl FeatureGates {
    pub(super) fn new(settings: Vec<(Name, bool)>) -> Self {
        Self { settings }
    }

    /// Whether the feature is on. A gate set by name wins over its stage, the last setting over earlier ones.
    pub fn enabled(&self, gate: Gate) -> bool {
        let last = |wanted: Name| self.settings.iter().rev().find(|(name, _)| *name == wanted).map(|(_, state)| *state);
        last(Name::One(gate)).or_else(|| last(Name::All(gate.stage()))).unwrap_or(gate.default_state())
    }

    /// What was set, for the start-up log: `CompactHashCheck=true,InitialCorruptCheck=true`.
    pub fn summary(&self) -> String {
        let mut parts: Vec<String> = self.settings.iter().map(|(name, on)| format!("{}={on}", name.as_str())).collect();
        parts.sort();
        parts.dedup();
        parts.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gates(text: &str) -> FeatureGates {
        FeatureGates::new(parse(text).expect(text))
    }

    #[test]
    fn defaults_follow_the_stage() {
        for gate in Gate::ALL {
            assert_eq!(gate.default_state(), gate.stage() == Stage::Beta, "{gate:?}");
            assert_eq!(FeatureGates::default().enabled(*gate), gate.default_state());
        }
        assert!(Gate::ALL.is_sorted_by_key(|gate| gate.as_str()));
    }

    #[test]
    fn names_win_over_stages_whatever_the_order() {
        for text in ["AllAlpha=true,LeaseCheckpoint=false", "LeaseCheckpoint=false,AllAlpha=true"] {
            let gates = gates(text);
            assert!(!gates.enabled(Gate::LeaseCheckpoint), "{text}");
            assert!(gates.enabled(Gate::InitialCorruptCheck), "{text}");
            assert!(gates.enabled(Gate::FastLeaseKeepAlive), "{text}");
        }
        assert!(!gates("AllBeta=false").enabled(Gate::FastLeaseKeepAlive));
        assert!(gates("CompactHashCheck=false,CompactHashCheck=true").enabled(Gate::CompactHashCheck));
    }

    #[test]
    fn malformed_settings_are_refused_in_etcds_words() {
        const CASES: &[(&str, &str)] = &[
            ("Nope=true", "unrecognized feature gate: Nope"),
            ("LeaseCheckpoint", "missing bool value for LeaseCheckpoint"),
            (
                "LeaseCheckpoint=yes",
                "invalid value of LeaseCheckpoint=yes, err: strconv.ParseBool: parsing \"yes\": invalid syntax",
            ),
        ];
        for (text, reason) in CASES {
            assert_eq!(parse(text), Err(reason.to_string()));
        }
        assert_eq!(parse(" LeaseCheckpoint = true ,,"), Ok(vec![(Name::One(Gate::LeaseCheckpoint), true)]));
    }

    #[test]
    fn the_summary_lists_what_was_set() {
        assert_eq!(gates("LeaseCheckpoint=true,AllBeta=false").summary(), "AllBeta=false,LeaseCheckpoint=true");
        assert_eq!(FeatureGates::default().summary(), "");
    }
}
