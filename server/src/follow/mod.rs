//! A standby of a running etcd cluster: the same keys at the same revisions, until this member takes over.
//!
//! ```text
//! old cluster  ==gRPC==>  a thread with the tools' client  --asks-->  the home: commands in this member's own log
//! ```
//!
//! The thread ([`session`]) fetches a snapshot, which becomes the data file ([`seed`]), and then watches all keys from the
//! revision behind; [`changes`] makes commands of events. It polls what no watch tells: leases, whether users and roles
//! have changed, how far the other side is; and compares hashes now and then. [`takeover`] is the end of it, [`source`]
//! speaks to the other cluster. This file is the reactor's end: it answers what the thread asks.
//!
//! Invariants: the position is the store's revision, durable with the data, and whatever is told twice is passed over, so
//! that either side may be killed at any moment; nothing is guessed: a difference ends the process.
//!
//! A member that follows is alone: others join behind the cut-over.

mod changes;
mod seed;
mod session;
mod source;
mod takeover;

use crate::cluster::corruption;
use crate::config::Follow;
use crate::home::data_file::DataFile;
use crate::home::standby::{Phase, Report, Wish};
use crate::home::{Home, HomeStore};
use plinth_engine::command::Command;
use plinth_engine::follow::FollowChange;
use plinth_engine::pagefile::FileWriter;
use plinth_engine::store::hash::HashKv;
use plinth_member::backup::Standing;
use plinth_member::records;
use plinth_net::rt::sleep;
use plinth_raft::EntryId;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Questions and wishes that may wait. Each question is answered before the next one but one is asked.
const QUEUE: usize = 8;

/// How often it is looked whether something has come to pass.
const LOOK: Duration = Duration::from_millis(5);

/// Where the store is.
#[derive(Clone, Debug)]
struct Position {
    member: u64,
    /// The cluster that it follows; none if it holds nothing yet.
    follows: Option<u64>,
    revision: i64,
    compact_revision: i64,
    auth_revision: u64,
    /// Leases by id, with their TTLs in seconds.
    leases: BTreeMap<i64, i64>,
}

/// Data to be put in the place of the present ones.
struct Replacement {
    store: HomeStore,
    writer: FileWriter,
    path: PathBuf,
}

/// What the thread asks for.
enum Ask {
    Position(oneshot::Sender<Position>),
    /// To be replicated and applied, in order; the revision afterwards.
    Apply(Vec<FollowChange>, oneshot::Sender<Result<i64, String>>),
    /// The hash at a revision.
    Hash(i64, oneshot::Sender<Result<HashKv, String>>),
    /// Which entry was applied last, and who the members are.
    Standing(oneshot::Sender<Result<Standing, String>>),
    /// False if another entry was applied since.
    Replace(Box<Replacement>, oneshot::Sender<bool>),
    /// To be shown.
    Report(Report),
    /// The end, and why.
    Failed(String),
}

/// Follows another cluster, if there is one to follow. Ends only if that cannot go on: why.
pub async fn follow(home: Rc<Home>, follow: Option<Follow>, is_founded_alone: bool) -> String {
    if follow.is_some() || home.follows() {
        // The log may hold what decides, and more than the data file knows.
        settled(&home).await;
    }
    let settings = match plan(&home, follow, is_founded_alone) {
        Ok(Some(settings)) => settings,
        Ok(None) => {
            home.standby.set_decided();
            return std::future::pending().await;
        }
        Err(why) => return why,
    };
    let (asks, asked) = mpsc::channel(QUEUE);
    let (wishes, wished) = mpsc::channel(QUEUE);
    home.standby.begin(wishes);
    if home.follows() {
        home.standby.set_decided();
    }
    let data = home.data.clone();
    let thread = move || session::run(settings, data, asks, wished);
    match std::thread::Builder::new().name("follow".into()).spawn(thread) {
        Ok(_) => answer(home, asked).await,
        Err(error) => error.to_string(),
    }
}

/// Whether there is a cluster to follow, and how; or why flags and data do not go together.
fn plan(home: &Home, follow: Option<Follow>, is_founded_alone: bool) -> Result<Option<Follow>, String> {
    let state = home.state();
    let store = state.member.store();
    let has_followed = store.has_followed().map_err(|error| error.to_string())?;
    match (follow, store.follows()) {
        (None, None) => Ok(None),
        (None, Some(cluster)) => Err(format!(
            "the data are those of a standby of cluster {cluster:x} that has not taken over; start it with --follow, or \
             remove the data directory"
        )),
        (Some(follow), Some(_)) => Ok(Some(follow)),
        (Some(_), None) if has_followed.is_some() => {
            tracing::warn!("--follow is ignored: this member has taken over; the flag can be removed");
            Ok(None)
        }
        (Some(_), None) if store.revision() > 1 || store.compact_revision() > 0 || !store.leases().is_empty() => {
            Err("--follow needs an empty data directory: this one has data of its own".to_owned())
        }
        (Some(_), None) if !is_founded_alone || !state.member.group().is_alone() => {
            Err("--follow needs a cluster of one member; others may join when it has taken over".to_owned())
        }
        (Some(follow), None) => Ok(Some(follow)),
    }
}

