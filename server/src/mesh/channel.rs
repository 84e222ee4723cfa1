//! A bounded queue from one task to another one, which may belong to another reactor.
//!
//! There is nothing to connect: either half can be used as soon as its reactor runs, whether or not the other's does,
//! and whoever waits sleeps. What wakes a task is its own waker, which the runtime lets any thread call.
//!
//! Invariant: a half that finds nothing to do leaves its waker first and looks again afterwards. So what the other half
//! did before it called the waker is seen, and what it does later calls it.
//!
//! Not here: batching, and what the messages mean.

use atomic_waker::AtomicWaker;
use crossbeam_queue::ArrayQueue;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

struct Shared<T> {
    queue: ArrayQueue<T>,
    /// Waits for messages.
    receiver: AtomicWaker,
    /// Waits for room.
    sender: AtomicWaker,
    /// One half is gone.
    is_closed: AtomicBool,
}

/// The half that sends. One task at a time may use it.
pub struct Sender<T>(Arc<Shared<T>>);

/// The half that receives. One task at a time may use it.
pub struct Receiver<T>(Arc<Shared<T>>);

/// A channel that holds up to `capacity` messages.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity),
        receiver: AtomicWaker::new(),
        sender: AtomicWaker::new(),
        is_closed: AtomicBool::new(false),
    });
    (Sender(shared.clone()), Receiver(shared))
}

impl<T> Shared<T> {
    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    fn close(&self, other: &AtomicWaker) {
        self.is_closed.store(true, Ordering::Release);
        other.wake();
    }
}

impl<T> Sender<T> {
    /// Hands a message over, as soon as there is room. False, and the message dropped, if the receiver is gone.
    pub async fn send(&self, message: T) -> bool {
        let mut message = Some(message);
        poll_fn(|context| self.poll_send(context, &mut message)).await
    }

    fn poll_send(&self, context: &Context<'_>, message: &mut Option<T>) -> Poll<bool> {
        match self.try_send(message) {
            Poll::Pending => {
                self.0.sender.register(context.waker());
                self.try_send(message)
            }
            done => done,
        }
    }

    fn try_send(&self, message: &mut Option<T>) -> Poll<bool> {
        if self.0.is_closed() {
            return Poll::Ready(false);
        }
        let Some(unsent) = message.take() else { return Poll::Ready(true) };
        match self.0.queue.push(unsent) {
            Ok(()) => {
                self.0.receiver.wake();
                Poll::Ready(true)
            }
            Err(unsent) => {
                *message = Some(unsent);
                Poll::Pending
            }
        }
    }
}

impl<T> Receiver<T> {
    /// The next message; `None` if the sender is gone and everything was received.
    pub async fn receive(&self) -> Option<T> {
        poll_fn(|context| match self.try_receive() {
            Poll::Pending => {
                self.0.receiver.register(context.waker());
                self.try_receive()
            }
            done => done,
        })
        .await
    }

    fn try_receive(&self) -> Poll<Option<T>> {
        // In this order: what was sent before the end is still received.
        let is_closed = self.0.is_closed();
        match self.0.queue.pop() {
            Some(message) => {
                self.0.sender.wake();
                Poll::Ready(Some(message))
            }
            None if is_closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.close(&self.0.receiver);
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.close(&self.0.sender);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::poll_once;
    use plinth_net::rt::{self, Reactor};
    use std::time::{Duration, Instant};

    /// Runs `task` on a reactor of its own, in a queue with a short interval: the hardest case for wake-ups.
    fn reactor<F: Future<Output = T> + 'static, T: Send + 'static>(
        task: impl FnOnce() -> F + Send + 'static,
    ) -> Reactor<T> {
        let main = || async move { rt::spawn_into(task(), rt::queue("test", 1000, Duration::from_micros(50))).await };
        rt::reactor("test", None, rt::RING_ENTRIES, main).expect("a reactor")
    }

    #[test]
    fn what_was_sent_before_the_end_is_received() {
        let reactor = reactor(|| async {
            let (sender, receiver) = bounded(2);
            assert!(sender.send(1).await && sender.send(2).await);
            assert!(poll_once(sender.send(3)).await.is_none(), "it is full");
            assert_eq!(receiver.receive().await, Some(1));
            drop(sender);
            assert_eq!(receiver.receive().await, Some(2));
            assert_eq!(receiver.receive().await, None);
            let (sender, receiver) = bounded(1);
            drop(receiver);
            assert!(!sender.send(1).await, "nobody receives");
        });
        reactor.join().expect("it ends");
    }

    /// Reactors that start and end at once, with threads that keep every processor busy: each ball must come back.
    #[test]
    fn no_wake_up_is_lost_between_reactors_that_are_preempted() {
        const PAIRS: usize = 8;
        const BALLS: u32 = 500;
        /// On a machine that is busy with other things a pair plays so long, and not to the end.
        const PLAY: Duration = Duration::from_secs(3);
        let until = Arc::new(AtomicBool::new(false));
        let load: Vec<_> = (0..4)
            .map(|_| {
                let until = until.clone();
                std::thread::spawn(move || while !until.load(Ordering::Relaxed) {})
            })
            .collect();
        let begun = Instant::now();
        for pair in 0..PAIRS {
            let (to, at) = bounded(1 + pair % 3);
            let (back, home) = bounded(1);
            let echo = reactor(move || async move {
                while let Some(ball) = at.receive().await {
                    if !back.send(ball).await {
                        break;
                    }
                }
            });
            let player = reactor(move || async move {
                let begun = Instant::now();
                for ball in (0..BALLS).take_while(|ball| *ball < 20 || begun.elapsed() < PLAY) {
                    assert!(to.send(ball).await);
                    assert_eq!(home.receive().await, Some(ball));
                }
            });
            player.join().expect("every ball came back");
            echo.join().expect("the echo ends with its channel");
        }
        until.store(true, Ordering::Relaxed);
        load.into_iter().for_each(|thread| thread.join().expect("it ends"));
        println!("{PAIRS} pairs in {:?}", begun.elapsed());
    }
}
