//! A disk that does not answer: something is asked of it, and for an election time nothing has ended.
//!
//! The log and the data file are watched apart: they may lie on different disks. Judged are real writes, by what ends and not by
//! how long one takes, since a flush of the data file may well take longer than an election; a member at rest asks nothing, and
//! is not judged.
//!
//! What a member does whose disk has stalled ([`Member`](crate::Member)):
//! - It gives leadership away, again after each election time if that was in vain, and is not made the leader by others.
//! - Commands of its clients go on to the leader although its own log has no free slot. It answers them when it has applied
//!   them, which takes its own log.
//! - With a log that has been silent for [`PATIENCE`] election times it follows a leader without applying anything for too long:
//!   reads that wait for that are told, so that they are asked again elsewhere, and clients are sent to other members. Not
//!   before: a disk that is slow for a second is no reason for all clients to connect anew.
//!
//! Deliberately absent: clocks (ticks of consensus are counted, so that a pause of the process is not taken for one of the
//! disk), and what clients and operators are told.

/// Election times for which clients of a member wait for its log.
const PATIENCE: u64 = 3;

/// What is asked of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Whether something is under way.
    pub awaits: bool,
    /// How much has ended since the start.
    pub ended: u64,
}

/// Which file does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stalled {
    /// The write-ahead log, whatever the data file does.
    Log,
    /// The data file alone.
    Data,
}

/// Something that is asked of a disk, and for how long there has been no sign of it.
#[derive(Debug, Default)]
struct Part {
    ended: u64,
    silent: u64,
}

impl Part {
    fn tick(&mut self, asked: Asked) -> u64 {
        let is_silent = asked.awaits && asked.ended == self.ended;
        self.ended = asked.ended;
        self.silent = if is_silent { self.silent + 1 } else { 0 };
        self.silent
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct DiskWatch {
    election_ticks: u64,
    log: Part,
    data: Part,
    stalled: Option<Stalled>,
}

impl DiskWatch {
    pub(crate) fn new(election_ticks: usize) -> DiskWatch {
        let election_ticks = election_ticks as u64;
        assert!(election_ticks > 0, "an election takes time");
        DiskWatch { election_ticks, log: Part::default(), data: Part::default(), stalled: None }
    }

    /// Time passes by a tick; whether leadership should be given away now.
    pub(crate) fn tick(&mut self, log: Asked, data: Asked) -> bool {
        let (log, data) = (self.log.tick(log), self.data.tick(data));
        self.stalled = match self.election_ticks {
            election if log >= election => Some(Stalled::Log),
            election if data >= election => Some(Stalled::Data),
            _ => None,
        };
        self.stalled.is_some() && log.max(data).is_multiple_of(self.election_ticks)
    }

    pub(crate) fn stalled(&self) -> Option<Stalled> {
        self.stalled
    }

    /// Whether the log has been silent for longer than clients should wait for it.
    pub(crate) fn has_lost_patience(&self) -> bool {
        self.log.silent >= PATIENCE * self.election_ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Asked = Asked { awaits: false, ended: 0 };

    fn asked(ended: u64) -> Asked {
        Asked { awaits: true, ended }
    }

    #[test]
    fn a_disk_stalls_when_nothing_ends_for_an_election_time() {
        let mut watch = DiskWatch::new(3);
        let mut left = Vec::new();
        for tick in 1..=12 {
            if watch.tick(asked(7), NOTHING) {
                left.push(tick);
            }
            // The first tick has seen something end.
            assert_eq!(watch.stalled(), (tick > 3).then_some(Stalled::Log), "tick {tick}");
            assert_eq!(watch.has_lost_patience(), tick > 9, "tick {tick}");
        }
        assert_eq!(left, [4, 7, 10], "again after each election time");
        watch.tick(asked(8), NOTHING);
        assert_eq!(watch.stalled(), None);
    }

    #[test]
    fn who_asks_nothing_is_not_judged_and_slow_is_not_stalled() {
        let mut watch = DiskWatch::new(3);
        for tick in 0..20 {
            watch.tick(NOTHING, asked(tick / 2));
            assert_eq!(watch.stalled(), None, "tick {tick}");
        }
        (0..4).for_each(|_| _ = watch.tick(NOTHING, asked(99)));
        assert_eq!(watch.stalled(), Some(Stalled::Data));
        (0..4).for_each(|_| _ = watch.tick(asked(1), asked(99)));
        assert_eq!(watch.stalled(), Some(Stalled::Log));
    }
}
