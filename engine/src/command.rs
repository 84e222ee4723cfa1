//! What the log replicates: one command per client request, read in place at apply.
//!
//! ```text
//! +--------+------+------------------------+
//! | schema | kind | rkyv archive, by kind  |      one byte, one byte, the rest; no alignment needed
//! +--------+------+------------------------+
//! ```
//!
//! Every kind has an archive type of its own, so that a new kind never changes the bytes of an old one. A changed layout
//! of a kind gets a new schema number, and the old one stays readable. Kinds of 0x80 and above are reserved.
//!
//! Invariants: [`Command::access`] validates everything, so that a command that it returns can be walked without checks;
//! encoding is a function of the command alone.
//!
//! Not here: what a command does (`store`, `txn`), and which requests are refused before they are replicated (`check`).

use crate::auth::{ArchivedAuthChange, AuthChange};
use crate::author::{Author, DamagedAuthor};
use crate::follow::{ArchivedFollowChange, FollowChange};
use bytes::Bytes;
use plinth_v2::command::{ArchivedV2Command, V2Command};
use rkyv::api::low::LowSerializer;
use rkyv::rancor::{Failure, Panic};
use rkyv::ser::Serializer;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::ser::{Allocator, Writer};
use rkyv::validation::archive::ArchiveValidator;
use rkyv::validation::{ArchiveContext, Validator};
use rkyv::{Archive, Portable, Serialize};

/// Version of the archive layouts written by this build. A command that has an author begins with another one, see
/// [`crate::author`].
pub const SCHEMA: u8 = 1;

/// Deepest nesting of pointers that is accepted: one level per nested txn, one for the bytes in it.
///
/// Clients are refused at 200 nested txns.
const ARCHIVE_DEPTH_MAX: usize = 256;

/// Bytes before the archive.
const HEADER_BYTES: usize = 2;

/// Order of a range's result.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Archive, Serialize)]
#[rkyv(derive(Clone, Copy, Debug))]
#[repr(u8)]
pub enum SortOrder {
    /// As stored: by key.
    #[default]
    None = 0,
    /// Smallest first.
    Ascend = 1,
    /// Greatest first.
    Descend = 2,
    /// A number the API does not know; refused by the request checks.
    Unknown = 255,
}

/// What a range's result is ordered by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Archive, Serialize)]
#[rkyv(derive(Clone, Copy, Debug))]
#[repr(u8)]
pub enum SortTarget {
    #[default]
    Key = 0,
    /// Number of puts since the key was created.
    Version = 1,
    /// Revision of the put that created the key.
    Create = 2,
    /// Revision of the last change.
    Mod = 3,
    /// The value's bytes.
    Value = 4,
    /// A number the API does not know; refused by the request checks.
    Unknown = 255,
}

/// What a comparison has to find.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Archive, Serialize)]
#[rkyv(derive(Clone, Copy, Debug))]
#[repr(u8)]
pub enum CompareResult {
    /// Stored equals given.
    #[default]
    Equal = 0,
    /// Stored is greater than given.
    Greater = 1,
    /// Stored is less than given.
    Less = 2,
    /// Stored differs from given.
    NotEqual = 3,
    /// A number the API does not know: etcd takes it as true.
    Unknown = 255,
}

/// What a comparison looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Archive, Serialize)]
#[rkyv(derive(Clone, Copy, Debug))]
#[repr(u8)]
pub enum CompareTarget {
    /// Number of puts since the key was created.
    #[default]
    Version = 0,
    /// Revision of the put that created the key.
    Create = 1,
    /// Revision of the last change.
    Mod = 2,
    /// The value's bytes.
    Value = 3,
    /// The attached lease.
    Lease = 4,
    /// A number the API does not know: etcd finds both sides equal.
    Unknown = 255,
}

macro_rules! from_wire {
    ($type:ident: $($number:literal => $variant:ident),+) => {
        impl $type {
            /// The enum value of a protobuf field.
            pub fn from_wire(number: i32) -> Self {
                match number {
                    $($number => Self::$variant,)+
                    _ => Self::Unknown,
                }
            }
        }
    };
}

from_wire!(SortOrder: 0 => None, 1 => Ascend, 2 => Descend);
from_wire!(SortTarget: 0 => Key, 1 => Version, 2 => Create, 3 => Mod, 4 => Value);
from_wire!(CompareResult: 0 => Equal, 1 => Greater, 2 => Less, 3 => NotEqual);
from_wire!(CompareTarget: 0 => Version, 1 => Create, 2 => Mod, 3 => Value, 4 => Lease);

