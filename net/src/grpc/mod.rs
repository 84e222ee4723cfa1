//! gRPC: messages, metadata, deadlines and statuses, over `h2`.

mod call;
mod connection;
mod head;
mod http;
mod message;
mod paired;
mod service;
mod status;
mod tally;

pub use call::{Call, Metadata, Peer, PeerAddress};
pub use connection::{Action, CallLimits, GrpcConnection, PARTIAL_BYTES_MAX};
pub use head::{CallHead, MethodTable, Refusal};
pub use paired::{PairedAnswer, PairedReply};
pub use service::{
    BodyHandler, CallKey, Method, MethodKind, ReplySink, Service, StreamHandler, StreamReply, UnaryReply,
};
pub use status::{Code, Status};
pub use tally::{Tally, Times, Timing};

/// Text of a call whose deadline has passed.
pub const DEADLINE_EXCEEDED: &str = "context deadline exceeded";
