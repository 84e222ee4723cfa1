//! Wakes one waiting task of the same reactor. Many notifications before the task runs count once.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// A flag with a waiter. Not `Send`: see [`crate::wake`] for crossing threads.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

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
}
