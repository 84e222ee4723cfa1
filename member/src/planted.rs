//! Mistakes that a simulator plants into the code that ships, to see that it finds them. Without the feature `planted`
//! there are none, and no trace of them.

/// A mistake that breaks one promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// What waits in the state wakes the background only where a client of this member waits for an answer.
    IdleWithoutWaiters,
    /// A few leases expire per look, however many are due.
    LeasesTrickle,
    /// A leader answers keep-alives and does nothing.
    KeepAlivesIgnored,
    /// A leader does not replicate that a lease was renewed of which it has replicated that little is left.
    CheckpointsKept,
    /// Every member ends leases, not the leader alone.
    FollowersExpire,
    /// What a leader found expired ends whoever leads by then.
    DeposedExpire,
    /// Nobody ends leases.
    LeasesKept,
    /// Watchers that catch up get no previous pairs.
    HistoryWithoutPrev,
    /// A leader whose disk is full goes on leading.
    LeadsWithoutSpace,
    /// A leader whose data file does not answer goes on leading.
    LeadsWithStalledData,
    /// What members say of where they are found is not heard.
    SendersNotFound,
    /// The mark on a snapshot names an entry that is not in it, and who copies it does not look.
    SnapshotMislabelled,
    /// A follower that has stopped copying its snapshot is not told again.
    SnapshotsToldOnce,
    /// Whether an author may is looked at only where somebody waits for the outcome.
    RightsWhereAsked,
    /// A leader compares what others hold now with what it held before it asked.
    ComparedTooEarly,
}

#[cfg(feature = "planted")]
mod chosen {
    use super::Planted;
    use std::cell::Cell;

    thread_local! {
        static CHOSEN: Cell<Option<Planted>> = const { Cell::new(None) };
    }

    /// Plants a mistake, or none, for all members that run in this thread from now on.
    pub fn plant(mistake: Option<Planted>) {
        CHOSEN.set(mistake);
    }

    pub(crate) fn is_planted(mistake: Planted) -> bool {
        CHOSEN.get() == Some(mistake)
    }
}

#[cfg(feature = "planted")]
pub(crate) use chosen::is_planted;
#[cfg(feature = "planted")]
pub use chosen::plant;

#[cfg(not(feature = "planted"))]
pub(crate) const fn is_planted(_: Planted) -> bool {
    false
}
