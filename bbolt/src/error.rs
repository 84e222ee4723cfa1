//! Why a file is not read.

/// A file is not a database, or is damaged. Names the place as precisely as it is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither meta page can be used.
    #[error("not a database of etcd: {detail}")]
    NoMeta {
        /// What is wrong with the meta pages.
        detail: String,
    },
    /// A page is not what the pages above it say.
    #[error("bucket {bucket:?}, page {page}: {detail}")]
    Page {
        /// The bucket it belongs to; empty for the list of buckets.
        bucket: String,
        /// Its number.
        page: u64,
        /// What was expected and what was found.
        detail: String,
    },
    /// The bytes could not be read.
    #[error("read {len} bytes at offset {offset}")]
    Read {
        /// Where, in bytes from the start of the file.
        offset: u64,
        /// How many bytes.
        len: usize,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// What is to be written cannot be represented, or does not come in order.
    #[error("bucket {bucket:?}: {detail}")]
    Write {
        /// The bucket being written.
        bucket: String,
        /// What is wrong.
        detail: String,
    },
    /// The sink refused the bytes.
    #[error("write {len} bytes at offset {offset}")]
    Sink {
        /// Where, in bytes from the start of the file.
        offset: u64,
        /// How many bytes.
        len: usize,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}
