//! What users keep in the v2 store of an etcd: the tree of the newest `.snap`, and what the log says behind it, up to the
//! position of the data. What is behind that comes with the log, as commands.
//!
//! etcd 3.6 and newer refuse such a directory. Here it is carried over, whether the v2 API is served or not.

use super::ConversionError;
use super::entries::{self, OwnChange};
use super::files::Log;
use plinth_bbolt::wal::{Entry, EntryType};
use plinth_engine::command::Command;
use plinth_engine::trees::{TreeError, TreeId, Trees};
use plinth_raft::EntryId;
use plinth_v2::Tree;
use plinth_v2::record::Place;
use plinth_v2::tree::Adopted;

/// The tree at `applied`, if there is anything of users in it, or will be.
///
/// # Errors
/// If the files are damaged.
pub fn tree(log: &Log, applied: EntryId) -> Result<Option<Tree>, ConversionError> {
    let refused = |detail: String| ConversionError::Refused(format!("etcd's v2 store: {detail}"));
    let snapshot = log.snapshot.as_ref();
    let from = snapshot.map_or(0, |snapshot| snapshot.index);
    let stored = match snapshot {
        Some(snapshot) => snapshot.v2_nodes(plinth_v2::json::parse_time).map_err(|error| refused(error.to_string()))?,
        None => Default::default(),
    };
    let mut is_used = !stored.nodes.is_empty();
    for entry in log.wal.entries.iter().filter(|entry| entry.index > from) {
        is_used |= entries::is_v2(entry).map_err(refused)?;
    }
    if !is_used || applied == EntryId::ZERO {
        return Ok(None);
    }
    let nodes = stored.nodes.into_iter().map(|node| Adopted {
        path: node.path,
        created: node.created,
        modified: node.modified,
        deadline: node.deadline,
        value: node.value.map(Into::into),
    });
    let mut tree = Tree::adopt(stored.index, nodes).map_err(|damaged| refused(damaged.to_string()))?;
    for entry in log.wal.entries.iter().filter(|entry| entry.index > from && entry.index <= applied.index) {
        apply(&mut tree, entry).map_err(refused)?;
    }
    Ok(Some(tree))
}

fn apply(tree: &mut Tree, entry: &Entry) -> Result<(), String> {
    for _ in 0..own_changes(entry)? {
        tree.note_own_change();
    }
    if entry.kind == EntryType::Normal
        && let Some(Command::V2(command)) = entries::of_v2(entry)?
    {
        tree.follow(&command);
    }
    Ok(())
}

/// Changes that the cluster made of its own in this entry.
fn own_changes(entry: &Entry) -> Result<u64, String> {
    Ok(match entries::own_change(entry)? {
        OwnChange::None => 0,
        OwnChange::One => 1,
        OwnChange::Removal => 2,
    })
}

/// Writes the tree beside the keys.
///
/// # Errors
/// If that fails.
pub fn place<T: Trees>(mut tree: Tree, trees: &mut T) -> Result<(), TreeError> {
    for write in tree.take_writes() {
        let place = match write.place {
            Place::Nodes => TreeId::V2,
            Place::Events => TreeId::V2Events,
        };
        match write.value {
            Some(value) => trees.insert(place, &write.key, &value)?,
            None => drop(trees.remove(place, &write.key)?),
        }
    }
    Ok(())
}
