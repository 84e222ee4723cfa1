//! The data file of a member: opened, made, and replaced by another one. Blocking, all of it.

use super::HomeStore;
use plinth_engine::pagefile::{self, FileStore, FileWriter, PageFile, PageIoError};
use plinth_engine::store::{Store, StoreConfig};
use plinth_engine::trees::TreeError;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Name of the data file in the member's folder.
const DATA_FILE: &str = "data.plinth";

/// How long the lock of the file may outlive that of its directory.
const UNLOCK_TIME: Duration = Duration::from_secs(5);

/// Changes that may wait in memory while the disk is full: more than any entry of the log makes.
const OVERDRAFT_BYTES: u64 = 512 << 20;

/// The data file cannot be used. The message says which, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataFileError {
    /// It cannot be opened.
    #[error("data file {path}: {source}")]
    Open {
        path: String,
        /// What is wrong.
        source: pagefile::OpenError,
    },
    /// The data in it cannot be read.
    #[error("data file {path}: {source}; the file is damaged, restore the member from a snapshot")]
    Content {
        path: String,
        /// What is wrong.
        source: plinth_engine::error::StoreError,
    },
    /// It cannot be written.
    #[error("data file: {0}")]
    Write(#[from] TreeError),
}

/// The data file of this member, to put another one in its place.
#[derive(Clone, Debug)]
pub struct DataFile {
    path: PathBuf,
    config: StoreConfig,
    /// What a new file is told apart by.
    file_id: u64,
}

impl DataFile {
    /// The data file in the member's folder; `file_id`: what a new one is told apart by.
    pub fn new(folder: &Path, config: StoreConfig, file_id: u64) -> DataFile {
        DataFile { path: folder.join(DATA_FILE), config, file_id }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in the same folder, named after this one. What is left of one is removed at the next start.
    pub fn beside(&self, suffix: &str) -> PathBuf {
        self.path.with_file_name(format!("{DATA_FILE}.{suffix}"))
    }

    /// Opens a whole data file, which need not be in its place. Blocking.
    pub fn open(&self, path: &Path) -> Result<(HomeStore, FileWriter), DataFileError> {
        self.load(path, open_pages(path)?)
    }

    /// Opens the data file in its place, or makes an empty one if none was ever written. Blocking.
    pub fn open_or_create(&self) -> Result<(HomeStore, FileWriter), DataFileError> {
        let file = match open_pages(&self.path) {
            Err(DataFileError::Open { source: pagefile::OpenError::Blank, .. }) => {
                create_pages(&self.path, self.file_id)?
            }
            opened => opened?,
        };
        self.load(&self.path, file)
    }

    /// Makes an empty file beside this one. Blocking.
    pub fn create_beside(&self, suffix: &str) -> Result<PageFile<FileStore>, DataFileError> {
        create_pages(&self.beside(suffix), self.file_id)
    }

    /// Opens the pages of a file beside this one. Blocking.
    pub fn open_beside(&self, suffix: &str) -> Result<PageFile<FileStore>, DataFileError> {
        open_pages(&self.beside(suffix))
    }

    fn load(&self, path: &Path, mut file: PageFile<FileStore>) -> Result<(HomeStore, FileWriter), DataFileError> {
        file.set_overdraft(OVERDRAFT_BYTES);
        let writer = file.store().writer();
        let store = Store::open(file, self.config)
            .map_err(|source| DataFileError::Content { path: path.display().to_string(), source })?;
        Ok((store, writer))
    }

    /// Puts a durable file in the place of this one, durably. Blocking.
    pub fn put_in_place(&self, from: &Path) -> std::io::Result<()> {
        std::fs::rename(from, &self.path)?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::File::open(folder)?.sync_all()
    }

    /// Removes what an interrupted copy has left.
    pub fn remove_rests(&self) -> std::io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&format!("{DATA_FILE}.")) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Opens the file, whose lock may outlive that of its directory for a moment when the process before this one ends.
fn open_store(path: &Path) -> Result<FileStore, PageIoError> {
    let begun = Instant::now();
    loop {
        match FileStore::open(path) {
            Err(PageIoError::Io { operation: "lock", .. }) if begun.elapsed() < UNLOCK_TIME => {
                // Nothing is served yet.
                std::thread::sleep(Duration::from_millis(5));
            }
            opened => return opened,
        }
    }
}

fn open_pages(path: &Path) -> Result<PageFile<FileStore>, DataFileError> {
    let failed = |source| DataFileError::Open { path: path.display().to_string(), source };
    let store = open_store(path).map_err(|error| failed(error.into()))?;
    PageFile::open(store).map_err(failed)
}

/// Makes an empty data file, durably.
fn create_pages(path: &Path, file_id: u64) -> Result<PageFile<FileStore>, DataFileError> {
    let failed = |source| DataFileError::Open { path: path.display().to_string(), source };
    let store = open_store(path).map_err(|error| failed(error.into()))?;
    let mut file = PageFile::create(store, pagefile::Options { file_id }).map_err(failed)?;
    file.flush_now()?;
    Ok(file)
}
