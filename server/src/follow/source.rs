//! The cluster that is followed, as its clients see it: one endpoint at a time, and the next one when that fails.

use crate::config::Follow;
use plinth_api::methods::{
    ALARM, AUTH_STATUS, HASH_KV, LEASE_TIME_TO_LIVE, LEASES, Method, RANGE, SNAPSHOT, STATUS, USER_LIST, WATCH,
};
use plinth_api::proto::etcdserverpb as pb;
use plinth_api::proto::etcdserverpb::alarm_request::AlarmAction;
use plinth_api::proto::etcdserverpb::watch_request::RequestUnion;
use plinth_api::proto::plinthpb::SnapshotRequest;
use plinth_ctl::rpc::{ANSWER_BYTES_MAX, Client, ConnectError, Credentials, Options, REQUEST_BYTES_MAX, Stream};
use plinth_ctl::tls::Encryption;
use prost::Message;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::{Code, Status};

/// For connecting.
const DIAL: Duration = Duration::from_secs(2);

/// For a short question.
const SHORT: Duration = Duration::from_secs(10);

/// For a question that reads all data, and for the next piece of a snapshot.
const LONG: Duration = Duration::from_secs(600);

/// Leases that are asked for at a time.
const LEASES_AT_ONCE: usize = 64;

/// All keys, as requests have it.
const ALL: &[u8] = b"\0";

/// Behind the pages of a snapshot.
const CHECKSUM_BYTES: usize = 32;

/// Why following cannot go on as it is.
#[derive(Debug)]
pub enum Trouble {
    /// It may, with another connection.
    Passing(String),
    /// Not from here: history has been given up there. A new snapshot is needed.
    Compacted,
    /// It may not, until somebody has done something about it.
    Final(String),
    /// The process ends.
    Gone,
}

impl From<super::Gone> for Trouble {
    fn from(_: super::Gone) -> Self {
        Trouble::Gone
    }
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Self {
        Trouble::Passing(status.message().to_owned())
    }
}

/// The answers of a watch.
pub type Watching = Stream<pb::WatchRequest, pb::WatchResponse>;

/// A connection to a member of the other cluster.
pub struct Source {
    client: Client,
    pub endpoint: String,
}

impl Source {
    /// Connects to one of the endpoints, beginning with the one at `from`.
    ///
    /// # Errors
    /// If none answers, or this side's files cannot be read.
    pub async fn connect(settings: &Follow, from: usize) -> Result<Source, Trouble> {
        let options = options(settings);
        let (count, mut last) = (settings.endpoints.len(), String::new());
        for at in 0..count {
            let endpoint = &settings.endpoints[(from + at) % count];
            match Client::connect(endpoint, &options).await {
                Ok(client) => return Ok(Source { client, endpoint: endpoint.clone() }),
                Err(ConnectError::Unreachable(why)) => last = format!("{endpoint}: {why}"),
                Err(ConnectError::Refused(failure)) => last = format!("{endpoint}: {}", failure.text),
            }
        }
        Err(Trouble::Passing(last))
    }

