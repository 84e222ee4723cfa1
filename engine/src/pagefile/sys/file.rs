//! A page file on a file system, read through a shared memory map.
//!
//! The map is made once, longer than the file: an address range is reserved for growing into, and pages of it become
//! readable as the file grows. Only when the range is used up is the file mapped again, in `grow`, which borrows the
//! store exclusively, so no slice into the old map is alive.
//!
//! What makes slices into a shared map sound, and who upholds it:
//! - the file is locked (`flock`) for as long as the store lives, so that no second process writes it; whoever
//!   bypasses the lock and shortens the file gets this process killed by SIGBUS, as does a disk that cannot read;
//! - bytes below `len` exist: the file is shortened only to a length that `truncate` has noted, which borrows
//!   exclusively, and what is being cut off cannot be taken back (see `SizedFile`);
//! - bytes are written only while nobody looks at them through the map: the pager writes pages that no reachable state
//!   uses, and reads pages that are being written from memory.
//!
//! Writes are plain `pwrite` and so do not make the map resident.
//!
//! `truncate` only notes the new length: that the system lets go of the end of a file takes it up to some
//! milliseconds for a megabyte that is cached and mapped, so whoever flushes does it ([`PageWriter::cut`]), in parts. Until then the file
//! is longer than the store, as it is when a process ends before its file has been cut.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memmap2::{Mmap, MmapOptions, UncheckedAdvice};

use crate::pagefile::store::{Advice, PageIoError, PageStore, PageWriter};

/// Address space reserved by default: 16 GiB. It costs nothing until it is used.
const RESERVE_BYTES: u64 = 1 << 34;

/// What is cut off a file in one go. Who wants it longer than it is, or reads pages of it that are not in memory, waits
/// meanwhile.
const CUT_BYTES: u64 = 4 << 20;

/// The file and its length, shared by the store and its writers.
struct SizedFile {
    file: File,
    /// Bytes that the store has.
    wanted: AtomicU64,
    /// Bytes that the file has, or is being cut down to: as many, or more. Never locked for long.
    length: Mutex<u64>,
    /// Held while the system changes the length; taken before `length`.
    changing: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SizedFile {
    fn new(file: File, length: u64) -> SizedFile {
        SizedFile { file, wanted: AtomicU64::new(length), length: Mutex::new(length), changing: Mutex::new(()) }
    }

    /// Takes `to` bytes, which are more than the store had, back from what has not been cut off yet.
    fn take_back(&self, to: u64) -> bool {
        let length = lock(&self.length);
        let is_there = to <= *length;
        if is_there {
            self.wanted.store(to, Ordering::Release);
        }
        is_there
    }

    /// Gives the store `to` bytes, with their space reserved. Without room for them the file is left as it was.
    fn grow(&self, to: u64) -> io::Result<()> {
        if self.take_back(to) {
            return Ok(());
        }
        let _changing = lock(&self.changing);
        let mut length = lock(&self.length);
        if let Err(error) = reserve_space(&self.file, *length, to) {
            self.file.set_len(*length)?; // a part may have been allocated
            return Err(error);
        }
        *length = to;
        self.wanted.store(to, Ordering::Release);
        Ok(())
    }

    /// Cuts off a part of what the store does not have; true if there is more.
    fn cut(&self) -> io::Result<bool> {
        let _changing = lock(&self.changing);
        let (to, wanted) = {
            let mut length = lock(&self.length);
            let wanted = self.wanted.load(Ordering::Acquire);
            if *length <= wanted {
                return Ok(false);
            }
            *length = wanted.max(length.saturating_sub(CUT_BYTES));
            (*length, wanted)
        };
        self.file.set_len(to)?;
        Ok(to > wanted)
    }
}

/// A page file on a file system. See the module.
pub struct FileStore {
    file: Arc<SizedFile>,
    path: PathBuf,
    map: Mmap,
    len: u64,
    reserve_bytes: u64,
}

impl FileStore {
    /// Opens or creates `path` and locks it against other processes.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PageIoError> {
        Self::open_reserving(path, RESERVE_BYTES)
    }

