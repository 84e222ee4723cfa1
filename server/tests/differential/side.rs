//! One server under test and what the harness knows of it; here are the unary operations and their answers in
//! normal form. `watching` has the rest.

use super::client::{Client, Failure};
use super::normal::{Identity, Normal, as_of_3_7};
use super::op::{Meaning, Op};
use super::plant::Plant;
use super::process::Server;
use super::streams::Streams;
use super::users::{self, CALLERS};
use plinth_api::proto::etcdserverpb::*;
use std::fmt::Debug;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// The version of etcd whose answers are the contract.
pub const CONTRACT: (u32, u32) = (3, 7);
/// Longest wait for an answer on a stream and for a lease to expire.
pub const EVENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How much the remaining time of a lease may differ between two servers asked one after the other.
const TTL_SLACK_SECONDS: i64 = 5;

/// One server and what the harness knows of it.
pub struct Side {
    pub server: Server,
    pub identity: Identity,
    pub picked: Vec<i64>,
    pub revision: i64,
    pub compact_revision: i64,
    pub streams: Streams,
    pub events_compared: usize,
    pub plant: Option<Plant>,
    /// Whether answers are to be turned into those of etcd 3.7 before they are compared.
    pub translate: bool,
    /// Who asks, and what each caller has to show.
    pub caller: usize,
    pub tokens: [Option<String>; CALLERS],
}

impl Side {
    pub async fn start(binary: &Path, arguments: &[String]) -> Result<Side, String> {
        let server = Server::start(binary, arguments).await?;
        let header = server.status.header.ok_or("Status without a header")?;
        let identity =
            Identity { cluster_id: header.cluster_id, member_id: header.member_id, raft_term: header.raft_term };
        if [identity.cluster_id, identity.member_id, identity.raft_term].contains(&0) {
            return Err(format!("Status with zeros in its header: {header:?}"));
        }
        let streams = Streams::open(&server.client).await?;
        Ok(Side {
            server,
            identity,
            picked: Vec::new(),
            revision: header.revision,
            compact_revision: 0,
            streams,
            events_compared: 0,
            plant: None,
            translate: false,
            caller: 0,
            tokens: users::tokens(),
        })
    }

    /// Major and minor version as reported.
    pub fn version(&self) -> (u32, u32) {
        let mut parts = self.server.status.version.split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }

    fn client(&self) -> &Client {
        &self.server.client
    }

