//! From a data directory to a running member: opens the data file and the log; without them, founds or joins a cluster.
//!
//! Blocking; done on the home reactor's thread before it serves anybody.

use crate::cluster::bootstrap::{self, Plan, PlanError};
use crate::config::{Config, Gate};
use crate::discovery;
use crate::home::data_file::{DataFile, DataFileError};
use crate::home::{HomeLog, HomeMember, HomeStore, Pace, Profile, RequestLimits};
use crate::resources;
use plinth_engine::budget::WorkBudget;
use plinth_engine::lease::LessorConfig;
use plinth_engine::pagefile::FileWriter;
use plinth_engine::store::StoreConfig;
use plinth_member::recover::{self, Identity, RecoveredMember};
use plinth_member::{Fatal, META_CONF_STATE, Member, MemberConfig};
use plinth_net::transport::Connector;
use plinth_raft::alone::NotAMember;
use plinth_raft::{ConfState, EntryId, GroupConfig, RecoveredLog};
use plinth_wal::{GroupId, OpenError, WalId, WalOptions};
use plinth_wal_uring::{SyncMode, UringDisk, UringError, UringOptions};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The one group there is.
pub(crate) const GROUP: GroupId = GroupId(0);

/// How often the remaining time of long leases is replicated, in seconds, as in etcd.
const LEASE_CHECKPOINT_SECONDS: i64 = 300;