    /// As [`FileStore::open`], with address space of `reserve_bytes` to grow into before the file is mapped again.
    pub fn open_reserving(path: impl AsRef<Path>, reserve_bytes: u64) -> Result<Self, PageIoError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let store = Self::open_with(path.as_ref(), &options, reserve_bytes)?;
        if store.len > 0 {
            // A copied file may have holes. That the disk has no room to fill them is no reason not to read it.
            let _ = reserve_space(&store.file.file, 0, store.len);
        } else {
            sync_parent(&store.path).map_err(|source| store.failed("sync the directory of", source))?;
        }
        Ok(store)
    }

    /// Opens an existing file for reading, for tools. Waits for no lock, but refuses a file that is being written.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, PageIoError> {
        Self::open_with(path.as_ref(), OpenOptions::new().read(true), 0)
    }

    fn open_with(path: &Path, options: &OpenOptions, reserve_bytes: u64) -> Result<Self, PageIoError> {
        let failed = |operation, source| PageIoError::Io { operation, path: path.display().to_string(), source };
        let file = options.open(path).map_err(|source| failed("open", source))?;
        file.try_lock().map_err(|source| failed("lock", source.into()))?;
        let len = file.metadata().map_err(|source| failed("stat", source))?.len();
        let map = map_file(&file, len, reserve_bytes).map_err(|source| failed("map", source))?;
        let file = Arc::new(SizedFile::new(file, len));
        Ok(FileStore { file, path: path.to_owned(), map, len, reserve_bytes })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes to the same file, from any thread.
    pub fn writer(&self) -> FileWriter {
        FileWriter { file: Arc::clone(&self.file) }
    }

    /// Reads the same file as it is now, from any thread. Meant for states that are pinned: the file is neither written
    /// nor shortened where they are.
    pub fn reader(&self) -> Result<FileReader, PageIoError> {
        let map = map_file(&self.file.file, self.len, 0).map_err(|source| self.failed("map", source))?;
        Ok(FileReader { _file: Arc::clone(&self.file), map, len: self.len })
    }

    /// Whether the file is longer than the store: [`PageWriter::cut`] has something to do.
    pub fn has_surplus(&self) -> bool {
        *lock(&self.file.length) > self.len
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> PageIoError {
        PageIoError::Io { operation, path: self.path.display().to_string(), source }
    }
}

fn map_file(file: &File, len: u64, reserve_bytes: u64) -> io::Result<Mmap> {
    let mut reserve = reserve_bytes.max(len.saturating_mul(2)).max(1);
    loop {
        // SAFETY: the file is locked, shortened only while the map is borrowed exclusively, and written only where
        // nobody reads through the map; see the module. Bytes beyond the end of the file are never touched, because
        // `read` checks against `len`.
        let mapped = unsafe { MmapOptions::new().len(reserve as usize).map(file) };
        match mapped {
            Ok(map) => return Ok(map),
            // The address space may be limited (ulimit -v): take what there is.
            Err(_) if reserve / 2 >= len.max(1) => reserve /= 2,
            Err(error) => return Err(error),
        }
    }
}

/// Makes the name of a new file durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// Extends the file with its space reserved, so that later writes do not run out of space.
fn reserve_space(file: &File, from: u64, to: u64) -> io::Result<()> {
    loop {
        // SAFETY: the descriptor is open for the duration of the call; the call touches no memory of ours.
        let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, from as libc::off_t, (to - from) as libc::off_t) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // Some file systems cannot reserve; running out of space then shows in a flush, and is fatal.
            Some(libc::EOPNOTSUPP | libc::ENOSYS) => return file.set_len(to),
            _ => return Err(error),
        }
    }
}

/// Starts writing all dirty pages of the file and waits for it. An error it tells is not told again by the next sync.
fn write_back(file: &File) -> io::Result<()> {
    let all = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    loop {
        // SAFETY: the descriptor is open for the duration of the call; the call touches no memory of ours.
        if unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, all) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // Not offered, or not allowed here: the sync will do it all at once.
            Some(libc::ENOSYS | libc::EINVAL | libc::EPERM) => return Ok(()),
            _ => return Err(error),
        }
    }
}

