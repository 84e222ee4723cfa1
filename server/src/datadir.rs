//! The data directory: its folders, its lock, and whose data are in it.
//!
//! ```text
//! <data-dir>/            0700
//!   member/              0700
//!     format             "plinth data 1": version of the layout; written before anything else
//!     lock               locked (flock) as long as a process uses the directory; holds its process id
//!     converting         the directory is an etcd member's and is being converted, see `conversion`
//!     converted          it was; etcd's files are still to be set aside
//!     ...                data file and log, see `boot`
//! <wal-dir>/             0700, replaces member/log
//!   lock
//! ```
//!
//! Invariants: nothing is written to a directory that holds somebody else's data or a format we do not know; nothing
//! is written without the locks; a directory's name is durable before anything in it counts.
//!
//! Not here: the formats of the files themselves, and waiting for a directory that is in use (`main.rs`).

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::config::{Config, Notice};
use plinth_bbolt::wal::{SUFFIX, parse_name};

/// The newest layout this program knows.
pub const FORMAT_VERSION: u32 = 1;

const MEMBER: &str = "member";
const LOG: &str = "log";
const LOCK: &str = "lock";
const FORMAT: &str = "format";
const FORMAT_TEMPORARY: &str = "format.new";
const FORMAT_WORDS: &str = "plinth data ";
/// A format file that is longer is not one.
const FORMAT_BYTES_MAX: u64 = 64;
/// Marks of a conversion, see `conversion`.
pub const CONVERTING: &str = "converting";
/// The other one.
pub const CONVERTED: &str = "converted";
/// Mark of a restore under way, see `restore`.
pub const RESTORING: &str = "restoring";
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Why a data directory is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Something that should be a directory is none.
    #[error("{} is not a directory", path.display())]
    NotADirectory { path: PathBuf },
    /// Another process has it.
    #[error("{} is in use by {holder}; two servers on one directory would destroy it", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other process as far as it is known.
        holder: String,
    },
    /// There are etcd's data beside ours.
    #[error(
        "{} holds data of this server, and those of an etcd server as well ({} is there); an etcd must have been started \
         on it. Nothing was touched. Remove or move away the files of the one that is not wanted", path.display(),
        evidence.display()
    )]
    EtcdDataBeside {
        /// The directory.
        path: PathBuf,
        /// The file that gives it away.
        evidence: PathBuf,
    },
    /// There is a part of etcd's data, without a database.
    #[error(
        "{} holds a part of an etcd server's data ({} is there) and no database ({}); give the server a --data-dir of its \
         own, or all of etcd's files", path.display(), evidence.display(), database.display()
    )]
    EtcdDataTorn {
        /// The directory.
        path: PathBuf,
        /// The file that gives it away.
        evidence: PathBuf,
        /// Where the database belongs.
        database: PathBuf,
    },
    /// A restore into it has begun, and not ended.
    #[error("{} holds a part of a snapshot: its restore was cut off; run it again", path.display())]
    RestoreCutOff {
        /// The directory.
        path: PathBuf,
    },
    /// The directory was written by a newer program.
    #[error(
        "{} has format version {found}, and this version of the server knows versions up to {FORMAT_VERSION}; \
         start the newer version that wrote it", path.display()
    )]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The format file cannot be read.
    #[error("{} does not say which format the directory has; it holds {found:?}", path.display())]
    BadFormat {
        /// The file.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
}

/// A data directory that is ours and locked. Dropping it gives the locks back, as does the end of the process.
#[derive(Debug)]
pub struct DataDir {
    member: PathBuf,
    log: PathBuf,
    is_fresh: bool,
    notices: Vec<Notice>,
    _locks: Vec<File>,
}

impl DataDir {
    /// Opens or creates the directories of a configuration.
    pub fn open(config: &Config) -> Result<Self, DataDirError> {
        Self::open_at(&config.data_dir, config.wal_dir.as_deref())
    }

