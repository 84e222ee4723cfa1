//! Why a member does not let another one in, as both of them tell their operators.

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
}
