//! The thread that follows: from connection to connection, and within one what a watch tells and what is asked for.
//!
//! Leases have no revisions of their own. A lease that a key is attached to is asked for before the key is taken over; the
//! list of all is polled, and taken only when the store has come to the revision at which it was made.

use super::changes::{Collected, Collector};
use super::seed;
use super::source::{Source, Trouble, Watching};
use super::{Ask, Asking, Position, Replacement, Wishes};
use crate::config::Follow;
use crate::home::data_file::DataFile;
use crate::home::standby::{Phase, Report, Wish};
use futures_lite::future::poll_once;
use plinth_api::proto::etcdserverpb as pb;
use plinth_engine::follow::{FollowChange, FollowLease, FollowLeases};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// How often the other side is asked for what no watch tells.
const POLL: Duration = Duration::from_secs(1);

/// How often the log says how far it is.
const TELL: Duration = Duration::from_secs(60);

/// Before another connection.
const RETRY: Duration = Duration::from_secs(1);

/// Changes that are replicated together.
const CHANGES_AT_ONCE: usize = 64;

/// Leases in one change.
const LEASES_AT_ONCE: usize = 1000;

/// Follows until this member has taken over. Runs on a thread of its own.
pub fn run(settings: Follow, data: DataFile, asks: mpsc::Sender<Ask>, mut wishes: Wishes) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(asks.blocking_send(Ask::Failed(error.to_string()))),
    };
    let mut follower = Follower {
        settings,
        data,
        asking: Asking(asks.clone()),
        report: Report::default(),
        position: None,
        collector: Collector::default(),
        listed: None,
        level: Instant::now(),
        told: None,
        endpoint: 0,
        must_seed: false,
        must_disarm: false,
    };
    runtime.block_on(async {
        if let Some(why) = follower.follow(&mut wishes).await {
            // The reactor may be gone already.
            let _ = asks.send(Ask::Failed(why)).await;
        }
    });
}

/// See the module.
pub struct Follower {
    pub(super) settings: Follow,
    data: DataFile,
    pub(super) asking: Asking,
    pub(super) report: Report,
    /// Where the store is; none before it was asked.
    position: Option<Position>,
    collector: Collector,
    /// Leases as they were there at a revision.
    listed: Option<(i64, BTreeMap<i64, i64>)>,
    /// When this side was last known to be as far as the other one.
    level: Instant,
    told: Option<Instant>,
    pub(super) endpoint: usize,
    must_seed: bool,
    /// An alarm of this member's, raised for a cut-over that was given up, is still to be taken back.
    pub(super) must_disarm: bool,
}

impl Follower {
    /// Why it cannot go on; nothing when this member has taken over, or the process ends.
    async fn follow(&mut self, wishes: &mut Wishes) -> Option<String> {
        loop {
            let why = match self.session(wishes).await {
                Ok(()) | Err(Trouble::Gone) => return None,
                Err(Trouble::Final(why)) => return Some(why),
                Err(Trouble::Compacted) => {
                    self.must_seed = true;
                    "history behind the revision here has been compacted there; a new snapshot takes its place"
                        .to_owned()
                }
                Err(Trouble::Passing(why)) => why,
            };
            tracing::warn!(source = self.report.source, why, "the connection to the cluster that is followed ended");
            self.report.problem = why;
            while wishes.try_recv().is_ok() {
                self.report.settled += 1;
            }
            self.show().await.ok()?;
            self.endpoint += 1;
            sleep(RETRY).await;
        }
    }

