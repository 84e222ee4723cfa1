//! `plinth util export`: a data directory of etcd from one of ours that is stopped.
//!
//! What comes out is the same member of the same cluster, standing where this one stands: its database with all that the log
//! holds applied, a `.snap` file and a log with its term and vote and no entries. The directory of any other member can be
//! made from the same data, so that a whole cluster goes back equal.
//!
//! Invariants: the data directory is only read, but for what every start does (a torn end of the log is cut); all of the
//! log counts, as with `--force-new-cluster`: what was acknowledged is in it; the new directory gets its name when all of it
//! is durable, so that no etcd finds half of one. Into an empty directory that is there, which may be a mount point or
//! behind a link, it is written, and its `member` gets its name last. What fails leaves nothing.

use crate::boot::{self, BootError};
use crate::config::{self, Command, Config};
use crate::datadir::{CONVERTED, CONVERTING, DataDir, DataDirError, sync_directory};
use crate::home::data_file::{DataFile, DataFileError};
use crate::home::{HomeLog, HomeStore};
use clap::Parser;
use plinth_bbolt::position::{self as files, Position};
use plinth_bbolt::schema;
use plinth_bbolt::snap::MemberTree;
use plinth_bbolt::wal;
use plinth_engine::error::StoreError;
use plinth_engine::lease::{LessorConfig, Millis};
use plinth_engine::store::StoreConfig;
use plinth_engine::trees::{TreeId, View};
use plinth_member::backup::{self, Content, Export, ExportError, Progress};
use plinth_member::recover::{Identity, RecoveredMember};
use plinth_member::{Effects, Fatal, META_CONF_STATE, Member, MemberConfig, Pumped, records};
use plinth_raft::error::ConfError;
use plinth_raft::{ConfState, EntryId, GroupConfig};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Releases whose data directories are written, with the version that their databases tell.
const RELEASES: [(&str, &str); 3] = [("3.5", "3.5.0"), ("3.6", "3.6.0"), ("3.7", "3.7.0")];

/// Exit code for arguments that make no sense, as etcd's.
const BAD_ARGUMENTS: u8 = 128;

/// Behind the name of a directory that is not whole yet.
const UNFINISHED: &str = ".exporting";

/// What an empty file system has.
const LOST: &str = "lost+found";

/// The folder of a member in a data directory.
const MEMBER: &str = "member";

