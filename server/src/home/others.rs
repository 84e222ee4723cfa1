//! What a home needs of the other members. `cluster` implements it: the home itself knows no connection.

use super::Home;
use bytes::Bytes;
use plinth_net::grpc::Status;
use plinth_raft::{MemberId, PeerMessage};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

/// A keep-alive of a lease, and who waits for its time to live in seconds (0: there is no such lease).
pub type LeaseRenewal = (i64, Box<dyn FnOnce(Result<i64, Status>)>);

/// What another member will have answered.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Status>>>>;

/// See the module. One for each home; `home` is always that one.
pub trait Others {
    /// Sends all messages, or as many as there is room for: consensus copes with the loss of any.
    fn send_all(&self, home: &Home, messages: &mut Vec<PeerMessage>);

    /// Follows the replicated list of members, if it has changed since the last time.
    fn follow_members(&self, home: &Home);

    /// Since when there has been a connection to a member.
    fn connected_since(&self, id: MemberId) -> Option<Instant>;

    /// Consensus wants a snapshot for this follower.
    fn provide_snapshot(self: Rc<Self>, home: &Rc<Home>, to: MemberId);

    /// A snapshot took the place of the data: what others copy from the data before is void.
    fn data_replaced(&self);

    /// Queues a keep-alive for the leader, also if that is this member: it makes sure that it still leads.
    fn renew_at_leader(self: Rc<Self>, home: &Rc<Home>, renewal: LeaseRenewal);

    /// Whether keep-alives wait for an answer, so that others have to wait behind them.
    fn is_renewing(&self) -> bool;

    /// `LeaseTimeToLive` at the leader: the response without its header; `None` if this member leads.
    fn time_to_live_at_leader(self: Rc<Self>, home: &Rc<Home>, request: Bytes) -> Answer<Option<Bytes>>;

    /// Promotion of a learner by the leader.
    fn promote_at_leader(self: Rc<Self>, home: &Rc<Home>, id: MemberId) -> Answer<()>;
}