impl PageStore for FileStore {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, len: usize) -> Result<&[u8], PageIoError> {
        slice(&self.map, self.len, offset, len)
    }

    fn grow(&mut self, len: u64) -> Result<(), PageIoError> {
        assert!(len > self.len, "a file that grows gets longer");
        if let Err(error) = self.file.grow(len) {
            return Err(match error.raw_os_error() {
                Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => PageIoError::NoSpace { wanted_bytes: len },
                _ => self.failed("grow", error),
            });
        }
        if len > self.map.len() as u64 {
            self.map =
                map_file(&self.file.file, len, self.reserve_bytes).map_err(|source| self.failed("map", source))?;
        }
        self.len = len;
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> Result<(), PageIoError> {
        assert!(len < self.len, "a file that shrinks gets shorter");
        self.len = len;
        self.file.wanted.store(len, Ordering::Release);
        Ok(())
    }

    fn advise(&self, offset: u64, len: u64, advice: Advice) {
        hint(&self.map, self.len, offset, len, advice);
    }
}

/// A part of a map of a file of `file_bytes`.
fn slice(map: &Mmap, file_bytes: u64, offset: u64, length: usize) -> Result<&[u8], PageIoError> {
    if offset.checked_add(length as u64).is_none_or(|end| end > file_bytes) {
        return Err(PageIoError::OutOfRange { offset, length, file_bytes });
    }
    Ok(&map[offset as usize..offset as usize + length])
}

fn hint(map: &Mmap, file_bytes: u64, offset: u64, len: u64, advice: Advice) {
    let end = (offset + len).min(file_bytes);
    if offset >= end {
        return;
    }
    let (offset, len) = (offset as usize, (end - offset) as usize);
    // A hint that fails is no error.
    let _ = match advice {
        Advice::WillNeed => map.advise_range(memmap2::Advice::WillNeed, offset, len),
        // SAFETY: the map is shared and of a file, so that pages let go are read again from the file, unchanged.
        Advice::DontNeed => unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len) },
    };
}

impl PageWriter for FileStore {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.file.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.file.sync_data()
    }

    fn cut(&mut self) -> io::Result<bool> {
        self.file.cut()
    }
}

/// Reads the file of a [`FileStore`], from any thread.
pub struct FileReader {
    /// Keeps the file, and the lock on it.
    _file: Arc<SizedFile>,
    map: Mmap,
    len: u64,
}

/// A reader changes nothing.
fn read_only(operation: &'static str) -> PageIoError {
    PageIoError::Io { operation, path: String::new(), source: io::ErrorKind::PermissionDenied.into() }
}

impl PageStore for FileReader {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, len: usize) -> Result<&[u8], PageIoError> {
        slice(&self.map, self.len, offset, len)
    }

    fn grow(&mut self, _len: u64) -> Result<(), PageIoError> {
        Err(read_only("grow"))
    }

    fn truncate(&mut self, _len: u64) -> Result<(), PageIoError> {
        Err(read_only("shorten"))
    }

    fn advise(&self, offset: u64, len: u64, advice: Advice) {
        hint(&self.map, self.len, offset, len, advice);
    }
}

/// Writes to the file of a [`FileStore`], from any thread.
#[derive(Clone)]
pub struct FileWriter {
    file: Arc<SizedFile>,
}

impl FileWriter {
    /// Writes to a file that nobody reads yet.
    pub fn new(file: File) -> FileWriter {
        FileWriter { file: Arc::new(SizedFile::new(file, 0)) }
    }
}

impl PageWriter for FileWriter {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.file.write_all_at(bytes, offset)
    }

    fn write_back(&mut self) -> io::Result<()> {
        write_back(&self.file.file)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.file.sync_data()
    }

    fn cut(&mut self) -> io::Result<bool> {
        self.file.cut()
    }
}
