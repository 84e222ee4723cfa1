//! The page-file flush: every so often what apply has changed becomes durable in the data file, off the path of
//! acknowledgements. A thread of its own writes and syncs, in paced chunks; the reactor only freezes and takes notice.

use super::{Home, HomeMember};
use crate::wake::{self, Waker, Woken};
use futures_lite::FutureExt;
use plinth_engine::pagefile::{FileWriter, Flush, PageWriter};
use plinth_net::rt::sleep;
use plinth_net::turn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Beyond this many bytes of changed pages a flush does not wait for its time, and does not take its time.
const DIRTY_BYTES_EAGER: usize = 32 << 20;

/// Beyond this many bytes of changed pages nothing is applied until a flush has ended: a disk that is slower than the
/// log's would fill the memory.
const DIRTY_BYTES_MAX: usize = 256 << 20;

/// Bytes written before the thread lets others at the device: the log's own writes and syncs do not wait for more.
const CHUNK_BYTES: usize = 256 << 10;

/// The pauses after chunks spread a flush over this time: the log's next sync has to wait for what the device took since
/// the last one.
const SPREAD: Duration = Duration::from_millis(200);

/// The pause after a chunk is no shorter, also when there is much to write,
const CHUNK_PAUSE_MIN: Duration = Duration::from_micros(250);

/// and no longer, when there is little.
const CHUNK_PAUSE_MAX: Duration = Duration::from_millis(2);

/// What the thread is told.
enum Job {
    /// Without one: only to shorten the file.
    Flush(Option<Flush>),
    /// Another file has taken the place of the one before.
    Writer(FileWriter),
}

/// A flush that was carried out, how long it took to write its pages, and how long it took altogether.
type Done = (Option<Flush>, io::Result<Duration>, Duration);

/// The reactor's end of the thread.
pub struct Flusher {
    jobs: Sender<Job>,
    done: Receiver<Done>,
    woken: Woken,
}

impl Flusher {
    /// Starts the thread, which counts in `ended` what it has done. Call on the home reactor.
    pub fn start(writer: FileWriter, ended: Arc<AtomicU64>) -> io::Result<Flusher> {
        let (waker, woken) = wake::pair()?;
        let (jobs, inbox) = channel();
        let (outbox, done) = channel();
        let run = move || run(Writing { writer, ended }, &inbox, &outbox, &waker);
        std::thread::Builder::new().name("page-flush".into()).spawn(run)?;
        Ok(Flusher { jobs, done, woken })
    }

    /// Goes on with another file. No flush may be under way.
    fn follow(&self, writer: FileWriter) -> io::Result<()> {
        self.jobs.send(Job::Writer(writer)).map_err(|_| io::Error::other("the page-file thread ended"))
    }

    async fn carry_out(&mut self, flush: Option<Flush>) -> io::Result<Done> {
        let gone = || io::Error::other("the page-file thread ended");
        self.jobs.send(Job::Flush(flush)).map_err(|_| gone())?;
        loop {
            self.woken.wait().await?;
            if let Ok(done) = self.done.try_recv() {
                return Ok(done);
            }
        }
    }
}

/// The file, and a count of what was done with it: as long as it grows, the disk answers.
struct Writing {
    writer: FileWriter,
    ended: Arc<AtomicU64>,
}

impl Writing {
    fn step<T>(&mut self, step: impl FnOnce(&mut FileWriter) -> io::Result<T>) -> io::Result<T> {
        let done = step(&mut self.writer);
        self.ended.fetch_add(1, Ordering::Relaxed);
        done
    }
}

fn run(mut writing: Writing, jobs: &Receiver<Job>, done: &Sender<Done>, waker: &Waker) {
    while let Ok(job) = jobs.recv() {
        let flush = match job {
            Job::Flush(flush) => flush,
            Job::Writer(new) => {
                writing.writer = new;
                continue;
            }
        };
        let start = Instant::now();
        let result = flush.as_ref().map_or(Ok(Duration::ZERO), |flush| write(flush, &mut writing));
        let result = result.and_then(|written| cut(&mut writing).map(|()| written));
        if done.send((flush, result, start.elapsed())).is_err() {
            return;
        }
        waker.wake();
    }
}

/// The pause after each chunk of a flush. Changes that come faster than that wait in memory, and in the log, which a
/// restart has to replay; so a large flush is in a hurry.
fn pause(flush_bytes: u64) -> Duration {
    let chunks = u32::try_from(flush_bytes / CHUNK_BYTES as u64).unwrap_or(u32::MAX);
    match flush_bytes > DIRTY_BYTES_EAGER as u64 {
        true => CHUNK_PAUSE_MIN,
        false => (SPREAD / chunks.max(1)).clamp(CHUNK_PAUSE_MIN, CHUNK_PAUSE_MAX),
    }
}