macro_rules! from_archived {
    ($($type:ident, $archived:ident: $($variant:ident),+;)+) => {$(
        impl From<$archived> for $type {
            fn from(archived: $archived) -> Self {
                match archived {
                    $($archived::$variant => Self::$variant,)+
                }
            }
        }
    )+};
}

from_archived! {
    SortOrder, ArchivedSortOrder: None, Ascend, Descend, Unknown;
    SortTarget, ArchivedSortTarget: Key, Version, Create, Mod, Value, Unknown;
    CompareResult, ArchivedCompareResult: Equal, Greater, Less, NotEqual, Unknown;
    CompareTarget, ArchivedCompareTarget: Version, Create, Mod, Value, Lease, Unknown;
}

/// Stores a pair.
#[derive(Clone, PartialEq, Eq, Debug, Default, Archive, Serialize)]
pub struct Put {
    pub key: Bytes,
    pub value: Bytes,
    /// Lease to attach to; 0 for none.
    pub lease: i64,
    /// Answer with the previous pair.
    pub prev_kv: bool,
    pub ignore_value: bool,
    pub ignore_lease: bool,
}

/// Deletes the keys of a range.
#[derive(Clone, PartialEq, Eq, Debug, Default, Archive, Serialize)]
pub struct DeleteRange {
    pub key: Bytes,
    /// End of the range, as in the API: empty for the one key, `\0` for everything from `key` on.
    pub range_end: Bytes,
    /// Answer with the deleted pairs.
    pub prev_kv: bool,
}

/// Reads the keys of a range, as an operation of a txn.
#[derive(Clone, PartialEq, Eq, Debug, Default, Archive, Serialize)]
pub struct Range {
    pub key: Bytes,
    /// End of the range, as in the API: empty for the one key, `\0` for everything from `key` on.
    pub range_end: Bytes,
    /// Most pairs to answer with; not positive for no limit.
    pub limit: i64,
    /// Revision to read at; not positive for the newest.
    pub revision: i64,
    pub sort_order: SortOrder,
    pub sort_target: SortTarget,
    pub keys_only: bool,
    pub count_only: bool,
    /// Inclusive lower bound of the mod revision; 0 for none.
    pub min_mod_revision: i64,
    /// Inclusive upper bound of the mod revision; 0 for none.
    pub max_mod_revision: i64,
    /// Inclusive lower bound of the create revision; 0 for none.
    pub min_create_revision: i64,
    /// Inclusive upper bound of the create revision; 0 for none.
    pub max_create_revision: i64,
}

/// A condition of a txn.
#[derive(Clone, PartialEq, Eq, Debug, Default, Archive, Serialize)]
pub struct Compare {
    /// What to find.
    pub result: CompareResult,
    /// What to look at.
    pub target: CompareTarget,
    pub key: Bytes,
    /// End of the range, as in the API; every key in it has to match.
    pub range_end: Bytes,
    /// Given number, for every target but `Value`; 0 if the request's union is unset or of another target.
    pub number: i64,
    /// Given value, for target `Value`; empty if the request's union is unset or of another target.
    pub value: Bytes,
}

