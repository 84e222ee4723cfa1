//! gRPC: messages, metadata, deadlines and statuses, over `h2`.

mod call;
mod call_head;
mod calls;
mod http;
mod message;
mod paired;
mod service;
mod status;
mod tally;

pub use call::{Call, Metadata};
pub use call_head::{CallHead, MethodTable, Refusal, nanos_per_unit};
pub use calls::{Action, CallLimits, GrpcConnection, PARTIAL_BYTES_MAX};
pub use paired::{PairedAnswer, PairedReply};
pub use service::{
    BodyHandler, CallKey, Method, MethodKind, ReplySink, Service, StreamHandler, StreamReply, UnaryReply,
};
pub use status::{Code, Status};
pub use tally::{Tally, Times, Timing};

/// Text of a call whose deadline has passed.
pub const DEADLINE_EXCEEDED: &str = "context deadline exceeded";