    /// [`DataDir::open`] for a restore: marked first, so that nobody starts on a part of it.
    ///
    /// # Errors
    /// As [`DataDir::open`].
    pub fn open_to_restore(config: &Config) -> Result<Self, DataDirError> {
        let member = config.data_dir.join(MEMBER);
        create_directory(&config.data_dir, &mut Vec::new())?;
        create_directory(&member, &mut Vec::new())?;
        let mark = member.join(RESTORING);
        File::create(&mark).and_then(|file| file.sync_all()).map_err(failed("create", &mark))?;
        sync_directory(&member)?;
        Self::open_unmarked(&config.data_dir, config.wal_dir.as_deref())
    }

    /// [`DataDir::open`] without a configuration.
    pub fn open_at(data_dir: &Path, wal_dir: Option<&Path>) -> Result<Self, DataDirError> {
        match data_dir.join(MEMBER).join(RESTORING).exists() {
            true => Err(DataDirError::RestoreCutOff { path: data_dir.to_owned() }),
            false => Self::open_unmarked(data_dir, wal_dir),
        }
    }

    fn open_unmarked(data_dir: &Path, wal_dir: Option<&Path>) -> Result<Self, DataDirError> {
        let mut notices = Vec::new();
        let is_etcds = is_to_be_converted(data_dir, wal_dir)?;
        create_directory(data_dir, &mut notices)?;
        note_strangers(data_dir, &mut notices)?;
        let member = data_dir.join(MEMBER);
        create_directory(&member, &mut notices)?;
        let mut locks = vec![lock(&member)?];
        if is_etcds {
            let mark = member.join(CONVERTING);
            File::create(&mark).and_then(|file| file.sync_all()).map_err(failed("create", &mark))?;
            sync_directory(&member)?;
        }
        let is_fresh = check_format(&member)?;
        let log = match wal_dir {
            Some(wal_dir) => {
                create_directory(wal_dir, &mut notices)?;
                locks.push(lock(wal_dir)?);
                wal_dir.to_owned()
            }
            None => {
                let log = member.join(LOG);
                create_directory(&log, &mut notices)?;
                log
            }
        };
        Ok(DataDir { member, log, is_fresh, notices, _locks: locks })
    }

    /// The folder of the member's data.
    pub fn member_dir(&self) -> &Path {
        &self.member
    }

    /// The folder of the write-ahead log.
    pub fn log_dir(&self) -> &Path {
        &self.log
    }

    /// Whether the directory was set up by this call: there are no data yet.
    pub fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// What an operator should know about it.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io { action, path, source }
}

/// Creates a directory and those above it, durably, or notes that an existing one is open to others.
fn create_directory(path: &Path, notices: &mut Vec<Notice>) -> Result<(), DataDirError> {
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => Err(DataDirError::NotADirectory { path: path.to_owned() }),
        Ok(found) => {
            let mode = found.permissions().mode() & 0o777;
            if mode != DIRECTORY_MODE {
                let text = format!("directory exists, but its permission is {mode:o}; 700 is recommended");
                notices.push(Notice::warn(text).with("dir", path.display().to_string()));
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .mode(DIRECTORY_MODE)
                .create(path)
                .map_err(failed("create directory", path))?;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            sync_directory(parent)
        }
        Err(error) => Err(failed("look at", path)(error)),
    }
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> Result<(), DataDirError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(failed("sync directory", path))
}

/// Notes names in the data directory that are not ours, as etcd does. Its own certificates are none of them.
fn note_strangers(data_dir: &Path, notices: &mut Vec<Notice>) -> Result<(), DataDirError> {
    for name in names(data_dir)? {
        if name != MEMBER && name != "fixtures" {
            let notice = Notice::warn("found invalid file under data directory");
            notices.push(notice.with("filename", name).with("data-dir", data_dir.display().to_string()));
        }
    }
    Ok(())
}