/// The member cannot be started. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The data file.
    #[error(transparent)]
    Data(#[from] DataFileError),
    /// The log's device.
    #[error(transparent)]
    Log(#[from] UringError),
    /// The log cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log's content.
    #[error(transparent)]
    Recover(#[from] recover::RecoverError),
    /// Consensus.
    #[error(transparent)]
    Fatal(#[from] Fatal),
    /// The stored configuration of voters.
    #[error("stored configuration of voters: {0}")]
    Conf(#[from] plinth_raft::error::ConfError),
    /// There is no data, and no cluster to begin with.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// `--force-new-cluster` on a member that has no part in its cluster yet.
    #[error(transparent)]
    Alone(#[from] NotAMember),
    /// Waiting for the first records.
    #[error("write-ahead log: {0}")]
    Io(#[from] std::io::Error),
}

/// A member ready to be driven.
pub struct Booted {
    /// Consensus and data.
    pub member: HomeMember,
    pub log: HomeLog,
    /// Who it is.
    pub profile: Profile,
    /// Where its data is.
    pub data: DataFile,
    /// Writes the data file.
    pub writer: FileWriter,
    /// Members to talk to until the replicated list says whom.
    pub first_members: Vec<plinth_raft::Member>,
}

/// A number that differs from start to start.
pub(crate) fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u128(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()));
    hasher.finish()
}

/// What the log holds for requests of up to so many bytes.
///
/// A batch is closed when it reaches its bound, so one request may come on top of it. Larger records make recovery look
/// further behind the last one, and need larger segments, so they are allowed only as far as they are asked for.
fn log_options(request_bytes_max: u64) -> WalOptions {
    let mut options = WalOptions::new(WalId(random()));
    let wanted = 2 * (request_bytes_max as usize + plinth_member::limits::BATCH_BYTES_MAX);
    options.payload_bytes = options.payload_bytes.max(wanted);
    // Room for header, seal and what rounds up.
    let segment_bytes = (wanted + (1 << 20)).next_multiple_of(1 << 20) as u64;
    options.segment_bytes = options.segment_bytes.max(segment_bytes);
    assert!(options.payload_bytes_max() >= wanted, "a segment holds the largest request");
    options
}

/// Opens or creates everything below the folders of the data and of the log.
///
/// A member without data asks others by `connector` who is there.
pub async fn boot(
    config: &Config,
    folder: &Path,
    log_folder: &Path,
    connector: &Connector,
) -> Result<Booted, BootError> {
    let start = Instant::now();
    let log_options = log_options(config.limits.request_bytes_max);
    let election_millis = config.cluster.election_timeout.as_millis() as u64;
    let checkpoint_interval_seconds = config.gates.enabled(Gate::LeaseCheckpoint).then_some(LEASE_CHECKPOINT_SECONDS);
    let store_config = StoreConfig {
        quota_bytes: config.storage.quota_flag,
        lessor: LessorConfig { checkpoint_interval_seconds, ..LessorConfig::for_election_timeout(election_millis) },
        v2_history: config.http.v2_history,
        ..StoreConfig::default()
    };
    let data = DataFile::new(folder, store_config, random());
    data.remove_rests()?;
    let (store, writer) = data.open_or_create()?;
    let data_took = start.elapsed();

    let sync = if config.storage.no_fsync { SyncMode::Unsafe } else { SyncMode::Fdatasync };
    let disk = UringDisk::open(log_folder, UringOptions { sync, ..UringOptions::default() })?;
    tracing::info!(mode = ?disk.sync_mode(), "opened write-ahead log");
    if !disk.buffers_registered() {
        tracing::warn!(
            "wanted-bytes" = disk.registered_bytes(),
            limit = resources::locked_memory(),
            "buffers of the write-ahead log are not registered with io_uring, which takes some more CPU per flush; \
             allow more locked memory (ulimit -l, LimitMEMLOCK=, CAP_IPC_LOCK)"
        );
    }
    let applied = EntryId { index: store.applied().index, term: store.applied().term };
    let mut found = recover::recover(disk, log_options, [(GROUP, applied)])?;
    let recovered = found.take(GROUP)?;
    tracing::info!(
        applied = applied.index,
        last = recovered.log.last().index,
        revision = store.revision(),
        keys = store.live_keys(),
        log_end = found.report.end,
        data = ?data_took,
        took = ?start.elapsed(),
        "recovered"
    );
    assemble(config, connector, store, (found.log, recovered), election_millis, data, writer).await
}

async fn assemble(
    config: &Config,
    connector: &Connector,
    store: HomeStore,
    (mut log, recovered): (HomeLog, RecoveredMember),
    election_millis: u64,
    data: DataFile,
    writer: FileWriter,
) -> Result<Booted, BootError> {
    let RecoveredMember { identity, log: mut entries } = recovered;
    let conf = match store.meta(META_CONF_STATE).map_err(Fatal::Store)? {
        Some(bytes) => ConfState::decode(bytes)?,
        None => ConfState::default(),
    };
    let mut first_members = Vec::new();
    let identity = match identity {
        Some(identity) if recover::is_bootstrapped(&entries) => {
            if config.cluster.force_new {
                go_on_alone(&mut log, &identity, &conf, &mut entries)?;
            }
            identity
        }
        _ => {
            let (identity, members) = begin(config, connector, &mut log, &mut entries).await?;
            make_durable(&mut log)?;
            first_members = members;
            identity
        }
    };
    let ticks = config.cluster.election_ticks() as usize;
    let mut group = GroupConfig { conf, election_ticks: ticks, ..GroupConfig::new(GROUP, identity.member, random()) };
    if let Some(entries) = config.cluster.catch_up_entries {
        group.window.entries = usize::try_from(entries).unwrap_or(usize::MAX).max(1);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_micros() as u64);
    let member_config = MemberConfig {
        identity,
        group,
        lease_extension_millis: election_millis,
        first_sequence: now,
        request_timeout_millis: config.cluster.request_timeout().as_millis() as u64,
        learners_max: config.cluster.learners_max as usize,
        apply_budget: plinth_member::limits::APPLY_PER_PUMP,
    };
    let profile = Profile {
        cluster_id: identity.cluster,
        member_id: identity.member.0,
        name: config.name.clone(),
        client_urls: config.addresses.advertise_client.iter().map(|url| url.as_str().to_string()).collect(),
        election_millis,
        hurries_first_election: config.cluster.initial_tick_advance,
        request_timeout: config.cluster.request_timeout(),
        strict_reconfig: config.cluster.strict_reconfig_check,
        quota_bytes: config.storage.quota_metric(),
        limits: RequestLimits {
            txn_ops_max: config.limits.txn_ops_max as usize,
            request_bytes_max: config.limits.request_bytes_max as usize,
            slow_request: config.limits.slow_unary_request,
            slow_apply: config.limits.slow_apply,
        },
        pace: pace(config),
    };
    Ok(Booted { member: Member::new(member_config, entries, store)?, log, profile, data, writer, first_members })
}

/// `--force-new-cluster`: the others are gone for good, and this member is the cluster from now on.
fn go_on_alone(
    log: &mut HomeLog,
    identity: &Identity,
    conf: &ConfState,
    entries: &mut RecoveredLog,
) -> Result<(), BootError> {
    let removed = recover::append_alone(log, GROUP, identity.member, conf, entries)?;
    make_durable(log)?;
    let removed: Vec<String> = removed.iter().map(ToString::to_string).collect();
    tracing::warn!(
        member = %identity.member,
        cluster = %hex(identity.cluster),
        removed = removed.join(","),
        last = entries.last().index,
        "forced a new cluster of this member alone; the others must never be started again on their data, and the flag \
         has to go"
    );
    Ok(())
}

fn pace(config: &Config) -> Pace {
    let records = usize::try_from(config.storage.compaction_batch).unwrap_or(usize::MAX);
    Pace {
        flush_interval: config.storage.flush_interval,
        flush_operations: config.storage.flush_operations,
        compaction_step: WorkBudget { records: WorkBudget::STEP.records.min(records), ..WorkBudget::STEP },
        compaction_pause: config.storage.compaction_pause,
    }
}

fn hex(id: u64) -> String {
    format!("{id:x}")
}

/// Appends the first records of a member that founds or joins a cluster.
async fn begin(
    config: &Config,
    connector: &Connector,
    log: &mut HomeLog,
    entries: &mut RecoveredLog,
) -> Result<(Identity, Vec<plinth_raft::Member>), BootError> {
    let discovered = match discovery::is_wanted(config) {
        true => Some(discovery::with_founders(config.clone()).await.map_err(PlanError::Flags)?),
        false => None,
    };
    let config = discovered.as_ref().unwrap_or(config);
    config.check_before_bootstrap().map_err(PlanError::Flags)?;
    let (identity, members, what) = match bootstrap::plan(config, connector).await? {
        Plan::Found { identity, members } => {
            *entries = recover::append_bootstrap(log, GROUP, identity, bootstrap::contexts(&members));
            (identity, members, "bootstrapped a new cluster")
        }
        Plan::Join { identity, members } => {
            recover::append_joining(log, GROUP, identity);
            (identity, members, "joins a cluster")
        }
    };
    tracing::info!(cluster = %hex(identity.cluster), member = %identity.member, members = members.len(), "{what}");
    Ok((identity, members))
}

/// Opens the log for a member whose data hold all up to `applied`, with what it holds of that member.
pub(crate) fn recover_log(
    config: &Config,
    log_folder: &Path,
    applied: EntryId,
) -> Result<(HomeLog, RecoveredMember), BootError> {
    let disk = UringDisk::open(log_folder, UringOptions { sync: SyncMode::Fdatasync, ..UringOptions::default() })?;
    let mut found = recover::recover(disk, log_options(config.limits.request_bytes_max), [(GROUP, applied)])?;
    let recovered = found.take(GROUP)?;
    Ok((found.log, recovered))
}

/// Makes a log in a folder that has none.
pub(crate) fn open_empty_log(config: &Config, log_folder: &Path) -> Result<HomeLog, BootError> {
    let disk = UringDisk::open(log_folder, UringOptions { sync: SyncMode::Fdatasync, ..UringOptions::default() })?;
    let options = log_options(config.limits.request_bytes_max);
    Ok(recover::recover(disk, options, [(GROUP, EntryId::default())])?.log)
}

/// Writes the first records of a member that founds a cluster, into an empty folder.
pub(crate) fn found(config: &Config, log_folder: &Path) -> Result<(), BootError> {
    let mut log = open_empty_log(config, log_folder)?;
    let (identity, members) = bootstrap::founders(config)?;
    recover::append_bootstrap(&mut log, GROUP, identity, bootstrap::contexts(&members));
    make_durable(&mut log)
}

/// Flushes what was appended and waits for it.
pub(crate) fn make_durable(log: &mut HomeLog) -> Result<(), BootError> {
    log.flush().map_err(Fatal::Wal)?;
    while !log.is_durable() {
        log.disk_mut().wait()?;
        log.poll().map_err(Fatal::Wal)?;
    }
    Ok(())
}
