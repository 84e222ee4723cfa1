//! `etcdutl snapshot restore`: a data directory from a snapshot, of etcd or of this program.
//!
//! The data file is made under another name and put in its place when it is whole and durable; the log, which makes the
//! directory a member's, comes last. A restore that was cut off leaves a mark: no server starts there, and the next restore
//! begins anew.

use crate::boot::{self, BootError};
use crate::config::{self, Command, Config};
use crate::datadir::{DataDir, DataDirError, RESTORING, names, sync_directory};
use crate::home::data_file::{DataFile, DataFileError};
use clap::Parser;
use plinth_bbolt::{Database, DatabaseFile};
use plinth_engine::store::StoreConfig;
use plinth_member::backup::{Bump, ImportError, Imported, import, import_v2};
use plinth_wal::SegmentSeq;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// A file's length modulo a sector's tells that a checksum stands behind the pages.
const SECTOR_BYTES: u64 = 512;
const CHECKSUM_BYTES: u64 = 32;

/// Changed pages are written back when there are this many bytes of them.
const DIRTY_BYTES_MAX: usize = 32 << 20;

/// The data file's name while it is made.
const UNFINISHED: &str = "restoring";

/// Exit code for arguments that make no sense, as etcd's.
const BAD_ARGUMENTS: u8 = 128;

/// Restores a member's data directory from a snapshot.
#[derive(Parser, Debug)]
#[command(name = "etcdutl snapshot restore")]
struct Cli {
    /// The snapshot
    file: PathBuf,
    /// Where the data goes; NAME.etcd by default
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Where the log goes, if not into the data directory
    #[arg(long, value_name = "FOLDER")]
    wal_dir: Option<PathBuf>,
    /// Name of this member
    #[arg(long, default_value = "default")]
    name: String,
    /// All members of the restored cluster, NAME=URL with commas between them
    #[arg(long, default_value = "default=http://localhost:2380")]
    initial_cluster: String,
    /// Token of the restored cluster
    #[arg(long, default_value = "etcd-cluster")]
    initial_cluster_token: String,
    /// Where other members will reach this one
    #[arg(long, default_value = "http://localhost:2380")]
    initial_advertise_peer_urls: String,
    /// Take a file without a checksum, as a copied database
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false")]
    skip_hash_check: bool,
    /// Accepted for etcd's sake: nothing is mapped
    #[arg(long, default_value = "10737418240")]
    initial_memory_map_size: u64,
    /// Revisions to go up; needs --mark-compacted
    #[arg(long, default_value = "0")]
    bump_revision: u64,
    /// Mark everything up to the new revision as compacted; needs --bump-revision
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false")]
    mark_compacted: bool,
    /// Leave the keys of the v2 API out (Plinth only)
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false")]
    without_v2: bool,
}

