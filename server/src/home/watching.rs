//! Watchers of this home: what the hub has for a stream is sent as far as its connection takes it, in bounded steps.

use super::{Home, State};
use plinth_engine::watch::{Hub, StreamKey};

/// A stream gets no more messages while its connection has this much to send; the hub keeps them, within its bound.
const SEND_QUEUE_BYTES: usize = 256 << 10;

/// Bytes encoded in one step; with the writing that follows, about a hundred microseconds.
const STEP_BYTES: usize = 64 << 10;

/// Sends what the hub has for the streams that have something new, as much as one step may take; what is left is for the
/// background. Whether there is more.
pub fn deliver_ready(home: &Home) -> bool {
    deliver_step(home, Hub::pop_ready)
}

/// Sends what there is time for, as much as one step may take: many who have a lot to catch up on, or read slowly, do
/// not keep everybody else waiting. Whether there is more.
pub fn deliver_late(home: &Home) -> bool {
    deliver_step(home, Hub::pop_late)
}

fn deliver_step(home: &Home, next: impl Fn(&mut Hub) -> Option<StreamKey>) -> bool {
    let mut state = home.state_mut();
    let mut sent = 0;
    while sent < STEP_BYTES
        && let Some(key) = next(&mut state.hub)
    {
        sent += deliver(home, &mut state, key, STEP_BYTES - sent);
    }
    let more = sent >= STEP_BYTES;
    if more {
        home.background.notify();
    }
    more
}

/// Sends what the hub has for one stream, as far as its connection takes it, when `writable` goes on, or beyond `most`
/// bytes by one message, when the background does. Returns the bytes.
fn deliver(home: &Home, state: &mut State, key: StreamKey, most: usize) -> usize {
    let ids = home.header_ids(state);
    let State { hub, watch_replies, .. } = state;
    let Some(reply) = watch_replies.get(&key) else { return 0 };
    let mut sent = 0;
    while reply.queued_bytes() < SEND_QUEUE_BYTES && hub.has_message(key) {
        if sent >= most {
            hub.postpone(key);
            break;
        }
        let mut is_open = false;
        crate::fail_point!("beforeSendWatchResponse");
        // Encoded where it is sent from. A call that has ended takes nothing.
        reply.send(|out| {
            let before = out.len();
            is_open = hub.next_message(key, ids, out);
            sent += out.len() - before;
        });
        if !is_open {
            break;
        }
    }
    sent
}

/// Goes on sending to a stream whose consumer has taken something.
pub fn resume(home: &Home, key: StreamKey) {
    let mut state = home.state_mut();
    deliver(home, &mut state, key, STEP_BYTES);
    drop(state);
    home.background.notify();
}
