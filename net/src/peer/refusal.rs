//! Why a member does not let another one in, as both of them tell their operators.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The reason, which travels as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// They belong to different clusters.
    #[error("the cluster id differs: the two members belong to different clusters")]
    ClusterMismatch,
    /// The address belongs to another member than the dialer believes.
    #[error("another member listens at this address: the peer URLs are mixed up")]
    NotForMe,
    /// The dialer is no member, as far as the acceptor knows.
    #[error("the dialing member is not known to the cluster yet")]
    UnknownSender,
    /// The dialer was a member once.
    #[error("the dialing member has been removed from the cluster")]
    Removed,
    /// There is no version of the protocol that both speak.
    #[error("the two members speak no common version of the peer protocol")]
    Version,
    /// The acceptor cannot talk to more members now.
    #[error("the accepting member is too busy for another connection")]
    Busy,
    /// The acceptor is about to stop.
    #[error("the accepting member is stopping")]
    Stopping,
    /// A reason of a later version.
    #[error("the accepting member gave reason {0}, which this version does not know")]
    Other(u16),
}

impl Refusal {
    const NAMED: [Refusal; 7] = [
        Refusal::ClusterMismatch,
        Refusal::NotForMe,
        Refusal::UnknownSender,
        Refusal::Removed,
        Refusal::Version,
        Refusal::Busy,
        Refusal::Stopping,
    ];

    /// The number on the wire. Never zero, which stands for acceptance.
    pub fn code(self) -> u16 {
        match self {
            Refusal::ClusterMismatch => 1,
            Refusal::NotForMe => 2,
            Refusal::UnknownSender => 3,
            Refusal::Removed => 4,
            Refusal::Version => 5,
            Refusal::Busy => 6,
            Refusal::Stopping => 7,
            Refusal::Other(0) => u16::MAX,
            Refusal::Other(code) => code,
        }
    }

    /// The reason with this number.
    pub fn from_code(code: u16) -> Refusal {
        Refusal::NAMED.into_iter().find(|refusal| refusal.code() == code).unwrap_or(Refusal::Other(code))
    }
}

/// Rejections that are told at most in `REJECTIONS_TIME`, each one once: whoever invents ids does not flood a log.
const REJECTIONS_MAX: usize = 64;
const REJECTIONS_TIME: Duration = Duration::from_secs(600);

/// Whom we turned away of late, and why.
#[derive(Default)]
pub(super) struct Rejections {
    since: Option<Instant>,
    told: BTreeSet<(u64, u64, Refusal)>,
}

impl Rejections {
    /// Whether this is worth telling.
    pub(super) fn is_new(&mut self, rejection: (u64, u64, Refusal), now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) > REJECTIONS_TIME) {
            *self = Rejections { since: Some(now), told: BTreeSet::new() };
        }
        self.told.len() < REJECTIONS_MAX && self.told.insert(rejection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_reason_and_none_means_acceptance() {
        for code in 1..=u16::MAX {
            assert_eq!(Refusal::from_code(code).code(), code);
        }
        assert_ne!(Refusal::Other(0).code(), 0);
        assert_eq!(Refusal::from_code(4), Refusal::Removed);
        assert_eq!(Refusal::from_code(8), Refusal::Other(8));
    }

    #[test]
    fn rejections_do_not_flood_the_log() {
        let mut rejections = Rejections::default();
        let start = Instant::now();
        assert!(rejections.is_new((1, 2, Refusal::Removed), start));
        assert!(!rejections.is_new((1, 2, Refusal::Removed), start));
        assert!(rejections.is_new((1, 2, Refusal::Version), start));
        let told = (0..1000).filter(|from| rejections.is_new((*from, 9, Refusal::ClusterMismatch), start)).count();
        assert_eq!(told, REJECTIONS_MAX - 2);
        let later = start + REJECTIONS_TIME + Duration::from_secs(1);
        assert!(rejections.is_new((1, 2, Refusal::Removed), later));
    }
}
