//! A database in an open file, read at offsets.

use crate::database::Source;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The first bytes of a file; what stands behind them, as the checksum of a snapshot, is not the database's.
#[derive(Debug)]
pub struct DatabaseFile {
    file: File,
    bytes: u64,
}

impl DatabaseFile {
    /// The first `bytes` of a file.
    pub fn new(file: File, bytes: u64) -> DatabaseFile {
        DatabaseFile { file, bytes }
    }

    /// All of a file.
    ///
    /// # Errors
    /// If the system does not tell its length.
    pub fn whole(file: File) -> std::io::Result<DatabaseFile> {
        let bytes = file.metadata()?.len();
        Ok(DatabaseFile { file, bytes })
    }
}

impl Source for DatabaseFile {
    fn size(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
        self.file.read_exact_at(into, offset)
    }
}
