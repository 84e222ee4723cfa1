//! What etcd left in a data directory: found, locked, read, and set aside.
//!
//! ```text
//! member/snap/db                        the database
//! member/snap/<term>-<index>.snap       positions; up to 3.5 the truth about the members
//! member/snap/<index>.snap.db           a database that came from a leader and was not installed yet
//! member/wal/ (or --wal-dir) <seq>-<first index>.wal
//! ```

use super::{ConversionError, io_error, rename};
use crate::config::Config;
use crate::datadir::{is_bbolt, names, sync_directory};
use plinth_bbolt::schema::meta;
use plinth_bbolt::snap::Snap;
use plinth_bbolt::wal::{self, Wal, parse_name};
use plinth_bbolt::{Database, DatabaseFile, Source};
use plinth_raft::EntryId;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Left in the place of etcd's database. Shorter than a page, so that no bbolt takes it for one.
const NOTE: &str = "This data directory was taken over by Plinth. etcd's files of before are in the folder ";

/// What the folder of etcd's files is called, with the time behind it.
const KEPT: &str = "etcd-";

/// The newest schema whose data are understood.
const SCHEMA_NEWEST: (u32, u32) = (3, 7);

/// Where etcd's files are.
#[derive(Clone, Debug)]
pub struct EtcdFiles {
    snap: PathBuf,
    wal: PathBuf,
}

/// etcd's log with the position that it goes on from.
#[derive(Debug)]
pub struct Log {
    /// The newest snapshot that both the log and a file know; none: the log is whole from its first entry.
    pub snapshot: Option<Snap>,
    /// The log from there on.
    pub wal: Wal,
}

/// What the bucket `meta` says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Meta {
    /// Last entry whose effects are in the database.
    pub consistent_index: u64,
    /// Its term, from 3.5 on.
    pub term: Option<u64>,
    /// From 3.6 on.
    pub storage_version: Option<String>,
}

impl EtcdFiles {
    /// Those of a data directory whose member's folder and log's folder are these.
    pub fn new(config: &Config, member_dir: &Path, log_dir: &Path) -> EtcdFiles {
        let wal = if config.wal_dir.is_some() { log_dir.to_owned() } else { member_dir.join("wal") };
        EtcdFiles { snap: member_dir.join("snap"), wal }
    }

    /// Whether there is a file where the database belongs that is one.
    pub fn has_database(&self) -> bool {
        is_bbolt(&self.snap.join("db"))
    }

