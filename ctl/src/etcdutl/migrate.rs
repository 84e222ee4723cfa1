//! `migrate`: the version of the schema of a stopped etcd's data, up to what a newer etcd needs or down to what an older one
//! reads.
//!
//! Between 3.5 and 3.7 the schema differs in one value: from 3.6 on the bucket `meta` says which version it is. Down is
//! allowed only if the log holds no request that the older etcd does not know.

use super::files::{self, Locked, failed};
use super::required;
use crate::etcd_dir::read_log;
use crate::failure::Failure;
use plinth_api::wire::{Value, bytes_field, fields};
use plinth_bbolt::copy::Changes;
use plinth_bbolt::schema::meta;
use plinth_bbolt::wal::EntryType;
use plinth_bbolt::{Database, DatabaseFile};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The newest version there is a schema of.
const NEWEST: Version = Version(3, 7);

/// The first version whose files say their version.
const FIRST_TOLD: Version = Version(3, 6);

/// Number of `DowngradeVersionTestRequest` in `InternalRaftRequest`, which 3.6 brought.
const DOWNGRADE_VERSION_TEST: u64 = 9900;

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    /// The data directory
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The version to go to, as X.Y; 3.5 at least
    #[arg(long, value_name = "X.Y")]
    target_version: Option<String>,
    /// Set the version even where that is not allowed
    #[arg(long)]
    force: bool,
}

/// Major and minor number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Version(u64, u64);

impl std::fmt::Display for Version {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}.{}", self.0, self.1)
    }
}

impl Version {
    /// As the bucket `meta` has it.
    fn stored(self) -> String {
        format!("{self}.0")
    }

    /// Reads the first two numbers of `3.6.0`.
    fn parse(text: &str) -> Option<Version> {
        let mut numbers = text.split('.').map(|number| number.parse().ok());
        Some(Version(numbers.next()??, numbers.next()??))
    }

    fn target(text: &str) -> Result<Version, Failure> {
        if text.matches('.').count() != 1 {
            return Err(Failure::arguments(format!("wrong target version format, expected \"X.Y\", got {text:?}")));
        }
        let version = Version::parse(text).ok_or_else(|| {
            Failure::arguments(format!("failed to parse target version: {text}.0 is not in dotted-tri format"))
        })?;
        match version < Version(3, 5) {
            true => Err(Failure::arguments(format!("target version \"{version}\" not supported. Minimal \"3.5\""))),
            false => Ok(version),
        }
    }
}

/// Runs the command.
pub(super) fn run(args: Args, timeout: Duration) -> Result<(), Failure> {
    let (data_dir, target) = match (args.data_dir, args.target_version) {
        (None, None) => return Err(failed("required flag(s) \"data-dir\", \"target-version\" not set")),
        (data_dir, target) => (required(data_dir, "data-dir")?, required(target, "target-version")?),
    };
    let target = Version::target(&target)?;
    let database = files::open(&files::database_of(&data_dir), timeout)?;
    let current = detect(&database.file)?;
    if current == target {
        eprintln!("storage version up-to-date: storage-version={current}");
        return Ok(());
    }
    let oldest_reader = oldest_reader(&data_dir.join("member").join("wal"))?;
    match allowed(current, target, oldest_reader) {
        Ok(()) => {}
        Err(failure) if !args.force => return Err(failure),
        Err(failure) => eprintln!("normal migrate failed, trying with force: {}", failure.text),
    }
    set(&database, target)?;
    eprintln!("updated storage version: new-storage-version={}", target.stored());
    Ok(())
}

fn set(database: &Locked, target: Version) -> Result<(), Failure> {
    let value = (target >= FIRST_TOLD).then(|| target.stored().into_bytes());
    let values = vec![(meta::STORAGE_VERSION, value)];
    database.rewrite(&Changes { bucket: "meta", values }).map(|_| ())
}

/// The version of a file's schema.
fn detect(file: &DatabaseFile) -> Result<Version, Failure> {
    let database = Database::open(file).map_err(failed)?;
    let (mut told, mut term) = (None, 0);
    if let Some(bucket) = database.bucket(b"meta").map_err(failed)? {
        let mut entries = database.entries(&bucket);
        while let Some((key, value)) = entries.next().map_err(failed)? {
            if key == meta::STORAGE_VERSION.as_bytes() {
                told = Version::parse(&String::from_utf8_lossy(value));
            } else if key == meta::TERM.as_bytes() {
                term = value.first_chunk().map_or(0, |term| u64::from_be_bytes(*term));
            }
        }
    }
    match told {
        Some(version) => Ok(version),
        None if term != 0 => Ok(Version(3, 5)),
        None => Err(failed("missing term information")),
    }
}