    pub fn meaning(&self) -> Meaning<'_> {
        Meaning { revision: self.revision, compact_revision: self.compact_revision, picked: &self.picked }
    }

    pub fn normal(&self) -> Normal<'_> {
        Normal { identity: self.identity, meaning: self.meaning() }
    }

    /// The answer to a unary operation in its normal form.
    pub async fn answer(&mut self, op: &Op) -> String {
        let text = match op {
            Op::Range(request) => self.range(request).await,
            Op::Put(_) | Op::Delete(_) | Op::Txn(_) | Op::Compact(_) => self.write(op).await,
            Op::HashKv(request) => self.hash_kv(request).await,
            Op::Grant(_)
            | Op::GrantAndRevoke(_)
            | Op::Revoke(_)
            | Op::KeepAlive(_)
            | Op::TimeToLive(_)
            | Op::Leases => self.lease(op).await,
            Op::Alarm(_) | Op::Defragment | Op::MemberList(_) | Op::Status => self.maintenance(op).await,
            Op::Auth(call) => self.auth(call).await,
            Op::LogIn(password) => self.log_in(password).await,
            Op::As(_) | Op::Expire(_) | Op::Watch(..) | Op::Cancel(..) | Op::Progress(_) | Op::CloseStream(_) => {
                unreachable!("not unary")
            }
        };
        match &mut self.plant {
            Some(plant) => plant.answer(text),
            None => text,
        }
    }

    async fn range(&mut self, request: &RangeRequest) -> String {
        let sent = self.meaning().range(request);
        let mut result = self.client().unary::<RangeResponse>("/etcdserverpb.KV/Range", &sent).await;
        if self.version() >= CONTRACT
            && let Some(difference) = self.stream_difference(&sent, &result).await
        {
            return difference;
        }
        if let Ok(answer) = &mut result {
            self.normal().range(request, answer);
        }
        text(&result)
    }

    /// `KV.RangeStream` must give in chunks what `KV.Range` gives in one piece. etcd has it since 3.7, so it is compared
    /// with the same server's Range.
    async fn stream_difference(&self, sent: &RangeRequest, whole: &Result<RangeResponse, Failure>) -> Option<String> {
        let chunks = self.client().collect::<RangeStreamResponse>("/etcdserverpb.KV/RangeStream", sent).await;
        use range_request::{SortOrder, SortTarget};
        let sorted = sent.sort_order == SortOrder::Descend as i32
            || (sent.sort_order == SortOrder::Ascend as i32 && sent.sort_target != SortTarget::Key as i32);
        let filters =
            [sent.min_mod_revision, sent.max_mod_revision, sent.min_create_revision, sent.max_create_revision];
        if sorted || filters != [0; 4] {
            let refused =
                matches!(&chunks, Err(failure) if failure.code == tonic::Code::Unimplemented || whole.is_err());
            return (!refused).then(|| format!("RangeStream did not refuse a sort or filter: {chunks:#?}"));
        }
        let merged = chunks.and_then(|chunks| {
            let mut merged = RangeResponse::default();
            let last = chunks.len().saturating_sub(1);
            for (index, chunk) in chunks.into_iter().filter_map(|chunk| chunk.range_response).enumerate() {
                if chunk.header.is_some() != (index == last) {
                    let message = format!("chunk {index} of {last}: a header belongs into the last: {chunk:?}");
                    return Err(Failure { code: tonic::Code::Internal, message });
                }
                merged.kvs.extend(chunk.kvs);
                (merged.header, merged.more, merged.count) = (chunk.header, chunk.more, chunk.count);
            }
            Ok(merged)
        });
        (merged != *whole).then(|| format!("RangeStream gave {merged:#?}, Range {whole:#?}"))
    }

    async fn write(&mut self, op: &Op) -> String {
        let meaning = self.meaning();
        match op {
            Op::Put(request) => {
                let sent = meaning.put(request);
                let mut result = self.client().unary::<PutResponse>("/etcdserverpb.KV/Put", &sent).await;
                if let Ok(answer) = &mut result {
                    self.normal().put(answer);
                    self.saw_revision(answer.header.as_ref());
                }
                text(&result)
            }
            Op::Delete(request) => {
                let path = "/etcdserverpb.KV/DeleteRange";
                let mut result = self.client().unary::<DeleteRangeResponse>(path, request).await;
                if let Ok(answer) = &mut result {
                    self.normal().delete(answer);
                    self.saw_revision(answer.header.as_ref());
                }
                text(&result)
            }
            Op::Txn(request) => {
                let sent = meaning.txn(request);
                let mut result = self.client().unary::<TxnResponse>("/etcdserverpb.KV/Txn", &sent).await;
                if let Ok(answer) = &mut result {
                    self.normal().txn(request, answer);
                    self.saw_revision(answer.header.as_ref());
                }
                if let Err(failure) = &mut result {
                    as_of_3_7::failed_check(failure);
                }
                text(&result)
            }
            Op::Compact(request) => {
                let sent = CompactionRequest { revision: meaning.number(request.revision), ..*request };
                let mut result = self.client().unary::<CompactionResponse>("/etcdserverpb.KV/Compact", &sent).await;
                if let Ok(answer) = &mut result {
                    self.normal().header(&mut answer.header);
                    self.compact_revision = sent.revision;
                }
                text(&result)
            }
            other => unreachable!("{other:?} is no write"),
        }
    }

    fn saw_revision(&mut self, header: Option<&ResponseHeader>) {
        self.revision = header.map_or(self.revision, |header| header.revision.max(self.revision));
    }

    async fn hash_kv(&mut self, request: &HashKvRequest) -> String {
        let sent = HashKvRequest { revision: self.meaning().number(request.revision) };
        let mut result = self.client().unary::<HashKvResponse>("/etcdserverpb.Maintenance/HashKV", &sent).await;
        if let Ok(answer) = &mut result {
            if self.translate {
                as_of_3_7::hash_kv(&sent, self.revision, answer);
            }
            self.normal().header(&mut answer.header);
        }
        text(&result)
    }

    async fn lease(&mut self, op: &Op) -> String {
        match op {
            Op::Grant(request) => {
                let result = self.grant(request).await;
                text(&result)
            }
            Op::GrantAndRevoke(request) => {
                let granted = self.grant(request).await;
                let revoked = match &granted {
                    Ok(_) => self.revoke(request.id).await,
                    Err(_) => String::new(),
                };
                format!("{}\n{revoked}", text(&granted))
            }
            Op::Revoke(request) => self.revoke(self.meaning().number(request.id)).await,
            Op::KeepAlive(request) => {
                let sent = LeaseKeepAliveRequest { id: self.meaning().number(request.id) };
                let (outgoing, mut incoming) =
                    self.client().open::<LeaseKeepAliveResponse>("/etcdserverpb.Lease/LeaseKeepAlive");
                outgoing.send(&sent);
                let answer = tokio::time::timeout(EVENT_TIMEOUT, incoming.recv()).await;
                let Ok(Some(mut result)) = answer else { return format!("no answer to a keep-alive: {answer:?}") };
                if let Ok(answer) = &mut result {
                    self.normal().header(&mut answer.header);
                    self.normal().lease(&mut answer.id);
                }
                text(&result)
            }
            Op::TimeToLive(request) => {
                let sent = LeaseTimeToLiveRequest { id: self.meaning().number(request.id), ..*request };
                let path = "/etcdserverpb.Lease/LeaseTimeToLive";
                let mut result = self.client().unary::<LeaseTimeToLiveResponse>(path, &sent).await;
                if let Ok(answer) = &mut result {
                    self.normal().header(&mut answer.header);
                    self.normal().lease(&mut answer.id);
                    answer.keys.sort();
                    if (answer.granted_ttl - TTL_SLACK_SECONDS..=answer.granted_ttl).contains(&answer.ttl) {
                        answer.ttl = answer.granted_ttl;
                    }
                }
                text(&result)
            }
            Op::Leases => {
                let path = "/etcdserverpb.Lease/LeaseLeases";
                let mut result = self.client().unary::<LeaseLeasesResponse>(path, &LeaseLeasesRequest {}).await;
                if let Ok(answer) = &mut result {
                    self.normal().header(&mut answer.header);
                    answer.leases.iter_mut().for_each(|lease| self.normal().lease(&mut lease.id));
                    answer.leases.sort_by_key(|lease| lease.id);
                }
                text(&result)
            }
            other => unreachable!("{other:?} is no lease operation"),
        }
    }

    async fn grant(&mut self, request: &LeaseGrantRequest) -> Result<LeaseGrantResponse, Failure> {
        let mut answer: LeaseGrantResponse = self.client().unary("/etcdserverpb.Lease/LeaseGrant", request).await?;
        if request.id == 0 {
            self.picked.push(answer.id);
        }
        self.normal().header(&mut answer.header);
        self.normal().lease(&mut answer.id);
        Ok(answer)
    }

    async fn revoke(&mut self, id: i64) -> String {
        let request = LeaseRevokeRequest { id };
        let mut result = self.client().unary::<LeaseRevokeResponse>("/etcdserverpb.Lease/LeaseRevoke", &request).await;
        if let Ok(answer) = &mut result {
            self.normal().header(&mut answer.header);
            self.saw_revision(answer.header.as_ref());
        }
        text(&result)
    }

    async fn maintenance(&mut self, op: &Op) -> String {
        match op {
            Op::Alarm(request) => {
                let get = request.action == alarm_request::AlarmAction::Get as i32;
                let member_id = if get { 0 } else { self.identity.member_id };
                let sent = AlarmRequest { member_id, ..*request };
                let mut result = self.client().unary::<AlarmResponse>("/etcdserverpb.Maintenance/Alarm", &sent).await;
                if let Ok(answer) = &mut result {
                    self.normal().header(&mut answer.header);
                    answer.alarms.iter_mut().for_each(|alarm| self.normal().member_id(&mut alarm.member_id));
                }
                text(&result)
            }
            Op::Defragment => {
                let path = "/etcdserverpb.Maintenance/Defragment";
                let mut result = self.client().unary::<DefragmentResponse>(path, &DefragmentRequest {}).await;
                if let Ok(answer) = &mut result {
                    self.normal().header(&mut answer.header);
                }
                text(&result)
            }
            Op::MemberList(request) => {
                let mut result =
                    self.client().unary::<MemberListResponse>("/etcdserverpb.Cluster/MemberList", request).await;
                if let Ok(answer) = &mut result {
                    self.normal().header(&mut answer.header);
                    for member in &mut answer.members {
                        self.normal().member_id(&mut member.id);
                        // Each server has ports of its own; that there is one of each kind is what can be equal.
                        let mask =
                            |urls: &mut Vec<String>| urls.iter_mut().for_each(|url| url.truncate("http://".len()));
                        mask(&mut member.peer_ur_ls);
                        mask(&mut member.client_ur_ls);
                    }
                }
                text(&result)
            }
            Op::Status => {
                let path = "/etcdserverpb.Maintenance/Status";
                let mut result = self.client().unary::<StatusResponse>(path, &StatusRequest {}).await;
                if let Ok(answer) = &mut result {
                    self.normal().header(&mut answer.header);
                    self.normal().member_id(&mut answer.leader);
                    // Version, sizes and log positions are each server's own; alarm texts have no stable spacing.
                    let errors = vec![format!("{} errors", answer.errors.len())];
                    let header = answer.header;
                    *answer = StatusResponse { header, leader: answer.leader, errors, ..Default::default() };
                }
                text(&result)
            }
            other => unreachable!("{other:?} is no maintenance operation"),
        }
    }

    /// Puts keys under a lease of the shortest TTL and waits for them to vanish.
    pub async fn expire(&mut self, puts: &[PutRequest]) -> Result<String, String> {
        const ID: i64 = 78;
        let granted = self.grant(&LeaseGrantRequest { ttl: 1, id: ID }).await;
        let mut out = text(&granted);
        for put in puts {
            out.push_str(&self.write(&Op::Put(PutRequest { lease: ID, ..put.clone() })).await);
        }
        let deadline = Instant::now() + EVENT_TIMEOUT;
        loop {
            let request = LeaseTimeToLiveRequest { id: ID, keys: false };
            let path = "/etcdserverpb.Lease/LeaseTimeToLive";
            let left: Result<LeaseTimeToLiveResponse, Failure> = self.client().unary(path, &request).await;
            match left {
                Ok(answer) if answer.ttl == -1 => break self.saw_revision(answer.header.as_ref()),
                _ if Instant::now() > deadline => return Err(format!("the lease did not expire: {left:?}")),
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
        Ok(format!("{out}\nexpired at revision {}", self.revision))
    }
}

/// An answer or a failure as it is compared.
pub fn text<T: Debug>(result: &Result<T, Failure>) -> String {
    match result {
        Ok(answer) => format!("{answer:#?}"),
        Err(failure) => format!("{failure:#?}"),
    }
}
