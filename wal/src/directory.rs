//! The log's folder: names, files, and the orderly ways to create, recycle and remove them. Blocking.
//!
//! ```text
//!   0000000000000007.wal      a segment: complete, its header durable, its name as well
//!   0000000000000003.spare    a retired segment, to be recycled; content is of no interest
//!   prepare.tmp               a segment being written with zeros; worthless after a crash
//!   *.damaged                 set aside by a repair; never read again
//! ```
//!
//! Invariants: every change of a name is made durable before the next one, so a crash leaves a prefix of the changes;
//! a file is never a segment by name before it is one by content, and no longer by name when its content goes.
//! Deliberately absent: writing records (`plinth-wal-uring`), deciding when to make or retire a segment (`wal`).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::disk::{RepairStore, Segments};
use crate::error::DiskFault;
use crate::format::SegmentHeader;
use crate::limits::{BLOCK_BYTES, SPARES_MAX};
use crate::sys;
use crate::types::SegmentSeq;

const TEMPORARY: &str = "prepare.tmp";
/// Zeros are written in pieces of this size.
const FILL_BYTES: usize = 1 << 20;

/// How a segment is opened for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Through the page cache; durable by `fdatasync`.
    Buffered,
    /// `O_DIRECT | O_DSYNC`: durable when the write returns.
    Direct,
}

/// See the module.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    handle: File,
}

impl Directory {
    /// Opens the folder.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DiskFault> {
        let path = path.as_ref().to_path_buf();
        let handle = File::open(&path).map_err(|error| DiskFault::new("open", path.display().to_string(), &error))?;
        Ok(Self { path, handle })
    }

    /// A second handle on the same folder.
    pub fn again(&self) -> Result<Self, DiskFault> {
        Self::open(&self.path)
    }

    /// Path of a segment's file.
    pub fn segment_path(&self, seq: SegmentSeq) -> PathBuf {
        self.path.join(seq.file_name())
    }

    /// A fault that names this file.
    pub fn fault(&self, action: &'static str, name: &str, error: &io::Error) -> DiskFault {
        DiskFault::new(action, self.path.join(name).display().to_string(), error)
    }

    /// Opens a segment for the ring.
    pub fn open_segment(&self, seq: SegmentSeq, access: Access) -> Result<File, DiskFault> {
        self.open_file(&seq.file_name(), access)
    }

    fn open_file(&self, name: &str, access: Access) -> Result<File, DiskFault> {
        let flags = match access {
            Access::Buffered => 0,
            Access::Direct => libc::O_DIRECT | libc::O_DSYNC,
        };
        let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open(self.path.join(name));
        opened.map_err(|error| self.fault("open", name, &error))
    }

    /// Removes half-made files of an earlier run; returns the names of retired ones, oldest first.
    ///
    /// Without any segment the next log starts anew, perhaps under the same identity: records in files left over from
    /// an older one could then validate, so these are removed as well.
    pub fn tidy(&self) -> Result<Vec<String>, DiskFault> {
        self.sync_names()?;
        let names = self.names()?;
        let new_log = names.iter().all(|name| SegmentSeq::from_file_name(name).is_none());
        let (mut spares, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.ends_with(".spare"));
        let worthless = others.into_iter().filter(|name| name.ends_with(".tmp"));
        let removed: Vec<_> = if new_log { worthless.chain(spares.drain(..)).collect() } else { worthless.collect() };
        for name in removed {
            self.remove(&name)?;
        }
        spares.sort();
        Ok(spares)
    }

    fn names(&self) -> Result<Vec<String>, DiskFault> {
        let read = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                // A name that is not UTF-8 is none of ours.
                names.extend(entry?.file_name().into_string().ok());
            }
            Ok(names)
        };
        read().map_err(|error| DiskFault::new("list", self.path.display().to_string(), &error))
    }

    /// Makes a segment from nothing: space, zeros, header, syncs, then its name. Space first, so that a full disk is
    /// known at once, while most of the segment in use is still free. `pause` is called between pieces.
    pub fn create(&self, header: SegmentHeader, pause: &mut dyn FnMut()) -> Result<(), DiskFault> {
        let filled = self.fill(TEMPORARY, header, pause);
        if filled.is_err() {
            // Leave no half-made file behind to occupy a full disk. The first error is the one that counts.
            let _ = self.remove(TEMPORARY);
        }
        filled?;
        self.rename(TEMPORARY, &header.seq.file_name())
    }

    fn fill(&self, name: &str, header: SegmentHeader, pause: &mut dyn FnMut()) -> Result<(), DiskFault> {
        assert!(header.segment_bytes.is_multiple_of(BLOCK_BYTES as u64), "a segment is of whole blocks");
        let created = OpenOptions::new().write(true).create(true).truncate(true).open(self.path.join(name));
        let file = created.map_err(|error| self.fault("create", name, &error))?;
        sys::reserve(&file, header.segment_bytes).map_err(|error| self.fault("allocate", name, &error))?;
        let mut piece = vec![0; FILL_BYTES.min(header.segment_bytes as usize)];
        let mut at = 0;
        while at < header.segment_bytes {
            let bytes = piece.len().min((header.segment_bytes - at) as usize);
            if at == 0 {
                let encoded = header.encode();
                piece[..encoded.len()].copy_from_slice(&encoded);
            }
            file.write_all_at(&piece[..bytes], at).map_err(|error| self.fault("write", name, &error).at(at))?;
            // Little dirty memory at a time, so that the log's own syncs do not queue behind all of it.
            sys::write_back(&file, at, bytes as u64).map_err(|error| self.fault("write back", name, &error).at(at))?;
            piece[..BLOCK_BYTES].fill(0);
            at += bytes as u64;
            pause();
        }
        file.sync_data().map_err(|error| self.fault("fdatasync", name, &error))?;
        sys::forget_cached(&file);
        Ok(())
    }

    /// Makes a segment from a retired file of the same size: a new header invalidates all it holds.
    pub fn recycle(&self, spare: &str, header: SegmentHeader) -> Result<(), DiskFault> {
        assert!(spare.ends_with(".spare"), "only what was retired is written over, and {spare} was not");
        let file = self.open_file(spare, Access::Buffered)?;
        let mut block = [0; BLOCK_BYTES];
        let encoded = header.encode();
        block[..encoded.len()].copy_from_slice(&encoded);
        file.write_all_at(&block, 0).map_err(|error| self.fault("write", spare, &error).at(0))?;
        file.sync_data().map_err(|error| self.fault("fdatasync", spare, &error))?;
        sys::forget_cached(&file);
        self.rename(spare, &header.seq.file_name())
    }

    /// Size of any file of the folder.
    pub fn file_bytes(&self, name: &str) -> Result<u64, DiskFault> {
        let metadata = fs::metadata(self.path.join(name)).map_err(|error| self.fault("stat", name, &error))?;
        Ok(metadata.len())
    }

    /// Turns a segment into a spare, or deletes it if there are enough. Returns the spare's name.
    pub fn retire(&self, seq: SegmentSeq, spares: usize) -> Result<Option<String>, DiskFault> {
        let name = seq.file_name();
        if spares >= SPARES_MAX {
            self.remove(&name)?;
            return Ok(None);
        }
        let spare = format!("{:016x}.spare", seq.get());
        self.rename(&name, &spare)?;
        Ok(Some(spare))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskFault> {
        fs::rename(self.path.join(from), self.path.join(to)).map_err(|error| self.fault("rename", from, &error))?;
        self.sync_names()
    }

    /// Removes a file; its name is gone for good on return.
    pub fn remove(&self, name: &str) -> Result<(), DiskFault> {
        fs::remove_file(self.path.join(name)).map_err(|error| self.fault("remove", name, &error))?;
        self.sync_names()
    }

    fn sync_names(&self) -> Result<(), DiskFault> {
        let synced = self.handle.sync_all();
        synced.map_err(|error| DiskFault::new("fsync", self.path.display().to_string(), &error))
    }
}