/// Whether there is a way from one version to the other.
fn allowed(current: Version, target: Version, oldest_reader: Option<Version>) -> Result<(), Failure> {
    if current.0 != target.0 {
        return Err(failed("cannot create migration plan: changing major storage version is not supported"));
    }
    if let Some(unknown) = (current.1.min(target.1) + 1..=current.1.max(target.1)).find(|minor| *minor > NEWEST.1) {
        // On the way down the first one that is met is the current one.
        let unknown = if target < current { current.1 } else { unknown };
        let text = format!("cannot create migration plan: version \"3.{unknown}.0\" is not supported");
        return Err(failed(text));
    }
    match oldest_reader {
        Some(oldest) if target < current && target < oldest => Err(failed(format!(
            "cannot downgrade storage, WAL contains newer entries, as the target version ({}) is lower than the version \
             ({}) detected from WAL logs",
            target.stored(),
            oldest.stored()
        ))),
        _ => Ok(()),
    }
}

/// The oldest etcd above 3.5 that understands all of the log behind its newest snapshot; none: 3.5 does.
fn oldest_reader(folder: &Path) -> Result<Option<Version>, Failure> {
    let log = read_log(folder)?;
    let newest = log.snapshots.iter().filter(|mark| mark.index <= log.hard_state.commit).map(|mark| mark.index).max();
    let behind = log.entries.iter().filter(|entry| entry.index > newest.unwrap_or(0));
    let requests = behind.filter(|entry| entry.kind == EntryType::Normal);
    Ok(requests.filter_map(|entry| needs(&entry.data)).max())
}

/// The version that a request needs, if that is more than 3.5.
fn needs(request: &[u8]) -> Option<Version> {
    let test = fields(request).find_map(|field| match field {
        (DOWNGRADE_VERSION_TEST, Value::Bytes(body)) => Some(body),
        _ => None,
    })?;
    let wanted = bytes_field(test, 1).and_then(|text| Version::parse(std::str::from_utf8(text).ok()?));
    Some(wanted.map_or(FIRST_TOLD, |wanted| wanted.max(FIRST_TOLD)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_api::wire::field_message;

    #[test]
    fn ways_that_there_are() {
        let way = |from: (u64, u64), to: (u64, u64), log: Option<(u64, u64)>| {
            allowed(Version(from.0, from.1), Version(to.0, to.1), log.map(|log| Version(log.0, log.1)))
                .map_err(|failure| failure.text)
        };
        assert_eq!(way((3, 5), (3, 7), None), Ok(()));
        assert_eq!(way((3, 7), (3, 5), None), Ok(()));
        assert_eq!(way((3, 5), (3, 6), Some((3, 6))), Ok(()), "up is always possible");
        assert!(way((3, 6), (3, 5), Some((3, 6))).expect_err("newer entries").contains("version (3.6.0) detected"));
        assert!(way((3, 7), (3, 9), None).expect_err("unknown").ends_with("version \"3.8.0\" is not supported"));
        assert!(way((3, 9), (3, 7), None).expect_err("unknown").ends_with("version \"3.9.0\" is not supported"));
        assert!(way((3, 7), (4, 0), None).expect_err("major").contains("changing major"));
    }

    #[test]
    fn targets_are_two_numbers() {
        let target = |text: &str| Version::target(text).map_err(|failure| (failure.exit.code(), failure.text));
        assert_eq!(target("3.6"), Ok(Version(3, 6)));
        let wrong = (128, "wrong target version format, expected \"X.Y\", got \"3\"".to_owned());
        assert_eq!(target("3"), Err(wrong));
        assert_eq!(
            target("3.4").map_err(|(_, text)| text),
            Err("target version \"3.4\" not supported. Minimal \"3.5\"".into())
        );
        assert!(target("3.x").is_err());
    }

    #[test]
    fn one_request_needs_more() {
        let mut request = Vec::new();
        field_message(&mut request, 4, |_| {});
        assert_eq!(needs(&request), None);
        field_message(&mut request, DOWNGRADE_VERSION_TEST as u32, |out| {
            plinth_api::wire::field_bytes(out, 1, b"3.7.0");
        });
        assert_eq!(needs(&request), Some(Version(3, 7)));
    }
}
