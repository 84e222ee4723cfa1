//! Who the members are at the position that the data have.
//!
//! From 3.6 on the database says it. Up to 3.5 the tree of the newest `.snap` is the truth, with what the log says behind
//! it: there, a promotion was not always written to the database, and removed members could stay in it.

use super::ConversionError;
use super::entries::{self, member_change};
use super::files::{Log, Meta};
use plinth_bbolt::schema;
use plinth_bbolt::snap::{MemberTree, parse_id};
use plinth_bbolt::wal::EntryType;
use plinth_bbolt::{Database, Source};
use plinth_member::backup::Standing;
use plinth_raft::{EntryId, MemberId, Members};

/// The members at `applied`.
///
/// # Errors
/// If they cannot be told.
pub fn standing<S: Source + ?Sized>(
    database: &Database<'_, S>,
    meta: &Meta,
    log: &Log,
    applied: EntryId,
) -> Result<Standing, ConversionError> {
    if applied == EntryId::ZERO {
        // All of it comes with the log.
        return Ok(Standing::default());
    }
    let stored = records(stored(database)?);
    let members = match meta.storage_version {
        Some(_) => stored,
        None => {
            let told = told(log, applied)?;
            // Names and addresses of clients are published anew at each start; 3.5 does not write all of them there.
            let known = |members: &Members| -> Vec<_> {
                members.iter().map(|member| (member.id, member.peer_urls.clone(), member.is_learner)).collect()
            };
            if known(&told) != known(&stored) {
                let (kept, passed_over) = (describe(&told), describe(&stored));
                tracing::warn!(
                    kept,
                    "passed-over" = passed_over,
                    "the members in etcd's database differ from those of its log; the log's are kept"
                );
            }
            told
        }
    };
    if members.is_empty() {
        return Err(ConversionError::Refused(format!("etcd's files name no member at entry {}", applied.index)));
    }
    Ok(Standing { applied, members: members.iter().cloned().collect(), removed: members.removed().collect() })
}

fn records(tree: MemberTree) -> Members {
    let members = tree.members.into_iter().map(|(id, record)| entries::member(MemberId(id), record));
    Members::restore(members, tree.removed.into_iter().map(MemberId))
}

fn describe(members: &Members) -> String {
    let each = members.iter().map(|member| {
        let kind = if member.is_learner { "learner" } else { "voter" };
        format!("{} {:?} {kind} {:?} {:?}", member.id, member.name, member.peer_urls, member.client_urls)
    });
    each.collect::<Vec<_>>().join("; ")
}

/// As the database says.
fn stored<S: Source + ?Sized>(database: &Database<'_, S>) -> Result<MemberTree, ConversionError> {
    let mut tree = MemberTree::default();
    let bad = |key: &[u8], detail: String| {
        ConversionError::Refused(format!("etcd's database, member {:?}: {detail}", String::from_utf8_lossy(key)))
    };
    if let Some(bucket) = database.bucket(b"members")? {
        let mut entries = database.entries(&bucket);
        while let Some((key, value)) = entries.next()? {
            let record: schema::Member = serde_json::from_slice(value).map_err(|error| bad(key, error.to_string()))?;
            tree.members.insert(record.id, record);
        }
    }
    if let Some(bucket) = database.bucket(b"members_removed")? {
        let mut entries = database.entries(&bucket);
        while let Some((key, _)) = entries.next()? {
            let id = std::str::from_utf8(key).ok().and_then(parse_id);
            tree.removed.insert(id.ok_or_else(|| bad(key, "not an id".into()))?);
        }
    }
    Ok(tree)
}

/// As the newest `.snap` says, and the log behind it up to `applied`. A change that does not fit has changed nothing.
fn told(log: &Log, applied: EntryId) -> Result<Members, ConversionError> {
    let refused = |detail: String| ConversionError::Refused(format!("etcd's members: {detail}"));
    let (tree, from) = match &log.snapshot {
        Some(snapshot) => (snapshot.members().map_err(|error| refused(error.to_string()))?, snapshot.index),
        None => (MemberTree::default(), 0),
    };
    let mut members = records(tree);
    for entry in log.wal.entries.iter().filter(|entry| entry.index > from && entry.index <= applied.index) {
        match entry.kind {
            EntryType::ConfChange => {
                let change = member_change(&entry.data).map_err(refused)?;
                if members.check(&change, usize::MAX).is_ok() {
                    members.apply(change);
                }
            }
            EntryType::Normal => {
                if let Some(published) = entries::published(entry).map_err(refused)? {
                    members.set_attributes(MemberId(published.member), published.name, published.client_urls);
                }
            }
            EntryType::ConfChangeV2 => {
                return Err(refused(format!("entry {} changes several at once", entry.index)));
            }
        }
    }
    Ok(members)
}