/// Entries and bytes of a step, which nobody waits for.
const STEP_ENTRIES: usize = 10_000;
const STEP_BYTES: u64 = 8 << 20;

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Makes a data directory of etcd from one of Plinth that is stopped.
#[derive(Parser, Debug)]
#[command(name = "etcdutl export")]
struct Cli {
    /// Plinth's data directory
    #[arg(long, value_name = "FOLDER")]
    data_dir: PathBuf,
    /// Its log, if that is not in the data directory
    #[arg(long, value_name = "FOLDER")]
    wal_dir: Option<PathBuf>,
    /// The new data directory, which is empty or not there yet
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// The oldest etcd that is to open it: 3.5, 3.6 or 3.7. Newer ones do as well
    #[arg(long, value_name = "X.Y", default_value = "3.5")]
    target_version: String,
    /// The member that it is for, by name or id: this one by default
    #[arg(long, value_name = "NAME")]
    member: Option<String>,
    /// Accepted for etcdutl's sake
    #[arg(short, long, hide = true)]
    write_out: Option<String>,
    /// Accepted for etcdutl's sake
    #[arg(long, hide = true)]
    timeout: Option<String>,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
enum FailedExport {
    /// Flags or data that do not allow it. The message says what to do.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Folder(#[from] DataDirError),
    #[error(transparent)]
    DataFile(#[from] DataFileError),
    #[error(transparent)]
    Log(#[from] BootError),
    #[error(transparent)]
    Member(#[from] Fatal),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("stored configuration of voters: {0}")]
    Conf(#[from] ConfError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> FailedExport {
    let path = path.display().to_string();
    move |source| FailedExport::Io { path, source }
}

fn refused<T>(why: impl Into<String>) -> Result<T, FailedExport> {
    Err(FailedExport::Refused(why.into()))
}

/// Runs the command with the arguments behind its name.
pub fn main(arguments: Vec<String>) -> ExitCode {
    if let Err(error) = crate::failpoints::start() {
        eprintln!("Error: {error}");
        return ExitCode::FAILURE;
    }
    let cli = match Cli::try_parse_from(std::iter::once("etcdutl export".to_owned()).chain(arguments)) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { BAD_ARGUMENTS } else { 0 });
        }
    };
    let start = Instant::now();
    match export(&cli) {
        Ok(made) => {
            eprintln!(
                "exported data directory: to={} for-etcd={} member={:x} cluster={:x} revision={} term={} index={} took={:?}",
                cli.to.display(),
                cli.target_version,
                made.identity.member.0,
                made.identity.cluster,
                made.revision,
                made.last.term,
                made.last.index,
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

/// What was made.
struct Made {
    identity: Identity,
    revision: i64,
    last: EntryId,
}

fn export(cli: &Cli) -> Result<Made, FailedExport> {
    let Some((_, version)) = RELEASES.into_iter().find(|(release, _)| *release == cli.target_version) else {
        return refused(format!("target version {:?} not supported: 3.5, 3.6 or 3.7", cli.target_version));
    };
    let place = Place::at(&cli.to)?;
    let config = source(cli)?;
    refuse_others(&cli.data_dir)?;
    let folder = DataDir::open(&config)?;
    let standing = stand(&config, &folder)?;
    let identity = Identity { member: chosen(&standing, cli.member.as_deref())?, ..standing.identity };
    if holds_v2(&standing.store)? {
        eprintln!("Warning: data of the v2 API stay behind: etcd's newer releases have no place for them");
    }
    let written = write(&standing, &identity, &place, version);
    if written.is_err() {
        // What stays is removed before the next one.
        let _ = fs::remove_dir_all(&place.unfinished);
    }
    written?;
    Ok(Made { identity, revision: standing.store.revision(), last: standing.last })
}

/// Whether there is anything of users in the v2 store.
fn holds_v2(store: &HomeStore) -> Result<bool, FailedExport> {
    let mut found = false;
    let mut note = |_: &[u8], _: &[u8]| {
        found = true;
        ControlFlow::Break(())
    };
    store.trees().walk(TreeId::V2, b"", &mut note).map_err(ExportError::Tree)?;
    Ok(found)
}

/// Refuses what is no member's data. Opened like others, a directory of etcd's would be marked to be converted, and an empty
/// one be filled.
fn refuse_others(data_dir: &Path) -> Result<(), FailedExport> {
    let (name, member) = (data_dir.display(), data_dir.join(MEMBER));
    if [CONVERTING, CONVERTED].iter().any(|mark| member.join(mark).exists()) {
        return refused(format!(
            "{name} was etcd's, and its conversion has not ended: etcd's own files are still in it. Start Plinth on it once, \
             which ends it, or etcd, which goes on where it was"
        ));
    }
    match member.join("data.plinth").exists() {
        true => Ok(()),
        false => refused(format!("{name} is no data directory of Plinth")),
    }
}

/// Where the directory is made.
struct Place {
    /// What is not whole yet.
    unfinished: PathBuf,
    /// Which of it gets its name last, and the name.
    last: (PathBuf, PathBuf),
}

impl Place {
    /// Beside a directory that is not there yet, or in one that is empty.
    fn at(to: &Path) -> Result<Place, FailedExport> {
        // Without a slash at its end.
        let to: PathBuf = to.components().collect();
        let is_there = match fs::read_dir(&to) {
            Ok(mut entries) => match entries.all(|entry| entry.is_ok_and(|entry| is_nothing(&entry.file_name()))) {
                true => Ok(true),
                false => Err(()),
            },
            // A link to nothing is there, but leads nowhere.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !to.is_symlink() => Ok(false),
            Err(_) => Err(()),
        };
        let mut beside = to.clone().into_os_string();
        beside.push(UNFINISHED);
        match is_there {
            Ok(true) => {
                let unfinished = to.join(UNFINISHED);
                Ok(Place { last: (unfinished.join(MEMBER), to.join(MEMBER)), unfinished })
            }
            Ok(false) => Ok(Place { last: (beside.clone().into(), to), unfinished: beside.into() }),
            Err(()) => refused(format!("data-dir {:?} not empty or could not be read", to.display().to_string())),
        }
    }
}

/// Whether a directory counts as empty with an entry of this name.
fn is_nothing(name: &OsStr) -> bool {
    name == LOST || name == UNFINISHED
}

/// The configuration of the member as far as its folders need it.
fn source(cli: &Cli) -> Result<Config, FailedExport> {
    let mut arguments = vec![format!("--data-dir={}", cli.data_dir.display())];
    if let Some(wal_dir) = &cli.wal_dir {
        arguments.push(format!("--wal-dir={}", wal_dir.display()));
    }
    match config::load(&arguments, &BTreeMap::new()) {
        Ok(Command::Serve(loaded)) => Ok(loaded.config),
        Ok(Command::Print(text)) => refused(text),
        Err(error) => refused(error.to_string()),
    }
}

/// The member with all of its log applied, in memory.
struct Standing {
    identity: Identity,
    store: HomeStore,
    conf: ConfState,
    last: EntryId,
    term: u64,
    vote: u64,
}

fn stand(config: &Config, folder: &DataDir) -> Result<Standing, FailedExport> {
    let lessor = LessorConfig::for_election_timeout(config.cluster.election_timeout.as_millis() as u64);
    let store_config = StoreConfig { quota_bytes: -1, lessor, ..StoreConfig::default() };
    let data = DataFile::new(folder.member_dir(), store_config, boot::random());
    let (store, _writer) = data.open_or_create()?;
    if store.follows().is_some() {
        return refused("a standby of another cluster that has not taken over: that cluster has its data itself");
    }
    let applied = EntryId { index: store.applied().index, term: store.applied().term };
    let (mut log, recovered) = boot::recover_log(config, folder.log_dir(), applied)?;
    let Some(identity) = recovered.identity else {
        return refused(
            "the log does not say whose it is: is it elsewhere (--wal-dir), or was the member never started?",
        );
    };
    let (last, hard_state) = (recovered.log.last(), recovered.log.hard_state);
    if last.index == 0 {
        return refused("the member has no part in a cluster yet: it has nothing to give");
    }
    let learners_max = usize::try_from(config.cluster.learners_max).unwrap_or(1);
    let store = replay(identity, store, recovered, learners_max, &mut log)?;
    let conf = match store.meta(META_CONF_STATE)? {
        Some(bytes) => ConfState::decode(bytes)?,
        None => return refused("the data do not say who votes"),
    };
    if !conf.voters_outgoing.is_empty() {
        return refused("a change of several members is under way: let the cluster finish it first");
    }
    let vote = hard_state.vote.map_or(0, |vote| vote.0);
    Ok(Standing { identity, store, conf, last, term: hard_state.term.max(last.term), vote })
}

/// Applies all that the log holds. The data file is not flushed: the directory stays as it is.
fn replay(
    identity: Identity,
    store: HomeStore,
    recovered: RecoveredMember,
    learners_max: usize,
    log: &mut HomeLog,
) -> Result<HomeStore, FailedExport> {
    let conf = match store.meta(META_CONF_STATE)? {
        Some(bytes) => ConfState::decode(bytes)?,
        None => ConfState::default(),
    };
    let mut entries = recovered.log;
    entries.hard_state.commit = entries.last().index;
    let last = entries.last().index;
    let member_config = MemberConfig {
        identity,
        group: GroupConfig { conf, ..GroupConfig::new(boot::GROUP, identity.member, boot::random()) },
        lease_extension_millis: 0,
        first_sequence: 1,
        request_timeout_millis: 0,
        learners_max,
        apply_budget: plinth_member::limits::APPLY_PER_PUMP,
    };
    let mut member: Member<_, ()> = Member::new(member_config, entries, store)?;
    let mut effects = Effects::default();
    while member.pump(log, Millis(0), &mut effects)? == Pumped::More {
        effects = Effects::default();
    }
    assert!(member.store().applied().index == last, "everything in the log is committed");
    Ok(member.into_store())
}

/// The member that the directory is for.
fn chosen(standing: &Standing, wanted: Option<&str>) -> Result<plinth_raft::MemberId, FailedExport> {
    let members = records::list(&standing.store)?;
    let Some(wanted) = wanted else {
        let own = standing.identity.member;
        return match members.iter().any(|member| member.id == own) {
            true => Ok(own),
            false => refused("this member was removed from the cluster: name another with --member"),
        };
    };
    let is_meant =
        |member: &&plinth_raft::Member| member.name == wanted || format!("{:x}", member.id.0) == wanted.to_lowercase();
    match members.iter().filter(is_meant).collect::<Vec<_>>().as_slice() {
        [member] => Ok(member.id),
        [] => {
            let each = members.iter().map(|member| format!("{} ({:x})", member.name, member.id.0));
            refused(format!("no member {wanted:?}; there are {}", each.collect::<Vec<_>>().join(", ")))
        }
        _ => refused(format!("several members are called {wanted:?}: give the id")),
    }
}

/// Writes the directory, and gives it its name when it is durable.
fn write(standing: &Standing, identity: &Identity, place: &Place, version: &str) -> Result<(), FailedExport> {
    let Place { unfinished, last: (last, name) } = place;
    if unfinished.exists() {
        // Of an export that was cut off.
        fs::remove_dir_all(unfinished).map_err(at(unfinished))?;
    }
    let member = unfinished.join(MEMBER);
    let (snap, wal) = (member.join("snap"), member.join("wal"));
    for path in [&snap, &wal] {
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(at(path))?;
    }
    write_database(standing, &snap.join("db"), version)?;
    crate::fail_point!("exportAfterDatabase");
    let ConfState { voters, learners, .. } = standing.conf.clone();
    let conf_state = schema::ConfState { voters, learners, ..schema::ConfState::default() };
    let EntryId { index, term } = standing.last;
    let position = Position { index, term, conf_state };
    let tree = tree(&standing.store)?;
    write_file(&snap.join(position.snap_name()), &files::snap_file(&position, &tree, version))?;
    let owner = wal::Identity { member: identity.member.0, cluster: identity.cluster };
    // What this member has promised is its own matter. The term counts for all.
    let vote = if identity.member == standing.identity.member { standing.vote } else { 0 };
    let hard_state = wal::HardState { term: standing.term, vote, commit: index };
    write_file(&wal.join(files::WAL_NAME), &files::wal_file(&owner, &position, &hard_state))?;
    for path in [&snap, &wal, &member, unfinished] {
        sync_directory(path)?;
    }
    crate::fail_point!("exportBeforeRename");
    fs::rename(last, name).map_err(at(name))?;
    let parent = name.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync_directory(parent)?;
    if unfinished.exists() {
        // Empty now. That it stays would harm nobody.
        let _ = fs::remove_dir(unfinished);
    }
    Ok(())
}

fn tree(store: &HomeStore) -> Result<MemberTree, FailedExport> {
    let members = records::list(store)?.into_iter().map(|member| {
        let record = backup::etcd_member(member);
        (record.id, record)
    });
    let removed = records::removed(store.trees())?.into_iter().map(|id| id.0);
    Ok(MemberTree { members: members.collect(), removed: removed.collect() })
}

fn create(path: &Path) -> Result<File, FailedExport> {
    File::options().create_new(true).write(true).mode(FILE_MODE).open(path).map_err(at(path))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), FailedExport> {
    let mut file = create(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(path))
}

fn write_database(standing: &Standing, path: &Path, version: &str) -> Result<(), FailedExport> {
    let trees = standing.store.trees();
    let mut export = Export::<BufWriter<File>>::new(trees, version, Content::WithoutV2)?;
    while export.plan(trees, STEP_ENTRIES)? == Progress::More {}
    export.begin(BufWriter::with_capacity(1 << 20, create(path)?))?;
    while export.write(trees, STEP_ENTRIES, STEP_BYTES)? == Progress::More {}
    let file = export.finish()?.into_inner().map_err(|error| at(path)(error.into_error()))?;
    file.sync_all().map_err(at(path))
}
