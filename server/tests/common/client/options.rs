//! What goes into a request beside its key: each has a default, and is said by name.

use plinth_api::proto::etcdserverpb as pb;
use plinth_api::range::prefix_end;

pub use pb::AlarmType;
pub use pb::alarm_request::AlarmAction;
pub use pb::compare::CompareResult as CompareOp;
pub use pb::range_request::{SortOrder, SortTarget};

use pb::compare::{CompareTarget, TargetUnion};
use pb::request_op::Request;

/// Which keys beside the first one.
#[derive(Clone, Debug, Default)]
enum Reach {
    /// None.
    #[default]
    One,
    /// All that begin alike.
    Prefix,
    /// Those before this one.
    Until(Vec<u8>),
}

impl Reach {
    fn end(self, key: &[u8]) -> Vec<u8> {
        match self {
            Reach::One => Vec::new(),
            Reach::Prefix => prefix_end(key),
            Reach::Until(end) => end,
        }
    }
}

/// A setter that takes the options and gives them back.
macro_rules! setters {
    ($($name:ident($($argument:ident: $type:ty),*) = |$it:ident| $set:expr;)*) => {$(
        #[must_use]
        pub fn $name(self $(, $argument: $type)*) -> Self {
            let mut $it = self;
            $set;
            $it
        }
    )*};
}

/// Options that are the request itself, and how far it reaches.
macro_rules! ranged {
    ($name:ident: $request:ident { $($setters:tt)* }) => {
        #[derive(Clone, Debug, Default)]
        pub struct $name {
            request: pb::$request,
            reach: Reach,
        }

        impl $name {
            pub fn new() -> Self {
                Self::default()
            }

            setters! {
                with_prefix() = |it| it.reach = Reach::Prefix;
                with_range(end: impl Into<Vec<u8>>) = |it| it.reach = Reach::Until(end.into());
                $($setters)*
            }

            pub(super) fn request(self, key: impl Into<Vec<u8>>) -> pb::$request {
                let mut key = key.into();
                let end = self.reach.end(&key);
                if key.is_empty() && !end.is_empty() {
                    // All keys: the first there can be.
                    key.push(0);
                }
                pb::$request { key: key.into(), range_end: end.into(), ..self.request }
            }
        }
    };
}

ranged!(GetOptions: RangeRequest {
    with_limit(limit: i64) = |it| it.request.limit = limit;
    with_revision(revision: i64) = |it| it.request.revision = revision;
    with_serializable() = |it| it.request.serializable = true;
    with_keys_only() = |it| it.request.keys_only = true;
    with_count_only() = |it| it.request.count_only = true;
    with_sort(target: SortTarget, order: SortOrder) = |it| {
        it.request.sort_target = target.into();
        it.request.sort_order = order.into();
    };
});

ranged!(DeleteOptions: DeleteRangeRequest {
    with_prev_key() = |it| it.request.prev_kv = true;
});

ranged!(WatchOptions: WatchCreateRequest {
    with_start_revision(revision: i64) = |it| it.request.start_revision = revision;
    with_prev_key() = |it| it.request.prev_kv = true;
    with_progress_notify() = |it| it.request.progress_notify = true;
});

#[derive(Clone, Debug, Default)]
pub struct PutOptions(pb::PutRequest);

impl PutOptions {
    pub fn new() -> PutOptions {
        PutOptions::default()
    }

    setters! {
        with_lease(lease: i64) = |it| it.0.lease = lease;
        with_prev_key() = |it| it.0.prev_kv = true;
        with_ignore_value() = |it| it.0.ignore_value = true;
        with_ignore_lease() = |it| it.0.ignore_lease = true;
    }