impl Segments for Directory {
    fn list(&mut self) -> Result<Vec<SegmentSeq>, DiskFault> {
        self.sync_names()?;
        let mut all: Vec<_> = self.names()?.iter().filter_map(|name| SegmentSeq::from_file_name(name)).collect();
        all.sort();
        Ok(all)
    }

    fn size(&mut self, seq: SegmentSeq) -> Result<u64, DiskFault> {
        self.file_bytes(&seq.file_name())
    }

    fn sync_and_uncache(&mut self, seq: SegmentSeq) -> Result<(), DiskFault> {
        let name = seq.file_name();
        let file = File::open(self.path.join(&name)).map_err(|error| self.fault("open", &name, &error))?;
        file.sync_data().map_err(|error| self.fault("fdatasync", &name, &error))?;
        sys::forget_cached(&file);
        Ok(())
    }

    fn read(&mut self, seq: SegmentSeq, offset: u64, out: &mut [u8]) -> Result<(), DiskFault> {
        let name = seq.file_name();
        let file = File::open(self.path.join(&name)).map_err(|error| self.fault("open", &name, &error))?;
        file.read_exact_at(out, offset).map_err(|error| self.fault("read", &name, &error).at(offset))
    }

    fn zero(&mut self, seq: SegmentSeq, from: u64, to: u64) -> Result<(), DiskFault> {
        let name = seq.file_name();
        let file = self.open_segment(seq, Access::Buffered)?;
        let zeros = vec![0; FILL_BYTES.min((to - from) as usize)];
        let mut at = from;
        while at < to {
            let bytes = zeros.len().min((to - at) as usize);
            file.write_all_at(&zeros[..bytes], at).map_err(|error| self.fault("write", &name, &error).at(at))?;
            at += bytes as u64;
        }
        file.sync_data().map_err(|error| self.fault("fdatasync", &name, &error))?;
        sys::forget_cached(&file);
        Ok(())
    }
}

impl RepairStore for Directory {
    fn set_aside(&mut self, seq: SegmentSeq) -> Result<String, DiskFault> {
        let name = seq.file_name();
        let aside = self.free_name(&name)?;
        self.rename(&name, &aside)?;
        Ok(aside)
    }

    fn copy_aside(&mut self, seq: SegmentSeq) -> Result<String, DiskFault> {
        let name = seq.file_name();
        let aside = self.free_name(&name)?;
        fs::copy(self.path.join(&name), self.path.join(&aside)).map_err(|error| self.fault("copy", &name, &error))?;
        let copy = File::open(self.path.join(&aside)).map_err(|error| self.fault("open", &aside, &error))?;
        copy.sync_all().map_err(|error| self.fault("fsync", &aside, &error))?;
        self.sync_names()?;
        Ok(aside)
    }

    fn make(&mut self, header: SegmentHeader) -> Result<(), DiskFault> {
        self.create(header, &mut || {})
    }
}

impl Directory {
    /// A name for a file set aside that is not taken.
    fn free_name(&self, name: &str) -> Result<String, DiskFault> {
        let taken = self.names()?;
        let mut number = 1;
        loop {
            let aside = format!("{name}.{number}.damaged");
            if !taken.contains(&aside) {
                return Ok(aside);
            }
            number += 1;
        }
    }
}
