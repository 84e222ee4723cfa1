//! Something made of files, made anew when they change. What is in use goes on until it can be replaced.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What tells one state of a file from another. Links are followed: secrets of Kubernetes change by a link that turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    changed: (i64, i64),
    bytes: u64,
}

fn stamp(file: &Path) -> Option<Stamp> {
    let found = fs::metadata(file).ok()?;
    let changed = (found.mtime(), found.mtime_nsec());
    Some(Stamp { device: found.dev(), inode: found.ino(), changed, bytes: found.size() })
}

type Build<T> = Box<dyn Fn() -> Result<T, String> + Send + Sync>;

/// See the module. To be asked on threads that may wait for files.
pub struct Live<T> {
    files: Vec<PathBuf>,
    build: Build<T>,
    /// What is said when it cannot be made anew and the old one stays. `None`: it does not stay.
    stays: Option<&'static str>,
    state: Mutex<State<T>>,
}

struct State<T> {
    stamps: Vec<Option<Stamp>>,
    made: Result<Arc<T>, String>,
}

impl<T> Live<T> {
    /// What `build` makes of `files`; nothing is read yet. `stays`: what to warn of when files that have changed cannot be
    /// used, and what was made of the old ones stays; without it, nothing stays.
    pub fn new(
        files: Vec<PathBuf>,
        stays: Option<&'static str>,
        build: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Live<T> {
        let state = State { stamps: Vec::new(), made: Err(String::new()) };
        Live { files, build: Box::new(build), stays, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // A panic while it was built left the state as it was.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the files are now, or why they are nothing.
    pub fn current(&self) -> Result<Arc<T>, String> {
        let mut state = self.state();
        // Before they are read, so that a change while they are is seen the next time.
        let stamps: Vec<_> = self.files.iter().map(|file| stamp(file)).collect();
        let is_first = state.made.as_ref().is_err_and(String::is_empty);
        if is_first || stamps != state.stamps {
            state.stamps = stamps;
            match ((self.build)(), self.stays) {
                (Err(error), Some(message)) if state.made.is_ok() => {
                    let files: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
                    tracing::warn!(%error, files = files.join(","), "{message}");
                }
                (built, _) => {
                    if !is_first && built.is_ok() && !self.files.is_empty() {
                        let files: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
                        tracing::info!(files = files.join(","), "certificates were read again");
                    }
                    state.made = built.map(Arc::new);
                }
            }
        }
        state.made.clone()
    }
}

/// Reads a file, with the error as Go words it.
pub fn read(file: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| format!("open {}: {}", file.display(), crate::config::reason(&error));
    fs::read(file).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_seen_and_mistakes_survived() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("f");
        let live = |stays| {
            let path = file.clone();
            let parse = move || {
                String::from_utf8(read(&path)?)
                    .map_err(|error| error.to_string())?
                    .parse::<u32>()
                    .map_err(|error| error.to_string())
            };
            Live::new(vec![file.clone()], stays, parse)
        };
        let (keeps, drops) = (live(Some("stays")), live(None));
        let now = |live: &Live<u32>| live.current().map(|value| *value);
        assert_eq!(now(&keeps), Err(format!("open {}: no such file or directory", file.display())));
        for (text, kept, dropped) in
            [("1", Ok(1), Ok(1)), ("22", Ok(22), Ok(22)), ("x", Ok(22), Err(())), ("333", Ok(333), Ok(333))]
        {
            fs::write(&file, text).expect("write");
            assert_eq!(now(&keeps).map_err(|_| ()), kept, "{text}");
            assert_eq!(now(&drops).map_err(|_| ()), dropped, "{text}");
        }
        fs::remove_file(&file).expect("remove");
        assert_eq!((now(&keeps), now(&drops).is_err()), (Ok(333), true));
    }
}
