//! The cut-over: the other cluster stops, this member has all of it, and goes on.
//!
//! etcd has no mode in which it only reads; under the CORRUPT alarm it takes no writes, ends no leases and compacts
//! nothing. So that alarm is raised, in this member's name. When revision and hash are twice equal, a second apart, the
//! last leases, users and roles are taken, and the store opens for writes.
//!
//! A member that is killed before that finds its alarm when it comes back, and goes on with the cut-over. One that gives
//! up takes the alarm back. Behind a cut-over the alarm stays: two clusters must not take the same clients' writes.

use super::Ask;
use super::session::Follower;
use super::source::{Source, Trouble, Watching};
use super::{Wishes, source};
use crate::home::standby::{Phase, Wish};
use plinth_engine::follow::FollowChange;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// How long the other cluster is stopped at most, but for the comparison under way.
const LIMIT: Duration = Duration::from_secs(30);

/// How far behind a cut-over may begin.
const PREPARATION: Duration = Duration::from_secs(10);

/// Between two comparisons that have to find the same.
const APART: Duration = Duration::from_secs(1);

/// Before asking again.
const PAUSE: Duration = Duration::from_millis(50);

impl Follower {
    /// At the beginning of a connection: whether a cut-over is under way that was cut off.
    pub(super) async fn settle_alarm(&mut self, source: &Source) -> Result<bool, Trouble> {
        let member = self.position().member;
        let is_raised = source.corrupt_alarms().await?.contains(&member);
        if is_raised && self.must_disarm {
            source.set_corrupt(member, false).await?;
            tracing::warn!("the other cluster takes writes again");
        }
        let goes_on = is_raised && !self.must_disarm;
        self.must_disarm = false;
        Ok(goes_on)
    }

    /// Takes over; whether that is done. If not, the report says why.
    pub(super) async fn cut_over(
        &mut self,
        source: &Source,
        watch: &mut Watching,
        wishes: &mut Wishes,
        goes_on: bool,
    ) -> Result<bool, Trouble> {
        if !goes_on && let Some(refusal) = self.prepare(source, watch).await? {
            tracing::warn!(why = refusal, "no cut-over");
            self.settle(&refusal).await?;
            return Ok(false);
        }
        let begun = Instant::now();
        self.report.phase = Phase::CuttingOver;
        self.show().await?;
        match self.finish(source, watch, wishes).await {
            Ok(()) => {
                (self.report.phase, self.report.paused) = (Phase::Ended, begun.elapsed());
                let revision = self.position().revision;
                tracing::warn!(revision, paused = ?begun.elapsed(), "took over from the cluster that was followed");
                self.settle("").await?;
                Ok(true)
            }
            Err(Trouble::Gone) => Err(Trouble::Gone),
            Err(trouble) => {
                self.give_up(source, &trouble).await?;
                Err(trouble)
            }
        }
    }

    /// Sees to it that the pause will be short; or why it would not be.
    async fn prepare(&mut self, source: &Source, watch: &mut Watching) -> Result<Option<String>, Trouble> {
        if !source.corrupt_alarms().await?.is_empty() {
            return Ok(Some("the other cluster has raised a CORRUPT alarm of its own".to_owned()));
        }
        let (newest, deadline) = (source.newest_revision().await?, Instant::now() + PREPARATION);
        while self.position().revision < newest && Instant::now() < deadline {
            self.take_next(source, watch, deadline).await?;
        }
        if self.position().revision < newest {
            return Ok(Some(format!("{} revisions behind", newest - self.position().revision)));
        }
        self.poll(source).await?;
        if !self.compare(source).await? {
            let text = "the hashes of both sides cannot be compared right now: the other one has just compacted, or \
                        compacted at its newest revision; try again, or put any key first";
            return Ok(Some(text.to_owned()));
        }
        Ok(None)
    }

