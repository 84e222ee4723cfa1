//! What can go wrong in the store: requests that are refused, and storage that is broken.

use crate::auth::AuthError;
use crate::kv_codec::KvError;
use crate::revision::Revision;
use crate::trees::TreeError;

/// A request is refused; the client is told. Codes and texts are the server's business (see its status table, which goes
/// by etcd's names given here). Unless said otherwise nothing was applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// etcd: `EmptyKey`. A request, operation or comparison without a key.
    #[error("key is not provided")]
    EmptyKey,
    /// etcd: `KeyNotFound`. `ignore_value` or `ignore_lease` on a missing key, or an operation with its union unset.
    #[error("key not found")]
    KeyNotFound,
    /// etcd: `ValueProvided`. `ignore_value` together with a value.
    #[error("value is provided")]
    ValueProvided,
    /// etcd: `LeaseProvided`. `ignore_lease` together with a lease.
    #[error("lease is provided")]
    LeaseProvided,
    /// etcd: `TooManyOps`.
    #[error("too many operations in txn request")]
    TooManyOps,
    /// etcd: `DuplicateKey`. A branch of a txn puts a key twice, or puts one that it deletes.
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    /// etcd: `InvalidSortOption`. An unknown sort order or target.
    #[error("invalid sort option")]
    InvalidSortOption,
    /// etcd: `Compacted`. The revision lies below the compact revision.
    #[error("required revision has been compacted")]
    Compacted,
    /// etcd: `FutureRev`. The revision lies above the current one.
    #[error("required revision is a future revision")]
    FutureRevision,
    /// etcd: `NoSpace`. A NOSPACE alarm is active, or the request did not fit the quota when it was applied. In the
    /// latter case, as in etcd, **it was applied**.
    #[error("database space exceeded")]
    NoSpace,
    /// etcd: `Corrupt`. A CORRUPT alarm is active.
    #[error("corrupt cluster")]
    Corrupt,
    /// etcd: `LeaseNotFound`.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// etcd: `LeaseExist`.
    #[error("lease already exists")]
    LeaseExists,
    /// etcd: `LeaseTTLTooLarge`.
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
    /// Not etcd's: the store follows another cluster, and takes nothing from clients.
    #[error("following another cluster")]
    Follows,
    /// Not etcd's: what comes from another cluster comes too late.
    #[error("following no cluster")]
    FollowsNobody,
    /// The author of the command may not do that, or a change of users and roles is refused.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

/// The storage is broken. Fatal: the store must not be used any further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A tree failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A stored pair does not decode.
    #[error("revision {revision}")]
    Pair { revision: Revision, source: KvError },
    /// A pair that the index knows is not stored.
    #[error("revision {revision} is missing")]
    Missing { revision: Revision },
    /// A record of one of the small trees does not decode.
    #[error("tree {tree}, key {key:02x?}: {detail}")]
    Record { tree: &'static str, key: Vec<u8>, detail: &'static str },
}

/// Result of work that can be refused or break.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is refused; the store is fine.
    #[error(transparent)]
    Refused(#[from] OpError),
    /// The storage is broken; the store must not be used any further.
    #[error(transparent)]
    Broken(#[from] StoreError),
}

impl From<TreeError> for Error {
    fn from(error: TreeError) -> Self {
        Self::Broken(StoreError::Tree(error))
    }
}
