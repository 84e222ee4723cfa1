//! A snapshot of the other cluster as this member's data file, and the users and roles in it. Blocking.

use crate::home::HomeStore;
use crate::home::data_file::DataFile;
use plinth_bbolt::{Database, DatabaseFile};
use plinth_engine::follow::UserRecord;
use plinth_engine::pagefile::FileWriter;
use plinth_engine::store::meta;
use plinth_engine::trees::{TreeId, Trees};
use plinth_member::backup::{Imported, Standing, import};
use std::fmt::Display;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Changed pages are written back when there are this many bytes of them.
const DIRTY_BYTES_MAX: usize = 32 << 20;

/// The data file's name while it is made.
const UNFINISHED: &str = "following";

/// Buckets of users and roles, and the trees that hold them.
const USERS: [(&str, TreeId); 3] =
    [("auth", TreeId::Auth), ("authUsers", TreeId::AuthUsers), ("authRoles", TreeId::AuthRoles)];

fn text(error: impl Display) -> String {
    error.to_string()
}

/// Where a snapshot lies while it is read.
pub fn snapshot_path(data: &DataFile) -> PathBuf {
    data.beside("snapshot")
}

/// Makes a data file of a snapshot, with the mark that it follows `cluster`. Alarms are those of the members there, and
/// stay there; so does a downgrade.
///
/// # Errors
/// If the snapshot is damaged, or the file cannot be written.
pub fn make(snapshot: &Path, data: &DataFile, cluster: u64) -> Result<Imported, String> {
    let file = open(snapshot)?;
    let database = Database::open(&file).map_err(text)?;
    let mut pages = data.create_beside(UNFINISHED).map_err(text)?;
    let imported = import(&database, &mut pages, None, &mut |pages| match pages.dirty_bytes() > DIRTY_BYTES_MAX {
        true => pages.flush_now(),
        false => Ok(()),
    });
    let imported = imported.map_err(text)?;
    let mut alarms = Vec::new();
    let mut note = |key: &[u8], _: &[u8]| {
        alarms.push(key.to_vec());
        ControlFlow::Continue(())
    };
    pages.scan(TreeId::Alarm, b"", &mut note).map_err(text)?;
    for alarm in alarms {
        pages.remove(TreeId::Alarm, &alarm).map_err(text)?;
    }
    pages.remove(TreeId::Meta, meta::DOWNGRADE).map_err(text)?;
    pages.insert(TreeId::Meta, meta::FOLLOWING, &cluster.to_be_bytes()).map_err(text)?;
    pages.flush_now().map_err(text)?;
    Ok(imported)
}

/// Puts this member's standing into what [`make`] has made, and opens it.
///
/// # Errors
/// If the file cannot be written or read.
pub fn place(data: &DataFile, standing: &Standing) -> Result<(HomeStore, FileWriter, PathBuf), String> {
    let mut pages = data.open_beside(UNFINISHED).map_err(text)?;
    standing.place(&mut pages).map_err(text)?;
    pages.flush_now().map_err(text)?;
    drop(pages);
    let path = data.beside(UNFINISHED);
    let (store, writer) = data.open(&path).map_err(text)?;
    Ok((store, writer, path))
}

/// Users and roles in a snapshot.
///
/// # Errors
/// If the snapshot is damaged.
pub fn users(snapshot: &Path) -> Result<Vec<UserRecord>, String> {
    let file = open(snapshot)?;
    let database = Database::open(&file).map_err(text)?;
    let mut records = Vec::new();
    for (bucket, tree) in USERS {
        let Some(bucket) = database.bucket(bucket.as_bytes()).map_err(text)? else { continue };
        let mut entries = database.entries(&bucket);
        while let Some((key, value)) = entries.next().map_err(text)? {
            records.push(UserRecord { tree: tree as u8, key: key.to_vec().into(), value: value.to_vec().into() });
        }
    }
    Ok(records)
}

fn open(path: &Path) -> Result<DatabaseFile, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    Ok(DatabaseFile::new(file, bytes))
}
