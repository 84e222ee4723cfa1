//! Every error a client can see, as a gRPC status. Texts and codes are etcd's, byte for byte: clients match on them.

use plinth_net::grpc::{Code, Status};
use std::borrow::Cow;

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $code:ident, $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Status = Status { code: Code::$code, message: Cow::Borrowed($text) };)*
        /// All of them, with their names.
        #[cfg(test)]
        const ALL: &[(&str, Status)] = &[$((stringify!($name), $name)),*];
    };
}

statuses! {
    /// An empty key in a request, an operation or a comparison.
    EMPTY_KEY = InvalidArgument, "etcdserver: key is not provided";
    /// `ignore_value` or `ignore_lease` on a missing key; a transaction operation without a request.
    KEY_NOT_FOUND = InvalidArgument, "etcdserver: key not found";
    /// `ignore_value` together with a value.
    VALUE_PROVIDED = InvalidArgument, "etcdserver: value is provided";
    /// `ignore_lease` together with a lease.
    LEASE_PROVIDED = InvalidArgument, "etcdserver: lease is provided";
    /// More operations in a transaction than `max-txn-ops`.
    TOO_MANY_OPS = InvalidArgument, "etcdserver: too many operations in txn request";
    /// Two puts of a key, or a put inside a deleted range, in one branch.
    DUPLICATE_KEY = InvalidArgument, "etcdserver: duplicate key given in txn request";
    /// Metadata `client-api-version` is not UTF-8.
    INVALID_CLIENT_API_VERSION = InvalidArgument, "etcdserver: invalid client api version";
    /// Unknown sort order or target.
    INVALID_SORT_OPTION = InvalidArgument, "etcdserver: invalid sort option";
    /// A revision below the compact revision.
    COMPACTED = OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    /// A revision above the current one.
    FUTURE_REVISION = OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    /// What a standby of another cluster does not do. Not etcd's, and of a code that clients do not try again for.
    FOLLOWING = FailedPrecondition,
        "etcdserver: standby of another cluster: takes no writes and serves only serializable reads until the cut-over";
    /// There is no cut-over to be had.
    FOLLOWS_NOBODY = FailedPrecondition, "etcdserver: not a standby of another cluster";
    /// Over quota, or the NOSPACE alarm is active.
    NO_SPACE = ResourceExhausted, "etcdserver: mvcc: database space exceeded";
    /// A request larger than `max-request-bytes`.
    REQUEST_TOO_LARGE = InvalidArgument, "etcdserver: request is too large";
    /// Too many requests wait to be applied. The code is what etcd sends.
    TOO_MANY_REQUESTS = Unknown, "etcdserver: too many requests";
    /// The CORRUPT alarm is active.
    CORRUPT = DataLoss, "etcdserver: corrupt cluster";
    /// No such lease.
    LEASE_NOT_FOUND = NotFound, "etcdserver: requested lease not found";
    /// A lease with this id exists.
    LEASE_EXISTS = FailedPrecondition, "etcdserver: lease already exists";
    /// A time to live above 9,000,000,000 s.
    LEASE_TTL_TOO_LARGE = OutOfRange, "etcdserver: too large lease TTL";
    /// A watch stream was ended by its client.
    WATCH_CANCELED = Cancelled, "etcdserver: watch canceled";
    /// An id that is in use already.
    MEMBER_EXIST = FailedPrecondition, "etcdserver: member ID already exist";
    /// A peer URL of another member.
    PEER_URL_EXIST = FailedPrecondition, "etcdserver: Peer URLs already exists";
    /// A change that would leave too few started voters. The code is what etcd sends.
    NOT_ENOUGH_STARTED = Unknown, "etcdserver: re-configuration failed due to not enough started members";
    /// No peer URL, or one that does not parse.
    MEMBER_BAD_URLS = InvalidArgument, "etcdserver: given member URLs are invalid";
    /// A voter cannot be promoted.
    MEMBER_NOT_LEARNER = FailedPrecondition, "etcdserver: can only promote a learner member";
    /// The learner lags.
    LEARNER_NOT_READY = FailedPrecondition,
        "etcdserver: can only promote a learner member which is in sync with leader";
    /// As many learners as `max-learners`.
    TOO_MANY_LEARNERS = FailedPrecondition, "etcdserver: too many learner members in cluster";
    /// Too few voters have been connected for long enough.
    UNHEALTHY = Unavailable, "etcdserver: unhealthy cluster";
    /// What a learner does not serve.
    NOT_SUPPORTED_FOR_LEARNER = FailedPrecondition, "etcdserver: rpc not supported for learner";
    /// The transfer of leadership did not happen in time.
    TIMEOUT_LEADER_TRANSFER = Unknown, "etcdserver: request timed out, leader transfer took too long";
    /// A keep-alive reached a member that does not lead any more.
    NOT_PRIMARY_LESSOR = Unknown, "not a primary lessor";
    /// No member with this id.
    MEMBER_NOT_FOUND = NotFound, "etcdserver: member not found";
    /// The target of a leadership transfer is unknown or a learner.
    BAD_LEADER_TRANSFEREE = FailedPrecondition, "etcdserver: bad leader transferee";
    /// The member is not the leader.
    NOT_LEADER = FailedPrecondition, "etcdserver: not leader";
    /// The member sees no leader.
    NO_LEADER = Unavailable, "etcdserver: no leader";
    /// Leadership moved while a read waited.
    LEADER_CHANGED = Unavailable, "etcdserver: leader changed";
    /// The member stops.
    STOPPED = Unavailable, "etcdserver: server stopped";
    /// Not done within the request timeout.
    TIMEOUT = Unavailable, "etcdserver: request timed out";
    /// As [`TIMEOUT`], and a leader was elected meanwhile.
    TIMEOUT_LEADER_FAIL = Unavailable, "etcdserver: request timed out, possibly due to previous leader failure";
    /// As [`TIMEOUT`], and the connection to the leader, or the leader's to a quorum, did not last.
    TIMEOUT_CONNECTION_LOST = Unavailable, "etcdserver: request timed out, possibly due to connection lost";
    /// What another member asks that this release does not know.
    UNKNOWN_QUESTION = Unimplemented, "a question that this member does not understand";
    /// A piece of a snapshot that is not kept any more.
    SNAPSHOT_GONE = FailedPrecondition, "the snapshot is not kept any more";
    /// A version to go back to that is none.
    DOWNGRADE_FORMAT = InvalidArgument, "etcdserver: wrong downgrade target version format";
    /// A version to go back to that is not the one before.
    DOWNGRADE_TARGET = InvalidArgument, "etcdserver: invalid downgrade target version";
    /// The cluster goes back already.
    DOWNGRADE_IN_PROGRESS = FailedPrecondition, "etcdserver: cluster has a downgrade job in progress";
    /// An unknown action in a downgrade request.
    UNKNOWN_METHOD = Unknown, "etcdserver: unknown method";
    /// `RangeStream` with a sort order.
    STREAM_SORT = Unimplemented, "RangeStream does not support custom sort orders";
    /// `RangeStream` with a revision filter.
    STREAM_FILTER = Unimplemented, "RangeStream does not support revision filters";
    /// A token is asked for while users do not matter.
    AUTH_NOT_ENABLED = FailedPrecondition, "etcdserver: authentication is not enabled";
    /// No such user, or another password.
    AUTH_FAILED = InvalidArgument, "etcdserver: authentication failed, invalid user ID or password";
    /// A user without password cannot sign in with one.
    NO_PASSWORD_USER = Unknown, "auth: authentication failed, password was given for no password user";
    /// A token that is nobody's.
    INVALID_AUTH_TOKEN = Unauthenticated, "etcdserver: invalid auth token";
    /// Users cannot matter without one.
    ROOT_USER_NOT_EXIST = FailedPrecondition, "etcdserver: root user does not exist";
    /// Users cannot matter if root may not do everything.
    ROOT_ROLE_NOT_EXIST = FailedPrecondition, "etcdserver: root user does not have root role";
    /// A user of this name is there.
    USER_ALREADY_EXISTS = FailedPrecondition, "etcdserver: user name already exists";
    /// A user without a name; a call of nobody.
    USER_EMPTY = InvalidArgument, "etcdserver: user name is empty";
    /// No user of this name.
    USER_NOT_FOUND = FailedPrecondition, "etcdserver: user name not found";
    /// A role of this name is there.
    ROLE_ALREADY_EXISTS = FailedPrecondition, "etcdserver: role name already exists";
    /// No role of this name.
    ROLE_NOT_FOUND = FailedPrecondition, "etcdserver: role name not found";
    /// A role without a name.
    ROLE_EMPTY = InvalidArgument, "etcdserver: role name is empty";
    /// A grant of nothing.
    PERMISSION_NOT_GIVEN = InvalidArgument, "etcdserver: permission not given";
    /// The user may not do that.
    PERMISSION_DENIED = PermissionDenied, "etcdserver: permission denied";
    /// The user does not have the role.
    ROLE_NOT_GRANTED = FailedPrecondition, "etcdserver: role is not granted to the user";
    /// The role does not have the permission.
    PERMISSION_NOT_GRANTED = FailedPrecondition, "etcdserver: permission is not granted to the role";
    /// A permission for an impossible range, or a change that would lock everybody out.
    INVALID_AUTH_MANAGEMENT = InvalidArgument, "etcdserver: invalid auth management";
    /// Users and roles have changed since the caller was let through.
    AUTH_OLD_REVISION = InvalidArgument, "etcdserver: revision of auth store is old";
    /// Tokens are signed elsewhere: here is only the key that verifies them.
    VERIFY_ONLY = Unknown, "auth: token signing attempted with verify-only key";
    /// A new password with more bytes than bcrypt looks at.
    PASSWORD_TOO_LONG = Unknown, "bcrypt: password length exceeds 72 bytes";
    /// An election call whose key is not the caller's.
    ELECTION_NOT_LEADER = Unknown, "election: not leader";
    /// An election nobody leads.
    ELECTION_NO_LEADER = Unknown, "election: no leader";
    /// An election call without a leader key.
    LEADER_FIELD_MISSING = Unknown, "\"leader\" field must be provided";
    /// The key of a waiting lock vanished.
    SESSION_EXPIRED = Unknown, "mutex: session is expired";
}

/// Data that cannot be read.
pub fn broken(error: &plinth_engine::error::StoreError) -> Status {
    Status::new(Code::DataLoss, error.to_string())
}

/// A request whose bytes are not a message of its type, worded as grpc-go does.
pub fn undecodable(error: &prost::DecodeError) -> Status {
    Status::new(Code::Internal, format!("grpc: error unmarshalling request: {error}"))
}

/// The same error passed through an in-process client, as the lock and election services do: the code is lost.
pub fn through_client(status: Status) -> Status {
    Status { code: Code::Unknown, message: status.message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_unique() {
        for (at, (name, status)) in ALL.iter().enumerate() {
            for (other, twin) in &ALL[..at] {
                assert_ne!(status.message, twin.message, "{name} and {other}");
            }
        }
    }
}
