//! A snapshot on its way into a member: fetched, opened, and not yet taken by consensus.

use plinth_engine::store::Store;
use plinth_engine::trees::Trees;
use plinth_raft::EntryId;

/// A snapshot whose bytes are here.
pub(crate) struct Arrived<T: Trees> {
    /// Its last entry.
    pub(crate) id: EntryId,
    pub(crate) store: Store<T>,
    /// Makes it the member's data, durably.
    pub(crate) place: Box<dyn FnOnce() -> std::io::Result<()>>,
}
