//! Wakes tasks of the same reactor: one that takes what it is told ([`Notify`]), or all that wait for something which stays
//! so ([`Latch`]).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// A flag with a waiter. Many notifications before the task runs count once. Not `Send`: see [`crate::wake`] for crossing
/// threads.
#[derive(Default)]
pub struct Notify {
    pending: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Notify {
    /// Nothing is pending at first.
    pub fn new() -> Notify {
        Notify::default()
    }

    /// Lets the waiting task run, or the next `wait` return at once.
    pub fn notify(&self) {
        if self.pending.replace(true) {
            return;
        }
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for a notification and takes it. One task at a time may wait.
    pub async fn wait(&self) {
        poll_fn(|context| {
            if self.pending.replace(false) {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// A flag that is set once, and any number of tasks that wait for it. Memory: one waker for each task that ever waited.
#[derive(Default)]
pub struct Latch {
    is_set: Cell<bool>,
    wakers: RefCell<Vec<Waker>>,
}

impl Latch {
    /// Not set.
    pub fn new() -> Latch {
        Latch::default()
    }

    /// Wakes all that wait; whoever waits from now on does not.
    pub fn set(&self) {
        self.is_set.set(true);
        self.wakers.take().into_iter().for_each(Waker::wake);
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.is_set.get()
    }

    /// Waits until it is set.
    pub async fn wait(&self) {
        poll_fn(|context| {
            if self.is_set() {
                return Poll::Ready(());
            }
            let mut wakers = self.wakers.borrow_mut();
            // A task that waits again and again is one.
            if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Context;
    use std::task::Wake;

    #[test]
    fn notifications_before_the_wait_count_once() {
        let notify = Notify::new();
        notify.notify();
        notify.notify();
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(notify.wait()).poll(&mut context).is_ready());
        let mut second = pin!(notify.wait());
        assert!(second.as_mut().poll(&mut context).is_pending());
        notify.notify();
        assert!(second.poll(&mut context).is_ready());
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_latch_wakes_each_task_that_waits_and_keeps_one_waker_of_each() {
        let (latch, tasks) = (Latch::new(), [Arc::new(Count::default()), Arc::new(Count::default())]);
        for task in &tasks {
            let waker = Waker::from(task.clone());
            for _ in 0..3 {
                assert!(pin!(latch.wait()).poll(&mut Context::from_waker(&waker)).is_pending());
            }
        }
        assert_eq!(latch.wakers.borrow().len(), tasks.len());
        latch.set();
        assert!(tasks.iter().all(|task| task.0.load(Ordering::Relaxed) == 1), "both are woken, once");
        assert!(pin!(latch.wait()).poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}
