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
