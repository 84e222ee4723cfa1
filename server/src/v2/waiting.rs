//! An answer whose head is sent at once, and whose events follow when they happen.

use crate::home::v2::Watch;
use crate::notify::Notify;
use bytes::Bytes;
use std::cell::Cell;
use std::rc::Rc;

/// A client that has not taken this much is sent no more; what it waits for stays in the history.
const QUEUE_BYTES: usize = 256 << 10;

/// Where events go: to a connection of this reactor, or through the mesh.
pub trait Pieces {
    /// Sends an event.
    fn send(&self, piece: Bytes);
    /// Bytes that have not left yet.
    fn queued_bytes(&self) -> usize;
    /// Has [`Signals::moved`] called when few bytes wait. Asked for while there are many.
    fn follow_queue(&self, signals: &Rc<Signals>);
    /// Nothing more comes.
    fn finish(self);
}

/// What happens to the client meanwhile.
#[derive(Default)]
pub struct Signals {
    is_lost: Cell<bool>,
    wake: Cell<Option<Rc<Notify>>>,
}

impl Signals {
    /// The client is gone.
    pub fn lost(&self) {
        self.is_lost.set(true);
        self.moved();
    }

    /// There may be room again.
    pub fn moved(&self) {
        let wake = self.wake.take();
        if let Some(wake) = &wake {
            wake.notify();
        }
        self.wake.set(wake);
    }
}

/// See the module.
pub struct Waiting(Watch);

impl Waiting {
    /// For one who waits.
    pub fn new(watch: Watch) -> Waiting {
        Waiting(watch)
    }

    /// Sends events until there are no more, or nobody listens.
    pub async fn run(self, pieces: impl Pieces, signals: Rc<Signals>) {
        let Waiting(watch) = self;
        signals.wake.set(Some(watch.wake.clone()));
        loop {
            if signals.is_lost.get() {
                return;
            }
            while pieces.queued_bytes() < QUEUE_BYTES {
                match watch.next() {
                    Ok(Some(json)) => pieces.send(json.into()),
                    Ok(None) => break,
                    Err(_) => return pieces.finish(),
                }
                if !watch.is_stream {
                    return pieces.finish();
                }
            }
            if pieces.queued_bytes() >= QUEUE_BYTES {
                pieces.follow_queue(&signals);
            }
            watch.wake.wait().await;
        }
    }
}
