//! Bugs to plant, each of which breaks one promise of the layer or of who drives it.

use super::groups_options::{Fault, MS, Options, SECOND};

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A restarted machine does not know the terms and votes of its groups any more.
    VotesForgotten,
    /// What a group has handed out counts as durable when another group's flush ends.
    FlushVouchesForOthers,
    /// A follower's acknowledgements do not wait for the disk.
    PromisesTooEarly,
    /// Reads are served without a round.
    ReadsWithoutRound,
    /// A write is acknowledged when it is proposed.
    AcknowledgedTooEarly,
    /// Proposals are delivered twice.
    ProposalsDoubled,
    /// Now and then a message gets to the group beside its own.
    MessagesMisrouted,
    /// The log gives back what a group still needs of it: its hard state.
    SpaceOfOthers,
    /// A snapshot is said to hold an entry that it does not.
    SnapshotMislabelled,
    /// A damaged record of the log is passed over.
    DamagePassedOver,
}

impl Bug {
    /// All of them, each with the number of seeds within which it is found.
    pub const ALL: [(Bug, u64); 10] = [
        (Bug::VotesForgotten, 400),
        (Bug::FlushVouchesForOthers, 60),
        (Bug::PromisesTooEarly, 60),
        (Bug::ReadsWithoutRound, 60),
        (Bug::AcknowledgedTooEarly, 40),
        (Bug::ProposalsDoubled, 40),
        (Bug::MessagesMisrouted, 40),
        (Bug::SpaceOfOthers, 60),
        (Bug::SnapshotMislabelled, 60),
        (Bug::DamagePassedOver, 20),
    ];

    /// Its name on the command line.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// The weather in which the rarer ones show, so that a test need not try a thousand seeds.
    pub(super) fn choose_weather(self, options: &mut Options) {
        match self {
            Bug::VotesForgotten => {
                options.faults = vec![Fault::Crash, Fault::CrashAtStep];
                (options.calm, options.storm, options.delay) = (100 * MS, 12 * SECOND, 50 * MS);
            }
            Bug::FlushVouchesForOthers | Bug::PromisesTooEarly => {
                options.faults = vec![Fault::Blackout, Fault::SlowDisk, Fault::Crash];
                (options.calm, options.storm, options.think) = (300 * MS, 12 * SECOND, 5 * MS);
            }
            Bug::SpaceOfOthers => {
                options.faults = vec![Fault::Crash];
                (options.segment_bytes, options.checkpoint, options.think) = (32 << 10, 200 * MS, 2 * MS);
                options.clients = 8;
            }
            Bug::SnapshotMislabelled => {
                options.faults = vec![Fault::Crash, Fault::Partition];
                (options.window, options.think, options.clients) = (10, 5 * MS, 8);
            }
            Bug::ReadsWithoutRound => options.faults = vec![Fault::Partition, Fault::Pause],
            Bug::DamagePassedOver => options.faults = vec![Fault::Crash],
            Bug::AcknowledgedTooEarly | Bug::ProposalsDoubled | Bug::MessagesMisrouted => {}
        }
    }
}
