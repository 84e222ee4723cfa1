//! An etcd database read into empty trees, in one pass.
//!
//! What is not consensus' own is taken over: revisions, leases, alarms, users and roles, compaction marks, versions. Members, the applied
//! entry and the configuration belong to the cluster that the data goes to, and are left to its bootstrap.
//!
//! Every record is checked before it is kept: revisions ascend, values say what their keys say.

use super::small::SAME;
use plinth_bbolt::schema::{self, Downgrade};
use plinth_bbolt::{Cursor, Database, Pair, Source};
use plinth_engine::auth::{Auth, LoadError};
use plinth_engine::kv_codec::KeyValue;
use plinth_engine::revision::{RevKey, Revision};
use plinth_engine::store::meta;
use plinth_engine::trees::{TreeError, TreeId, Trees};

/// Entries after which the caller may write back what was changed.
const STEP_ENTRIES: usize = 1000;

/// An etcd database could not be taken over. Nothing of what was read may be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The database is damaged.
    #[error(transparent)]
    Database(#[from] plinth_bbolt::Error),
    /// A record in it is not what its bucket holds.
    #[error("bucket {bucket:?}, key {key}: {detail}")]
    Record { bucket: &'static str, key: String, detail: String },
    /// There is no bucket of revisions: the file belongs to something else.
    #[error("no bucket {bucket:?}: not a database of etcd v3")]
    Missing { bucket: &'static str },
    /// The trees could not be written.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// What was taken over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Imported {
    /// The newest main revision.
    pub revision: i64,
    /// Records of history.
    pub records: u64,
    pub leases: u64,
}

/// Raises the revision of what is taken over, so that watchers of the old cluster notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bump {
    /// Revisions above the newest one.
    pub by: i64,
}

/// Reads `database` into `trees`, which are empty. `write_back` is called now and then, so that what was changed need not
/// stay in memory.
pub fn import<S: Source + ?Sized, T: Trees>(
    database: &Database<'_, S>,
    trees: &mut T,
    bump: Option<Bump>,
    write_back: &mut dyn FnMut(&mut T) -> Result<(), TreeError>,
) -> Result<Imported, ImportError> {
    let mut imported = Imported::default();
    let mut pairs = open(database, "key")?.ok_or(ImportError::Missing { bucket: "key" })?;
    let mut last = Revision::default();
    while let Some((key, value)) = pairs.next()? {
        last = check_pair(key, value, last)?;
        if value.is_empty() {
            // What a restore that bumps the revision leaves. The mark of a compaction up to it says the same.
            continue;
        }
        trees.insert(TreeId::Rev, key, value)?;
        imported.records += 1;
        if imported.records.is_multiple_of(STEP_ENTRIES as u64) {
            write_back(trees)?;
        }
    }
    imported.revision = last.main;
    let mut leases = open(database, "lease")?;
    while let Some((key, value)) = next(&mut leases)? {
        if key.len() != size_of::<i64>() {
            return Err(record("lease", key, "not the id of a lease"));
        }
        trees.insert(TreeId::Lease, key, value)?;
        imported.leases += 1;
    }
    for (bucket, tree) in SAME {
        let mut records = open(database, bucket)?;
        while let Some((key, value)) = next(&mut records)? {
            trees.insert(tree, key, value)?;
        }
    }
    Auth::load(trees).map_err(|error| match error {
        LoadError::Tree(error) => ImportError::Tree(error),
        LoadError::Record { tree, key } => record(tree, &key, "not users and roles"),
    })?;
    import_cluster(database, trees)?;
    import_marks(database, trees)?;
    if let Some(bump) = bump {
        imported.revision += bump.by;
        let mark = RevKey::put(Revision::new(imported.revision, 0));
        trees.insert(TreeId::Meta, meta::SCHEDULED_COMPACT, &mark)?;
    }
    write_back(trees)?;
    Ok(imported)
}

/// Takes over the v2 store, if there is one in `database`; how many nodes it has.
///
/// # Errors
/// If it is damaged.
pub fn import_v2<S: Source + ?Sized, T: Trees>(database: &Database<'_, S>, trees: &mut T) -> Result<u64, ImportError> {
    let mut tree = plinth_v2::Tree::default();
    let [nodes, events] = schema::V2_BUCKETS;
    let mut count = 0;
    let mut records = open(database, nodes)?;
    while let Some((key, value)) = next(&mut records)? {
        tree.load_node(key, value).map_err(|damaged| record(nodes, key, damaged.0))?;
        trees.insert(TreeId::V2, key, value)?;
        count += u64::from(key != plinth_v2::record::STATE_KEY);
    }
    let mut records = open(database, events)?;
    while let Some((key, value)) = next(&mut records)? {
        tree.load_event(key, value).map_err(|damaged| record(events, key, damaged.0))?;
        trees.insert(TreeId::V2Events, key, value)?;
    }
    tree.check().map_err(|damaged| record(nodes, &[], damaged.0))?;
    Ok(count)
}

type Entries<'d, 's, S> = Option<Cursor<'d, 's, S>>;

fn open<'d, 's, S: Source + ?Sized>(
    database: &'d Database<'s, S>,
    bucket: &'static str,
) -> Result<Entries<'d, 's, S>, ImportError> {
    Ok(database.bucket(bucket.as_bytes())?.map(|bucket| database.entries(&bucket)))
}

/// The next entry of a bucket that old releases need not have.
fn next<'c, S: Source + ?Sized>(entries: &'c mut Entries<'_, '_, S>) -> Result<Option<Pair<'c>>, ImportError> {
    match entries {
        Some(entries) => Ok(entries.next()?),
        None => Ok(None),
    }
}

