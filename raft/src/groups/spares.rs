//! Emptied buffers, kept to be used again: what travels and what is handed out costs no allocation once a machine has been
//! at work for a while.
//!
//! Invariants: everything in here is empty; each list is bounded, and so is what one buffer may hold, so that one large
//! round does not stay in memory for ever.

use super::parcel::{Asleep, Parcel};
use crate::message::PeerMessage;
use crate::ready::Ready;
use crate::types::Entry;

/// Buffers of a kind that are kept.
const KEPT_MAX: usize = 4096;
/// Of those that hold many others.
const KEPT_LISTS_MAX: usize = 64;
/// Elements that a kept buffer has room for, at most.
const ROOM_MAX: usize = 4096;
/// The same for what one group hands out.
const READY_ROOM_MAX: usize = 256;

/// See the module. Default: nothing is kept yet.
#[derive(Debug, Default)]
pub struct Spares {
    pub(super) entries: Vec<Vec<Entry>>,
    readies: Vec<Ready>,
    messages: Vec<Vec<PeerMessage>>,
    asleep: Vec<Vec<Asleep>>,
}

fn keep<T>(list: &mut Vec<Vec<T>>, max: usize, mut buffer: Vec<T>) {
    buffer.clear();
    if (1..=ROOM_MAX).contains(&buffer.capacity()) && list.len() < max {
        list.push(buffer);
    }
}

impl Spares {
    pub(super) fn entries(&mut self) -> Vec<Entry> {
        self.entries.pop().unwrap_or_default()
    }

    pub(super) fn messages(&mut self) -> Vec<PeerMessage> {
        self.messages.pop().unwrap_or_default()
    }

    pub(super) fn asleep(&mut self) -> Vec<Asleep> {
        self.asleep.pop().unwrap_or_default()
    }

    pub(super) fn ready(&mut self) -> Ready {
        self.readies.pop().unwrap_or_default()
    }

    /// A message was sent.
    pub(super) fn take_message(&mut self, message: PeerMessage) {
        keep(&mut self.entries, KEPT_MAX, message.entries);
    }

    /// A `Ready` was done with.
    pub(super) fn take_ready(&mut self, mut ready: Ready) {
        ready.messages.drain(..).chain(ready.persisted_messages.drain(..)).for_each(|message| {
            keep(&mut self.entries, KEPT_MAX, message.entries);
        });
        ready.clear();
        let room = [ready.entries.capacity(), ready.committed.capacity(), ready.messages.capacity()];
        if self.readies.len() < KEPT_LISTS_MAX && room.iter().all(|room| *room <= READY_ROOM_MAX) {
            self.readies.push(ready);
        }
    }

    /// A parcel was sent, or its messages were taken out.
    pub(super) fn take_parcel(&mut self, mut parcel: Parcel) {
        parcel.messages.drain(..).for_each(|message| self.take_message(message));
        keep(&mut self.messages, KEPT_LISTS_MAX, parcel.messages);
        keep(&mut self.asleep, KEPT_LISTS_MAX, parcel.asleep);
    }
}
