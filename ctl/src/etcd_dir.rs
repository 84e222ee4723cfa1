//! What a stopped etcd leaves in its data directory beside the database: positions, and the log.

use crate::failure::{Exit, Failure, system_text};
use plinth_bbolt::snap::Snap;
use plinth_bbolt::wal;
use std::fs;
use std::path::{Path, PathBuf};

fn failed(text: impl ToString) -> Failure {
    Failure::new(Exit::Error, text.to_string())
}

/// The newest position whose file is whole.
pub fn newest(folder: &Path) -> Result<Option<Snap>, Failure> {
    let cannot = |error: std::io::Error| failed(format!("{}: {}", folder.display(), system_text(&error)));
    let mut newest: Option<Snap> = None;
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.extension().is_none_or(|end| end != "snap") {
            continue;
        }
        if let Ok(snap) = Snap::read(&fs::read(&path).map_err(cannot)?)
            && newest.as_ref().is_none_or(|newest| newest.index < snap.index)
        {
            newest = Some(snap);
        }
    }
    Ok(newest)
}

/// All of the log in a folder.
pub fn read_log(folder: &Path) -> Result<wal::Wal, Failure> {
    let cannot =
        |error: std::io::Error| failed(format!("failed to read wal: {}: {}", folder.display(), system_text(&error)));
    let mut files: Vec<((u64, u64), PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        if let Some(place) = wal::parse_name(&entry.file_name().to_string_lossy(), wal::SUFFIX) {
            files.push((place, entry.path()));
        }
    }
    files.sort();
    let mut reader = wal::Reader::default();
    for (number, (_, path)) in files.iter().enumerate() {
        let bytes = fs::read(path).map_err(cannot)?;
        let is_last = number + 1 == files.len();
        reader
            .file(&path.display().to_string(), &bytes, is_last)
            .map_err(|error| failed(format!("failed to read wal: {error}")))?;
    }
    reader.finish().map_err(|error| failed(format!("failed to read wal: {error}")))
}