/// An operation of a txn.
#[derive(Clone, PartialEq, Eq, Debug, Default, Archive, Serialize)]
#[rkyv(
    serialize_bounds(__S: Writer + Allocator, __S::Error: rkyv::rancor::Source),
    bytecheck(bounds(__C: ArchiveContext, __C::Error: rkyv::rancor::Source))
)]
#[repr(u8)]
pub enum Op {
    /// A request whose union is unset; refused by the request checks.
    #[default]
    Unset,
    /// Reads.
    Range(Range),
    /// Stores a pair.
    Put(Put),
    DeleteRange(DeleteRange),
    /// A txn inside the txn.
    Txn(#[rkyv(omit_bounds)] Txn),
}

/// Conditions, and what to do when they hold or do not.
#[derive(Clone, PartialEq, Eq, Debug, Default, Archive, Serialize)]
pub struct Txn {
    /// All have to hold.
    pub compare: Vec<Compare>,
    /// Done if they hold.
    pub success: Vec<Op>,
    /// Done if they do not.
    pub failure: Vec<Op>,
}

/// Remaining TTL of one lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize)]
pub struct LeaseCheckpoint {
    pub id: i64,
    /// Seconds left; 0 clears an earlier checkpoint.
    pub remaining_ttl: i64,
}

/// Remaining TTLs as one leader knows them.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize)]
pub struct LeaseCheckpoints {
    pub term: u64,
    /// One for each lease concerned.
    pub checkpoints: Vec<LeaseCheckpoint>,
}

/// Kinds of alarm, numbered as in the API.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Archive, Serialize)]
#[rkyv(derive(Clone, Copy, Debug))]
#[repr(u8)]
pub enum AlarmKind {
    /// No kind: raising it does nothing, asking for it means every kind.
    None = 0,
    /// A member's file reached its quota.
    NoSpace = 1,
    /// Members' data differ.
    Corrupt = 2,
}

impl AlarmKind {
    /// The kind of a protobuf field, if known.
    pub fn from_wire(number: i32) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::NoSpace),
            2 => Some(Self::Corrupt),
            _ => None,
        }
    }
}

/// What to do with an alarm, numbered as in the API.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize)]
#[rkyv(derive(Clone, Copy, Debug))]
#[repr(u8)]
pub enum AlarmAction {
    /// List.
    Get = 0,
    /// Raise.
    Activate = 1,
    /// Clear.
    Deactivate = 2,
}

/// An alarm request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize)]
pub struct Alarm {
    pub action: AlarmAction,
    /// The member concerned; for `Get`, 0 means every member.
    pub member: u64,
    pub kind: AlarmKind,
}

/// Name and client URLs that a member publishes about itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, Archive, Serialize)]
pub struct MemberAttributes {
    pub member: u64,
    pub name: String,
    pub client_urls: Vec<String>,
}

/// The cluster's downgrade job.
#[derive(Clone, PartialEq, Eq, Debug, Default, Archive, Serialize)]
pub struct Downgrade {
    /// Whether one is under way.
    pub enabled: bool,
    /// `MAJOR.MINOR.PATCH` to go to.
    pub target_version: String,
}

/// Archive of [`Command::Compact`].
#[derive(Archive, Serialize)]
pub struct Compact {
    pub revision: i64,
}

/// Archive of [`Command::LeaseGrant`].
#[derive(Archive, Serialize)]
pub struct LeaseGrant {
    /// The lease's id, chosen before it is replicated; never 0.
    pub id: i64,
    /// Requested TTL in seconds.
    pub ttl: i64,
}

/// Archive of [`Command::LeaseRevoke`].
#[derive(Archive, Serialize)]
pub struct LeaseRevoke {
    pub id: i64,
}

/// Archive of [`Command::LeaseExpire`].
#[derive(Archive, Serialize)]
pub struct LeaseExpire {
    pub id: i64,
    /// The term of the leader that found it expired.
    pub term: u64,
}

/// A user who has proved who it is, where it signed in.
#[derive(Clone, PartialEq, Eq, Debug, Default, Archive, Serialize)]
pub struct Authenticate {
    pub name: String,
    /// Letters of its token that nobody can guess; empty if tokens are signed instead.
    pub prefix: String,
}

/// What is replicated for one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Changes nothing.
    Noop,
    /// Stores a pair.
    Put(Put),
    /// Deletes the keys of a range.
    DeleteRange(DeleteRange),
    /// Conditions and operations.
    Txn(Txn),
    /// Gives up history below a revision.
    Compact { revision: i64 },
    /// Adds a lease.
    LeaseGrant {
        /// Chosen before it is replicated; never 0.
        id: i64,
        /// Requested TTL in seconds.
        ttl: i64,
    },
    /// Removes a lease and deletes its keys.
    LeaseRevoke { id: i64 },
    /// As [`Command::LeaseRevoke`], because the time of the lease is over. Only the leader who keeps the time may say so:
    /// nothing happens if the entry is of another term, because its leader may have extended the lease.
    LeaseExpire {
        id: i64,
        /// The term of the leader that found it expired.
        term: u64,
    },
    /// Records remaining TTLs; one of 0 says that the lease was renewed. As with [`Command::LeaseExpire`], nothing happens
    /// if the entry is of another term, because its leader may have renewed the lease.
    LeaseCheckpoint(LeaseCheckpoints),
    /// Raises or clears an alarm.
    Alarm(Alarm),
    /// Publishes a member's name and client URLs.
    SetMemberAttributes(MemberAttributes),
    /// Records the version that all members understand, `MAJOR.MINOR.0`.
    SetClusterVersion(String),
    /// Starts or ends a downgrade job.
    SetDowngrade(Downgrade),
    /// Changes users and roles.
    Auth(AuthChange),
    /// A user signs in.
    Authenticate(Authenticate),
    /// Something that happened in the cluster that is followed.
    Follow(FollowChange),
    /// A request to the v2 store.
    V2(V2Command),
}