/// The names in a directory, sorted; none if there is no directory.
pub fn names(path: &Path) -> Result<Vec<String>, DataDirError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed("list directory", path)(error)),
    };
    let names: io::Result<Vec<String>> =
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect();
    let mut names = names.map_err(failed("list directory", path))?;
    names.sort();
    Ok(names)
}

/// Locks a directory for this process.
fn lock(directory: &Path) -> Result<File, DataDirError> {
    let path = directory.join(LOCK);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(&path)
        .map_err(failed("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(DataDirError::Locked { path: directory.to_owned(), holder: holder(&file) });
        }
        Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
    }
    // For the message above only; the lock itself is the kernel's.
    let written = file.set_len(0).and_then(|()| file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0));
    written.map_err(failed("write", &path))?;
    Ok(file)
}

/// Who wrote its process id into a lock file.
fn holder(file: &File) -> String {
    let mut text = String::new();
    let id = file.take(32).read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok());
    id.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"))
}

/// Checks the format of a locked member directory, or states it. Returns whether it was stated only now.
fn check_format(member: &Path) -> Result<bool, DataDirError> {
    let path = member.join(FORMAT);
    let mut text = String::new();
    match File::open(&path) {
        Ok(file) => {
            let bad = |found: &str| DataDirError::BadFormat { path: path.clone(), found: found.to_owned() };
            file.take(FORMAT_BYTES_MAX).read_to_string(&mut text).map_err(failed("read", &path))?;
            let version = text.strip_prefix(FORMAT_WORDS).and_then(|rest| rest.trim_end().parse::<u32>().ok());
            match version {
                Some(1..=FORMAT_VERSION) => Ok(false),
                Some(found @ 1..) => Err(DataDirError::NewerFormat { path: member.to_owned(), found }),
                _ => Err(bad(&text)),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write_format(member)?;
            Ok(true)
        }
        Err(error) => Err(failed("open", &path)(error)),
    }
}

/// States the format, so that after a crash the file is either whole or not there.
fn write_format(member: &Path) -> Result<(), DataDirError> {
    let (temporary, path) = (member.join(FORMAT_TEMPORARY), member.join(FORMAT));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&temporary)?;
        file.write_all(format!("{FORMAT_WORDS}{FORMAT_VERSION}\n").as_bytes())?;
        file.sync_all()
    };
    write().map_err(failed("write", &temporary))?;
    fs::rename(&temporary, &path).map_err(failed("rename", &temporary))?;
    sync_directory(member)
}

/// Whether the directory is etcd's, and not marked yet as one that is to be converted.
fn is_to_be_converted(data_dir: &Path, wal_dir: Option<&Path>) -> Result<bool, DataDirError> {
    let member = data_dir.join(MEMBER);
    let Some(evidence) = etcd_data(data_dir, wal_dir)? else { return Ok(false) };
    if member.join(CONVERTING).exists() || member.join(CONVERTED).exists() {
        return Ok(false);
    }
    let path = data_dir.to_owned();
    if member.join(FORMAT).exists() {
        return Err(DataDirError::EtcdDataBeside { path, evidence });
    }
    let database = member.join("snap").join("db");
    if !is_bbolt(&database) {
        return Err(DataDirError::EtcdDataTorn { path, evidence, database });
    }
    Ok(true)
}

/// A file that only etcd writes, if there is one.
fn etcd_data(data_dir: &Path, wal_dir: Option<&Path>) -> Result<Option<PathBuf>, DataDirError> {
    let member = data_dir.join(MEMBER);
    let snapshots = member.join("snap");
    let backend = snapshots.join("db");
    if is_bbolt(&backend) {
        return Ok(Some(backend));
    }
    if let Some(name) = names(&snapshots)?.into_iter().find(|name| parse_name(name, ".snap").is_some()) {
        return Ok(Some(snapshots.join(name)));
    }
    for log in [Some(member.join("wal").as_path()), wal_dir].into_iter().flatten() {
        if let Some(name) = names(log)?.into_iter().find(|name| parse_name(name, SUFFIX).is_some()) {
            return Ok(Some(log.join(name)));
        }
    }
    Ok(None)
}