fn record(bucket: &'static str, key: &[u8], detail: impl Into<String>) -> ImportError {
    let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
    ImportError::Record { bucket, key, detail: detail.into() }
}

/// Checks a record of history that follows `last`; its revision.
fn check_pair(key: &[u8], value: &[u8], last: Revision) -> Result<Revision, ImportError> {
    let bad = |detail: String| Err(record("key", key, detail));
    let Some((revision, is_tombstone)) = RevKey::parse(key) else { return bad("not a revision".into()) };
    if revision <= last {
        return bad(format!("revision {revision} behind {last}"));
    }
    let pair = match KeyValue::decode(value) {
        Ok(pair) => pair,
        Err(error) => return bad(error.to_string()),
    };
    let is_bump = value.is_empty();
    let is_pair = pair.mod_revision == revision.main
        && (1..=pair.mod_revision).contains(&pair.create_revision)
        && pair.version >= 1;
    if !is_tombstone && !is_bump && !is_pair {
        return bad(format!("a pair of revision {}, created at {}", pair.mod_revision, pair.create_revision));
    }
    Ok(revision)
}

fn import_cluster<S: Source + ?Sized, T: Trees>(database: &Database<'_, S>, trees: &mut T) -> Result<(), ImportError> {
    let mut cluster = open(database, "cluster")?;
    while let Some((key, value)) = next(&mut cluster)? {
        if key == schema::cluster::CLUSTER_VERSION.as_bytes() {
            trees.insert(TreeId::Meta, meta::CLUSTER_VERSION, value)?;
        } else if key == schema::cluster::DOWNGRADE.as_bytes() {
            let downgrade: Downgrade =
                serde_json::from_slice(value).map_err(|error| record("cluster", key, error.to_string()))?;
            if downgrade.enabled {
                trees.insert(TreeId::Meta, meta::DOWNGRADE, downgrade.target_version.as_bytes())?;
            }
        }
    }
    Ok(())
}

fn import_marks<S: Source + ?Sized, T: Trees>(database: &Database<'_, S>, trees: &mut T) -> Result<(), ImportError> {
    let mut marks = open(database, "meta")?;
    while let Some((key, value)) = next(&mut marks)? {
        let ours = match std::str::from_utf8(key) {
            Ok(schema::meta::SCHEDULED_COMPACT) => meta::SCHEDULED_COMPACT,
            Ok(schema::meta::FINISHED_COMPACT) => meta::FINISHED_COMPACT,
            _ => continue,
        };
        if !matches!(RevKey::parse(value), Some((_, false))) {
            return Err(record("meta", key, "not a revision"));
        }
        trees.insert(TreeId::Meta, ours, value)?;
    }
    Ok(())
}
