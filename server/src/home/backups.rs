//! How the scheduled backups of this member are doing, for whoever asks.

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime};

/// A backup that was made and read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Good {
    /// When it was begun.
    pub time: SystemTime,
    /// The revision it holds.
    pub revision: i64,
    /// Bytes of its file.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// What is known of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Report {
    last: Option<Good>,
    failure: Option<String>,
    /// Since when the one under way has come no further, if that is long.
    stuck_since: Option<SystemTime>,
}

/// See the module. Nothing is told of a member that makes none.
#[derive(Debug, Default)]
pub struct Backups {
    report: RefCell<Option<Report>>,
    /// Threads that work for them, or hang.
    threads: Cell<u32>,
}

impl Backups {
    /// Backups are made; the last one was this.
    pub fn begin(&self, last: Option<Good>) {
        *self.report.borrow_mut() = Some(Report { last, ..Report::default() });
    }

    /// One was made.
    pub fn made(&self, good: Good) {
        self.begin(Some(good));
    }

    /// One was not made, and why.
    pub fn failed(&self, why: String) {
        if let Some(report) = self.report.borrow_mut().as_mut() {
            (report.failure, report.stuck_since) = (Some(why), None);
        }
    }

    /// The one under way has come no further since then; or it goes on.
    pub fn is_stuck(&self, since: Option<SystemTime>) {
        if let Some(report) = self.report.borrow_mut().as_mut() {
            report.stuck_since = since;
        }
    }

    /// A thread works for them from now on, as long as what this returns lives.
    pub fn thread(&self) -> AtWork<'_> {
        self.threads.set(self.threads.get() + 1);
        AtWork(self)
    }

    /// Whether a thread is at work.
    pub fn are_under_way(&self) -> bool {
        self.threads.get() > 0
    }

    /// A line for those who ask how the member is. That backups fail is no reason to send clients elsewhere.
    pub fn line(&self) -> Option<String> {
        let report = self.report.borrow();
        let Report { last, failure, stuck_since } = report.as_ref()?;
        let last = last.map_or("none yet".to_owned(), |good| {
            format!("{} at revision {}", humantime::format_rfc3339_seconds(good.time), good.revision)
        });
        Some(match (stuck_since, failure) {
            (Some(since), _) => {
                format!("[!]backup stuck since {}; last {last}\n", humantime::format_rfc3339_seconds(*since))
            }
            (None, None) => format!("[+]backup ok: last {last}\n"),
            (None, Some(why)) => format!("[!]backup failing: {why}; last {last}\n"),
        })
    }
}

/// A thread that works for the backups.
pub struct AtWork<'b>(&'b Backups);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        let others = self.0.threads.get().checked_sub(1).expect("each is counted once");
        self.0.threads.set(others);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_when_the_last_good_one_was() {
        let backups = Backups::default();
        assert_eq!(backups.line(), None, "nobody asked for any");
        backups.begin(None);
        assert_eq!(backups.line().as_deref(), Some("[+]backup ok: last none yet\n"));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        backups.made(Good { time, revision: 7, bytes: 1, took: Duration::ZERO });
        assert_eq!(backups.line().as_deref(), Some("[+]backup ok: last 1970-01-02T00:00:00Z at revision 7\n"));
        backups.failed("no room".into());
        let wanted = "[!]backup failing: no room; last 1970-01-02T00:00:00Z at revision 7\n";
        assert_eq!(backups.line().as_deref(), Some(wanted));
        backups.is_stuck(Some(time));
        let stuck = "[!]backup stuck since 1970-01-02T00:00:00Z; last 1970-01-02T00:00:00Z at revision 7\n";
        assert_eq!(backups.line().as_deref(), Some(stuck));
        backups.is_stuck(None);
        assert_eq!(backups.line().as_deref(), Some(wanted), "the last one failed still");
    }

    #[test]
    fn threads_are_counted() {
        let backups = Backups::default();
        let (first, second) = (backups.thread(), backups.thread());
        drop(first);
        assert!(backups.are_under_way());
        drop(second);
        assert!(!backups.are_under_way());
    }
}