/// Whether a file begins with a meta page of bbolt: its magic number is behind the 16 bytes of the page's header, in
/// the byte order of the machine that wrote it.
pub fn is_bbolt(path: &Path) -> bool {
    const MAGIC: u32 = 0xED0C_DAED;
    const MAGIC_AT: u64 = 16;
    let Ok(file) = File::open(path) else { return false };
    let mut magic = [0; 4];
    match file.read_exact_at(&mut magic, MAGIC_AT) {
        Ok(()) => u32::from_le_bytes(magic) == MAGIC || u32::from_be_bytes(magic) == MAGIC,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory")
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    /// Everything below a directory, with contents.
    fn everything(path: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(path).expect("a directory") {
            let path = entry.expect("an entry").path();
            found.push((path.clone(), fs::read(&path).ok()));
            if path.is_dir() {
                found.extend(everything(&path));
            }
        }
        found.sort();
        found
    }

    /// A directory that was there already, and open to others, is told of: see `oddities_are_noted_and_obstacles_named`.
    #[test]
    fn ghsa_chh6_ppwq_jh92_a_new_directory_is_set_up_for_its_owner_only() {
        let folder = temporary();
        let data = folder.path().join("a").join("b.etcd");
        let opened = DataDir::open_at(&data, None).expect("opened");
        assert!(opened.is_fresh());
        assert!(opened.notices().is_empty(), "{:?}", opened.notices());
        assert_eq!(opened.member_dir(), data.join("member"));
        assert_eq!(opened.log_dir(), data.join("member/log"));
        for path in [data.clone(), data.join("member"), data.join("member/log")] {
            assert_eq!(mode(&path), 0o700, "{}", path.display());
        }
        assert_eq!(fs::read_to_string(data.join("member/format")).expect("read"), "plinth data 1\n");
        drop(opened);
        assert!(!DataDir::open_at(&data, None).expect("opened again").is_fresh());
    }

    #[test]
    fn the_log_can_live_elsewhere() {
        let folder = temporary();
        let (data, wal) = (folder.path().join("data"), folder.path().join("fast/wal"));
        let opened = DataDir::open_at(&data, Some(&wal)).expect("opened");
        assert_eq!(opened.log_dir(), wal);
        assert_eq!(mode(&wal), 0o700);
        assert!(!data.join("member/log").exists());
        let other = DataDir::open_at(&folder.path().join("other"), Some(&wal)).expect_err("the log is in use");
        assert!(matches!(other, DataDirError::Locked { path, .. } if path == wal));
    }

    #[test]
    fn one_directory_serves_one_process() {
        let folder = temporary();
        let first = DataDir::open_at(folder.path(), None).expect("opened");
        let second = DataDir::open_at(folder.path(), None).expect_err("in use");
        let text = second.to_string();
        assert!(text.contains(&format!("in use by process {}", std::process::id())), "{text}");
        drop(first);
        assert!(DataDir::open_at(folder.path(), None).is_ok(), "free again");
    }

    /// The first page of a database, as far as it is looked at.
    fn bbolt() -> Vec<u8> {
        [&[0; 16], 0xED0C_DAED_u32.to_le_bytes().as_slice(), &[0; 4076]].concat()
    }

    #[test]
    fn parts_of_etcds_data_are_left_alone() {
        let cases: &[(&str, &[u8], bool)] = &[
            ("member/wal/0000000000000000-0000000000000000.wal", b"", true),
            ("member/snap/0000000000000002-0000000000000008.snap", b"x", true),
            ("member/snap/db", b"not bbolt at all, but long enough", false),
            ("member/log/0000000000000007.wal", b"", false),
            ("member/wal/notes.wal", b"", false),
        ];
        for (name, content, refused) in cases {
            let folder = temporary();
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("inside")).expect("created");
            fs::write(&path, content).expect("written");
            let before = everything(folder.path());
            match DataDir::open_at(folder.path(), None) {
                Err(error @ DataDirError::EtcdDataTorn { .. }) => {
                    assert!(refused, "{name} is not etcd's");
                    assert!(error.to_string().contains("no database"), "{error}");
                    assert_eq!(everything(folder.path()), before, "{name}: nothing is touched");
                }
                other => assert!(!refused && other.is_ok(), "{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn etcds_data_are_marked_and_not_taken_beside_ours() {
        let folder = temporary();
        let database = folder.path().join("member/snap/db");
        fs::create_dir_all(database.parent().expect("inside")).expect("created");
        fs::write(&database, bbolt()).expect("written");
        drop(DataDir::open_at(folder.path(), None).expect("to be converted"));
        assert!(folder.path().join("member").join(CONVERTING).exists());
        drop(DataDir::open_at(folder.path(), None).expect("still to be converted"));

        let ours = temporary();
        drop(DataDir::open_at(ours.path(), None).expect("ours"));
        let database = ours.path().join("member/snap/db");
        fs::create_dir_all(database.parent().expect("inside")).expect("created");
        fs::write(&database, bbolt()).expect("written");
        let error = DataDir::open_at(ours.path(), None).expect_err("two servers' data");
        assert!(matches!(error, DataDirError::EtcdDataBeside { .. }), "{error}");
        assert!(!ours.path().join("member").join(CONVERTING).exists());
    }

    #[test]
    fn etcds_log_in_a_directory_of_its_own_is_left_alone() {
        let folder = temporary();
        let wal = folder.path().join("wal");
        fs::create_dir(&wal).expect("created");
        fs::write(wal.join("0000000000000001-000000000000ab01.wal"), b"").expect("written");
        let error = DataDir::open_at(&folder.path().join("data"), Some(&wal)).expect_err("etcd's");
        assert!(matches!(error, DataDirError::EtcdDataTorn { .. }), "{error}");
        assert!(!folder.path().join("data").exists());
    }

    #[test]
    fn formats_we_do_not_know_are_refused() {
        let cases = [
            ("plinth data 2\n", "format version 2"),
            ("plinth data 4294967295", "format version 4294967295"),
            ("plinth data 0\n", "does not say"),
            ("", "does not say"),
            ("plinth data x", "does not say"),
            ("something else", "does not say"),
        ];
        for (text, message) in cases {
            let folder = temporary();
            drop(DataDir::open_at(folder.path(), None).expect("opened"));
            fs::write(folder.path().join("member/format"), text).expect("written");
            let error = DataDir::open_at(folder.path(), None).expect_err(text);
            assert!(error.to_string().contains(message), "{error}");
        }
    }

    #[test]
    fn a_crash_while_the_format_was_written_is_no_harm() {
        let folder = temporary();
        fs::create_dir(folder.path().join("member")).expect("created");
        fs::write(folder.path().join("member/format.new"), "plin").expect("written");
        assert!(DataDir::open_at(folder.path(), None).expect("opened").is_fresh());
        assert!(!folder.path().join("member/format.new").exists());
    }

    #[test]
    fn oddities_are_noted_and_obstacles_named() {
        let folder = temporary();
        fs::write(folder.path().join("notes.txt"), "").expect("written");
        fs::create_dir(folder.path().join("fixtures")).expect("created");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("set");
        let opened = DataDir::open_at(folder.path(), None).expect("opened");
        let texts: Vec<&str> = opened.notices().iter().map(|notice| notice.message.as_str()).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].contains("permission is 755") && texts[1].contains("invalid file under data directory"));

        let file = folder.path().join("notes.txt");
        let error = DataDir::open_at(&file, None).expect_err("a file");
        assert!(error.to_string().contains("notes.txt is not a directory"), "{error}");
        let error = DataDir::open_at(&file.join("below"), None).expect_err("below a file");
        assert!(error.to_string().contains("notes.txt"), "{error}");
    }
}