    /// Locks the database as a running etcd does.
    ///
    /// # Errors
    /// If an etcd runs, or the database is not there.
    pub fn lock(&self) -> Result<File, ConversionError> {
        let path = self.snap.join("db");
        let file = File::open(&path).map_err(io_error(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(ConversionError::Locked { path: path.display().to_string() }),
            Err(TryLockError::Error(error)) => Err(io_error(&path)(error)),
        }
    }

    /// Reads the log from the newest snapshot on that has a whole file and is committed. Of entries whose effects are in the
    /// database already only what tells of members is kept.
    ///
    /// # Errors
    /// If files are damaged or missing.
    pub fn read_log(&self) -> Result<Log, ConversionError> {
        let held = Meta::read(&Database::open(&open_database(&self.snap.join("db"))?)?)?.consistent_index;
        for snapshot in self.snapshots()?.into_iter().map(Some).chain([None]) {
            let index = snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
            let Some(wal) = self.read_wal(index, held)? else { continue };
            let is_known = wal.snapshots.iter().any(|mark| mark.index == index);
            if is_known && (index == 0 || index <= wal.hard_state.commit) {
                return Ok(Log { snapshot, wal });
            }
        }
        Err(ConversionError::Refused(format!(
            "{} holds no log of etcd that begins where a snapshot in {} ends; restore a snapshot instead",
            self.wal.display(),
            self.snap.display()
        )))
    }

    /// The snapshots' files that are whole, newest first.
    fn snapshots(&self) -> Result<Vec<Snap>, ConversionError> {
        let mut found = Vec::new();
        for name in names(&self.snap)?.iter().filter(|name| name.ends_with(".snap")) {
            let path = self.snap.join(name);
            match Snap::read(&fs::read(&path).map_err(io_error(&path))?) {
                Ok(snapshot) => found.push(snapshot),
                // etcd takes the one before it, too.
                Err(error) => tracing::warn!(path = %path.display(), %error, "passed over"),
            }
        }
        found.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.index));
        Ok(found)
    }

    /// Reads the files from the one on that holds the entry behind `index`; none if there is no such file.
    fn read_wal(&self, index: u64, held: u64) -> Result<Option<Wal>, ConversionError> {
        let mut files: Vec<_> =
            names(&self.wal)?.into_iter().filter_map(|name| Some((parse_name(&name, wal::SUFFIX)?, name))).collect();
        files.sort();
        let Some(first) = files.iter().rposition(|((_, first), _)| *first <= index) else { return Ok(None) };
        let files = &files[first..];
        if let Some(pair) = files.windows(2).find(|pair| pair[0].0.0 + 1 != pair[1].0.0) {
            let path = self.wal.join(&pair[1].1);
            return Err(ConversionError::Refused(format!("{}: the file before it is missing", path.display())));
        }
        let mut reader = wal::Reader::behind(held);
        for (place, (_, name)) in files.iter().enumerate() {
            let path = self.wal.join(name);
            let bytes = fs::read(&path).map_err(io_error(&path))?;
            reader.file(&path.display().to_string(), &bytes, place + 1 == files.len())?;
        }
        Ok(Some(reader.finish()?))
    }

    /// The database, or the one that a leader has sent if the snapshot is of that.
    ///
    /// # Errors
    /// If neither reaches the snapshot.
    pub fn database(&self, snapshot: Option<&Snap>) -> Result<DatabaseFile, ConversionError> {
        let path = self.snap.join("db");
        let file = open_database(&path)?;
        let found = Meta::read(&Database::open(&file)?)?.consistent_index;
        let wanted = snapshot.map_or(0, |snapshot| snapshot.index);
        if found >= wanted {
            return Ok(file);
        }
        let received = self.snap.join(format!("{wanted:016x}.snap.db"));
        match received.exists() {
            true => open_database(&received),
            false => Err(ConversionError::Refused(format!(
                "database file ({} index {found}) does not match with snapshot (index {wanted}); restore a snapshot \
                 instead",
                path.display()
            ))),
        }
    }

    /// Moves all of etcd's files into a folder of their own and leaves a note; the folder, if anything was moved.
    ///
    /// # Errors
    /// If a file cannot be moved.
    pub fn set_aside(&self, member_dir: &Path, seconds: u64) -> Result<Option<PathBuf>, ConversionError> {
        let was_there = self.has_database();
        // One that a start before has begun to fill is filled up.
        let begun = names(member_dir)?.into_iter().rfind(|name| name.starts_with(KEPT)).filter(|_| !was_there);
        let name = begun.unwrap_or_else(|| format!("{KEPT}{seconds}"));
        let kept = member_dir.join(&name);
        if was_there {
            fs::create_dir(&kept).map_err(io_error(&kept))?;
            // First the database: without it no etcd goes on from here.
            rename(&self.snap, &kept.join("snap"))?;
        }
        crate::fail_point!("convertAfterSnapMoved");
        let wal_kept = self.move_wal(&kept, &name)?;
        crate::fail_point!("convertAfterWalMoved");
        if was_there || wal_kept || !self.snap.exists() {
            self.leave_note(&name)?;
        }
        Ok(was_there.then_some(kept))
    }

    /// A folder of its own is moved whole; of one that holds our log as well (`--wal-dir`), the files are.
    fn move_wal(&self, kept: &Path, name: &str) -> Result<bool, ConversionError> {
        let files: Vec<_> =
            names(&self.wal)?.into_iter().filter(|name| parse_name(name, wal::SUFFIX).is_some()).collect();
        if files.is_empty() {
            return Ok(false);
        }
        if self.wal.parent() == self.snap.parent() {
            fs::create_dir_all(kept).map_err(io_error(kept))?;
            rename(&self.wal, &kept.join("wal"))?;
            return Ok(true);
        }
        let beside = self.wal.join(name);
        fs::create_dir_all(&beside).map_err(io_error(&beside))?;
        let spares = names(&self.wal)?.into_iter().filter(|name| is_spare(name));
        for file in files.into_iter().chain(spares) {
            rename(&self.wal.join(&file), &beside.join(&file))?;
        }
        sync_directory(&self.wal)?;
        Ok(true)
    }

    fn leave_note(&self, name: &str) -> Result<(), ConversionError> {
        fs::create_dir_all(&self.snap).map_err(io_error(&self.snap))?;
        let path = self.snap.join("db");
        let write = || -> io::Result<()> {
            let mut file = File::create(&path)?;
            writeln!(file, "{NOTE}{name} beside this one. To go back to etcd, save a snapshot and restore it.")?;
            file.sync_all()
        };
        write().map_err(io_error(&path))?;
        Ok(sync_directory(&self.snap)?)
    }
}

