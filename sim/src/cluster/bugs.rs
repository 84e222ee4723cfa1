//! Bugs to plant, each of which breaks one promise. A simulator that does not find them is worth nothing.

use super::options::{Fault, MS, Options, SECOND};

/// What is broken. All of them are done around the cores, by whoever simulates their surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A restarted member does not know its term and vote any more.
    VotesForgotten,
    /// Entries count as held by followers when they are sent.
    CommitWithoutQuorum,
    /// The disk of the log says that data is safe which it loses in a power failure.
    SyncsLie,
    /// A leader answers linearizable reads without asking the others.
    ReadsWithoutRound,
    /// The network hands proposals over twice.
    ProposalsDoubled,
    /// The mark on a snapshot names an entry that is not in it.
    SnapshotMislabelled,
    /// A leader answers keep-alives and does nothing.
    KeepAlivesIgnored,
    /// A leader renews leases without asking the others whether it still leads.
    RenewalsWithoutRound,
    /// A leader does not replicate that a lease was renewed of which it has replicated that little is left.
    CheckpointsKept,
    /// Every member revokes leases, not the leader alone.
    FollowersRevoke,
    /// What a leader found expired is revoked whoever leads by then.
    DeposedRevoke,
    /// Nobody revokes leases.
    LeasesKept,
    /// Now and then a watcher misses a message.
    WatchMessagesLost,
    /// Now and then a watcher gets a message twice.
    WatchMessagesDoubled,
    /// A write is acknowledged when it is submitted.
    AcknowledgedTooEarly,
}

impl Bug {
    /// All of them, each with the number of seeds within which it is found.
    pub const ALL: [(Bug, u64); 15] = [
        (Bug::VotesForgotten, 100),
        (Bug::CommitWithoutQuorum, 20),
        (Bug::SyncsLie, 20),
        (Bug::ReadsWithoutRound, 40),
        (Bug::ProposalsDoubled, 20),
        (Bug::SnapshotMislabelled, 20),
        (Bug::KeepAlivesIgnored, 20),
        (Bug::RenewalsWithoutRound, 100),
        (Bug::CheckpointsKept, 100),
        (Bug::FollowersRevoke, 20),
        (Bug::DeposedRevoke, 300),
        (Bug::LeasesKept, 20),
        (Bug::WatchMessagesLost, 20),
        (Bug::WatchMessagesDoubled, 20),
        (Bug::AcknowledgedTooEarly, 20),
    ];

    /// The weather in which the rarer ones show, so that a test need not try a thousand seeds. They do show in others.
    pub(super) fn choose_weather(self, options: &mut Options) {
        match self {
            Bug::VotesForgotten => {
                options.faults = vec![Fault::Crash, Fault::CrashAtStep];
                (options.members, options.calm, options.storm) = (3, 150 * MS, 12 * SECOND);
                (options.delay, options.reorder, options.disk) = (20 * MS, true, MS);
            }
            Bug::RenewalsWithoutRound | Bug::DeposedRevoke => {
                options.faults = vec![Fault::Pause];
                (options.holders, options.clients, options.loss, options.ttl) = (6, 1, 0, 2);
                (options.storm, options.calm, options.pause) = (30 * SECOND, 3 * SECOND, 5 * SECOND);
            }
            Bug::CheckpointsKept => {
                options.faults = vec![Fault::Transfer];
                (options.holders, options.clients, options.loss, options.ttl) = (6, 1, 0, 7);
                (options.storm, options.calm, options.hold) = (30 * SECOND, 3 * SECOND, 20 * SECOND);
                options.checkpoints = Some(1);
            }
            _ => {}
        }
    }
}