/// Why nothing was restored. Where etcd has words for it, they are etcd's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
enum RestoreError {
    /// The snapshot cannot be read.
    #[error("open {path}: {reason}")]
    Open {
        /// Its path.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// No checksum behind the pages.
    #[error("snapshot missing hash but --skip-hash-check=false")]
    NoChecksum,
    /// Another checksum than that of the pages.
    #[error("expected sha256 {expected}, got {found}")]
    Checksum {
        /// The one in the file.
        expected: String,
        /// That of the pages.
        found: String,
    },
    /// The data directory holds something.
    #[error("data-dir {path:?} not empty or could not be read")]
    DataDir {
        /// Its path.
        path: String,
    },
    /// The log's folder is there.
    #[error("wal-dir {path:?} exists")]
    WalDir {
        /// Its path.
        path: String,
    },
    /// The flags do not describe a cluster.
    #[error("{0}")]
    Flags(String),
    #[error(transparent)]
    Folder(#[from] DataDirError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Database(#[from] plinth_bbolt::Error),
    #[error(transparent)]
    DataFile(#[from] DataFileError),
    #[error(transparent)]
    Log(#[from] BootError),
    #[error("data file: {0}")]
    Place(#[from] std::io::Error),
}

/// Runs the command with the arguments behind its name.
pub fn main(arguments: Vec<String>) -> ExitCode {
    if let Err(error) = crate::failpoints::start() {
        eprintln!("Error: {error}");
        return ExitCode::FAILURE;
    }
    let cli = match Cli::try_parse_from(std::iter::once("etcdutl snapshot restore".to_owned()).chain(arguments)) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { BAD_ARGUMENTS } else { 0 });
        }
    };
    if (cli.bump_revision > 0) != cli.mark_compacted {
        eprintln!("Error: --mark-compacted required if --revision-bump");
        return ExitCode::from(BAD_ARGUMENTS);
    }
    let start = Instant::now();
    match restore(&cli) {
        Ok(imported) => {
            eprintln!(
                "restored snapshot: path={} revision={} records={} leases={} took={:?}",
                cli.file.display(),
                imported.revision,
                imported.records,
                imported.leases,
                start.elapsed()
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn restore(cli: &Cli) -> Result<Imported, RestoreError> {
    let config = member_config(cli)?;
    config.check_before_bootstrap().map_err(RestoreError::Flags)?;
    let member_dir = config.data_dir.join("member");
    let begins_again = member_dir.join(RESTORING).exists();
    refuse_used_folders(&config, begins_again)?;
    let file = open(&cli.file, cli.skip_hash_check)?;
    let database = Database::open(&file)?;
    let folder = DataDir::open_to_restore(&config)?;
    if begins_again {
        // Behind the lock: the other one may still be at work.
        remove_rests(folder.member_dir())?;
    }
    let data = DataFile::new(folder.member_dir(), StoreConfig::default(), boot::random());
    let mut pages = data.create_beside(UNFINISHED)?;
    // The bound of the flag is the type's: revisions are signed.
    let bump = (cli.bump_revision > 0).then(|| Bump { by: i64::try_from(cli.bump_revision).unwrap_or(i64::MAX / 2) });
    let imported = import(&database, &mut pages, bump, &mut |pages| match pages.dirty_bytes() > DIRTY_BYTES_MAX {
        true => pages.flush_now(),
        false => Ok(()),
    })?;
    if !cli.without_v2 {
        import_v2(&database, &mut pages)?;
    }
    pages.flush_now().map_err(DataFileError::Write)?;
    drop(pages);
    crate::fail_point!("restoreAfterImport");
    data.put_in_place(&data.beside(UNFINISHED))?;
    crate::fail_point!("restoreAfterData");
    boot::found(&config, folder.log_dir())?;
    sync_directory(folder.log_dir())?;
    crate::fail_point!("restoreAfterLog");
    std::fs::remove_file(folder.member_dir().join(RESTORING))?;
    sync_directory(folder.member_dir())?;
    Ok(imported)
}

/// Removes what a restore that was cut off has made. A log elsewhere is not touched: it may be somebody's.
fn remove_rests(member_dir: &Path) -> Result<(), RestoreError> {
    let log_dir = member_dir.join("log");
    for name in names(&log_dir)?.into_iter().filter(|name| SegmentSeq::from_file_name(name).is_some()) {
        std::fs::remove_file(log_dir.join(name))?;
    }
    for name in names(member_dir)?.into_iter().filter(|name| name.starts_with("data.plinth")) {
        std::fs::remove_file(member_dir.join(name))?;
    }
    Ok(())
}

/// The configuration that the member will be started with, as far as it matters here.
fn member_config(cli: &Cli) -> Result<Config, RestoreError> {
    let data_dir = cli.data_dir.clone().unwrap_or_else(|| PathBuf::from(format!("{}.etcd", cli.name)));
    let mut arguments = vec![
        format!("--name={}", cli.name),
        format!("--data-dir={}", data_dir.display()),
        format!("--initial-cluster={}", cli.initial_cluster),
        format!("--initial-cluster-token={}", cli.initial_cluster_token),
        format!("--initial-advertise-peer-urls={}", cli.initial_advertise_peer_urls),
    ];
    if let Some(wal_dir) = &cli.wal_dir {
        arguments.push(format!("--wal-dir={}", wal_dir.display()));
    }
    match config::load(&arguments, &BTreeMap::new()) {
        Ok(Command::Serve(loaded)) => Ok(loaded.config),
        Ok(Command::Print(text)) => Err(RestoreError::Flags(text)),
        Err(error) => Err(RestoreError::Flags(error.to_string())),
    }
}

fn refuse_used_folders(config: &Config, begins_again: bool) -> Result<(), RestoreError> {
    let is_free = begins_again
        || match std::fs::read_dir(&config.data_dir) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
    if !is_free {
        return Err(RestoreError::DataDir { path: config.data_dir.display().to_string() });
    }
    match &config.wal_dir {
        Some(path) if path.exists() => Err(RestoreError::WalDir { path: path.display().to_string() }),
        _ => Ok(()),
    }
}

/// Opens a snapshot, and compares its checksum unless that is not wanted.
fn open(path: &Path, skip_hash_check: bool) -> Result<DatabaseFile, RestoreError> {
    let failed =
        |error: std::io::Error| RestoreError::Open { path: path.display().to_string(), reason: config::reason(&error) };
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let has_checksum = length % SECTOR_BYTES == CHECKSUM_BYTES;
    if !has_checksum && !skip_hash_check {
        return Err(RestoreError::NoChecksum);
    }
    let bytes = if has_checksum { length - CHECKSUM_BYTES } else { length };
    if has_checksum && !skip_hash_check {
        let mut expected = [0; CHECKSUM_BYTES as usize];
        file.read_exact_at(&mut expected, bytes).map_err(failed)?;
        let mut hash = Sha256::new();
        let mut pages = file.by_ref().take(bytes);
        let mut buffer = vec![0; 1 << 20];
        loop {
            match pages.read(&mut buffer).map_err(failed)? {
                0 => break,
                read => hash.update(&buffer[..read]),
            }
        }
        let found: [u8; CHECKSUM_BYTES as usize] = hash.finalize().into();
        if found != expected {
            return Err(RestoreError::Checksum { expected: decimal(&expected), found: decimal(&found) });
        }
    }
    Ok(DatabaseFile::new(file, bytes))
}

/// Bytes as Go prints a list of them.
fn decimal(bytes: &[u8]) -> String {
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    format!("[{}]", numbers.join(" "))
}
