//! Who waits for which change of the configuration.
//!
//! A committed change is recognised by its bytes: two requests for the same change are one and the same to those who
//! asked, and the older one is answered first.

use bytes::Bytes;
use plinth_engine::lease::Millis;
use std::collections::VecDeque;

struct Waiting<W> {
    change: Bytes,
    since: Millis,
    waiter: W,
    /// It is known not to have left this member.
    is_unsent: bool,
}

/// All changes this member has proposed and not seen committed. Their number is bounded by who may ask: each waits for
/// the last one, or until it times out.
pub(crate) struct Changes<W> {
    waiting: VecDeque<Waiting<W>>,
}

impl<W> Changes<W> {
    pub(crate) fn new() -> Self {
        Changes { waiting: VecDeque::new() }
    }

    pub(crate) fn push(&mut self, change: Bytes, waiter: W, since: Millis) {
        self.waiting.push_back(Waiting { change, since, waiter, is_unsent: false });
    }

    /// A change has not left this member: it is to be proposed again, as long as somebody waits for it.
    pub(crate) fn unsent(&mut self, change: &[u8]) {
        if let Some(waiting) = self.waiting.iter_mut().rfind(|waiting| waiting.change == change) {
            waiting.is_unsent = true;
        }
    }

    /// The oldest change that is to be proposed again.
    pub(crate) fn next_unsent(&mut self) -> Option<Bytes> {
        let waiting = self.waiting.iter_mut().find(|waiting| waiting.is_unsent)?;
        waiting.is_unsent = false;
        Some(waiting.change.clone())
    }

    /// The change was committed: who waits for it.
    pub(crate) fn applied(&mut self, change: &[u8]) -> Option<W> {
        let place = self.waiting.iter().position(|waiting| waiting.change == change)?;
        self.waiting.remove(place).map(|waiting| waiting.waiter)
    }

    /// Gives up on what was asked for before `deadline`; that may have been long before it was proposed.
    pub(crate) fn expire(&mut self, deadline: Millis, out: &mut Vec<W>) {
        while let Some(place) = self.waiting.iter().position(|waiting| waiting.since < deadline) {
            out.extend(self.waiting.remove(place).map(|waiting| waiting.waiter));
        }
    }

    /// Takes every waiter.
    pub(crate) fn drain(&mut self, out: &mut Vec<W>) {
        out.extend(self.waiting.drain(..).map(|waiting| waiting.waiter));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_changes_are_answered_one_by_one() {
        let mut changes = Changes::new();
        for (waiter, change, since) in [('a', "same", 1), ('c', "other", 3), ('b', "same", 2)] {
            changes.push(Bytes::from_static(change.as_bytes()), waiter, Millis(since));
        }
        changes.unsent(b"other");
        changes.unsent(b"nobody waits for it");
        assert_eq!((changes.next_unsent(), changes.next_unsent()), (Some(Bytes::from_static(b"other")), None));
        assert_eq!(changes.applied(b"same"), Some('a'));
        let mut expired = Vec::new();
        changes.expire(Millis(3), &mut expired);
        assert_eq!(expired, ['b']);
        assert_eq!(changes.applied(b"same"), None);
        assert_eq!(changes.applied(b"other"), Some('c'));
    }
}
