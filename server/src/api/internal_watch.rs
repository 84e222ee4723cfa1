//! A watch of the server's own: what the lock and election services wait with. It is a stream of the hub like any
//! other, whose messages end up in a queue here instead of a connection.

use crate::home::{Home, State, watching};
use bytes::Bytes;
use plinth_api::proto::etcdserverpb as pb;
use plinth_engine::watch::{StreamKey, WatchSpec};
use plinth_member::history;
use plinth_net::grpc::{CallKey, ReplySink, Status, StreamReply};
use prost::Message;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Tells a task that its caller has gone.
#[derive(Default)]
pub struct Cancelled {
    is_set: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Cancelled {
    /// Tells it.
    pub fn set(&self) {
        self.is_set.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether it was told.
    pub fn is_set(&self) -> bool {
        self.is_set.get()
    }
}

/// Collects the messages of the hub.
#[derive(Default)]
struct Queue {
    messages: RefCell<VecDeque<Bytes>>,
    waker: RefCell<Option<Waker>>,
}

impl ReplySink for Queue {
    fn send(&self, call: CallKey, encode: &mut dyn FnMut(&mut Vec<u8>), finish: bool) {
        let mut body = Vec::new();
        encode(&mut body);
        self.send_bytes(call, body.into(), finish);
    }

    fn send_bytes(&self, _call: CallKey, body: Bytes, _finish: bool) {
        self.messages.borrow_mut().push_back(body);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn finish(&self, _call: CallKey, _status: Status) {}

    fn abandon(&self, _call: CallKey) {}

    fn queued_bytes(&self, _call: CallKey) -> usize {
        self.messages.borrow().iter().map(Bytes::len).sum()
    }

    fn is_closed(&self, _call: CallKey) -> bool {
        false
    }

    fn on_cancel(&self, _call: CallKey, _action: Box<dyn FnOnce()>) {}

    fn park(&self, _call: CallKey) {}
}

/// See the module. Dropping it ends the watch.
pub struct InternalWatch {
    home: Rc<Home>,
    key: StreamKey,
    queue: Rc<Queue>,
}

impl InternalWatch {
    /// Watches a range from a revision on.
    pub fn open(home: &Rc<Home>, key: &[u8], range_end: &[u8], start_revision: i64) -> InternalWatch {
        let queue = Rc::new(Queue::default());
        let reply = StreamReply::new(queue.clone(), CallKey { slot: 0, generation: 0 });
        let stream = {
            let mut guard = home.state_mut();
            let State { member, hub, watch_replies, .. } = &mut *guard;
            let stream = hub.open_stream();
            watch_replies.insert(stream, reply);
            let spec = WatchSpec { key, range_end, start_revision, ..WatchSpec::default() };
            history::watch(member, hub, stream, &spec);
            stream
        };
        home.background.notify();
        watching::deliver_ready(home);
        InternalWatch { home: home.clone(), key: stream, queue }
    }

    /// The next message with events; nothing if the caller has gone or the watch was canceled by a compaction.
    pub async fn next(&self, cancelled: &Cancelled) -> Option<pb::WatchResponse> {
        loop {
            let message = poll_fn(|context| {
                if cancelled.is_set() || self.home.is_stopping() {
                    return Poll::Ready(None);
                }
                if let Some(message) = self.queue.messages.borrow_mut().pop_front() {
                    return Poll::Ready(Some(message));
                }
                *self.queue.waker.borrow_mut() = Some(context.waker().clone());
                *cancelled.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            })
            .await?;
            watching::resume(&self.home, self.key);
            let response = pb::WatchResponse::decode(message).expect("encoded by this process");
            if response.canceled {
                return None;
            }
            if !response.events.is_empty() {
                return Some(response);
            }
        }
    }
}

impl Drop for InternalWatch {
    fn drop(&mut self) {
        let mut state = self.home.state_mut();
        state.hub.close_stream(self.key);
        state.watch_replies.remove(&self.key);
    }
}
