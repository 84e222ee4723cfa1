//! Auto-compaction, as etcd does it: by age of revisions, or by their number. Only a leader compacts.

use super::Home;
use crate::answer::status;
use crate::config::AutoCompaction;
use plinth_engine::command::Command;
use plinth_net::rt::sleep;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often the number of revisions is looked at.
const REVISION_INTERVAL: Duration = Duration::from_secs(300);

/// Longest time between two compactions by age.
const PERIOD_MAX: Duration = Duration::from_secs(3600);

/// Looks per period.
const LOOKS: u32 = 10;

/// Runs until the member stops.
pub async fn run(home: Rc<Home>, mode: AutoCompaction) {
    match mode {
        AutoCompaction::Off => {}
        AutoCompaction::Periodic(age) => by_age(&home, age).await,
        AutoCompaction::Revision(keep) => by_number(&home, keep).await,
    }
}

async fn by_number(home: &Home, keep: i64) {
    let mut last = 0;
    while !home.is_stopping() {
        sleep(REVISION_INTERVAL).await;
        let target = home.state().member.store().revision() - keep;
        if target > 0 && target != last && is_leader(home) && compact(home, target).await {
            last = target;
        }
    }
}

async fn by_age(home: &Home, age: Duration) {
    let mut schedule = Schedule::new(age);
    while !home.is_stopping() {
        sleep(schedule.look_interval()).await;
        let revision = home.state().member.store().revision();
        let Some(target) = schedule.look(Instant::now(), revision) else { continue };
        if is_leader(home) && compact(home, target).await {
            schedule.compacted(Instant::now(), target);
        }
    }
}

fn is_leader(home: &Home) -> bool {
    home.state().member.is_leader()
}

async fn compact(home: &Home, revision: i64) -> bool {
    tracing::info!(revision, "starting auto compaction");
    match home.propose(Command::Compact { revision }).await {
        Ok(_) => true,
        // Somebody else compacted as far already: as good as done.
        Err(status) if status == status::COMPACTED => true,
        Err(status) => {
            tracing::warn!(revision, error = %status, "failed auto compaction");
            false
        }
    }
}

/// Which revision is old enough, from looks at regular intervals.
struct Schedule {
    age: Duration,
    looks: VecDeque<(Instant, i64)>,
    due: Option<Instant>,
    last: i64,
}

impl Schedule {
    fn new(age: Duration) -> Schedule {
        Schedule { age, looks: VecDeque::new(), due: None, last: 0 }
    }

    fn look_interval(&self) -> Duration {
        self.age.min(PERIOD_MAX) / LOOKS
    }

    /// Records a look; the revision to compact at, if it is time.
    fn look(&mut self, now: Instant, revision: i64) -> Option<i64> {
        let due = *self.due.get_or_insert(now + self.age);
        self.looks.push_back((now, revision));
        // The newest look that is old enough decides; older ones are not needed any more.
        while self.looks.get(1).is_some_and(|(at, _)| *at + self.age <= now) {
            self.looks.pop_front();
        }
        if now < due {
            return None;
        }
        let target = self.looks.front().map_or(0, |(_, revision)| *revision);
        if target == self.last || target <= 0 {
            self.due = Some(now + self.age.min(PERIOD_MAX));
            return None;
        }
        Some(target)
    }

    fn compacted(&mut self, now: Instant, revision: i64) {
        self.last = revision;
        self.due = Some(now + self.age.min(PERIOD_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_compacted_when_they_are_old_enough() {
        let start = Instant::now();
        let minute = Duration::from_secs(60);
        let mut schedule = Schedule::new(10 * minute);
        assert_eq!(schedule.look_interval(), minute);
        for look in 0..10 {
            assert_eq!(schedule.look(start + minute * look, 100 + i64::from(look)), None, "look {look}");
        }
        assert_eq!(schedule.look(start + minute * 10, 110), Some(100));
        schedule.compacted(start + minute * 10, 100);
        for look in 11..20 {
            assert_eq!(schedule.look(start + minute * look, 110), None, "look {look}");
        }
        assert_eq!(schedule.look(start + minute * 20, 110), Some(110));
        schedule.compacted(start + minute * 20, 110);
        assert_eq!(schedule.look(start + minute * 30, 110), None, "nothing has changed");
    }
}
