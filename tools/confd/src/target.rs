//! The file that a template becomes: written beside it, compared with it, and put in its place whole.

use crate::resource::Resource;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use tempfile::{NamedTempFile, TempPath};

/// A target's successor, still beside it.
#[derive(Debug)]
pub struct Stage {
    path: TempPath,
    mode: u32,
}

impl Stage {
    /// Writes what the target shall be, with its mode and owner.
    ///
    /// # Errors
    /// If it cannot be written where the target is.
    pub fn write(resource: &Resource, text: &str) -> io::Result<Stage> {
        let dest = &resource.dest;
        let mode = match resource.mode {
            Some(mode) => mode,
            None => std::fs::metadata(dest).map_or(0o644, |facts| facts.mode() & 0o7777),
        };
        let folder = dest.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = format!(".{}", dest.file_name().unwrap_or_default().to_string_lossy());
        // Nobody else may read it before it has its mode.
        let mut file: NamedTempFile = tempfile::Builder::new().prefix(&name).tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        own(file.as_file(), resource, mode)?;
        file.as_file().sync_all()?;
        Ok(Stage { path: file.into_temp_path(), mode })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// In what the target is other than this, one line each. None: it is in sync.
    pub fn differences(&self, resource: &Resource) -> Vec<String> {
        let dest = &resource.dest;
        let shown = dest.display();
        let (Ok(now), Ok(wanted)) = (std::fs::metadata(dest), std::fs::metadata(&self.path)) else {
            return vec![format!("{shown} does not exist")];
        };
        let mut lines = Vec::new();
        if now.uid() != wanted.uid() {
            lines.push(format!("{shown} has UID {} should be {}", now.uid(), wanted.uid()));
        }
        if now.gid() != wanted.gid() {
            lines.push(format!("{shown} has GID {} should be {}", now.gid(), wanted.gid()));
        }
        let (mode, wanted_mode) = (now.mode() & 0o7777, wanted.mode() & 0o7777);
        if mode != wanted_mode {
            lines.push(format!("{shown} has mode {mode:04o} should be {wanted_mode:04o}"));
        }
        if std::fs::read(dest).ok() != std::fs::read(&self.path).ok() {
            lines.push(format!("{shown} has other content"));
        }
        lines
    }

    /// Puts it in the target's place. A target that is a mount of its own cannot be replaced: it is written to.
    ///
    /// # Errors
    /// If it cannot be.
    pub fn replace(self, resource: &Resource) -> io::Result<()> {
        let text = std::fs::read(&self.path)?;
        let mode = self.mode;
        match self.path.persist(&resource.dest) {
            Ok(()) => Ok(()),
            Err(failed) if failed.error.kind() == io::ErrorKind::ResourceBusy => {
                plinth_companion::debug!("{} is a mount and is written to in place", resource.dest.display());
                std::fs::write(&resource.dest, text)?;
                let file = File::open(&resource.dest)?;
                own(&file, resource, mode)?;
                file.sync_all()
            }
            Err(failed) => Err(failed.error),
        }
    }

    /// Leaves it where it is.
    ///
    /// # Errors
    /// If it cannot be.
    pub fn keep(self) -> io::Result<()> {
        self.path.keep().map(drop).map_err(|failed| failed.error)
    }
}

/// Owner first: the system takes marks away from files that change hands.
fn own(file: &File, resource: &Resource, mode: u32) -> io::Result<()> {
    let facts = file.metadata()?;
    if (facts.uid(), facts.gid()) != (resource.uid, resource.gid) {
        std::os::unix::fs::fchown(file, Some(resource.uid), Some(resource.gid))?;
    }
    file.set_permissions(Permissions::from_mode(mode))
}