/// Writes everything durably; how long it took until the pages were written.
fn write(flush: &Flush, writing: &mut Writing) -> io::Result<Duration> {
    let start = Instant::now();
    let pause = pause(flush.bytes());
    let mut writes = flush.writes(CHUNK_BYTES);
    let mut chunk = 0;
    while let Some((offset, bytes)) = writes.next() {
        writing.step(|writer| writer.write_at(offset, bytes))?;
        chunk += bytes.len();
        if chunk >= CHUNK_BYTES {
            writing.step(FileWriter::write_back)?;
            std::thread::sleep(pause);
            chunk = 0;
        }
    }
    let written = start.elapsed();
    writing.step(FileWriter::sync)?;
    crate::fail_point!("beforeCommit");
    let (offset, bytes) = flush.meta();
    writing.step(|writer| writer.write_at(offset, bytes))?;
    writing.step(FileWriter::sync)?;
    crate::fail_point!("afterCommit");
    Ok(written)
}

/// Pause after a part is cut off the file.
const CUT_PAUSE: Duration = Duration::from_millis(1);

/// Shortens the file, as far as it is longer than it has to be.
fn cut(writing: &mut Writing) -> io::Result<()> {
    while writing.step(FileWriter::cut)? {
        std::thread::sleep(CUT_PAUSE);
    }
    Ok(())
}

/// How often it is looked whether a flush should wait no longer.
const SLICE_MIN: Duration = Duration::from_millis(1);
const SLICE_MAX: Duration = Duration::from_millis(20);

/// How often at rest, however long the interval.
const REST: Duration = Duration::from_millis(100);

/// Whether applying has to wait for a flush.
pub fn is_overdue(member: &HomeMember) -> bool {
    member.is_between_entries() && member.store().trees().dirty_bytes() > DIRTY_BYTES_MAX
}

/// Puts and deletes since the data was opened.
fn operations(home: &Home) -> u64 {
    let counters = home.state().member.store().counters();
    counters.puts + counters.deletes
}

/// Flushes whenever there is something, until the member stops. An error is fatal: the kernel may have dropped pages.
pub async fn flush_regularly(home: Rc<Home>, mut flusher: Flusher) -> io::Result<Flusher> {
    loop {
        let (interval, before) = (home.profile.pace.flush_interval, operations(&home));
        let slice = interval.clamp(SLICE_MIN, SLICE_MAX);
        let mut waited = Duration::ZERO;
        while waited < interval && !home.is_stopping() {
            // With nothing to write there is no hurry, and a machine at rest should not be woken.
            let rests = home.state().member.store().trees().dirty_bytes() == 0 && !home.flushes.is_wanted();
            let pause = if rests { slice.max(interval.min(REST)) } else { slice };
            async { sleep(pause).await }.or(home.wait_for_stop()).await;
            waited += pause;
            let is_full = operations(&home).saturating_sub(before) >= home.profile.pace.flush_operations
                || home.state().member.store().trees().dirty_bytes() > DIRTY_BYTES_EAGER;
            if is_full || home.flushes.is_wanted() {
                break;
            }
        }
        if home.is_stopping() {
            return Ok(flusher);
        }
        flush_once(&home, &mut flusher).await?;
    }
}

/// Makes everything applied so far durable in the data file.
pub async fn flush_once(home: &Rc<Home>, flusher: &mut Flusher) -> io::Result<()> {
    let number = home.flushes.begin();
    let result = flush_changes(home, flusher).await;
    home.flushes.end(number);
    result
}

async fn flush_changes(home: &Rc<Home>, flusher: &mut Flusher) -> io::Result<()> {
    let (flush, applied) = loop {
        {
            let mut state = home.state_mut();
            // In the same borrow as the freeze: pages of one file must not go to the writer of another.
            if let Some(writer) = home.take_new_writer() {
                flusher.follow(writer)?;
            }
            // Half an entry must not become durable: replay begins behind the entry that the data file names.
            if state.member.is_between_entries() {
                let applied = state.member.store().applied().index;
                let begun = state.member.store_mut().trees_mut().begin_flush();
                break (begun.map_err(io::Error::other)?, applied);
            }
            if home.is_stopping() && state.member.is_amid_command() {
                // It may take seconds. The log has it, and the next start applies it again.
                return Ok(());
            }
        }
        turn::pass().await;
    };
    if flush.is_none() && !home.state().member.store().trees().store().has_surplus() {
        return Ok(());
    }
    home.flushes.at_disk(true);
    let done = flusher.carry_out(flush).await;
    home.flushes.at_disk(false);
    let (flush, result, took) = done?;
    // Never tried again: the kernel may have dropped the pages it could not write.
    let written = result?;
    let Some(flush) = flush else { return Ok(()) };
    home.reactor.metrics.commit_write.record_duration(written);
    home.reactor.metrics.backend_commit.record_duration(took);
    let mut state = home.state_mut();
    state.member.store_mut().trees_mut().finish_flush(flush);
    // The log keeps what the flush before this one did not hold: should the newest meta page rot, the data file opens
    // at the state before it, and the log still reaches back that far.
    state.member.stored_up_to(&mut home.reactor.log_mut(), home.flushes.stored_before(applied));
    drop(state);
    home.reactor.pump.notify();
    Ok(())
}
