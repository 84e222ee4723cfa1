//! Scheduled backups (`--backup-dir`): every so often a snapshot as `etcdctl snapshot save` makes it, in a folder of this
//! machine, verified, with old ones removed.
//!
//! ```text
//! home: flush, pin  ==pinned state==>  a thread that is nice: write, sync, read back, compare, rename, prune
//! ```
//!
//! Rooms: [`mod@write`] makes and verifies a file, [`shelf`] names them and removes old ones; this file says when, and tells of it.
//!
//! Invariants: the reactor flushes and pins, and does nothing else for it; what carries a backup's name was read back and
//! compared; an old one goes only when a newer good one is there; a backup that fails is told loudly and tried again, and
//! stops nothing; one that hangs is told, too, and keeps no member from stopping.

mod shelf;
mod write;

use crate::config::Backup;
use crate::home::Home;
use crate::home::backups::Good;
use futures_lite::FutureExt;
use plinth_engine::pagefile::{FileReader, PageIoError, PinnedFile};
use plinth_net::be_nice;
use plinth_net::rt::sleep;
use shelf::{Shelf, since};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;
use write::{BackupError, Course, Written};

/// A backup that failed is tried again after this time, or after the interval if that is shorter.
const RETRY: Duration = Duration::from_secs(60);

/// How long a member that stops waits for the thread of a backup to take its file away.
const END: Duration = Duration::from_secs(2);

/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(5);

/// A member that has just started has other things to do.
const FIRST: Duration = Duration::from_secs(1);

/// Makes backups until the member stops.
pub async fn run(home: Rc<Home>, settings: Backup) {
    let shelf = Shelf::new(&settings.folder, home.profile.member_id);
    home.backups.begin(None);
    let mut wait = begin(&home, &shelf, settings.interval).await;
    loop {
        async { sleep(wait).await }.or(home.wait_for_stop()).await;
        if home.is_stopping() {
            return;
        }
        let begun = Instant::now();
        wait = match make(&home, &shelf, &settings).await {
            Ok(good) => {
                made(&home, good);
                settings.interval
            }
            Err(_) if home.is_stopping() => return,
            Err(error) => {
                failed(&home, &error);
                settings.interval.min(RETRY)
            }
        };
        wait = wait.saturating_sub(begun.elapsed());
    }
}

/// Waits, when the member stops, until the one under way has ended and taken its file away: as long as that may take.
pub async fn wait_for_end(home: &Home) {
    let begun = Instant::now();
    while home.backups.are_under_way() && begun.elapsed() < END {
        sleep(LOOK).await;
    }
}

/// Looks what is there; how long the first backup has time.
async fn begin(home: &Rc<Home>, shelf: &Shelf, interval: Duration) -> Duration {
    let looked = shelf.clone();
    // A folder that cannot be read fails the first backup, which tells why.
    let look = move |_: &Course| {
        let last = looked.kept().ok().and_then(|mut kept| kept.pop())?;
        let bytes = last.path.metadata().map_or(0, |metadata| metadata.len());
        Some(Good { time: last.time, revision: last.revision, bytes, took: Duration::ZERO })
    };
    let Ok(Some(last)) = on_a_thread(home, interval, look).await else { return FIRST };
    home.backups.begin(Some(last));
    show(home, last);
    since(last.time).map_or(FIRST, |since| interval.saturating_sub(since).max(FIRST))
}

/// Makes a backup and removes old ones.
async fn make(home: &Rc<Home>, shelf: &Shelf, settings: &Backup) -> Result<Good, BackupError> {
    let (begun, time) = (Instant::now(), SystemTime::now());
    let state = pin(home).await?;
    let job = Job { state, time, shelf: shelf.clone(), keep: settings.keep };
    let Written { bytes, revision } = on_a_thread(home, settings.interval, move |course| job.run(course)).await??;
    Ok(Good { time, revision, bytes, took: begun.elapsed() })
}