    pub(super) fn request(self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> pb::PutRequest {
        pb::PutRequest { key: key.into().into(), value: value.into().into(), ..self.0 }
    }
}

/// Options with one thing to say.
macro_rules! single {
    ($($name:ident { $field:ident: $type:ty } $setter:ident($($argument:ident: $kind:ty),*) = $value:expr;)*) => {$(
        #[derive(Clone, Debug, Default)]
        pub struct $name {
            pub(super) $field: $type,
        }

        impl $name {
            pub fn new() -> $name {
                $name::default()
            }

            setters! {
                $setter($($argument: $kind),*) = |it| it.$field = $value;
            }
        }
    )*};
}

single! {
    CompactionOptions { physical: bool } with_physical() = true;
    LeaseGrantOptions { id: i64 } with_id(id: i64) = id;
    LeaseTimeToLiveOptions { keys: bool } with_keys() = true;
    LockOptions { lease: i64 } with_lease(lease: i64) = lease;
    AlarmOptions { member: u64 } with_member(member: u64) = member;
    MemberAddOptions { is_learner: bool } with_is_learner() = true;
}

/// A condition of a transaction.
#[derive(Clone, Debug)]
pub struct Compare(pb::Compare);

impl Compare {
    fn new(key: impl Into<Vec<u8>>, result: CompareOp, target: CompareTarget, union: TargetUnion) -> Compare {
        Compare(pb::Compare {
            result: result.into(),
            target: target.into(),
            key: key.into().into(),
            target_union: Some(union),
            ..pb::Compare::default()
        })
    }

    pub fn version(key: impl Into<Vec<u8>>, result: CompareOp, version: i64) -> Compare {
        Compare::new(key, result, CompareTarget::Version, TargetUnion::Version(version))
    }

    pub fn create_revision(key: impl Into<Vec<u8>>, result: CompareOp, revision: i64) -> Compare {
        Compare::new(key, result, CompareTarget::Create, TargetUnion::CreateRevision(revision))
    }

    pub fn mod_revision(key: impl Into<Vec<u8>>, result: CompareOp, revision: i64) -> Compare {
        Compare::new(key, result, CompareTarget::Mod, TargetUnion::ModRevision(revision))
    }

    pub fn value(key: impl Into<Vec<u8>>, result: CompareOp, value: impl Into<Vec<u8>>) -> Compare {
        Compare::new(key, result, CompareTarget::Value, TargetUnion::Value(value.into().into()))
    }

    pub fn lease(key: impl Into<Vec<u8>>, result: CompareOp, lease: i64) -> Compare {
        Compare::new(key, result, CompareTarget::Lease, TargetUnion::Lease(lease))
    }

    setters! {
        with_prefix() = |it| it.0.range_end = prefix_end(&it.0.key).into();
    }
}

/// What a transaction does.
#[derive(Clone, Debug)]
pub struct TxnOp(Request);

impl TxnOp {
    pub fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>, options: Option<PutOptions>) -> TxnOp {
        TxnOp(Request::RequestPut(options.unwrap_or_default().request(key, value)))
    }

    pub fn get(key: impl Into<Vec<u8>>, options: Option<GetOptions>) -> TxnOp {
        TxnOp(Request::RequestRange(options.unwrap_or_default().request(key)))
    }

    pub fn delete(key: impl Into<Vec<u8>>, options: Option<DeleteOptions>) -> TxnOp {
        TxnOp(Request::RequestDeleteRange(options.unwrap_or_default().request(key)))
    }

    pub fn txn(txn: Txn) -> TxnOp {
        TxnOp(Request::RequestTxn(txn.0))
    }
}

fn operations(of: impl IntoIterator<Item = TxnOp>) -> Vec<pb::RequestOp> {
    of.into_iter().map(|op| pb::RequestOp { request: Some(op.0) }).collect()
}

/// A transaction.
#[derive(Clone, Debug, Default)]
pub struct Txn(pb::TxnRequest);

impl Txn {
    pub fn new() -> Txn {
        Txn::default()
    }

    setters! {
        when(all: impl IntoIterator<Item = Compare>) =
            |it| it.0.compare = all.into_iter().map(|compare| compare.0).collect();
        and_then(then: impl IntoIterator<Item = TxnOp>) = |it| it.0.success = operations(then);
        or_else(otherwise: impl IntoIterator<Item = TxnOp>) = |it| it.0.failure = operations(otherwise);
    }
}

impl From<Txn> for pb::TxnRequest {
    fn from(txn: Txn) -> pb::TxnRequest {
        txn.0
    }
}
