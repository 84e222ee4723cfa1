//! Which flush of the page file is under way, who waits for one, and what the last one holds.

use super::oneshot::{Receiver, Sender, channel};
use plinth_member::stall::Asked;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
#[derive(Default)]
pub struct Flushes {
    begun: Cell<u64>,
    is_under_way: Cell<bool>,
    stored: Cell<u64>,
    /// The thread has something to do.
    is_at_disk: Cell<bool>,
    /// Writes and syncs that the thread has done.
    ended: Arc<AtomicU64>,
    waiters: RefCell<Vec<(u64, Sender<()>)>>,
}

impl Flushes {
    /// Waits until a flush that begins after this call has ended. With nothing to write, too.
    pub fn next(&self) -> Receiver<()> {
        let (sender, receiver) = channel();
        self.waiters.borrow_mut().push((self.begun.get() + 1, sender));
        receiver
    }

    /// A flush begins; whoever waits from now on waits for the next one.
    pub fn begin(&self) -> u64 {
        self.is_under_way.set(true);
        self.begun.set(self.begun.get() + 1);
        self.begun.get()
    }

    /// A flush has ended: those who asked before it began are told.
    pub fn end(&self, number: u64) {
        self.is_under_way.set(false);
        let waiters = self.waiters.take();
        let (done, waiting): (Vec<_>, Vec<_>) = waiters.into_iter().partition(|(wanted, _)| *wanted <= number);
        self.waiters.replace(waiting);
        for (_, sender) in done {
            sender.send(());
        }
    }

    /// Whether a flush is under way.
    pub fn is_under_way(&self) -> bool {
        self.is_under_way.get()
    }

    /// The thread has something to do from now on, or nothing any more.
    pub fn at_disk(&self, is_at_disk: bool) {
        self.is_at_disk.set(is_at_disk);
    }

    /// Where the thread counts what it has done.
    pub fn count(&self) -> Arc<AtomicU64> {
        self.ended.clone()
    }

    /// What is asked of the disk.
    pub fn asked(&self) -> Asked {
        Asked { awaits: self.is_at_disk.get(), ended: self.ended.load(Ordering::Relaxed) }
    }

    /// Whether somebody waits for one.
    pub fn is_wanted(&self) -> bool {
        !self.waiters.borrow().is_empty()
    }

    /// Records the last entry that a finished flush holds; that of the one before it.
    pub fn stored_before(&self, applied: u64) -> u64 {
        self.stored.replace(applied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    fn is_told(receiver: &mut Receiver<()>) -> bool {
        Pin::new(receiver).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(Some(()))
    }

    #[test]
    fn who_asks_during_a_flush_waits_for_the_next() {
        let flushes = Flushes::default();
        let mut before = flushes.next();
        let first = flushes.begin();
        let mut during = flushes.next();
        assert!(flushes.is_under_way() && !is_told(&mut before));
        flushes.end(first);
        assert!(is_told(&mut before) && !is_told(&mut during));
        assert!(flushes.is_wanted() && !flushes.is_under_way());
        flushes.end(flushes.begin());
        assert!(is_told(&mut during) && !flushes.is_wanted());
        assert_eq!((flushes.stored_before(5), flushes.stored_before(7)), (0, 5));
    }
}
