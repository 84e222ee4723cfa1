//! A pinned state written as a snapshot file, and read back. Blocking: for a thread of its own.
//!
//! The file gets its name only when all of it is durable, was read back from the device, has the SHA-256 that was written,
//! and holds entry for entry what the state holds. The thread rests as long as it works, so that neither the device nor a
//! core is ever its own.

use super::shelf::Shelf;
use crate::config::version::CLUSTER_VERSION;
use plinth_bbolt::check;
use plinth_bbolt::{Database, DatabaseFile, Sink};
use plinth_engine::pagefile::{FileReader, FileWriter, PageWriter, PinnedFile};
use plinth_member::backup::{Content, Export, ExportError, Progress};
use plinth_member::downgrade::cluster_version;
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Bytes after which the thread rests, and lets the device write.
const CHUNK_BYTES: usize = 1 << 20;

/// It rests no longer than this at once: the device may have been busy with others.
const REST_MAX: Duration = Duration::from_millis(50);

/// Entries and bytes of a step of the export.
const STEP_ENTRIES: usize = 10_000;
const STEP_BYTES: u64 = 1 << 20;

/// The checksum behind the pages.
const HASH_BYTES: u64 = 32;

/// A backup was not made. Nothing of it stays but, if the process ends, an unfinished file that the next one removes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The file or its folder.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The state cannot be read, or has no form as an etcd database.
    #[error("the data: {0}")]
    Export(#[from] ExportError),
    /// What was read back is damaged.
    #[error("{path}: reads back damaged: {source}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: plinth_bbolt::Error,
    },
    /// What was read back is something else.
    #[error("{path}: reads back with another {what}")]
    Differs {
        /// The file.
        path: String,
        /// What was compared.
        what: &'static str,
    },
    /// The server stops.
    #[error("the server stops")]
    Stopped,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.display().to_string();
    move |source| BackupError::Io { path, source }
}

/// What passes between the thread and whoever waits for it.
#[derive(Debug, Default)]
pub struct Course {
    /// It is to end.
    pub stop: AtomicBool,
    /// Steps that it has done.
    pub steps: AtomicU64,
}

impl Course {
    fn check(&self) -> Result<(), BackupError> {
        if self.stop.load(Ordering::Relaxed) { Err(BackupError::Stopped) } else { Ok(()) }
    }
}

/// Lets others work: rests for as long as was worked since it rested last.
struct Pace<'c> {
    since: Instant,
    bytes: usize,
    course: &'c Course,
}

impl<'c> Pace<'c> {
    fn new(course: &'c Course) -> Pace<'c> {
        Pace { since: Instant::now(), bytes: 0, course }
    }

    /// So many bytes were worked on; true once in a chunk, before the rest.
    fn is_due(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        self.bytes >= CHUNK_BYTES
    }

    fn rest(&mut self) {
        self.course.steps.fetch_add(1, Ordering::Relaxed);
        if self.course.check().is_ok() {
            std::thread::sleep(self.since.elapsed().min(REST_MAX));
        }
        (self.since, self.bytes) = (Instant::now(), 0);
    }

    fn pass(&mut self, bytes: usize) {
        if self.is_due(bytes) {
            self.rest();
        }
    }
}

/// The file under way.
struct Paced<'c> {
    file: FileWriter,
    offset: u64,
    hash: Sha256,
    pace: Pace<'c>,
}

impl Sink for Paced<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.file.write_at(self.offset, bytes)?;
        self.offset += bytes.len() as u64;
        if self.pace.is_due(bytes.len()) {
            // So that the sync at the end has little left to do, which everybody's writes would wait behind.
            self.file.write_back()?;
            self.pace.rest();
        }
        Ok(())
    }
}

/// What was written.
pub struct Written {
    /// Bytes of the file.
    pub bytes: u64,
    /// The newest revision in it.
    pub revision: i64,
}

