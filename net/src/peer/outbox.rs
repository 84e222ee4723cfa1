//! What waits to be written to one connection, and the task that will write it.
//!
//! Frames are appended by anybody on the reactor and wake the task once; however many they are, they leave together.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};

use bytes::Bytes;

use super::wire::{FrameHead, HEAD_BYTES};
use crate::h2::Output;

/// Pieces up to this size are copied: that is cheaper than a slice of a write and a reference for each.
const COPY_BYTES_MAX: usize = 256;

/// The queue of one connection, and the bell of its task.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) output: RefCell<Output>,
    waker: RefCell<Option<Waker>>,
    /// The task will look at the queue without being woken.
    awake: Cell<bool>,
    closed: Cell<bool>,
}

impl Outbox {
    /// Appends a frame whose payload is `first` and then all of `parts`, which is emptied. False if more than `bytes_max`
    /// would wait; then nothing is appended.
    pub(super) fn push(&self, head: FrameHead, first: &[u8], parts: &mut Vec<Bytes>, bytes_max: usize) -> bool {
        let length = HEAD_BYTES + first.len() + parts.iter().map(Bytes::len).sum::<usize>();
        let mut output = self.output.borrow_mut();
        if self.closed.get() || output.len() + length > bytes_max {
            parts.clear();
            return false;
        }
        let head = head.encode(std::iter::once(first).chain(parts.iter().map(|part| &part[..])));
        output.buffer().extend_from_slice(&head);
        output.buffer().extend_from_slice(first);
        for part in parts.drain(..) {
            if part.len() <= COPY_BYTES_MAX {
                output.buffer().extend_from_slice(&part);
            } else {
                output.splice(part);
            }
        }
        drop(output);
        self.wake();
        true
    }

    /// Appends a small frame for which there is always room.
    pub(super) fn push_empty(&self, head: FrameHead) {
        if !self.closed.get() {
            self.output.borrow_mut().buffer().extend_from_slice(&head.encode(std::iter::empty()));
            self.wake();
        }
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.output.borrow().len()
    }

    /// Forgets what waits.
    pub(super) fn clear(&self) {
        let lost = self.output.take();
        drop(lost);
    }

    /// The task runs, and need not be woken before it sleeps.
    pub(super) fn task_runs(&self, cx: &Context<'_>) {
        self.awake.set(true);
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// The task will not look again before it is woken.
    pub(super) fn task_sleeps(&self) {
        self.awake.set(false);
    }

    pub(super) fn wake(&self) {
        if !self.awake.replace(true)
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    /// Ends the connection and its task.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.clear();
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::wire::{FrameDecoder, FrameKind};
    use std::io::IoSlice;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    const MESSAGE: FrameHead = FrameHead { kind: FrameKind::Message, code: 0, id: 0 };

    fn written(outbox: &Outbox) -> Vec<u8> {
        let output = outbox.output.borrow();
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = output.fill(&mut slices);
        slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn a_frame_fits_to_the_byte_or_not_at_all() {
        let outbox = Outbox::default();
        let parts = || vec![Bytes::from_static(b"small"), Bytes::from(vec![1; COPY_BYTES_MAX + 1])];
        let length = HEAD_BYTES + 4 + 5 + COPY_BYTES_MAX + 1;
        let mut refused = parts();
        assert!(!outbox.push(MESSAGE, b"head", &mut refused, length - 1));
        assert!(refused.is_empty());
        assert_eq!(outbox.queued_bytes(), 0);
        assert!(outbox.push(MESSAGE, b"head", &mut parts(), length));
        assert_eq!(outbox.queued_bytes(), length);
        assert!(!outbox.push(MESSAGE, b"", &mut Vec::new(), length));
        let mut decoder = FrameDecoder::new(1000);
        decoder.receive(written(&outbox).into());
        let frame = decoder.next_frame().unwrap().unwrap();
        assert_eq!(frame.payload, [b"headsmall", &[1; COPY_BYTES_MAX + 1][..]].concat());
        outbox.close();
        assert_eq!(outbox.queued_bytes(), 0);
        assert!(!outbox.push(MESSAGE, b"", &mut Vec::new(), usize::MAX));
        outbox.push_empty(MESSAGE);
        assert_eq!(outbox.queued_bytes(), 0);
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_sleeping_task_is_woken_once() {
        let (outbox, count) = (Outbox::default(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let push = || assert!(outbox.push(MESSAGE, b"x", &mut Vec::new(), usize::MAX));
        push();
        outbox.task_runs(&Context::from_waker(&waker));
        push();
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "it runs, and looks at the queue anyway");
        outbox.task_sleeps();
        push();
        push();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        outbox.close();
        assert_eq!(count.0.load(Ordering::Relaxed), 2, "the end is always told");
    }
}
