//! The seam between the page file and the world: [`PageStore`] for reading and sizing, [`PageWriter`] for flushing.
//!
//! Reads are synchronous slices (a map, or memory); writes never go through the store but through the plan of a
//! [`Flush`](super::Flush), which whoever owns the I/O carries out, with a [`PageWriter`] or otherwise.
//!
//! Implementations: [`FileStore`](super::FileStore) (file and map), [`MemStore`](super::testing::MemStore) and
//! [`SimStore`](super::testing::SimStore) for tests and simulation.

/// What is going to happen to a part of the file. A store may ignore it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advice {
    /// It is read soon: start reading ahead, without waiting.
    WillNeed,
    /// It is not read for a while: it need not stay resident in this process.
    DontNeed,
}

/// Reading or sizing the file failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageIoError {
    /// Not inside the file.
    #[error("{length} bytes at offset {offset} are outside of a file of {file_bytes} bytes")]
    OutOfRange {
        /// Where the read began.
        offset: u64,
        /// How many bytes were wanted.
        length: usize,
        file_bytes: u64,
    },
    /// The disk, the quota or the address space is exhausted.
    #[error("no room for a file of {wanted_bytes} bytes")]
    NoSpace {
        /// The size asked for.
        wanted_bytes: u64,
    },
    /// Anything else the system said.
    #[error("{operation} {path}")]
    Io {
        operation: &'static str,
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// The bytes of a page file.
pub trait PageStore {
    /// Size of the file in bytes.
    fn len(&self) -> u64;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the file, including writes that are not synced. The slice stays as it is until these bytes are written.
    fn read(&self, offset: u64, len: usize) -> Result<&[u8], PageIoError>;

    /// Makes the file `len` bytes long; the space of the new bytes is reserved, and nobody reads them before they are
    /// written. Nothing has changed if it fails.
    fn grow(&mut self, len: u64) -> Result<(), PageIoError>;

    /// Makes the file `len` bytes short. The system may be told of it later, by [`PageWriter::cut`].
    fn truncate(&mut self, len: u64) -> Result<(), PageIoError>;

    /// A hint.
    fn advise(&self, offset: u64, len: u64, advice: Advice);
}

/// Carries out a flush plan. Errors are final: after one, the process must stop, because the kernel may have dropped
/// the pages it could not write.
pub trait PageWriter {
    /// Writes all of `bytes`.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()>;

    /// Gets what was written so far on its way to the device and waits for it, without making it durable: so that a
    /// large flush reaches the device in portions, between which others get at it. May do nothing.
    fn write_back(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    /// Makes everything written so far durable, and the size of the file with it.
    fn sync(&mut self) -> std::io::Result<()>;

    /// Gives a part of what [`PageStore::truncate`] has cut off back to the system; true if there is more. To be called
    /// after a flush until it is false.
    fn cut(&mut self) -> std::io::Result<bool> {
        Ok(false)
    }
}
