//! A stopped etcd's database: found, locked, and written anew.

use crate::failure::{Exit, Failure, system_text};
use plinth_bbolt::copy::{self, Changes};
use plinth_bbolt::{Database, DatabaseFile};
use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often it is looked whether the lock is free.
const LOOK: Duration = Duration::from_millis(50);

/// What is written at once.
const WRITE_BYTES: usize = 1 << 20;

/// Fails in Go's words if there is no such file.
pub(super) fn stat(path: &Path) -> Result<(), Failure> {
    match fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(failed(format!("stat {}: {}", path.display(), system_text(&error)))),
    }
}

/// A failure with this text.
pub(super) fn failed(text: impl ToString) -> Failure {
    Failure::new(Exit::Error, text.to_string())
}

/// Where a data directory has its database.
pub(super) fn database_of(data_dir: &Path) -> PathBuf {
    data_dir.join("member").join("snap").join("db")
}

/// A database that no etcd uses meanwhile.
pub(super) struct Locked {
    path: PathBuf,
    _lock: File,
    /// Its content.
    pub file: DatabaseFile,
}

/// Opens and locks a database as etcd does, waiting for so long; 0 for ever.
pub(super) fn open(path: &Path, timeout: Duration) -> Result<Locked, Failure> {
    stat(path)?;
    let cannot = |error: &io::Error| failed(format!("open {}: {}", path.display(), system_text(error)));
    let lock = File::open(path).map_err(|error| cannot(&error))?;
    let start = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if timeout.is_zero() || start.elapsed() < timeout => std::thread::sleep(LOOK),
            Err(TryLockError::WouldBlock) => {
                return Err(failed(format!(
                    "{}: timeout: another process, such as a running etcd, has it",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(cannot(&error)),
        }
    }
    let file = File::open(path).and_then(DatabaseFile::whole).map_err(|error| cannot(&error))?;
    Ok(Locked { path: path.to_owned(), _lock: lock, file })
}

/// Bytes of the file before and after.
pub(super) struct Rewritten {
    pub before: u64,
    pub after: u64,
}

impl Locked {
    /// Writes the database anew beside itself, with changes, and puts it in its place when it is whole and durable.
    pub(super) fn rewrite(&self, changes: &Changes<'_>) -> Result<Rewritten, Failure> {
        let database = Database::open(&self.file).map_err(failed)?;
        // etcd removes files of this name when it starts.
        let temporary = self.path.with_file_name(format!("db.tmp.{}", std::process::id()));
        let result = self.write(&database, changes, &temporary);
        if result.is_err() {
            // Nobody needs it, and etcd would remove it.
            let _ = fs::remove_file(&temporary);
        }
        result
    }

    fn write(
        &self,
        database: &Database<'_, DatabaseFile>,
        changes: &Changes<'_>,
        temporary: &Path,
    ) -> Result<Rewritten, Failure> {
        let cannot = |error: io::Error| failed(format!("{}: {}", temporary.display(), system_text(&error)));
        let layout = copy::plan(database, changes).map_err(failed)?;
        let file =
            File::options().create(true).truncate(true).write(true).mode(0o600).open(temporary).map_err(cannot)?;
        self.hand_over(&file).map_err(cannot)?;
        let out = BufWriter::with_capacity(WRITE_BYTES, file);
        let out = copy::write(database, changes, layout, out, database.meta().txid + 1).map_err(failed)?;
        let file = out.into_inner().map_err(|error| cannot(error.into_error()))?;
        file.sync_all().map_err(cannot)?;
        let before = fs::metadata(&self.path).map_err(cannot)?.len();
        fs::rename(temporary, &self.path).map_err(cannot)?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(cannot)?;
        Ok(Rewritten { before, after: layout.file_bytes() })
    }

    /// Gives a file the owner, group and mode of the one whose place it takes: etcd may run as another user than whoever
    /// tends its files.
    fn hand_over(&self, file: &File) -> io::Result<()> {
        let (old, new) = (fs::metadata(&self.path)?, file.metadata()?);
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            fchown(file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(old.permissions())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_that_is_written_anew_stays_its_owners() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, new) = (folder.path().join("db"), folder.path().join("new"));
        fs::write(&path, "").expect("written");
        // Only root can give files away; anybody can say who reads them.
        let mut ids = (fs::metadata(&path).expect("there").uid(), fs::metadata(&path).expect("there").gid());
        if std::os::unix::fs::chown(&path, Some(4711), Some(4712)).is_ok() {
            ids = (4711, 4712);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
        let open = || File::open(&path).expect("opens");
        let locked = Locked { path: path.clone(), _lock: open(), file: DatabaseFile::whole(open()).expect("a file") };
        let file = File::options().create_new(true).write(true).mode(0o600).open(&new).expect("created");
        locked.hand_over(&file).expect("handed over");
        let made = fs::metadata(&new).expect("there");
        assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (ids.0, ids.1, 0o640));
    }
}
