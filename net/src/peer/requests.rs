//! Requests on their way on one connection, and those who wait for the answers.
//!
//! Invariants: an id names at most one waiting request; who stops waiting leaves no trace; when the connection is over
//! everybody who waits is told.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::Bytes;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is no connection to this peer; nothing was sent.
    #[error("the peer is not connected")]
    NotConnected,
    /// Too many requests are on their way, here or there.
    #[error("too many requests to the peer")]
    Busy,
    /// The answer did not come in time. The request may have had its effect.
    #[error("the peer did not answer in time")]
    Timeout,
    /// The peer gave a reason instead of an answer.
    #[error("the peer refused the request with code {0}")]
    Refused(u16),
    /// The connection broke. The request may have had its effect.
    #[error("the connection to the peer was lost")]
    Lost,
}

type Outcome = Result<Bytes, RequestError>;

#[derive(Default)]
struct Slot {
    outcome: Cell<Option<Outcome>>,
    waker: RefCell<Option<Waker>>,
}

impl Slot {
    fn complete(&self, outcome: Outcome) {
        self.outcome.set(Some(outcome));
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The requests of one connection.
#[derive(Default)]
pub(super) struct Requests {
    last_id: Cell<u32>,
    waiting: RefCell<BTreeMap<u32, Rc<Slot>>>,
    over: Cell<bool>,
}

impl Requests {
    /// A place among at most `max` requests.
    pub(super) fn open(self: &Rc<Self>, max: usize) -> Result<Ticket, RequestError> {
        if self.over.get() {
            return Err(RequestError::NotConnected);
        }
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= max {
            return Err(RequestError::Busy);
        }
        let mut id = self.last_id.get();
        loop {
            id = id.wrapping_add(1);
            if !waiting.contains_key(&id) {
                break;
            }
        }
        self.last_id.set(id);
        let slot = Rc::new(Slot::default());
        waiting.insert(id, Rc::clone(&slot));
        Ok(Ticket { requests: Rc::clone(self), id, slot })
    }

    /// An answer has come. It is ignored if nobody waits for it any more.
    pub(super) fn complete(&self, id: u32, outcome: Outcome) {
        let slot = self.waiting.borrow_mut().remove(&id);
        if let Some(slot) = slot {
            slot.complete(outcome);
        }
    }

    /// The connection is over.
    pub(super) fn end(&self) {
        self.over.set(true);
        for slot in self.waiting.take().into_values() {
            slot.complete(Err(RequestError::Lost));
        }
    }
}

/// One waiting request.
pub(super) struct Ticket {
    requests: Rc<Requests>,
    id: u32,
    slot: Rc<Slot>,
}

impl Ticket {
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    pub(super) async fn outcome(&self) -> Outcome {
        poll_fn(|cx| {
            if let Some(outcome) = self.slot.outcome.take() {
                return Poll::Ready(outcome);
            }
            *self.slot.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut waiting = self.requests.waiting.borrow_mut();
        // The id may have been given away again since this request was answered.
        if waiting.get(&self.id).is_some_and(|slot| Rc::ptr_eq(slot, &self.slot)) {
            waiting.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    fn now(ticket: &Ticket) -> Option<Outcome> {
        match pin!(ticket.outcome()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }

    #[test]
    fn answers_find_those_who_wait() {
        let requests = Rc::new(Requests::default());
        let (first, second) = (requests.open(2).unwrap(), requests.open(2).unwrap());
        assert_eq!(requests.open(2).err(), Some(RequestError::Busy));
        assert_eq!(now(&first), None);
        requests.complete(second.id(), Ok(Bytes::from_static(b"2")));
        requests.complete(77, Ok(Bytes::new()));
        assert_eq!(now(&second), Some(Ok(Bytes::from_static(b"2"))));
        let third = requests.open(2).unwrap();
        drop(first);
        let fourth = requests.open(2).unwrap();
        requests.end();
        assert_eq!(now(&third), Some(Err(RequestError::Lost)));
        assert_eq!(now(&fourth), Some(Err(RequestError::Lost)));
        assert_eq!(requests.open(2).err(), Some(RequestError::NotConnected));
    }

    #[test]
    fn ids_that_wait_are_not_given_away_again() {
        let requests = Rc::new(Requests::default());
        let first = requests.open(3).unwrap();
        requests.last_id.set(first.id().wrapping_sub(1));
        let second = requests.open(3).unwrap();
        assert_ne!(first.id(), second.id());
        // An answered request whose id is in use again does not take the new one with it.
        requests.complete(first.id(), Ok(Bytes::new()));
        requests.last_id.set(first.id().wrapping_sub(1));
        let third = requests.open(3).unwrap();
        assert_eq!(third.id(), first.id());
        drop(first);
        requests.complete(third.id(), Ok(Bytes::from_static(b"3")));
        assert_eq!(now(&third), Some(Ok(Bytes::from_static(b"3"))));
    }
}
