//! System calls the standard library does not offer: for space and for the page cache.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Writes a range of dirty pages back and waits for them. Spreads the work of a later sync; promises nothing.
pub(crate) fn write_back(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let (offset, bytes) = (offset.cast_signed(), bytes.cast_signed());
    // SAFETY: passes numbers and an open descriptor only.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, bytes, flags) };
    let error = io::Error::last_os_error();
    // Some file systems do not know it; the sync that follows does all the work there.
    let unknown = matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::ESPIPE));
    if result == 0 || unknown { Ok(()) } else { Err(error) }
}

/// Allocates a file's blocks, so that a full disk is known before the first of them is written.
pub(crate) fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    // SAFETY: passes numbers and an open descriptor only.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes.cast_signed()) };
    let error = io::Error::last_os_error();
    // Where the file system cannot, writing the blocks tells as well, only later.
    let unable = matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP));
    if result == 0 || unable { Ok(()) } else { Err(error) }
}

/// Drops clean cached pages of a file, so that the next read comes from the medium. Advice: failure is harmless.
pub(crate) fn forget_cached(file: &File) {
    // SAFETY: passes numbers and an open descriptor only.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}
