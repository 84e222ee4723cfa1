//! Who reads history in steps: what they read is not removed by compactions that were asked for meanwhile.
//!
//! A pin lasts as long as whoever holds it; reading in steps takes as long as its steps, so compaction waits for a bounded
//! time. Whoever waits for clients must not pin.

use std::sync::{Arc, Weak};

/// Keeps what exists at a revision, and everything above it.
#[derive(Debug)]
pub struct Pin(Arc<i64>);

/// The pins of a store.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    held: Vec<Weak<i64>>,
}

impl Pins {
    /// Keeps what exists at `revision` for as long as the pin is there.
    pub(crate) fn pin(&mut self, revision: i64) -> Pin {
        self.forget_dropped();
        let pin = Arc::new(revision);
        self.held.push(Arc::downgrade(&pin));
        Pin(pin)
    }

    /// Whether the pin is one of this store: a snapshot may have taken the place of the one that it was made for.
    pub(crate) fn holds(&self, pin: &Pin) -> bool {
        self.held.iter().any(|held| std::ptr::eq(held.as_ptr(), Arc::as_ptr(&pin.0)))
    }

    /// Whether a compaction at `revision` would take something away from a reader.
    pub(crate) fn forbid(&mut self, revision: i64) -> bool {
        self.forget_dropped();
        self.held.iter().filter_map(Weak::upgrade).any(|pinned| *pinned < revision)
    }

    fn forget_dropped(&mut self) {
        self.held.retain(|held| held.strong_count() > 0);
    }
}