    async fn finish(&mut self, source: &Source, watch: &mut Watching, wishes: &mut Wishes) -> Result<(), Trouble> {
        let member = self.position().member;
        source.set_corrupt(member, true).await?;
        tracing::warn!(source = source.endpoint, "the other cluster takes no writes any more");
        crate::fail_point!("cutOverAfterAlarm");
        let deadline = Instant::now() + LIMIT;
        let mut equal: Option<(i64, Instant)> = None;
        loop {
            if let Ok(wish) = wishes.try_recv() {
                self.report.settled += 1;
                if wish == Wish::Abort {
                    return Err(Trouble::Passing("the cut-over was aborted".to_owned()));
                }
            }
            if Instant::now() >= deadline {
                return Err(Trouble::Passing("both sides did not become equal in time".to_owned()));
            }
            let newest = source.newest_revision().await?;
            while self.position().revision < newest {
                self.take_next(source, watch, deadline).await?;
            }
            let is_equal = self.compare(source).await?;
            equal = match equal {
                Some((revision, since)) if is_equal && revision == newest => {
                    if since.elapsed() >= APART {
                        break;
                    }
                    equal
                }
                _ if is_equal => Some((newest, Instant::now())),
                _ => None,
            };
            match equal {
                Some((_, since)) => sleep_until(since + APART).await,
                None => sleep(PAUSE).await,
            }
        }
        self.take_the_rest(source).await?;
        self.open(source, equal.expect("they were equal").0).await
    }

    /// Takes what no revision tells: nothing of it ends any more, but users and roles may still change.
    async fn take_the_rest(&mut self, source: &Source) -> Result<(), Trouble> {
        self.look().await?;
        let (_, there) = source.leases(&self.position().leases, true).await?;
        let gone = self.position().leases.keys().filter(|id| !there.contains_key(id)).copied().collect();
        self.take_leases(there, gone).await?;
        self.look().await?;
        let users = source.users().await?;
        if users.is_none_or(|(_, revision)| revision != self.position().auth_revision) {
            self.take_users(source).await?;
        }
        Ok(())
    }

    /// Opens the store for writes, if the other cluster still stands where it stood.
    async fn open(&mut self, source: &Source, revision: i64) -> Result<(), Trouble> {
        let member = self.position().member;
        let users = source.users().await?;
        let still = source.newest_revision().await? == revision
            && self.position().revision == revision
            && users.is_none_or(|(_, revision)| revision == self.position().auth_revision)
            && source.corrupt_alarms().await?.contains(&member);
        if !still {
            return Err(Trouble::Passing("the other cluster has changed during the cut-over".to_owned()));
        }
        crate::fail_point!("cutOverBeforeEnd");
        let opened = self.asking.ask(|reply| Ask::Apply(vec![FollowChange::End], reply)).await?;
        crate::fail_point!("cutOverAfterEnd");
        self.look().await?;
        match (self.position().follows, opened) {
            (None, _) => Ok(()),
            (Some(_), Err(why)) => Err(Trouble::Passing(why)),
            (Some(_), Ok(_)) => unreachable!("the store follows nobody when the end is applied"),
        }
    }

    /// Lets the other cluster go on.
    async fn give_up(&mut self, source: &Source, trouble: &source::Trouble) -> Result<(), Trouble> {
        let why = match trouble {
            Trouble::Passing(why) | Trouble::Final(why) => why.clone(),
            Trouble::Compacted => "history was compacted".to_owned(),
            Trouble::Gone => return Ok(()),
        };
        let member = self.position().member;
        self.report.phase = Phase::Following;
        let disarmed = match source.set_corrupt(member, false).await {
            Ok(()) => Ok(()),
            // Of the others one may answer.
            Err(_) => match Source::connect(&self.settings, self.endpoint + 1).await {
                Ok(other) => other.set_corrupt(member, false).await,
                Err(trouble) => Err(trouble),
            },
        };
        let why = match disarmed {
            Ok(()) => format!("{why}; the other cluster takes writes again"),
            Err(_) => {
                self.must_disarm = true;
                format!(
                    "{why}; the other cluster cannot be told to take writes again: it will be, or disarm its alarms"
                )
            }
        };
        tracing::error!(why, "the cut-over was given up");
        self.settle(&why).await
    }
}
