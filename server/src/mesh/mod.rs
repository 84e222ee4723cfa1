//! Between reactors: an edge reactor owns connections and HTTP/2, the home owns the group. Calls travel to the home
//! as they came, answers travel back encoded; both in batches over one bounded channel per direction and pair.
//!
//! ```text
//!  edge                                      home
//!  connections ── Service ── [`edge`] ══ToHome══▶ [`home_side`] ── the API's handlers
//!                             ◀══ToEdge══          (a `ReplySink` per edge)
//! ```
//!
//! The first batch in each direction is empty: the home's says that the member is ready and the edge is to listen, the
//! edge's that it does.
//!
//! Invariants: messages of a call keep their order; an edge names a call by a number that it never uses again; a
//! call that ended on one side is forgotten by the other when the message about it arrives, and what crosses it on
//! the way is ignored. What an edge has sent or wants to send and the home has not taken yet is bounded by
//! [`IN_FLIGHT_BYTES_MAX`]: beyond it the edge refuses calls and ends streams that go on asking, as a member does that has
//! too many requests. The home's answers stay in its bounded per-call accounts.

pub mod channel;
pub mod edge;
pub mod home_side;

use crate::caller::CallFacts;
use crate::http::Connection;
use bytes::Bytes;
use plinth_net::grpc::Status;
use plinth_net::http1::{Http1Request, Response};
use plinth_raft::GroupId;

/// Batches in flight per direction and pair.
pub const CHANNEL_BATCHES: usize = 64;

/// Bytes of calls between an edge and the home, in the outbox and in the channel, beyond which the edge refuses more. The
/// request that reaches the bound still goes.
pub const IN_FLIGHT_BYTES_MAX: usize = 64 << 20;

/// A call, as its edge names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(pub u64);

/// From an edge to the home.
#[derive(Debug)]
pub enum ToHome {
    /// A complete unary request to a store.
    Unary(CallId, Target, CallFacts, Bytes),
    /// A stream was opened.
    Open(CallId, Target, CallFacts),
    /// A request message of a stream.
    Message(CallId, Bytes),
    /// The client sends no more.
    HalfClose(CallId),
    /// Bytes of the stream that were handed to the socket since the last such message.
    Drained(CallId, usize),
    /// The call is gone: reset, expired, or its connection lost.
    Gone(CallId),
    /// A request to an HTTP endpoint.
    Http(CallId, GroupId, Http1Request, Connection),
}

/// What a call is to be answered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whose store.
    pub group: GroupId,
    /// The place of its method in the table.
    pub method: usize,
}

impl ToHome {
    /// Bytes that it counts for against [`IN_FLIGHT_BYTES_MAX`].
    fn bytes(&self) -> usize {
        let body = match self {
            ToHome::Unary(_, _, _, body) | ToHome::Message(_, body) => body.len(),
            ToHome::Http(_, _, request, _) => request.body.len(),
            ToHome::Open(..) | ToHome::HalfClose(_) | ToHome::Drained(..) | ToHome::Gone(_) => 0,
        };
        body + size_of::<ToHome>()
    }
}

/// From the home to an edge.
#[derive(Debug)]
pub enum ToEdge {
    /// A message; the last one if the flag is set, with status OK.
    Send(CallId, Bytes, bool),
    /// The only message of a call, with status OK.
    Pieces(CallId, Vec<Bytes>),
    /// The end.
    Finish(CallId, Status),
    /// The answer may take long.
    Park(CallId),
    /// The answer to an HTTP request.
    Http(CallId, Response),
    /// The head of such an answer; its body follows in pieces, as messages of a stream do.
    HttpHead(CallId, Response),
    /// The home has taken so many bytes of what the edge has sent.
    Taken(usize),
    /// The member can serve nothing: let connections go and take no new ones; or it can again.
    TurnAway(bool),
    /// The member stops: let connections go.
    Drain,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_may_cross_threads() {
        fn is_send<T: Send>() {}
        is_send::<ToHome>();
        is_send::<ToEdge>();
    }
}