/// Waits until clients may come.
pub async fn wait_for_data(home: &Home) {
    while !home.standby.is_decided() {
        sleep(LOOK).await;
    }
}

/// Answers the thread, until it has failed.
async fn answer(home: Rc<Home>, mut asked: mpsc::Receiver<Ask>) -> String {
    // Who asked may have given up: then nobody waits for the answer.
    while let Some(ask) = asked.recv().await {
        match ask {
            Ask::Position(reply) => {
                settled(&home).await;
                drop(reply.send(position(&home)));
            }
            Ask::Apply(changes, reply) => drop(reply.send(apply(&home, changes).await)),
            Ask::Hash(revision, reply) => {
                let hash = corruption::hash(&home, revision).await;
                drop(reply.send(hash.map(|hashed| hashed.hash).map_err(|status| status.message.into_owned())));
            }
            Ask::Standing(reply) => drop(reply.send(standing(&home))),
            Ask::Replace(replacement, reply) => drop(reply.send(replace(&home, *replacement).await)),
            Ask::Report(report) => show(&home, report),
            Ask::Failed(why) => return why,
        }
    }
    if home.standby.report().phase != Phase::Ended {
        return "the thread that follows another cluster ended by itself".to_owned();
    }
    std::future::pending().await
}

/// Waits until this member leads, and has applied all that its log holds.
async fn settled(home: &Home) {
    while home.barrier().await.is_err() && !home.is_stopping() {
        sleep(LOOK).await;
    }
}

fn position(home: &Home) -> Position {
    let state = home.state();
    let store = state.member.store();
    let ttl = |id: i64| store.leases().stored_ttl(id).map_or(0, |(ttl, _)| ttl);
    Position {
        member: home.profile.member_id,
        follows: store.follows(),
        revision: store.revision(),
        compact_revision: store.compact_revision(),
        auth_revision: store.auth().revision(),
        leases: store.leases().leases().into_iter().map(|id| (id, ttl(id))).collect(),
    }
}

async fn apply(home: &Rc<Home>, changes: Vec<FollowChange>) -> Result<i64, String> {
    let submit = |change| home.submit_awaited(None, &Command::Follow(change));
    let submitted: Vec<_> = changes.into_iter().map(submit).collect();
    let mut revision = 0;
    for outcome in submitted {
        let outcome = outcome.await.unwrap_or(Err(crate::answer::status::STOPPED));
        revision = outcome.map_err(|status| status.message.into_owned())?.revision;
    }
    Ok(revision)
}

fn standing(home: &Home) -> Result<Standing, String> {
    let state = home.state();
    let store = state.member.store();
    let text = |error: plinth_engine::error::StoreError| error.to_string();
    let applied = EntryId { index: store.applied().index, term: store.applied().term };
    let members = records::list(store).map_err(text)?;
    Ok(Standing { applied, members, removed: records::removed(store.trees()).map_err(text)? })
}

async fn replace(home: &Rc<Home>, replacement: Replacement) -> bool {
    // Pages of one file must not go to another.
    while home.flushes.is_under_way() {
        sleep(LOOK).await;
    }
    let Replacement { store, writer, path } = replacement;
    let data: DataFile = home.data.clone();
    // Renaming and syncing a folder block the reactor for a moment; nothing could be served from the old data anyway.
    let is_replaced = home.replace_data(store, writer, move || data.put_in_place(&path));
    if is_replaced {
        home.standby.set_decided();
    }
    is_replaced
}

fn show(home: &Home, report: Report) {
    let behind = report.source_revision - home.state().member.store().revision();
    home.reactor.metrics.follow_lag_revisions.set(behind.max(0));
    home.reactor
        .metrics
        .follow_lag_milliseconds
        .set_unsigned(u64::try_from(report.lag.as_millis()).unwrap_or(u64::MAX));
    home.reactor.metrics.follow_comparisons.set(report.compared);
    home.standby.set_report(report);
}

/// The thread's end of the questions.
struct Asking(mpsc::Sender<Ask>);

/// The reactor is gone: the process ends.
#[derive(Debug)]
struct Gone;

impl Asking {
    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.tell(ask(reply)).await?;
        answer.await.map_err(|_| Gone)
    }

    async fn tell(&self, ask: Ask) -> Result<(), Gone> {
        self.0.send(ask).await.map_err(|_| Gone)
    }
}

/// Where wishes arrive.
type Wishes = mpsc::Receiver<Wish>;