impl Log {
    /// The last entry whose effects are in the database.
    ///
    /// # Errors
    /// If neither log nor database knows its term.
    pub fn position(&self, meta: &Meta) -> Result<EntryId, ConversionError> {
        let index = meta.consistent_index;
        if index == 0 {
            return Ok(EntryId::ZERO);
        }
        let in_log = self.wal.entries.iter().find(|entry| entry.index == index).map(|entry| entry.term);
        let in_snapshot = self.snapshot.as_ref().filter(|snapshot| snapshot.index == index).map(|snap| snap.term);
        let last = self.wal.entries.last().map_or(0, |entry| entry.index);
        if index > last && in_snapshot.is_none() {
            return Err(ConversionError::Refused(format!(
                "the database holds entries up to {index}, and the write-ahead log ends at {last}: it belongs to another \
                 member or was cut; restore a snapshot instead"
            )));
        }
        let term = in_log.or(in_snapshot).or(meta.term);
        let term = term.ok_or_else(|| ConversionError::Refused(format!("nothing tells the term of entry {index}")))?;
        Ok(EntryId { index, term })
    }
}

impl Meta {
    /// Reads the bucket.
    ///
    /// # Errors
    /// If the database is damaged, or of a schema that is not known.
    pub fn read<S: Source + ?Sized>(database: &Database<'_, S>) -> Result<Meta, ConversionError> {
        let mut found = Meta::default();
        let Some(bucket) = database.bucket(b"meta")? else { return Ok(found) };
        let mut entries = database.entries(&bucket);
        while let Some((key, value)) = entries.next()? {
            let number = || <[u8; 8]>::try_from(value).map(u64::from_be_bytes).unwrap_or_default();
            match std::str::from_utf8(key) {
                Ok(meta::CONSISTENT_INDEX) => found.consistent_index = number(),
                Ok(meta::TERM) => found.term = Some(number()).filter(|term| *term > 0),
                Ok(meta::STORAGE_VERSION) => found.storage_version = Some(String::from_utf8_lossy(value).into_owned()),
                _ => {}
            }
        }
        if let Some(version) = &found.storage_version {
            let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
            let known = match (parts.next().flatten(), parts.next().flatten()) {
                (Some(major), Some(minor)) => (major, minor) <= SCHEMA_NEWEST,
                _ => false,
            };
            if !known {
                return Err(ConversionError::Refused(format!(
                    "the database has storage version {version}, and this server knows those up to {}.{}",
                    SCHEMA_NEWEST.0, SCHEMA_NEWEST.1
                )));
            }
        }
        Ok(found)
    }
}

/// Whether it is a file that etcd made ready to go on in.
fn is_spare(name: &str) -> bool {
    name.strip_suffix(".tmp")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

fn open_database(path: &Path) -> Result<DatabaseFile, ConversionError> {
    File::open(path).and_then(DatabaseFile::whole).map_err(io_error(path))
}