/// A replicated command, read in place.
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "the variants are those of `Command`")]
pub enum CommandRef<'a> {
    Noop,
    Put(&'a ArchivedPut),
    DeleteRange(&'a ArchivedDeleteRange),
    Txn(&'a ArchivedTxn),
    Compact(&'a ArchivedCompact),
    LeaseGrant(&'a ArchivedLeaseGrant),
    LeaseRevoke(&'a ArchivedLeaseRevoke),
    LeaseExpire(&'a ArchivedLeaseExpire),
    LeaseCheckpoint(&'a ArchivedLeaseCheckpoints),
    Alarm(&'a ArchivedAlarm),
    SetMemberAttributes(&'a ArchivedMemberAttributes),
    SetClusterVersion(&'a str),
    SetDowngrade(&'a ArchivedDowngrade),
    Auth(&'a ArchivedAuthChange),
    Authenticate(&'a ArchivedAuthenticate),
    Follow(&'a ArchivedFollowChange),
    V2(&'a ArchivedV2Command),
}

/// What a command is, without what it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the variants are those of `Command`")]
pub enum CommandKind {
    Noop,
    Put,
    DeleteRange,
    Txn,
    Compact,
    LeaseGrant,
    LeaseRevoke,
    LeaseExpire,
    LeaseCheckpoint,
    Alarm,
    SetMemberAttributes,
    SetClusterVersion,
    SetDowngrade,
    AuthEnable,
    AuthDisable,
    AuthUserAdd,
    AuthUserDelete,
    AuthUserChangePassword,
    AuthUserGrantRole,
    AuthUserRevokeRole,
    AuthRoleAdd,
    AuthRoleDelete,
    AuthRoleGrantPermission,
    AuthRoleRevokePermission,
    Authenticate,
    Follow,
    V2,
}

impl CommandRef<'_> {
    /// What it is.
    pub fn kind(&self) -> CommandKind {
        match self {
            CommandRef::Noop => CommandKind::Noop,
            CommandRef::Put(_) => CommandKind::Put,
            CommandRef::DeleteRange(_) => CommandKind::DeleteRange,
            CommandRef::Txn(_) => CommandKind::Txn,
            CommandRef::Compact(_) => CommandKind::Compact,
            CommandRef::LeaseGrant(_) => CommandKind::LeaseGrant,
            CommandRef::LeaseRevoke(_) => CommandKind::LeaseRevoke,
            CommandRef::LeaseExpire(_) => CommandKind::LeaseExpire,
            CommandRef::LeaseCheckpoint(_) => CommandKind::LeaseCheckpoint,
            CommandRef::Alarm(_) => CommandKind::Alarm,
            CommandRef::SetMemberAttributes(_) => CommandKind::SetMemberAttributes,
            CommandRef::SetClusterVersion(_) => CommandKind::SetClusterVersion,
            CommandRef::SetDowngrade(_) => CommandKind::SetDowngrade,
            CommandRef::Auth(change) => change.kind(),
            CommandRef::Authenticate(_) => CommandKind::Authenticate,
            CommandRef::Follow(_) => CommandKind::Follow,
            CommandRef::V2(_) => CommandKind::V2,
        }
    }
}

impl Command {
    /// What it is.
    pub fn kind(&self) -> CommandKind {
        match self {
            Command::Noop => CommandKind::Noop,
            Command::Put(_) => CommandKind::Put,
            Command::DeleteRange(_) => CommandKind::DeleteRange,
            Command::Txn(_) => CommandKind::Txn,
            Command::Compact { .. } => CommandKind::Compact,
            Command::LeaseGrant { .. } => CommandKind::LeaseGrant,
            Command::LeaseRevoke { .. } => CommandKind::LeaseRevoke,
            Command::LeaseExpire { .. } => CommandKind::LeaseExpire,
            Command::LeaseCheckpoint(_) => CommandKind::LeaseCheckpoint,
            Command::Alarm(_) => CommandKind::Alarm,
            Command::SetMemberAttributes(_) => CommandKind::SetMemberAttributes,
            Command::SetClusterVersion(_) => CommandKind::SetClusterVersion,
            Command::SetDowngrade(_) => CommandKind::SetDowngrade,
            Command::Auth(change) => change.kind(),
            Command::Authenticate(_) => CommandKind::Authenticate,
            Command::Follow(_) => CommandKind::Follow,
            Command::V2(_) => CommandKind::V2,
        }
    }
}

macro_rules! kinds_of_changes {
    ($($change:ident),+) => {$(
        impl $change {
            /// What it is.
            pub fn kind(&self) -> CommandKind {
                match self {
                    Self::Enable => CommandKind::AuthEnable,
                    Self::Disable => CommandKind::AuthDisable,
                    Self::UserAdd { .. } => CommandKind::AuthUserAdd,
                    Self::UserDelete { .. } => CommandKind::AuthUserDelete,
                    Self::UserChangePassword { .. } => CommandKind::AuthUserChangePassword,
                    Self::UserGrantRole { .. } => CommandKind::AuthUserGrantRole,
                    Self::UserRevokeRole { .. } => CommandKind::AuthUserRevokeRole,
                    Self::RoleAdd { .. } => CommandKind::AuthRoleAdd,
                    Self::RoleDelete { .. } => CommandKind::AuthRoleDelete,
                    Self::RoleGrantPermission { .. } => CommandKind::AuthRoleGrantPermission,
                    Self::RoleRevokePermission { .. } => CommandKind::AuthRoleRevokePermission,
                }
            }
        }
    )+};
}

kinds_of_changes!(AuthChange, ArchivedAuthChange);

/// Replicated bytes are not a command.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Fewer bytes than the header has.
    #[error("command of {len} bytes is too short")]
    TooShort { len: usize },
    /// Written by a newer build.
    #[error("command schema {found} is unknown, {SCHEMA} is the newest known one")]
    UnknownSchema { found: u8 },
    /// Written by a newer build.
    #[error("command kind {found} is unknown")]
    UnknownKind { found: u8 },
    /// The author in front of the command does not hold together.
    #[error(transparent)]
    DamagedAuthor(#[from] DamagedAuthor),
    /// The archive does not hold together.
    #[error("archive of command kind {kind}, {len} bytes, is damaged")]
    Damaged { kind: u8, len: usize },
}

mod kind {
    pub const NOOP: u8 = 0;
    pub const PUT: u8 = 1;
    pub const DELETE_RANGE: u8 = 2;
    pub const TXN: u8 = 3;
    pub const COMPACT: u8 = 4;
    pub const LEASE_GRANT: u8 = 5;
    pub const LEASE_REVOKE: u8 = 6;
    pub const LEASE_CHECKPOINT: u8 = 7;
    pub const ALARM: u8 = 8;
    pub const SET_MEMBER_ATTRIBUTES: u8 = 9;
    pub const SET_CLUSTER_VERSION: u8 = 10;
    pub const SET_DOWNGRADE: u8 = 11;
    pub const LEASE_EXPIRE: u8 = 12;
    pub const AUTH: u8 = 13;
    pub const AUTHENTICATE: u8 = 14;
    pub const FOLLOW: u8 = 15;
    pub const V2: u8 = 16;
}

/// The newest kind of command that this release reads. Members tell each other, so that none is asked to apply what it cannot
/// read.
pub const NEWEST_KIND: u16 = V2_KIND;

/// Commands of the v2 store are for those who read kinds up to this one.
pub const V2_KIND: u16 = kind::V2 as u16;

impl Command {
    /// Appends the encoded command.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Command::Noop => out.extend_from_slice(&[SCHEMA, kind::NOOP]),
            Command::Put(put) => put.encode_into(out),
            Command::DeleteRange(delete) => delete.encode_into(out),
            Command::Txn(txn) => txn.encode_into(out),
            Command::Compact { revision } => append(kind::COMPACT, &Compact { revision: *revision }, out),
            Command::LeaseGrant { id, ttl } => append(kind::LEASE_GRANT, &LeaseGrant { id: *id, ttl: *ttl }, out),
            Command::LeaseRevoke { id } => append(kind::LEASE_REVOKE, &LeaseRevoke { id: *id }, out),
            Command::LeaseExpire { id, term } => append(kind::LEASE_EXPIRE, &LeaseExpire { id: *id, term: *term }, out),
            Command::LeaseCheckpoint(checkpoints) => append(kind::LEASE_CHECKPOINT, checkpoints, out),
            Command::Alarm(alarm) => append(kind::ALARM, alarm, out),
            Command::SetMemberAttributes(attributes) => append(kind::SET_MEMBER_ATTRIBUTES, attributes, out),
            Command::SetClusterVersion(version) => append(kind::SET_CLUSTER_VERSION, version, out),
            Command::SetDowngrade(downgrade) => append(kind::SET_DOWNGRADE, downgrade, out),
            Command::Auth(change) => append(kind::AUTH, change, out),
            Command::Authenticate(request) => append(kind::AUTHENTICATE, request, out),
            Command::Follow(change) => append(kind::FOLLOW, change, out),
            Command::V2(command) => append(kind::V2, command, out),
        }
    }

    /// Validates an encoded command and gives access to it in place. The bytes need no alignment. Its author, if it has
    /// one, is passed over: [`Author::split`] tells who that is.
    ///
    /// # Errors
    /// If the bytes are not what any release up to this one wrote.
    pub fn access(bytes: &[u8]) -> Result<CommandRef<'_>, CommandError> {
        let (_, bytes) = Author::split(bytes)?;
        let Some((&[schema, kind], archive)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(CommandError::TooShort { len: bytes.len() });
        };
        if schema != SCHEMA {
            return Err(CommandError::UnknownSchema { found: schema });
        }
        let damaged = |_: Failure| CommandError::Damaged { kind, len: archive.len() };
        Ok(match kind {
            kind::NOOP => CommandRef::Noop,
            kind::PUT => CommandRef::Put(read(archive).map_err(damaged)?),
            kind::DELETE_RANGE => CommandRef::DeleteRange(read(archive).map_err(damaged)?),
            kind::TXN => CommandRef::Txn(read(archive).map_err(damaged)?),
            kind::COMPACT => CommandRef::Compact(read(archive).map_err(damaged)?),
            kind::LEASE_GRANT => CommandRef::LeaseGrant(read(archive).map_err(damaged)?),
            kind::LEASE_REVOKE => CommandRef::LeaseRevoke(read(archive).map_err(damaged)?),
            kind::LEASE_EXPIRE => CommandRef::LeaseExpire(read(archive).map_err(damaged)?),
            kind::LEASE_CHECKPOINT => CommandRef::LeaseCheckpoint(read(archive).map_err(damaged)?),
            kind::ALARM => CommandRef::Alarm(read(archive).map_err(damaged)?),
            kind::SET_MEMBER_ATTRIBUTES => CommandRef::SetMemberAttributes(read(archive).map_err(damaged)?),
            kind::SET_CLUSTER_VERSION => {
                let version: &rkyv::string::ArchivedString = read(archive).map_err(damaged)?;
                CommandRef::SetClusterVersion(version.as_str())
            }
            kind::SET_DOWNGRADE => CommandRef::SetDowngrade(read(archive).map_err(damaged)?),
            kind::AUTH => CommandRef::Auth(read(archive).map_err(damaged)?),
            kind::AUTHENTICATE => CommandRef::Authenticate(read(archive).map_err(damaged)?),
            kind::FOLLOW => CommandRef::Follow(read(archive).map_err(damaged)?),
            kind::V2 => CommandRef::V2(read(archive).map_err(damaged)?),
            found => return Err(CommandError::UnknownKind { found }),
        })
    }
}

impl Put {
    /// Appends the encoded command; what [`Command::encode_into`] does, without wrapping the request first.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        append(kind::PUT, self, out);
    }
}

impl DeleteRange {
    /// Appends the encoded command.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        append(kind::DELETE_RANGE, self, out);
    }
}

impl Txn {
    /// Appends the encoded command.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        append(kind::TXN, self, out);
    }
}

type AppendTo<'a> = LowSerializer<&'a mut Vec<u8>, ArenaHandle<'a>, Panic>;

/// Appends header and archive. Archives hold relative offsets only, so it does not matter what `out` already holds.
fn append<T: for<'a> Serialize<AppendTo<'a>>>(kind: u8, value: &T, out: &mut Vec<u8>) {
    out.extend_from_slice(&[SCHEMA, kind]);
    rkyv::util::with_arena(|arena| {
        let mut serializer = Serializer::new(&mut *out, arena.acquire(), ());
        let Ok(_) = rkyv::api::serialize_using::<_, Panic>(value, &mut serializer);
    });
}

type Validate<'a> = rkyv::api::low::LowValidator<'a, Failure>;

fn read<'a, T>(archive: &'a [u8]) -> Result<&'a T, Failure>
where
    T: Portable + for<'b> rkyv::bytecheck::CheckBytes<Validate<'b>>,
{
    let depth = std::num::NonZeroUsize::new(ARCHIVE_DEPTH_MAX);
    let mut validator = Validator::new(ArchiveValidator::with_max_depth(archive, depth), ());
    rkyv::api::access_with_context::<T, _, Failure>(archive, &mut validator)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::follow::{FollowRecords, tombstone_record};

    fn encoded(command: &Command) -> Vec<u8> {
        let mut out = vec![0xee];
        command.encode_into(&mut out);
        out.split_off(1)
    }

    fn put(key: &'static str, value: &'static str) -> Put {
        Put { key: key.into(), value: value.into(), lease: -7, prev_kv: true, ..Put::default() }
    }

    #[test]
    fn a_put_reads_back_in_place_at_any_alignment() {
        let bytes = encoded(&Command::Put(put("key", "value")));
        for shift in 0..8 {
            let mut shifted = vec![0; shift];
            shifted.extend_from_slice(&bytes);
            let Ok(CommandRef::Put(read)) = Command::access(&shifted[shift..]) else { panic!("a put is a put") };
            assert_eq!((&read.key[..], &read.value[..], read.lease.to_native()), (&b"key"[..], &b"value"[..], -7));
            assert_eq!((read.prev_kv, read.ignore_value, read.ignore_lease), (true, false, false));
        }
    }

    /// The layout of schema 1. A change here is a change of format: give it a new schema number instead.
    #[test]
    fn golden_put() {
        let bytes = encoded(&Command::Put(put("key", "value")));
        let expected = [
            &[1, 1][..],                                       // schema, kind
            b"keyvalue",                                       // out-of-line bytes
            &[0xf8, 0xff, 0xff, 0xff, 3, 0, 0, 0],             // key: offset back, length
            &[0xf3, 0xff, 0xff, 0xff, 5, 0, 0, 0],             // value: offset back, length
            &[0xf9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], // lease
            &[1, 0, 0],                                        // prev_kv, ignore_value, ignore_lease
        ]
        .concat();
        assert_eq!(bytes, expected);
    }

    fn nested(depth: usize) -> Txn {
        let mut txn = Txn { success: vec![Op::Put(put("k", "v"))], ..Txn::default() };
        for _ in 0..depth {
            let compare = Compare { key: "k".into(), number: 3, ..Compare::default() };
            let failure = vec![Op::Range(Range::default()), Op::DeleteRange(DeleteRange::default())];
            txn = Txn { compare: vec![compare], success: vec![Op::Unset, Op::Txn(txn)], failure };
        }
        txn
    }

    #[test]
    fn txns_nest() {
        let bytes = encoded(&Command::Txn(nested(60)));
        let Ok(CommandRef::Txn(mut txn)) = Command::access(&bytes) else { panic!("a txn is a txn") };
        let mut depth = 0;
        while let Some(ArchivedOp::Txn(inner)) = txn.success.get(1) {
            assert_eq!(txn.compare[0].number.to_native(), 3);
            txn = inner;
            depth += 1;
        }
        assert_eq!(depth, 60);
        assert!(matches!(&txn.success[0], ArchivedOp::Put(put) if &put.key[..] == b"k"));
    }

    #[test]
    fn absurd_nesting_is_refused() {
        let bytes = encoded(&Command::Txn(nested(1000)));
        assert!(matches!(Command::access(&bytes), Err(CommandError::Damaged { kind: 3, .. })));
    }

    fn one_of_each() -> Vec<Command> {
        vec![
            Command::Noop,
            Command::Put(put("key", "value")),
            Command::DeleteRange(DeleteRange { key: "a".into(), range_end: "b".into(), prev_kv: true }),
            Command::Txn(nested(3)),
            Command::Compact { revision: 5 },
            Command::LeaseGrant { id: 1, ttl: 2 },
            Command::LeaseRevoke { id: 1 },
            Command::LeaseExpire { id: 1, term: 2 },
            Command::LeaseCheckpoint(LeaseCheckpoints {
                term: 2,
                checkpoints: vec![LeaseCheckpoint { id: 1, remaining_ttl: 9 }],
            }),
            Command::Alarm(Alarm { action: AlarmAction::Activate, member: 3, kind: AlarmKind::NoSpace }),
            Command::SetMemberAttributes(MemberAttributes {
                member: 3,
                name: "name".to_owned(),
                client_urls: vec!["http://10.0.0.1:2379".to_owned()],
            }),
            Command::SetClusterVersion("3.7.0".to_owned()),
            Command::SetDowngrade(Downgrade { enabled: true, target_version: "3.6.0".to_owned() }),
            Command::Auth(AuthChange::Disable),
            Command::Auth(AuthChange::UserAdd {
                name: "name".to_owned(),
                password_hash: b"hash".to_vec(),
                no_password: false,
            }),
            Command::Authenticate(Authenticate { name: "name".to_owned(), prefix: "prefix".to_owned() }),
            Command::V2(V2Command::sync(5)),
            Command::V2(V2Command {
                at: 1,
                shown_at: 2,
                brief: true,
                change: plinth_v2::Change::CompareAndSwap {
                    path: Bytes::from_static(b"/1/key"),
                    prev_value: Bytes::from_static(b"before"),
                    prev_index: 7,
                    content: plinth_v2::command::Content {
                        value: Bytes::from_static(b"after"),
                        expires: 9,
                        refresh: false,
                    },
                },
            }),
            Command::Follow(FollowChange::Compact { revision: 7 }),
            Command::Follow(FollowChange::Records(FollowRecords {
                main: 9,
                records: vec![tombstone_record(b"key")],
                ..FollowRecords::default()
            })),
        ]
    }

    #[test]
    fn damaged_bytes_are_refused_or_harmless() {
        for command in one_of_each() {
            let bytes = encoded(&command);
            assert!(Command::access(&bytes).is_ok(), "{command:?}");
            for len in 0..bytes.len().saturating_sub(1) {
                let _ = Command::access(&bytes[..len]);
            }
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut flipped = bytes.clone();
                    flipped[at] ^= 1 << bit;
                    if let Ok(CommandRef::Put(put)) = Command::access(&flipped) {
                        assert!(put.key.len() + put.value.len() <= 2 * bytes.len());
                    }
                }
            }
        }
    }

    /// Touches everything a txn points at, and says how many operations it has.
    fn walk(txn: &ArchivedTxn) -> usize {
        let compared: u64 =
            txn.compare.iter().flat_map(|compare| compare.key.iter()).map(|byte| u64::from(*byte)).sum();
        std::hint::black_box(compared);
        let nested = |op: &ArchivedOp| if let ArchivedOp::Txn(txn) = op { 1 + walk(txn) } else { 1 };
        txn.success.iter().chain(txn.failure.iter()).map(nested).sum()
    }

    proptest! {
        /// What is not refused can be walked to its end.
        #[test]
        fn mutated_commands_are_refused_or_harmless(
            which: prop::sample::Index,
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        ) {
            let mut bytes = encoded(which.get(&one_of_each()));
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            match Command::access(&bytes) {
                Ok(CommandRef::Put(put)) => prop_assert!(put.key.len() + put.value.len() <= 2 * bytes.len()),
                Ok(CommandRef::Txn(txn)) => prop_assert!(walk(txn) <= bytes.len()),
                _ => {}
            }
        }
    }

    #[test]
    fn unknown_headers_are_named() {
        assert_eq!(Command::access(&[1]).err(), Some(CommandError::TooShort { len: 1 }));
        assert_eq!(Command::access(&[9, 1]).err(), Some(CommandError::UnknownSchema { found: 9 }));
        assert_eq!(Command::access(&[1, 99]).err(), Some(CommandError::UnknownKind { found: 99 }));
        assert_eq!(Command::access(&[1, 1]).err(), Some(CommandError::Damaged { kind: 1, len: 0 }));
    }
}