/// Writes the pinned state onto the shelf and reads it back.
///
/// # Errors
/// If it could not be written, or is not what it should be. Nothing has changed then.
pub fn write(
    state: &PinnedFile<FileReader>,
    shelf: &Shelf,
    time: SystemTime,
    course: &Course,
) -> Result<Written, BackupError> {
    let unfinished = shelf.unfinished(time);
    let written = write_unfinished(state, &unfinished, course).and_then(|written| {
        crate::fail_point!("backupBeforeRename");
        let place = shelf.place(time, written.revision);
        fs::rename(&unfinished, &place).map_err(at(&place))?;
        let folder = shelf.folder();
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))?;
        Ok(written)
    });
    if written.is_err() {
        // What stays is removed before the next backup.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

fn write_unfinished(state: &PinnedFile<FileReader>, path: &Path, course: &Course) -> Result<Written, BackupError> {
    let mut pace = Pace::new(course);
    let view = state.view();
    let version = cluster_version(&view, CLUSTER_VERSION).map_err(ExportError::from)?.to_string();
    let mut export = Export::<Paced<'_>>::new(&view, &version, Content::Whole)?;
    while export.plan(&view, STEP_ENTRIES)? == Progress::More {
        pace.course.check()?;
        state.let_go();
        pace.rest();
    }
    let database_bytes = export.file_bytes().expect("the plan is done");
    let file = create(path, database_bytes + HASH_BYTES)?;
    crate::fail_point!("backupBeforeWrite", |text| Err(at(path)(io::Error::other(text))));
    export.begin(Paced { file: FileWriter::new(file), offset: 0, hash: Sha256::new(), pace })?;
    while export.write(&view, STEP_ENTRIES, STEP_BYTES)? == Progress::More {
        export.sink_mut().pace.course.check()?;
        state.let_go();
    }
    let (entries, revision) = export.written();
    let Paced { mut file, offset, hash, .. } = export.finish()?;
    let hash = hash.finalize();
    file.write_at(offset, &hash).and_then(|()| file.sync()).map_err(at(path))?;
    drop(file);
    crate::fail_point!("backupBeforeVerify");
    verify(path, database_bytes, &hash, entries, course)?;
    Ok(Written { bytes: database_bytes + HASH_BYTES, revision })
}

/// An empty file for `bytes`, which only its owner reads. A disk that has no room says so now.
fn create(path: &Path, bytes: u64) -> Result<File, BackupError> {
    let options = File::options().create_new(true).write(true).mode(0o600).open(path);
    let file = options.map_err(at(path))?;
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(file),
        Err(error) => Err(at(path)(error.into())),
    }
}

/// Reads the file back, from the device as far as the system lets go of what it remembers.
fn verify(path: &Path, bytes: u64, hash: &[u8], entries: u32, course: &Course) -> Result<(), BackupError> {
    let file = File::open(path).map_err(at(path))?;
    // A hint: what is still remembered was written by us, and is compared all the same.
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    let differs = |what| Err(BackupError::Differs { path: path.display().to_string(), what });
    if file.metadata().map_err(at(path))?.len() != bytes + HASH_BYTES {
        return differs("length");
    }
    let mut pace = Pace::new(course);
    let (mut read, mut buffer) = (Sha256::new(), vec![0; CHUNK_BYTES]);
    let mut left = (&file).take(bytes);
    loop {
        match left.read(&mut buffer).map_err(at(path))? {
            0 => break,
            count => {
                read.update(&buffer[..count]);
                pace.course.check()?;
                pace.pass(count);
            }
        }
    }
    let mut behind = Vec::new();
    (&file).read_to_end(&mut behind).map_err(at(path))?;
    if read.finalize()[..] != *hash || behind != hash {
        return differs("SHA-256");
    }
    let source = DatabaseFile::new(file, bytes);
    let damaged = |source| BackupError::Damaged { path: path.display().to_string(), source };
    let database = Database::open(&source).map_err(damaged)?;
    let mut go_on = |bytes| {
        pace.pass(bytes);
        if course.check().is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    match check::checksum(&database, &mut go_on).map_err(damaged)? {
        None => Err(BackupError::Stopped),
        Some(found) if found == entries => Ok(()),
        Some(_) => differs("content"),
    }
}
