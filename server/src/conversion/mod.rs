//! A member of etcd goes on as a member of Plinth: its data directory is converted in place, by the first start on it.
//!
//! ```text
//! <data-dir>/member/converting   work has begun; without the mark below, the next start begins again
//! <data-dir>/member/converted    data file and log are whole and durable; etcd's files are still where they were
//! <data-dir>/member/etcd-TIME/   afterwards: etcd's files, and member/snap/db is a text that says so
//! ```
//!
//! Rooms: [`files`] finds and reads what etcd left, [`entries`] and [`users`] translate its log, [`members`] finds out who the members
//! are, and this file puts all of it into a data file and a log of ours, with the member's identity, term, vote and
//! position. What is committed afterwards is decided by consensus: a lone member commits all that its log holds.
//!
//! Invariants: etcd's files are read only until the member is about to serve; no valid entry of its log is dropped; a
//! conversion that was cut off leaves nothing that counts. While the process runs, etcd's database stays locked as etcd
//! itself does it, so that no etcd can be started beside.

mod entries;
mod files;
mod members;
mod users;
mod v2;

use crate::boot::{self, BootError};
use crate::config::Config;
use crate::datadir::{CONVERTED, CONVERTING, DataDirError, names, sync_directory};
use crate::home::data_file::{DataFile, DataFileError};
use files::EtcdFiles;
use plinth_bbolt::{Database, Source, wal};
use plinth_engine::store::StoreConfig;
use plinth_member::backup::{self, ImportError, Standing};
use plinth_member::recover::{self, Identity};
use plinth_raft::{EntryId, HardState, MemberId};
use plinth_wal::SegmentSeq;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Changed pages are written back when there are this many bytes of them.
const DIRTY_BYTES_MAX: usize = 32 << 20;

/// The data file's name while it is made.
const UNFINISHED: &str = "converting";

