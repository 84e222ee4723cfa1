//! Threads beside the reactors for the arithmetic of handshakes, which takes from a tenth of a millisecond to several.
//!
//! They are nice to others: where cores are short, requests of connected clients come before new connections.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, Waker};

use crate::sys;

/// The most threads there are. Each does thousands of handshakes a second.
const THREADS_MAX: usize = 4;

type Job = Box<dyn FnOnce() + Send>;

struct Crew {
    jobs: Mutex<VecDeque<Job>>,
    more: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done while a lock is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

static CREW: Crew = Crew { jobs: Mutex::new(VecDeque::new()), more: Condvar::new() };

/// Starts the threads when they are needed first.
fn start() -> io::Result<()> {
    static STARTED: OnceLock<usize> = OnceLock::new();
    let started = STARTED.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let start = |_: &usize| std::thread::Builder::new().name("handshakes".to_owned()).spawn(work).is_ok();
        (0..(cores / 2).clamp(1, THREADS_MAX)).filter(start).count()
    });
    if *started == 0 { Err(io::Error::other("no thread for handshakes could be started")) } else { Ok(()) }
}

fn work() {
    sys::be_nice();
    loop {
        let mut jobs = lock(&CREW.jobs);
        let job = loop {
            match jobs.pop_front() {
                Some(job) => break job,
                None => jobs = CREW.more.wait(jobs).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(jobs);
        // A job that panics tells whoever waits for it by being dropped; the thread goes on.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
    }
}

/// Where a job leaves what it found.
struct Slot<T> {
    found: Option<T>,
    is_over: bool,
    waker: Option<Waker>,
}

/// The job's end of a slot.
struct Ending<T>(Shared<T>);

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = lock(&self.0);
            slot.is_over = true;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Runs `work` on one of the threads. How many wait at a time is for the callers to bound.
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    start()?;
    let (job, slot) = job(work);
    lock(&CREW.jobs).push_back(job);
    CREW.more.notify_one();
    outcome(&slot).await
}

/// Runs `work`, which may wait for others, on a thread of its own.
pub(super) async fn run_aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (job, slot) = job(work);
    std::thread::Builder::new().name("certificates".to_owned()).spawn(job)?;
    outcome(&slot).await
}

type Shared<T> = Arc<Mutex<Slot<T>>>;

fn job<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> (Job, Shared<T>) {
    let slot = Arc::new(Mutex::new(Slot { found: None, is_over: false, waker: None }));
    let ending = Ending(Arc::clone(&slot));
    let job = Box::new(move || {
        let found = work();
        lock(&ending.0).found = Some(found);
    });
    (job, slot)
}

/// What a job has left in its slot, once it has.
async fn outcome<T>(slot: &Shared<T>) -> io::Result<T> {
    poll_fn(|cx| {
        let mut slot = lock(slot);
        match slot.found.take() {
            Some(found) => Poll::Ready(Ok(found)),
            None if slot.is_over => Poll::Ready(Err(io::Error::other("a handshake's work failed"))),
            None => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt;

    #[test]
    fn work_comes_back_or_is_told_to_have_failed() {
        rt::block_on(async {
            for number in 0..100 {
                assert_eq!(run(move || number * 2).await.unwrap(), number * 2);
            }
            assert!(run::<()>(|| panic!("as no handshake should")).await.is_err());
            assert_eq!(run(|| 1).await.unwrap(), 1, "the threads go on");
        });
    }
}