    async fn session(&mut self, wishes: &mut Wishes) -> Result<(), Trouble> {
        let source = Source::connect(&self.settings, self.endpoint).await?;
        self.report.source.clone_from(&source.endpoint);
        self.look().await?;
        self.meet(&source).await?;
        if self.must_seed || self.position().follows.is_none() {
            self.seed(&source).await?;
        }
        (self.collector, self.listed) = (Collector::default(), None);
        let mut watch = source.watch(self.position().revision + 1).await?;
        tracing::info!(source = source.endpoint, revision = self.position().revision, "following a cluster");
        (self.report.phase, self.report.problem) = (Phase::Following, String::new());
        self.show().await?;
        if self.settle_alarm(&source).await? && self.cut_over(&source, &mut watch, wishes, true).await? {
            return Ok(());
        }
        let (mut poll, mut compare) = (interval(POLL), interval(self.settings.check_interval));
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        compare.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                answer = watch.next() => self.take(&source, &mut watch, answer?).await?,
                _ = poll.tick() => self.poll(&source).await?,
                _ = compare.tick() => {
                    self.compare(&source).await?;
                }
                wish = wishes.recv() => match wish {
                    None => return Err(Trouble::Gone),
                    Some(Wish::Abort) => self.settle("no cut-over is under way").await?,
                    Some(Wish::CutOver) => {
                        if self.cut_over(&source, &mut watch, wishes, false).await? {
                            return Ok(());
                        }
                    }
                },
            }
        }
    }

    /// Where the store is, as far as is known.
    pub(super) fn position(&self) -> &Position {
        self.position.as_ref().expect("it is asked for first")
    }

    /// Asks where the store is.
    pub(super) async fn look(&mut self) -> Result<(), Trouble> {
        self.position = Some(self.asking.ask(Ask::Position).await?);
        Ok(())
    }

    /// Tells what is known.
    pub(super) async fn show(&mut self) -> Result<(), Trouble> {
        Ok(self.asking.tell(Ask::Report(self.report.clone())).await?)
    }

    /// A wish was granted, or was not: why.
    pub(super) async fn settle(&mut self, problem: &str) -> Result<(), Trouble> {
        self.report.problem = problem.to_owned();
        self.report.settled += 1;
        self.show().await
    }

    /// Whether it is the cluster that is meant, and gives what is needed.
    async fn meet(&mut self, source: &Source) -> Result<(), Trouble> {
        let (cluster, revision) = source.standing().await?;
        if let Some(follows) = self.position().follows.filter(|follows| *follows != cluster) {
            return Err(Trouble::Final(format!(
                "{} is of cluster {cluster:x}, and the data here are those of cluster {follows:x}",
                source.endpoint
            )));
        }
        (self.report.source_cluster, self.report.source_revision) = (cluster, revision);
        // Only root may ask for it where it says that users matter.
        let has_users = !matches!(source.users().await, Ok(Some((false, _))));
        if has_users && let Some(refusal) = source.refuses_root().await? {
            return Err(Trouble::Final(format!(
                "{}: {}. Without the role root there can be had from this cluster: no snapshot, and so neither history \
                 nor users and roles; no hash to compare; no alarm, and so no cut-over. Give --follow-user=NAME:PASSWORD, \
                 or --follow-cert-file with a certificate of such a user",
                source.endpoint, refusal
            )));
        }
        if self.report.phase == Phase::None {
            tracing::info!(
                cluster = format!("{cluster:x}"),
                "what comes from there: keys with their history, leases, users and roles; what does not: members, \
                 alarms, and how much is left of leases"
            );
        }
        Ok(())
    }

    /// Puts a snapshot of the other cluster in the place of what is here.
    async fn seed(&mut self, source: &Source) -> Result<(), Trouble> {
        let begun = Instant::now();
        self.report.phase = Phase::Seeding;
        self.show().await?;
        let path = seed::snapshot_path(&self.data);
        let bytes = source.snapshot(&path).await?;
        tracing::info!(source = source.endpoint, bytes, took = ?begun.elapsed(), "fetched a snapshot");
        crate::fail_point!("followAfterSnapshot");
        let imported = seed::make(&path, &self.data, self.report.source_cluster).map_err(Trouble::Final)?;
        // What stays is removed at the next start.
        let _ = std::fs::remove_file(&path);
        loop {
            let standing = self.asking.ask(Ask::Standing).await?.map_err(Trouble::Final)?;
            let (store, writer, path) = seed::place(&self.data, &standing).map_err(Trouble::Final)?;
            crate::fail_point!("followBeforeReplace");
            let replacement = Box::new(Replacement { store, writer, path });
            if self.asking.ask(|reply| Ask::Replace(replacement, reply)).await? {
                break;
            }
        }
        crate::fail_point!("followAfterReplace");
        self.must_seed = false;
        tracing::info!(
            revision = imported.revision,
            records = imported.records,
            leases = imported.leases,
            took = ?begun.elapsed(),
            "the data are those of the snapshot"
        );
        self.look().await
    }

    /// Takes an answer of the watch, and others that are there already: what is replicated together is synced once.
    async fn take(
        &mut self,
        source: &Source,
        watch: &mut Watching,
        mut answer: Option<pb::WatchResponse>,
    ) -> Result<(), Trouble> {
        let (mut changes, mut unknown) = (Vec::new(), BTreeSet::new());
        loop {
            let collected = self.collect(answer)?;
            changes.extend(collected.changes);
            unknown.extend(collected.leases.into_iter().filter(|id| !self.position().leases.contains_key(id)));
            if changes.len() >= CHANGES_AT_ONCE {
                break;
            }
            match poll_once(watch.next()).await {
                Some(next) => answer = next?,
                None => break,
            }
        }
        if !unknown.is_empty() {
            let there = source.ttls(unknown.into_iter().collect()).await?;
            self.take_leases(there, Vec::new()).await?;
        }
        self.apply(changes).await?;
        self.take_listed().await
    }

    /// What an answer of the watch says.
    fn collect(&mut self, answer: Option<pb::WatchResponse>) -> Result<Collected, Trouble> {
        let answer = answer.ok_or(Trouble::Passing("the watch ended".to_owned()))?;
        if answer.compact_revision != 0 {
            return Err(Trouble::Compacted);
        }
        if answer.canceled {
            return Err(Trouble::Passing(format!("the watch was ended: {}", answer.cancel_reason)));
        }
        self.collector.take(answer.events, answer.fragment).map_err(Trouble::Final)
    }

    /// Replicates and applies changes.
    pub(super) async fn apply(&mut self, changes: Vec<FollowChange>) -> Result<(), Trouble> {
        let mut changes = changes.into_iter().peekable();
        while changes.peek().is_some() {
            let some = changes.by_ref().take(CHANGES_AT_ONCE).collect();
            let revision = self.asking.ask(|reply| Ask::Apply(some, reply)).await?.map_err(Trouble::Passing)?;
            self.position.as_mut().expect("it is asked for first").revision = revision;
        }
        if self.position().revision >= self.report.source_revision {
            self.level = Instant::now();
        }
        Ok(())
    }

    /// Asks for what no watch tells.
    pub(super) async fn poll(&mut self, source: &Source) -> Result<(), Trouble> {
        let (_, revision) = source.standing().await?;
        self.report.source_revision = self.report.source_revision.max(revision);
        if self.position().revision >= revision {
            self.level = Instant::now();
        }
        self.report.lag = self.level.elapsed();
        if self.position().revision >= self.report.source_revision {
            self.report.lag = Duration::ZERO;
        }
        if let Some((_, auth_revision)) = source.users().await?
            && auth_revision != self.position().auth_revision
        {
            self.take_users(source).await?;
        }
        self.listed = Some(source.leases(&self.position().leases, false).await?);
        self.take_listed().await?;
        if self.told.is_none_or(|told| told.elapsed() >= TELL) {
            self.told = Some(Instant::now());
            let behind = self.report.source_revision - self.position().revision;
            tracing::info!(revision = self.position().revision, behind, lag = ?self.report.lag, "following");
        }
        self.show().await
    }

    /// Takes the list of leases if the store has come to its revision.
    async fn take_listed(&mut self) -> Result<(), Trouble> {
        let revision = self.position().revision;
        let Some((_, there)) = self.listed.take_if(|(at, _)| *at <= revision) else { return Ok(()) };
        let gone = self.position().leases.keys().filter(|id| !there.contains_key(id)).copied().collect();
        self.take_leases(there, gone).await
    }

    /// Makes leases known, and forgets others.
    pub(super) async fn take_leases(&mut self, there: BTreeMap<i64, i64>, gone: Vec<i64>) -> Result<(), Trouble> {
        let known = &mut self.position.as_mut().expect("it is asked for first").leases;
        let mut new = Vec::new();
        for (id, ttl) in there {
            if known.insert(id, ttl) != Some(ttl) {
                new.push(FollowLease { id, ttl });
            }
        }
        gone.iter().for_each(|id| _ = known.remove(id));
        let of = |there: &[FollowLease], gone: &[i64]| {
            FollowChange::Leases(FollowLeases { there: there.to_vec(), gone: gone.to_vec() })
        };
        let new = new.chunks(LEASES_AT_ONCE).map(|some| of(some, &[]));
        let changes = new.chain(gone.chunks(LEASES_AT_ONCE).map(|some| of(&[], some))).collect();
        self.apply(changes).await
    }

    /// Takes users and roles from a new snapshot.
    pub(super) async fn take_users(&mut self, source: &Source) -> Result<(), Trouble> {
        let path = seed::snapshot_path(&self.data);
        source.snapshot(&path).await?;
        let records = seed::users(&path).map_err(Trouble::Final)?;
        let _ = std::fs::remove_file(&path);
        self.apply(vec![FollowChange::Users(records)]).await?;
        self.look().await?;
        tracing::info!(revision = self.position().auth_revision, "took users and roles over");
        Ok(())
    }

    /// Compares the hashes of both sides at the revision here; whether they are equal. Not, if one side has given up more
    /// history than the other by the time it is asked.
    pub(super) async fn compare(&mut self, source: &Source) -> Result<bool, Trouble> {
        let (revision, compacted) = (self.position().revision, self.position().compact_revision);
        let Some((hash, compact_revision)) = source.hash(revision).await? else { return Ok(false) };
        if compact_revision > compacted {
            self.apply(vec![FollowChange::Compact { revision: compact_revision }]).await?;
            self.position.as_mut().expect("it is asked for first").compact_revision = compact_revision;
        }
        let own = self.asking.ask(|reply| Ask::Hash(revision, reply)).await?.map_err(Trouble::Passing)?;
        if own.compact_revision != compact_revision {
            return Ok(false);
        }
        if own.hash != hash {
            return Err(Trouble::Final(format!(
                "the data differ from those of {} at revision {revision}, compacted at {compact_revision}: hash {} here, \
                 {hash} there; remove the data directory to follow anew",
                source.endpoint, own.hash
            )));
        }
        tracing::info!(revision, hash, "the hashes of both sides are equal");
        self.report.compared = revision;
        Ok(true)
    }

    /// The next answer of the watch, and what comes of it, before `deadline`.
    pub(super) async fn take_next(
        &mut self,
        source: &Source,
        watch: &mut Watching,
        deadline: Instant,
    ) -> Result<(), Trouble> {
        let late = |_| Trouble::Passing("the watch does not come to the last revision".to_owned());
        let answer = tokio::time::timeout_at(deadline, watch.next()).await.map_err(late)??;
        self.take(source, watch, answer).await
    }
}