/// Does something that blocks on a thread of its own, which may hang as long as a network file system does: that is told.
/// A member that stops tells it to end, and waits a moment.
async fn on_a_thread<T: Send + 'static>(
    home: &Rc<Home>,
    interval: Duration,
    work: impl FnOnce(&Course) -> T + Send + 'static,
) -> Result<T, BackupError> {
    let course = Arc::new(Course::default());
    let (tell, told) = oneshot::channel();
    let of_thread = course.clone();
    let thread = std::thread::Builder::new().name("backup".into()).spawn(move || {
        be_nice();
        // Nobody listens any more when the server is gone.
        drop(tell.send(work(&of_thread)));
    });
    thread.map_err(|source| BackupError::Io { path: "thread".into(), source })?;
    let _at_work = home.backups.thread();
    let done = async { told.await.map_err(|_| BackupError::Stopped) };
    let stopped = async {
        home.wait_for_stop().await;
        course.stop.store(true, Ordering::Relaxed);
        // Time to take its file away.
        sleep(END).await;
        Err(BackupError::Stopped)
    };
    let result = done.or(stopped).or(watch(home, &course, stuck_after(interval))).await;
    home.reactor.metrics.backup_stuck.set(0);
    home.backups.is_stuck(None);
    result
}

/// For how long a backup may do nothing before that is told.
fn stuck_after(interval: Duration) -> Duration {
    interval.clamp(Duration::from_secs(5), Duration::from_secs(60))
}

/// Tells when a thread comes no further, and when it goes on.
async fn watch<T>(home: &Home, course: &Course, bound: Duration) -> Result<T, BackupError> {
    let (mut seen, mut since, mut is_told) = (0, (Instant::now(), SystemTime::now()), false);
    loop {
        sleep(bound / 5).await;
        let steps = course.steps.load(Ordering::Relaxed);
        let goes_on = steps != seen;
        if goes_on {
            (seen, since) = (steps, (Instant::now(), SystemTime::now()));
        }
        let is_stuck = since.0.elapsed() >= bound;
        if is_stuck == is_told {
            continue;
        }
        is_told = is_stuck;
        home.reactor.metrics.backup_stuck.set_unsigned(u64::from(is_stuck));
        home.backups.is_stuck(is_stuck.then_some(since.1));
        match is_stuck {
            true => {
                tracing::error!(after = ?bound, "the backup under way comes no further: does its file system hang?")
            }
            false => tracing::info!("the backup under way goes on"),
        }
    }
}

/// The state as it is now, whole in the data file.
async fn pin(home: &Rc<Home>) -> Result<PinnedFile<FileReader>, BackupError> {
    loop {
        home.flushed().await;
        if home.is_stopping() {
            return Err(BackupError::Stopped);
        }
        // The next flush may have begun already: then the one behind it.
        if let Some(pinned) = try_pin(home) {
            let failed = |error| BackupError::Io {
                path: home.data.path().display().to_string(),
                source: std::io::Error::other(error),
            };
            return pinned.map_err(failed);
        }
    }
}

fn try_pin(home: &Home) -> Option<Result<PinnedFile<FileReader>, PageIoError>> {
    let mut state = home.state_mut();
    let trees = state.member.store_mut().trees_mut();
    let pin = trees.pin_durable()?;
    Some(trees.store().reader().map(|reader| PinnedFile::new(pin, reader)))
}

/// What the thread does.
struct Job {
    state: PinnedFile<FileReader>,
    time: SystemTime,
    shelf: Shelf,
    keep: usize,
}

impl Job {
    fn run(self, course: &Course) -> Result<Written, BackupError> {
        let folder = self.shelf.folder();
        let failed = |source| BackupError::Io { path: folder.display().to_string(), source };
        self.shelf.remove_rests().map_err(failed)?;
        let written = write::write(&self.state, &self.shelf, self.time, course)?;
        // Before old files are looked for, which may take a while.
        drop(self.state);
        let made = self.shelf.place(self.time, written.revision);
        match self.shelf.prune(self.keep, &made, written.revision) {
            Ok(removed) => tracing::debug!(removed, "removed old backups"),
            // The new one is good all the same; too many are better than too few.
            Err(error) => tracing::error!(folder = %folder.display(), %error, "old backups cannot be removed"),
        }
        Ok(written)
    }
}

fn made(home: &Home, good: Good) {
    home.backups.made(good);
    home.reactor.metrics.backups.inc();
    show(home, good);
    tracing::info!(revision = good.revision, bytes = good.bytes, took = ?good.took, "made a backup and read it back");
}

fn failed(home: &Home, error: &BackupError) {
    home.reactor.metrics.backup_failures.inc();
    home.backups.failed(error.to_string());
    tracing::error!(%error, "no backup was made; it is tried again");
}

fn show(home: &Home, good: Good) {
    let metrics = &home.reactor.metrics;
    metrics.backup_time.set_unsigned(good.time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
    metrics.backup_revision.set(good.revision);
    metrics.backup_bytes.set_unsigned(good.bytes);
    metrics.backup_milliseconds.set_unsigned(u64::try_from(good.took.as_millis()).unwrap_or(u64::MAX));
}