/// A data directory of etcd cannot be converted. It was left as it was. The message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConversionError {
    /// A running etcd has the database.
    #[error("{path} is locked: an etcd server is running on this data directory; stop it first")]
    Locked {
        /// The database.
        path: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// A folder cannot be listed or made durable.
    #[error(transparent)]
    Folder(#[from] DataDirError),
    /// The files do not fit together, or hold what cannot be carried over.
    #[error("{0}")]
    Refused(String),
    /// The log is damaged.
    #[error("etcd's write-ahead log: {0}; repair it with etcd's own tools, or restore a snapshot")]
    Wal(#[from] wal::WalError),
    /// The database is damaged.
    #[error("etcd's database: {0}; restore a snapshot instead")]
    Import(ImportError),
    /// The new data file cannot be written.
    #[error(transparent)]
    DataFile(#[from] DataFileError),
    /// The new log cannot be written.
    #[error("write-ahead log: {0}")]
    Log(#[from] BootError),
}

impl From<ImportError> for ConversionError {
    fn from(error: ImportError) -> Self {
        match error {
            // Of ours: what is read from etcd's is not at fault.
            ImportError::Tree(error) => ConversionError::DataFile(DataFileError::Write(error)),
            error => ConversionError::Import(error),
        }
    }
}

impl From<plinth_bbolt::Error> for ConversionError {
    fn from(error: plinth_bbolt::Error) -> Self {
        ConversionError::Import(ImportError::Database(error))
    }
}

/// A failure of the system, at this path.
fn io_error(path: &Path) -> impl FnOnce(io::Error) -> ConversionError {
    let path = path.display().to_string();
    move |source| ConversionError::Io { path, source }
}

/// etcd's files behind a finished conversion: still in their place, and locked.
#[derive(Debug)]
pub struct Converted {
    member_dir: PathBuf,
    etcd: EtcdFiles,
    _lock: Option<File>,
}

/// Converts the directory if it is one of etcd's that is not converted yet. What it returns is to be set aside before the
/// member serves. Blocking.
///
/// # Errors
/// If the directory cannot be converted. It is as it was.
pub fn convert(config: &Config, member_dir: &Path, log_dir: &Path) -> Result<Option<Converted>, ConversionError> {
    let etcd = EtcdFiles::new(config, member_dir, log_dir);
    if !member_dir.join(CONVERTED).exists() {
        if !member_dir.join(CONVERTING).exists() {
            return Ok(None);
        }
        let start = Instant::now();
        let lock = etcd.lock()?;
        remove_rests(member_dir, log_dir)?;
        let done = make(config, &etcd, member_dir, log_dir)?;
        crate::fail_point!("convertAfterLog");
        rename(&member_dir.join(CONVERTING), &member_dir.join(CONVERTED))?;
        tracing::info!(
            applied = done.standing.applied.index,
            "log-entries" = done.entries,
            "torn-bytes" = done.torn_bytes,
            members = done.standing.members.len(),
            revision = done.imported.revision,
            records = done.imported.records,
            leases = done.imported.leases,
            took = ?start.elapsed(),
            "converted the data directory of an etcd server; its files are kept"
        );
        return Ok(Some(Converted { member_dir: member_dir.to_owned(), etcd, _lock: Some(lock) }));
    }
    // Locked again, unless it was set aside already and only the mark is left to be removed.
    let lock = if etcd.has_database() { Some(etcd.lock()?) } else { None };
    Ok(Some(Converted { member_dir: member_dir.to_owned(), etcd, _lock: lock }))
}

impl Converted {
    /// Moves etcd's files to a folder of their own, and leaves a text where its database was, on which an etcd that is
    /// started here by mistake stops. Call before the first write is accepted. Blocking.
    ///
    /// # Errors
    /// If the files cannot be moved. The next start goes on where this one stopped.
    pub fn set_aside(self) -> Result<(), ConversionError> {
        crate::fail_point!("convertBeforeSetAside");
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let kept = self.etcd.set_aside(&self.member_dir, seconds)?;
        crate::fail_point!("convertBeforeDone");
        let mark = self.member_dir.join(CONVERTED);
        fs::remove_file(&mark).map_err(io_error(&mark))?;
        sync_directory(&self.member_dir)?;
        let kept = kept.map(|kept| kept.display().to_string());
        tracing::warn!(
            kept,
            "the data directory is Plinth's from now on; to go back, save a snapshot with etcdctl and restore it with \
             etcdutl. etcd's files of before are kept, and do not know what is written from now on"
        );
        Ok(())
    }
}

/// What was carried over.
struct Done {
    standing: Standing,
    imported: backup::Imported,
    entries: usize,
    torn_bytes: usize,
}

fn make(config: &Config, etcd: &EtcdFiles, member_dir: &Path, log_dir: &Path) -> Result<Done, ConversionError> {
    let log = etcd.read_log()?;
    let file = etcd.database(log.snapshot.as_ref())?;
    let database = Database::open(&file)?;
    let meta = files::Meta::read(&database)?;
    if meta.consistent_index == 0 && holds_history(&database)? {
        // Taken for a database of no entries, all of the log would be applied to it once more.
        return Err(ConversionError::Refused(
            "the database does not say which entries of the log it holds (consistent_index is missing); restore a snapshot \
             instead"
                .into(),
        ));
    }
    let applied = log.position(&meta)?;
    let standing = members::standing(&database, &meta, &log, applied)?;
    let v2_tree = v2::tree(&log, applied)?;
    // Translated before anything is written, so that what cannot be carried over is refused at once.
    let behind = log.wal.entries.iter().filter(|entry| entry.index > applied.index);
    let entries = behind.map(entries::translate).collect::<Result<Vec<_>, _>>()?;

    let data = data_file(member_dir);
    let mut pages = data.create_beside(UNFINISHED)?;
    let imported =
        backup::import(&database, &mut pages, None, &mut |pages| match pages.dirty_bytes() > DIRTY_BYTES_MAX {
            true => pages.flush_now(),
            false => Ok(()),
        })?;
    standing.place(&mut pages).map_err(DataFileError::Write)?;
    if let Some(tree) = v2_tree {
        v2::place(tree, &mut pages).map_err(DataFileError::Write)?;
    }
    pages.flush_now().map_err(DataFileError::Write)?;
    drop(pages);
    crate::fail_point!("convertAfterImport");
    data.put_in_place(&data.beside(UNFINISHED)).map_err(io_error(data.path()))?;

    crate::fail_point!("convertAfterData");
    let wal = &log.wal;
    let identity = Identity { member: MemberId(wal.identity.member), cluster: wal.identity.cluster };
    let last = entries.last().map_or(applied, plinth_raft::Entry::id);
    let hard_state = HardState {
        term: wal.hard_state.term.max(last.term),
        vote: (wal.hard_state.vote != 0 && wal.hard_state.term >= last.term).then_some(MemberId(wal.hard_state.vote)),
        commit: wal.hard_state.commit.clamp(applied.index, last.index),
    };
    let count = entries.len();
    write_log(config, log_dir, identity, applied, entries, &hard_state)?;
    Ok(Done { standing, imported, entries: count, torn_bytes: wal.torn_bytes })
}

/// Whether there is any record of history in a database.
fn holds_history<S: Source + ?Sized>(database: &Database<'_, S>) -> Result<bool, ConversionError> {
    let Some(bucket) = database.bucket(b"key")? else { return Ok(false) };
    Ok(database.entries(&bucket).next()?.is_some())
}

fn write_log(
    config: &Config,
    log_dir: &Path,
    identity: Identity,
    applied: EntryId,
    entries: Vec<plinth_raft::Entry>,
    hard_state: &HardState,
) -> Result<(), ConversionError> {
    let mut log = boot::open_empty_log(config, log_dir)?;
    let largest = entries.iter().map(|entry| entry.data.len()).max().unwrap_or(0);
    if largest > log.wal().payload_bytes_max() {
        return Err(ConversionError::Refused(format!(
            "etcd's log holds a request of {largest} bytes; start with --max-request-bytes={largest} at least"
        )));
    }
    let flush = |log: &mut _| boot::make_durable(log);
    recover::append_continued(&mut log, boot::GROUP, identity, applied, entries, hard_state, flush)?;
    Ok(())
}

/// Removes what a conversion that was cut off has made. Only called below the mark that it had begun.
fn remove_rests(member_dir: &Path, log_dir: &Path) -> Result<(), ConversionError> {
    let data = data_file(member_dir);
    data.remove_rests().map_err(io_error(data.path()))?;
    // Segments of ours have one number in their name, etcd's two.
    let segments = names(log_dir)?.into_iter().filter(|name| SegmentSeq::from_file_name(name).is_some());
    let made = segments.map(|name| log_dir.join(name)).chain(data.path().exists().then(|| data.path().to_owned()));
    for path in made {
        fs::remove_file(&path).map_err(io_error(&path))?;
    }
    sync_directory(member_dir)?;
    Ok(sync_directory(log_dir)?)
}

fn data_file(member_dir: &Path) -> DataFile {
    DataFile::new(member_dir, StoreConfig::default(), boot::random())
}

fn rename(from: &Path, to: &Path) -> Result<(), ConversionError> {
    fs::rename(from, to).map_err(io_error(from))?;
    Ok(sync_directory(to.parent().unwrap_or(Path::new(".")))?)
}
