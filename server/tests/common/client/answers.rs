//! What tests ask an answer for, by names that read well in a chain; the fields themselves are there too.

use plinth_api::proto::etcdserverpb as pb;
pub use plinth_api::proto::mvccpb::event::EventType;
use plinth_api::proto::mvccpb::{Event, KeyValue};
use plinth_api::proto::v3electionpb as election;
use plinth_api::proto::v3lockpb as lock;
use std::str::Utf8Error;

/// An answer with a header.
pub trait Headed {
    fn header(&self) -> Option<&pb::ResponseHeader>;
}

macro_rules! headed {
    ($($type:ty)*) => {$(
        impl Headed for $type {
            fn header(&self) -> Option<&pb::ResponseHeader> {
                self.header.as_ref()
            }
        }
    )*};
}

headed! {
    pb::RangeResponse pb::PutResponse pb::DeleteRangeResponse pb::TxnResponse pb::CompactionResponse pb::WatchResponse
    pb::LeaseGrantResponse pb::LeaseRevokeResponse pb::LeaseKeepAliveResponse pb::LeaseTimeToLiveResponse
    pb::LeaseLeasesResponse pb::MemberAddResponse pb::MemberRemoveResponse pb::MemberUpdateResponse
    pb::MemberListResponse pb::MemberPromoteResponse pb::AlarmResponse pb::StatusResponse pb::DefragmentResponse
    pb::HashKvResponse pb::MoveLeaderResponse lock::LockResponse lock::UnlockResponse election::CampaignResponse
    election::ProclaimResponse election::LeaderResponse election::ResignResponse
}

macro_rules! answers {
    ($($answer:ident: $type:ty { $($name:ident -> $what:ty = $of:expr;)* })*) => {$(
        pub trait $answer {
            $(fn $name(&self) -> $what;)*
        }

        impl $answer for $type {
            $(fn $name(&self) -> $what {
                let of: fn(&$type) -> $what = $of;
                of(self)
            })*
        }
    )*};
}

answers! {
    Header: pb::ResponseHeader {
        cluster_id -> u64 = |it| it.cluster_id;
        member_id -> u64 = |it| it.member_id;
        revision -> i64 = |it| it.revision;
        raft_term -> u64 = |it| it.raft_term;
    }
    Pair: KeyValue {
        key -> &[u8] = |it| &it.key;
        key_str -> Result<&str, Utf8Error> = |it| std::str::from_utf8(&it.key);
        value -> &[u8] = |it| &it.value;
        value_str -> Result<&str, Utf8Error> = |it| std::str::from_utf8(&it.value);
        version -> i64 = |it| it.version;
        create_revision -> i64 = |it| it.create_revision;
        mod_revision -> i64 = |it| it.mod_revision;
        lease -> i64 = |it| it.lease;
    }
    Got: pb::RangeResponse {
        kvs -> &[KeyValue] = |it| &it.kvs;
        count -> i64 = |it| it.count;
        more -> bool = |it| it.more;
    }
    Written: pb::PutResponse {
        prev_key -> Option<&KeyValue> = |it| it.prev_kv.as_ref();
    }
    Deleted: pb::DeleteRangeResponse {
        deleted -> i64 = |it| it.deleted;
        prev_kvs -> &[KeyValue] = |it| &it.prev_kvs;
    }
    Done: pb::TxnResponse {
        succeeded -> bool = |it| it.succeeded;
        op_responses -> Vec<TxnOpResponse> = |it| it.responses.iter().cloned().map(TxnOpResponse::from).collect();
    }
    Watched: pb::WatchResponse {
        watch_id -> i64 = |it| it.watch_id;
        created -> bool = |it| it.created;
        canceled -> bool = |it| it.canceled;
        compact_revision -> i64 = |it| it.compact_revision;
        cancel_reason -> &str = |it| &it.cancel_reason;
        events -> &[Event] = |it| &it.events;
    }
    Happened: Event {
        event_type -> EventType = |it| it.r#type();
        kv -> Option<&KeyValue> = |it| it.kv.as_ref();
        prev_kv -> Option<&KeyValue> = |it| it.prev_kv.as_ref();
    }
    Granted: pb::LeaseGrantResponse {
        id -> i64 = |it| it.id;
        ttl -> i64 = |it| it.ttl;
    }
    Kept: pb::LeaseKeepAliveResponse {
        id -> i64 = |it| it.id;
        ttl -> i64 = |it| it.ttl;
    }
    Remaining: pb::LeaseTimeToLiveResponse {
        id -> i64 = |it| it.id;
        ttl -> i64 = |it| it.ttl;
        granted_ttl -> i64 = |it| it.granted_ttl;
    }
    Leases: pb::LeaseLeasesResponse {
        leases -> &[pb::LeaseStatus] = |it| &it.leases;
    }
    Locked: lock::LockResponse {
        key -> &[u8] = |it| &it.key;
    }
    Elected: election::CampaignResponse {
        leader -> Option<&election::LeaderKey> = |it| it.leader.as_ref();
    }
    Leader: election::LeaderResponse {
        kv -> Option<&KeyValue> = |it| it.kv.as_ref();
    }
    Alarms: pb::AlarmResponse {
        alarms -> &[pb::AlarmMember] = |it| &it.alarms;
    }
    Alarm: pb::AlarmMember {
        member_id -> u64 = |it| it.member_id;
    }
    State: pb::StatusResponse {
        version -> &str = |it| &it.version;
        leader -> u64 = |it| it.leader;
        raft_term -> u64 = |it| it.raft_term;
        raft_index -> u64 = |it| it.raft_index;
        raft_applied_index -> u64 = |it| it.raft_applied_index;
        db_size -> i64 = |it| it.db_size;
        raft_used_db_size -> i64 = |it| it.db_size_in_use;
        is_learner -> bool = |it| it.is_learner;
        errors -> &[String] = |it| &it.errors;
    }
    Hashed: pb::HashKvResponse {
        hash -> u32 = |it| it.hash;
        compact_version -> i64 = |it| it.compact_revision;
    }
    Member: pb::Member {
        id -> u64 = |it| it.id;
        name -> &str = |it| &it.name;
        peer_urls -> &[String] = |it| &it.peer_ur_ls;
        client_urls -> &[String] = |it| &it.client_ur_ls;
        is_learner -> bool = |it| it.is_learner;
    }
    Added: pb::MemberAddResponse {
        member -> Option<&pb::Member> = |it| it.member.as_ref();
    }
    Members: pb::MemberListResponse {
        members -> &[pb::Member] = |it| &it.members;
    }
}

/// What an operation of a transaction has brought.
#[derive(Clone, Debug)]
pub enum TxnOpResponse {
    Put(pb::PutResponse),
    Get(pb::RangeResponse),
    Delete(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
}

impl From<pb::ResponseOp> for TxnOpResponse {
    fn from(op: pb::ResponseOp) -> TxnOpResponse {
        use pb::response_op::Response;
        match op.response.expect("an operation has a result") {
            Response::ResponsePut(put) => TxnOpResponse::Put(put),
            Response::ResponseRange(range) => TxnOpResponse::Get(range),
            Response::ResponseDeleteRange(delete) => TxnOpResponse::Delete(delete),
            Response::ResponseTxn(txn) => TxnOpResponse::Txn(txn),
        }
    }
}
