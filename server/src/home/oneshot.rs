//! A value that one task of a reactor hands to another, once.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

struct Slot<T> {
    value: Option<T>,
    waker: Option<Waker>,
    is_closed: bool,
}

/// Gives the value. Dropped without, the receiver gets `None`.
pub struct Sender<T> {
    slot: Rc<RefCell<Slot<T>>>,
}

/// Awaits the value.
pub struct Receiver<T> {
    slot: Rc<RefCell<Slot<T>>>,
}

/// A connected pair.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let slot = Rc::new(RefCell::new(Slot { value: None, waker: None, is_closed: false }));
    (Sender { slot: slot.clone() }, Receiver { slot })
}

impl<T> Sender<T> {
    /// Hands the value over.
    pub fn send(self, value: T) {
        self.slot.borrow_mut().value = Some(value);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = self.slot.borrow_mut();
            slot.is_closed = true;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Receiver<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = self.slot.borrow_mut();
        if slot.value.is_some() || slot.is_closed {
            return Poll::Ready(slot.value.take());
        }
        slot.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_arrives_or_its_absence() {
        let mut context = Context::from_waker(Waker::noop());
        let (sender, mut receiver) = channel();
        assert!(Pin::new(&mut receiver).poll(&mut context).is_pending());
        sender.send(7);
        assert_eq!(Pin::new(&mut receiver).poll(&mut context), Poll::Ready(Some(7)));
        let (sender, mut receiver) = channel::<u8>();
        drop(sender);
        assert_eq!(Pin::new(&mut receiver).poll(&mut context), Poll::Ready(None));
    }
}
