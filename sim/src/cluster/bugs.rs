//! Bugs to plant, each of which breaks one promise. A simulator that does not find them is worth nothing.

use super::options::{Fault, MS, Options, SECOND};
use plinth_member::planted::Planted;

/// What is broken: in the surroundings of the members, done by whoever simulates them, or in the code that ships.
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
    /// The transport says of proposals that they have not left which have.
    SentCallsItselfUnsent,
    /// A leader renews leases without asking the others whether it still leads.
    RenewalsWithoutRound,
    /// A stream of keep-alives ends with its requests, though an answer is due.
    StreamsEndWithRequests,
    /// Now and then a watcher misses a message.
    WatchMessagesLost,
    /// Now and then a watcher gets a message twice.
    WatchMessagesDoubled,
    /// A write is acknowledged when it is submitted.
    AcknowledgedTooEarly,
    /// In the shell that the server and this share.
    Shell(Planted),
}

impl Bug {
    /// All of them, each with the number of seeds within which it is found.
    pub const ALL: [(Bug, u64); 26] = [
        (Bug::VotesForgotten, 100),
        (Bug::CommitWithoutQuorum, 20),
        (Bug::SyncsLie, 20),
        (Bug::ReadsWithoutRound, 40),
        (Bug::ProposalsDoubled, 20),
        (Bug::SentCallsItselfUnsent, 20),
        (Bug::Shell(Planted::SnapshotMislabelled), 100),
        (Bug::Shell(Planted::SnapshotsToldOnce), 100),
        (Bug::RenewalsWithoutRound, 100),
        (Bug::StreamsEndWithRequests, 20),
        (Bug::WatchMessagesLost, 20),
        (Bug::WatchMessagesDoubled, 20),
        (Bug::AcknowledgedTooEarly, 20),
        (Bug::Shell(Planted::IdleWithoutWaiters), 20),
        (Bug::Shell(Planted::LeasesTrickle), 20),
        (Bug::Shell(Planted::KeepAlivesIgnored), 20),
        (Bug::Shell(Planted::CheckpointsKept), 100),
        (Bug::Shell(Planted::FollowersExpire), 20),
        (Bug::Shell(Planted::LeasesKept), 20),
        (Bug::Shell(Planted::DeposedExpire), 300),
        (Bug::Shell(Planted::HistoryWithoutPrev), 20),
        (Bug::Shell(Planted::ComparedTooEarly), 40),
        (Bug::Shell(Planted::LeadsWithoutSpace), 20),
        (Bug::Shell(Planted::LeadsWithStalledData), 20),
        (Bug::Shell(Planted::SendersNotFound), 100),
        (Bug::Shell(Planted::RightsWhereAsked), 20),
    ];

    /// Its name on the command line.
    pub fn name(self) -> String {
        match self {
            Bug::Shell(planted) => format!("{planted:?}"),
            bug => format!("{bug:?}"),
        }
    }

    /// What of it is in the code that ships.
    pub(super) fn in_shell(self) -> Option<Planted> {
        if let Bug::Shell(planted) = self { Some(planted) } else { None }
    }

    /// The weather in which the rarer ones show, so that a test need not try a thousand seeds. They do show in others.
    pub(super) fn choose_weather(self, options: &mut Options) {
        match self {
            Bug::VotesForgotten => {
                options.faults = vec![Fault::Crash, Fault::CrashAtStep];
                (options.members, options.calm, options.storm) = (3, 150 * MS, 12 * SECOND);
                (options.delay, options.reorder, options.disk) = (20 * MS, true, MS);
            }
            Bug::RenewalsWithoutRound | Bug::Shell(Planted::DeposedExpire) => {
                options.faults = vec![Fault::Pause];
                (options.holders, options.clients, options.loss, options.ttl) = (6, 1, 0, 2);
                (options.storm, options.calm, options.pause) = (30 * SECOND, 3 * SECOND, 5 * SECOND);
            }
            Bug::Shell(Planted::CheckpointsKept) => {
                options.faults = vec![Fault::Transfer];
                (options.holders, options.clients, options.loss, options.ttl) = (6, 1, 0, 7);
                (options.storm, options.calm, options.hold) = (30 * SECOND, 3 * SECOND, 20 * SECOND);
                options.checkpoints = Some(1);
            }
            Bug::Shell(Planted::IdleWithoutWaiters) => options.compaction = true,
            Bug::Shell(Planted::SendersNotFound) => {
                options.faults = vec![Fault::Change, Fault::Crash, Fault::Transfer];
                (options.storms, options.calm, options.storm) = (1, 300 * MS, 12 * SECOND);
            }
            Bug::Shell(Planted::SnapshotsToldOnce) => {
                options.faults = vec![Fault::Crash, Fault::Partition];
                (options.loss, options.window, options.calm) = (10, 5, 300 * MS);
            }
            Bug::Shell(Planted::LeadsWithoutSpace) => options.full_leader = true,
            Bug::Shell(Planted::LeadsWithStalledData) => options.stalled_leader = true,
            Bug::Shell(Planted::RightsWhereAsked) => options.users = true,
            Bug::Shell(Planted::LeasesTrickle) => options.crowd = 1000,
            _ => {}
        }
    }
}
