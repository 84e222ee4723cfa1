//! What a refusal becomes: a status, and a stream that takes nothing.

use super::status;
use bytes::Bytes;
use plinth_engine::auth::AuthError;
use plinth_engine::error::{Error, OpError};
use plinth_member::SubmitError;
use plinth_net::grpc::{Code, Status, StreamHandler};
use plinth_raft::MembershipError;

/// The status of a submission that was not queued.
pub fn submit_status(error: SubmitError) -> Status {
    match error {
        SubmitError::TooMany => status::TOO_MANY_REQUESTS,
        SubmitError::NoSpace => status::NO_SPACE,
    }
}

/// The status of a refusal by the store.
pub fn op_status(error: OpError) -> Status {
    match error {
        OpError::EmptyKey => status::EMPTY_KEY,
        OpError::KeyNotFound => status::KEY_NOT_FOUND,
        OpError::ValueProvided => status::VALUE_PROVIDED,
        OpError::LeaseProvided => status::LEASE_PROVIDED,
        OpError::TooManyOps => status::TOO_MANY_OPS,
        OpError::DuplicateKey => status::DUPLICATE_KEY,
        OpError::InvalidSortOption => status::INVALID_SORT_OPTION,
        OpError::Compacted => status::COMPACTED,
        OpError::FutureRevision => status::FUTURE_REVISION,
        OpError::NoSpace => status::NO_SPACE,
        OpError::Corrupt => status::CORRUPT,
        OpError::LeaseNotFound => status::LEASE_NOT_FOUND,
        OpError::LeaseExists => status::LEASE_EXISTS,
        OpError::LeaseTtlTooLarge => status::LEASE_TTL_TOO_LARGE,
        OpError::Follows => status::FOLLOWING,
        OpError::FollowsNobody => status::FOLLOWS_NOBODY,
        OpError::Auth(error) => auth_status(error),
        other => Status::new(Code::Unknown, other.to_string()),
    }
}

/// The status of a refusal by users and roles.
pub fn auth_status(error: AuthError) -> Status {
    match error {
        AuthError::RootUserNotExist => status::ROOT_USER_NOT_EXIST,
        AuthError::RootRoleNotExist => status::ROOT_ROLE_NOT_EXIST,
        AuthError::UserAlreadyExist => status::USER_ALREADY_EXISTS,
        AuthError::UserEmpty => status::USER_EMPTY,
        AuthError::UserNotFound => status::USER_NOT_FOUND,
        AuthError::RoleAlreadyExist => status::ROLE_ALREADY_EXISTS,
        AuthError::RoleNotFound => status::ROLE_NOT_FOUND,
        AuthError::RoleEmpty => status::ROLE_EMPTY,
        AuthError::PermissionNotGiven => status::PERMISSION_NOT_GIVEN,
        AuthError::PermissionDenied => status::PERMISSION_DENIED,
        AuthError::RoleNotGranted => status::ROLE_NOT_GRANTED,
        AuthError::PermissionNotGranted => status::PERMISSION_NOT_GRANTED,
        AuthError::InvalidAuthMgmt => status::INVALID_AUTH_MANAGEMENT,
        AuthError::AuthOldRevision => status::AUTH_OLD_REVISION,
        AuthError::AuthNotEnabled => status::AUTH_NOT_ENABLED,
        AuthError::AuthFailed => status::AUTH_FAILED,
        other => Status::new(Code::Unknown, other.to_string()),
    }
}

/// The status of a failed read. Broken storage is told as such; the write path stops the process when it meets it.
pub fn read_status(error: Error) -> Status {
    match error {
        Error::Refused(refusal) => op_status(refusal),
        Error::Broken(broken) => {
            tracing::error!(error = %broken, "stored data is broken");
            status::broken(&broken)
        }
    }
}

/// The status of a refused change.
pub fn membership_status(error: MembershipError) -> Status {
    match error {
        MembershipError::MemberExist => status::MEMBER_EXIST,
        MembershipError::PeerUrlExist => status::PEER_URL_EXIST,
        MembershipError::MemberNotFound => status::MEMBER_NOT_FOUND,
        MembershipError::MemberNotLearner => status::MEMBER_NOT_LEARNER,
        MembershipError::LearnerNotReady => status::LEARNER_NOT_READY,
        MembershipError::TooManyLearners => status::TOO_MANY_LEARNERS,
        MembershipError::NotEnoughStarted => status::NOT_ENOUGH_STARTED,
        MembershipError::Unhealthy => status::UNHEALTHY,
    }
}

/// Takes what still comes on a stream that was refused.
pub struct RefusedStream;

impl StreamHandler for RefusedStream {
    fn message(&mut self, _body: Bytes) {}

    fn half_close(&mut self) {}

    fn writable(&mut self) {}

    fn closed(&mut self) {}
}
