//! Operations as data. A sequence is made from a seed before anything runs, so it can be printed, replayed and cut
//! down. Numbers that only a run can know (revisions, leases whose id the server picked) stand as symbols, which
//! are ordinary integers far outside of what a run reaches.

use super::users;
use plinth_api::proto::etcdserverpb::*;

/// `NOW + n` stands for the current revision plus `n`.
pub const NOW: i64 = 1 << 40;
/// `COMPACTED + n` stands for the compact revision plus `n`.
pub const COMPACTED: i64 = 1 << 41;
/// `PICKED + n` stands for the n-th lease whose id the server picked.
pub const PICKED: i64 = 1 << 42;
/// How far from its base a symbol reaches.
const SPAN: i64 = 1 << 20;

/// One operation. Requests are as sent, but for symbols.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `KV.Range`; on Plinth also `KV.RangeStream`, whose chunks together must be the same.
    Range(RangeRequest),
    /// `KV.Put`.
    Put(PutRequest),
    /// `KV.DeleteRange`.
    Delete(DeleteRangeRequest),
    /// `KV.Txn`.
    Txn(TxnRequest),
    /// `KV.Compact`.
    Compact(CompactionRequest),
    /// `Maintenance.HashKV`.
    HashKv(HashKvRequest),
    /// `Lease.LeaseGrant`.
    Grant(LeaseGrantRequest),
    /// A lease of this TTL, revoked at once, for TTLs that are too short to keep.
    GrantAndRevoke(LeaseGrantRequest),
    /// `Lease.LeaseRevoke`.
    Revoke(LeaseRevokeRequest),
    /// One message on a `Lease.LeaseKeepAlive` stream.
    KeepAlive(LeaseKeepAliveRequest),
    /// `Lease.LeaseTimeToLive`.
    TimeToLive(LeaseTimeToLiveRequest),
    /// `Lease.LeaseLeases`.
    Leases,
    /// Puts these keys under a lease of the shortest TTL and waits until it has expired.
    Expire(Vec<PutRequest>),
    /// A create request on one of the watch streams.
    Watch(usize, WatchCreateRequest),
    /// A cancel request.
    Cancel(usize, WatchCancelRequest),
    /// A progress request.
    Progress(usize),
    /// The client ends one of the watch streams; the next create opens a new one.
    CloseStream(usize),
    /// `Maintenance.Alarm` for the member itself.
    Alarm(AlarmRequest),
    /// `Maintenance.Defragment`.
    Defragment,
    /// `Cluster.MemberList`.
    MemberList(MemberListRequest),
    /// `Maintenance.Status`.
    Status,
    /// A call of `Auth`.
    Auth(users::Call),
    /// Another of the callers asks from now on.
    As(usize),
    /// `Auth.Authenticate` with this password.
    LogIn(String),
}

/// What symbols stand for on one server at one moment.
pub struct Meaning<'a> {
    /// The current revision.
    pub revision: i64,
    /// The compact revision.
    pub compact_revision: i64,
    /// Ids of the leases the server picked.
    pub picked: &'a [i64],
}

