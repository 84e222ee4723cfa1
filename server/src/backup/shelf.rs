//! The folder of the backups: what is in it, and what is too old.
//!
//! ```text
//! <member id>-<UTC, as 20261201T104500Z>-r<revision>.db         a backup
//! <member id>-<UTC>.db.part                          one under way, or left by a process that was killed
//! ```
//!
//! Members may share a folder: each looks only at names that begin with its id, so that none removes what another made.
//! Nothing else in the folder is ever touched.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SUFFIX: &str = ".db";
const UNFINISHED: &str = ".db.part";

/// Backups of one member.
#[derive(Clone, Debug)]
pub struct Shelf {
    folder: PathBuf,
    member: String,
}

/// A backup in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its file.
    pub path: PathBuf,
    /// When it was begun, to the second.
    pub time: SystemTime,
    /// The revision it holds.
    pub revision: i64,
}

impl Shelf {
    /// The backups of this member.
    pub fn new(folder: &Path, member: u64) -> Shelf {
        Shelf { folder: folder.to_owned(), member: format!("{member:016x}") }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The name of a good backup that was begun at this time.
    pub fn place(&self, time: SystemTime, revision: i64) -> PathBuf {
        self.folder.join(format!("{}-{}-r{revision}{SUFFIX}", self.member, stamp(time)))
    }

    /// Where it is written before it is known to be good.
    pub fn unfinished(&self, time: SystemTime) -> PathBuf {
        self.folder.join(format!("{}-{}{UNFINISHED}", self.member, stamp(time)))
    }

    /// All backups of this member, the oldest first.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn kept(&self) -> io::Result<Vec<Kept>> {
        let mut kept: Vec<Kept> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let Some((time, revision)) = self.own(&path, SUFFIX).and_then(|name| name.split_once("-r")) else {
                continue;
            };
            if let (Some(time), Ok(revision @ 0..)) = (parse_stamp(time), revision.parse()) {
                kept.push(Kept { path, time, revision });
            }
        }
        // One from the future was made by a clock that was wrong: it says nothing about what is newest.
        let now = SystemTime::now();
        kept.sort_by_key(|kept| (kept.time <= now, kept.time, kept.revision));
        Ok(kept)
    }

    /// Removes what backups that were cut off have left.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove_rests(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if self.own(&path, UNFINISHED).and_then(parse_stamp).is_some() {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Removes all but the newest `keep` backups, of which the one that was just `made` is one; how many that were.
    ///
    /// # Errors
    /// If one cannot be removed. If one would have to go that holds a later revision than the new one: then this member has
    /// lost data, or they are not its own, and everything stays.
    pub fn prune(&self, keep: usize, made: &Path, revision: i64) -> io::Result<usize> {
        let mut others = self.kept()?;
        others.retain(|kept| kept.path != made);
        others.truncate(others.len().saturating_sub(keep.max(1) - 1));
        if let Some(later) = others.iter().find(|kept| kept.revision > revision) {
            let name = later.path.display();
            return Err(io::Error::other(format!(
                "{name} holds more than revision {revision}, which this member has now"
            )));
        }
        for backup in &others {
            fs::remove_file(&backup.path)?;
        }
        Ok(others.len())
    }

    /// What stands between this member's id and the suffix in a name of its own.
    fn own<'p>(&self, path: &'p Path, suffix: &str) -> Option<&'p str> {
        path.file_name()?.to_str()?.strip_prefix(&self.member)?.strip_prefix('-')?.strip_suffix(suffix)
    }
}

/// `20261201T104500Z`: sorts as text does, and is a name on every file system.
fn stamp(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time.max(UNIX_EPOCH)).to_string();
    text.replace(['-', ':'], "")
}

fn parse_stamp(stamp: &str) -> Option<SystemTime> {
    let part = |from: usize, to: usize| stamp.get(from..to);
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(9, 11)?,
        part(11, 13)?,
        part(13, 15)?
    );
    let time = humantime::parse_rfc3339(&text).ok()?;
    (self::stamp(time) == stamp).then_some(time)
}

/// How long ago a time was; nothing if it is in the future, as behind a clock that was set back.
pub fn since(time: SystemTime) -> Option<Duration> {
    SystemTime::now().duration_since(time).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_when_and_what_and_whose() {
        let folder = tempfile::tempdir().expect("a folder");
        let shelf = Shelf::new(folder.path(), 0xab);
        let time = UNIX_EPOCH + Duration::from_secs(1_796_121_900);
        let place = shelf.place(time, 42);
        assert_eq!(place, folder.path().join("00000000000000ab-20261201T104500Z-r42.db"));
        assert_eq!(shelf.unfinished(time), folder.path().join("00000000000000ab-20261201T104500Z.db.part"));
        for name in [
            "00000000000000ab-20261201T104500Z-r42.db",
            "00000000000000ac-20261201T104500Z-r42.db",
            "00000000000000ab-20261301T104500Z-r42.db",
            "00000000000000ab-20261201T104500Z-r-2.db",
            "00000000000000ab-20261201T104500Z-42.db",
            "00000000000000ab-20261201T104500é-r42.db",
            "00000000000000ab-notes.db.part",
            "00000000000000ab.db",
        ] {
            fs::write(folder.path().join(name), "").expect("written");
        }
        shelf.remove_rests().expect("removed");
        assert_eq!(shelf.kept().expect("listed"), [Kept { path: place, time, revision: 42 }]);
        assert!(folder.path().join("00000000000000ab-notes.db.part").exists());
    }

    #[test]
    fn only_old_ones_of_this_member_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let (own, other) = (Shelf::new(folder.path(), 1), Shelf::new(folder.path(), 2));
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        for seconds in [300, 100, 200] {
            fs::write(own.place(at(seconds), 9), "").expect("written");
            fs::write(other.place(at(seconds), 9), "").expect("written");
        }
        fs::write(folder.path().join("notes.db"), "").expect("written");
        fs::write(own.unfinished(at(400)), "").expect("written");
        own.remove_rests().expect("removed");
        assert_eq!(own.prune(2, &own.place(at(300), 9), 9).expect("pruned"), 1);
        let times: Vec<_> = own.kept().expect("listed").iter().map(|kept| kept.time).collect();
        assert_eq!(times, [at(200), at(300)]);
        assert_eq!(own.prune(0, &own.place(at(300), 9), 9).expect("pruned"), 1, "the new one always stays");
        assert_eq!((other.kept().expect("listed").len(), folder.path().join("notes.db").exists()), (3, true));
    }

    /// An empty data directory in the place of the real one, or a clock that was ahead, cost no backup.
    #[test]
    fn what_holds_more_stays_and_so_does_what_is_new() {
        let folder = tempfile::tempdir().expect("a folder");
        let shelf = Shelf::new(folder.path(), 1);
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let future = SystemTime::now() + Duration::from_secs(86_400);
        let write = |time, revision| {
            let place = shelf.place(time, revision);
            fs::write(&place, "").expect("written");
            place
        };
        let (real, empty) = (write(at(100), 5_000), write(at(200), 1));
        let error = shelf.prune(1, &empty, 1).expect_err("it holds more").to_string();
        assert!(error.contains("-r5000.db holds more than revision 1"), "{error}");
        assert!(real.exists() && empty.exists());
        let (ahead, new) = (write(future, 5_001), write(at(300), 5_002));
        assert_eq!(shelf.kept().expect("listed").last().map(|kept| kept.revision), Some(5_002));
        assert_eq!(shelf.prune(1, &new, 5_002).expect("pruned"), 3);
        assert!(new.exists() && !ahead.exists());
    }
}
