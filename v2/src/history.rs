//! The last changes, without gaps, bounded by number and by bytes.
//!
//! Bounds are a member's own: what is refused as too old depends on whom one asks, what happened does not.

use crate::error::{Code, V2Error};
use crate::event::Event;
use crate::limits::{HISTORY_BYTES, HISTORY_EVENTS};
use std::collections::VecDeque;

/// See the module.
#[derive(Debug)]
pub struct History {
    events: VecDeque<Event>,
    bytes: usize,
    events_max: usize,
    bytes_max: usize,
}

impl Default for History {
    fn default() -> Self {
        History { events: VecDeque::new(), bytes: 0, events_max: HISTORY_EVENTS, bytes_max: HISTORY_BYTES }
    }
}

impl History {
    /// Keeps no more than so much, from the next event on.
    pub fn set_bounds(&mut self, events_max: usize, bytes_max: usize) {
        (self.events_max, self.bytes_max) = (events_max.max(1), bytes_max);
    }

    /// Index of the oldest event; 0 if there is none.
    pub fn first_index(&self) -> u64 {
        self.events.front().map_or(0, Event::index)
    }

    /// Index of the newest event; 0 if there is none.
    pub fn last_index(&self) -> u64 {
        self.events.back().map_or(0, Event::index)
    }

    /// The event of this index, if it is still known.
    pub fn get(&self, index: u64) -> Option<&Event> {
        let at = index.checked_sub(self.first_index())?;
        self.events.get(usize::try_from(at).ok()?)
    }

    /// All events from this index on.
    pub fn from(&self, index: u64) -> impl Iterator<Item = &Event> {
        let skipped = index.saturating_sub(self.first_index());
        self.events.iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX))
    }

    /// Adds the next event, and lets go of old ones, which are handed to `forget`.
    pub fn push(&mut self, event: Event, mut forget: impl FnMut(u64)) {
        let (last, index) = (self.last_index(), event.index());
        assert!(self.events.is_empty() || index == last + 1, "event {index} behind {last}: none is left out");
        self.bytes += event.weight();
        self.events.push_back(event);
        while self.events.len() > self.events_max || (self.bytes > self.bytes_max && self.events.len() > 1) {
            let oldest = self.events.pop_front().expect("there is more than one");
            self.bytes = self.bytes.checked_sub(oldest.weight()).expect("it was counted");
            forget(oldest.index());
        }
    }

    /// The first event from `index` on that one who looks for this path finds.
    ///
    /// # Errors
    /// If that index is not known any more.
    pub fn scan(&self, watched: &[u8], recursive: bool, index: u64) -> Result<Option<&Event>, V2Error> {
        let first = self.first_index();
        if index < first {
            let cause = format!("the requested history has been cleared [{first}/{index}]");
            return Err(V2Error::request(Code::EventIndexCleared, cause));
        }
        Ok(self.from(index).find(|event| event.is_found(watched, recursive)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Action;
    use crate::node::View;
    use bytes::Bytes;

    fn event(index: u64, key: &'static str) -> Event {
        let node = View { key: Bytes::from_static(key.as_bytes()), modified: index, created: index, ..View::default() };
        Event { action: Action::Set, node, prev: None, refresh: false }
    }

    #[test]
    fn old_events_make_room() {
        let mut history = History::default();
        history.set_bounds(3, 1 << 20);
        let mut forgotten = Vec::new();
        for index in 4..10 {
            history.push(event(index, "/1/a"), |index| forgotten.push(index));
        }
        assert_eq!((forgotten, history.first_index(), history.last_index()), (vec![4, 5, 6], 7, 9));
        assert_eq!(history.get(8).map(Event::index), Some(8));
        assert_eq!((history.get(6), history.get(10)), (None, None));
        let refused = history.scan(b"/1/a", false, 6).expect_err("it is gone");
        assert_eq!(refused.cause, b"the requested history has been cleared [7/6]");
        assert_eq!(history.scan(b"/1/a", false, 8).expect("known").map(Event::index), Some(8));
        assert_eq!(history.scan(b"/1/a", false, 10), Ok(None));
        assert_eq!(history.scan(b"/1/b", false, 7), Ok(None));
        history.set_bounds(3, 1);
        history.push(event(10, "/1/a"), |_| {});
        assert_eq!((history.first_index(), history.last_index()), (10, 10), "one is always kept");
    }
}