impl Meaning<'_> {
    /// The number behind a symbol; other numbers are themselves.
    pub fn number(&self, symbol: i64) -> i64 {
        let within = |base: i64| (base - SPAN..base + SPAN).contains(&symbol).then(|| symbol - base);
        if let Some(offset) = within(NOW) {
            self.revision + offset
        } else if let Some(offset) = within(COMPACTED) {
            self.compact_revision + offset
        } else if let Some(index) = within(PICKED) {
            let known = usize::try_from(index).ok().and_then(|index| self.picked.get(index));
            known.copied().unwrap_or(i64::MAX - 1)
        } else {
            symbol
        }
    }

    /// The symbol for a lease id in an answer.
    pub fn lease_symbol(&self, id: i64) -> i64 {
        self.picked.iter().position(|&picked| picked == id).map_or(id, |index| PICKED + index as i64)
    }

    /// A Range with its symbols resolved.
    pub fn range(&self, request: &RangeRequest) -> RangeRequest {
        let mut request = request.clone();
        for number in [
            &mut request.revision,
            &mut request.min_mod_revision,
            &mut request.max_mod_revision,
            &mut request.min_create_revision,
            &mut request.max_create_revision,
        ] {
            *number = self.number(*number);
        }
        request
    }

    /// A Put with its symbols resolved.
    pub fn put(&self, request: &PutRequest) -> PutRequest {
        PutRequest { lease: self.number(request.lease), ..request.clone() }
    }

    /// A transaction with its symbols resolved, nested ones included.
    pub fn txn(&self, request: &TxnRequest) -> TxnRequest {
        let ops = |ops: &[RequestOp]| ops.iter().map(|op| self.request_op(op)).collect();
        TxnRequest {
            compare: request.compare.iter().map(|compare| self.compare(compare)).collect(),
            success: ops(&request.success),
            failure: ops(&request.failure),
        }
    }

    fn compare(&self, compare: &Compare) -> Compare {
        use compare::TargetUnion::*;
        let target_union = compare.target_union.clone().map(|union| match union {
            CreateRevision(number) => CreateRevision(self.number(number)),
            ModRevision(number) => ModRevision(self.number(number)),
            Lease(number) => Lease(self.number(number)),
            other => other,
        });
        Compare { target_union, ..compare.clone() }
    }

    fn request_op(&self, op: &RequestOp) -> RequestOp {
        use request_op::Request::*;
        let request = op.request.clone().map(|request| match request {
            RequestRange(range) => RequestRange(self.range(&range)),
            RequestPut(put) => RequestPut(self.put(&put)),
            RequestDeleteRange(delete) => RequestDeleteRange(delete),
            RequestTxn(txn) => RequestTxn(self.txn(&txn)),
        });
        RequestOp { request }
    }
}

/// An operation's name, for counting.
pub fn name(op: &Op) -> &'static str {
    match op {
        Op::Range(_) => "Range",
        Op::Put(_) => "Put",
        Op::Delete(_) => "Delete",
        Op::Txn(_) => "Txn",
        Op::Compact(_) => "Compact",
        Op::HashKv(_) => "HashKV",
        Op::Grant(_) => "Grant",
        Op::GrantAndRevoke(_) => "GrantAndRevoke",
        Op::Revoke(_) => "Revoke",
        Op::KeepAlive(_) => "KeepAlive",
        Op::TimeToLive(_) => "TimeToLive",
        Op::Leases => "Leases",
        Op::Expire(_) => "Expire",
        Op::Watch(..) => "Watch",
        Op::Cancel(..) => "Cancel",
        Op::Progress(_) => "Progress",
        Op::CloseStream(_) => "CloseStream",
        Op::Alarm(_) => "Alarm",
        Op::Defragment => "Defragment",
        Op::MemberList(_) => "MemberList",
        Op::Status => "Status",
        Op::Auth(_) => "Auth",
        Op::As(_) => "As",
        Op::LogIn(_) => "LogIn",
    }
}

/// Operations for people: fields that have their default are left out, and long values are cut.
pub fn show(ops: &[Op]) -> String {
    const DEFAULTS: [&str; 8] =
        [": 0,", ": b\"\",", ": false,", ": [],", ": None,", "sort_target: Key,", "result: Equal,", "target: Version,"];
    let mut out = String::new();
    for line in ops.iter().flat_map(|op| format!("{op:#?}\n").lines().map(str::to_owned).collect::<Vec<_>>()) {
        if DEFAULTS.iter().any(|default| line.ends_with(default)) {
            continue;
        }
        if line.len() > 200 {
            out.push_str(&format!("{}... ({} characters)\n", &line[..80], line.len()));
        } else {
            out.push_str(&line);
            out.push('\n');
        }
    }
    out
}