    async fn call<Q, A>(&self, method: &Method<Q, A>, request: Q, limit: Duration) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let slow = |_| Err(Status::deadline_exceeded(format!("{}: no answer in time", method.path)));
        timeout(limit, self.client.call(method, request)).await.unwrap_or_else(slow)
    }

    /// Id of the cluster, and the revision of the member that is spoken to.
    pub async fn standing(&self) -> Result<(u64, i64), Trouble> {
        let status = self.call(&STATUS, pb::StatusRequest {}, SHORT).await?;
        let header = status.header.unwrap_or_default();
        Ok((header.cluster_id, header.revision))
    }

    /// The revision, behind all that was acknowledged before.
    pub async fn newest_revision(&self) -> Result<i64, Trouble> {
        let request = pb::RangeRequest { key: ALL.into(), limit: 1, count_only: true, ..Default::default() };
        let answer = self.call(&RANGE, request, SHORT).await?;
        Ok(answer.header.unwrap_or_default().revision)
    }

    /// Whether users matter there, and the revision of users and roles.
    /// Releases before 3.5 do not tell.
    pub async fn users(&self) -> Result<Option<(bool, u64)>, Trouble> {
        match self.call(&AUTH_STATUS, pb::AuthStatusRequest {}, SHORT).await {
            Ok(status) => Ok(Some((status.enabled, status.auth_revision))),
            Err(status) if status.code() == Code::Unimplemented => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    /// Looks whether what only root may is allowed; if not, what the other side says.
    pub async fn refuses_root(&self) -> Result<Option<String>, Trouble> {
        match self.call(&USER_LIST, pb::AuthUserListRequest {}, SHORT).await {
            Ok(_) => Ok(None),
            Err(status) => match status.code() {
                Code::PermissionDenied | Code::InvalidArgument => Ok(Some(status.message().to_owned())),
                _ => Err(status.into()),
            },
        }
    }

    /// Watches all keys from a revision on.
    pub async fn watch(&self, from: i64) -> Result<Watching, Trouble> {
        let create = pb::WatchCreateRequest {
            key: ALL.into(),
            range_end: ALL.into(),
            start_revision: from,
            fragment: true,
            ..Default::default()
        };
        let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        Ok(timeout(SHORT, self.client.stream(&WATCH, request))
            .await
            .map_err(|_| Trouble::Passing("the watch was not opened in time".to_owned()))??)
    }

    /// All leases with their TTLs, and the revision at which they were there. Those that are `known` are asked for only if
    /// `all` are. One whose time is over may be listed and not tell its TTL.
    pub async fn leases(&self, known: &BTreeMap<i64, i64>, all: bool) -> Result<(i64, BTreeMap<i64, i64>), Trouble> {
        let answer = self.call(&LEASES, pb::LeaseLeasesRequest {}, SHORT).await?;
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        let mut found = BTreeMap::new();
        let mut unknown = Vec::new();
        for pb::LeaseStatus { id } in answer.leases {
            let known = known.get(&id);
            found.extend(known.map(|ttl| (id, *ttl)));
            if all || known.is_none() {
                unknown.push(id);
            }
        }
        found.extend(self.ttls(unknown).await?);
        Ok((revision, found))
    }

    /// Granted TTLs. Leases that have ended meanwhile are left out.
    pub async fn ttls(&self, ids: Vec<i64>) -> Result<BTreeMap<i64, i64>, Trouble> {
        let (mut ids, mut found, mut asking) = (ids.into_iter(), BTreeMap::new(), JoinSet::new());
        loop {
            while asking.len() < LEASES_AT_ONCE
                && let Some(id) = ids.next()
            {
                let client = self.client.clone();
                asking.spawn(async move {
                    client.call(&LEASE_TIME_TO_LIVE, pb::LeaseTimeToLiveRequest { id, keys: false }).await
                });
            }
            let answer = match timeout(SHORT, asking.join_next()).await {
                Ok(None) => return Ok(found),
                Ok(Some(Ok(answer))) => answer,
                Ok(Some(Err(_))) | Err(_) => return Err(Trouble::Passing("leases: no answer in time".to_owned())),
            };
            match answer {
                // What is left may be less than nothing: under an alarm no lease ends.
                Ok(lease) if lease.granted_ttl > 0 => _ = found.insert(lease.id, lease.granted_ttl),
                Ok(_) => {}
                Err(status) if status.message().contains("requested lease not found") => {}
                Err(status) => return Err(status.into()),
            }
        }
    }

    /// Hash and compact revision at a revision; none if this member does not have that revision, or not any more.
    pub async fn hash(&self, revision: i64) -> Result<Option<(u32, i64)>, Trouble> {
        match self.call(&HASH_KV, pb::HashKvRequest { revision }, LONG).await {
            Ok(answer) => Ok(Some((answer.hash, answer.compact_revision))),
            Err(status) if status.message().contains("mvcc: required revision") => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    /// Fetches a snapshot into a file, and compares its checksum; bytes of the database.
    pub async fn snapshot(&self, path: &Path) -> Result<u64, Trouble> {
        let io = |error: std::io::Error| Trouble::Final(format!("{}: {error}", path.display()));
        let stream = timeout(SHORT, self.client.server_stream(&SNAPSHOT, SnapshotRequest::default())).await;
        let mut stream = stream.map_err(|_| Trouble::Passing("no snapshot in time".to_owned()))??;
        let mut file = BufWriter::with_capacity(1 << 20, std::fs::File::create(path).map_err(io)?);
        // The checksum comes last, and is known to be it only when nothing follows.
        let (mut hash, mut tail, mut bytes) = (Sha256::new(), Vec::new(), 0);
        loop {
            let piece = timeout(LONG, stream.message()).await;
            let piece = piece.map_err(|_| Trouble::Passing("no piece of the snapshot in time".to_owned()))??;
            let Some(piece) = piece else { break };
            tail.extend_from_slice(&piece.blob);
            let pages = tail.len().saturating_sub(CHECKSUM_BYTES);
            hash.update(&tail[..pages]);
            file.write_all(&tail[..pages]).map_err(io)?;
            bytes += pages as u64;
            tail.drain(..pages);
        }
        if tail != hash.finalize()[..] {
            return Err(Trouble::Passing("the snapshot is not whole: its checksum is another".to_owned()));
        }
        file.flush().map_err(io)?;
        Ok(bytes)
    }

    /// Who has raised a CORRUPT alarm.
    pub async fn corrupt_alarms(&self) -> Result<Vec<u64>, Trouble> {
        let request = pb::AlarmRequest { action: AlarmAction::Get.into(), ..Default::default() };
        let alarms = self.call(&ALARM, request, SHORT).await?.alarms;
        let corrupt = |alarm: &&pb::AlarmMember| alarm.alarm() == pb::AlarmType::Corrupt;
        Ok(alarms.iter().filter(corrupt).map(|alarm| alarm.member_id).collect())
    }

    /// Raises a CORRUPT alarm in this member's name, or takes it back.
    pub async fn set_corrupt(&self, member: u64, raised: bool) -> Result<(), Trouble> {
        let action = if raised { AlarmAction::Activate } else { AlarmAction::Deactivate };
        let alarm = pb::AlarmType::Corrupt.into();
        self.call(&ALARM, pb::AlarmRequest { action: action.into(), member_id: member, alarm }, SHORT).await?;
        Ok(())
    }
}

fn options(settings: &Follow) -> Options {
    let user =
        |(name, password): &(String, String)| Credentials::User { name: name.clone(), password: password.clone() };
    Options {
        dial_timeout: DIAL,
        keepalive_time: Duration::from_secs(10),
        keepalive_timeout: Duration::from_secs(6),
        request_bytes_max: REQUEST_BYTES_MAX,
        answer_bytes_max: ANSWER_BYTES_MAX,
        credentials: settings.user.as_ref().map_or(Credentials::None, user),
        encryption: Encryption {
            cacert: settings.trusted_ca_file.clone(),
            cert: settings.cert_file.clone(),
            key: settings.key_file.clone(),
            skip_verify: false,
            is_wanted: settings.trusted_ca_file.is_some() || settings.cert_file.is_some(),
            server_name: None,
        },
    }
}
