//! The store of a group: a few keys, what was applied, and the configuration then.

use bytes::Bytes;
use plinth_raft::{ConfState, Entry, EntryId};
use std::collections::BTreeMap;

/// What a client wants of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Put,
    /// Put if the value is this; if it is zero, if there is no key.
    Swap(u64),
}

/// A command, as it is replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// Whose: the number of the call. It is the value as well.
    pub(super) call: u64,
    pub(super) key: u64,
    pub(super) wish: Wish,
}

impl Command {
    pub(super) fn encode(self) -> Bytes {
        let expected = match self.wish {
            Wish::Put => u64::MAX,
            Wish::Swap(expected) => expected,
        };
        let words = [self.call, self.key, expected].map(u64::to_le_bytes);
        words.concat().into()
    }

    fn decode(data: &[u8]) -> Option<Command> {
        let word = |at: usize| Some(u64::from_le_bytes(data.get(at..at + 8)?.try_into().ok()?));
        let wish = if word(16)? == u64::MAX { Wish::Put } else { Wish::Swap(word(16)?) };
        Some(Command { call: word(0)?, key: word(8)?, wish })
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub(super) applied: EntryId,
    pub(super) conf: ConfState,
    /// Value, and how often it was put.
    pub(super) keys: BTreeMap<u64, (u64, i64)>,
}

impl Store {
    /// Applies an entry; which call it was of, and whether it put its value.
    pub(super) fn apply(&mut self, entry: &Entry) -> Option<(u64, bool)> {
        self.applied = entry.id();
        let Command { call, key, wish } = Command::decode(&entry.data)?;
        let before = self.keys.get(&key).copied();
        let puts = match wish {
            Wish::Put => true,
            Wish::Swap(expected) => before.map_or(0, |(value, _)| value) == expected,
        };
        if puts {
            self.keys.insert(key, (call, before.map_or(0, |(_, version)| version) + 1));
        }
        Some((call, puts))
    }
}
