//! The data file of a simulated member, opened as the server does it.

use plinth_engine::pagefile::testing::SimStore;
use plinth_engine::pagefile::{OpenError, Options, PageFile};
use plinth_engine::store::{Store, StoreConfig};
use plinth_member::META_CONF_STATE;
use plinth_raft::{ConfState, EntryId};

/// What a member keeps.
pub type SimContent = Store<PageFile<SimStore>>;

/// Changes that may wait in memory while the disk is full.
const OVERDRAFT_BYTES: u64 = 64 << 20;

/// Opens a data file, or makes one.
pub fn open(data: SimStore, config: StoreConfig) -> Result<SimContent, String> {
    let mut file = match PageFile::open(data.clone()) {
        Ok(file) => file,
        Err(OpenError::Blank) => {
            let mut file = PageFile::create(data, Options { file_id: 1 }).map_err(|error| error.to_string())?;
            file.flush_now().map_err(|error| error.to_string())?;
            file
        }
        Err(error) => return Err(format!("data file: {error}")),
    };
    file.set_overdraft(OVERDRAFT_BYTES);
    Store::open(file, config).map_err(|error| format!("data: {error}"))
}

/// The last entry it holds.
pub fn applied(store: &SimContent) -> EntryId {
    EntryId { index: store.applied().index, term: store.applied().term }
}

/// The configuration of the group it holds.
pub fn conf(store: &SimContent) -> Result<ConfState, String> {
    match store.meta(META_CONF_STATE).map_err(|error| error.to_string())? {
        Some(bytes) => ConfState::decode(bytes).map_err(|error| error.to_string()),
        None => Ok(ConfState::default()),
    }
}
