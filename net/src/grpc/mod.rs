//! gRPC as etcd's clients speak it: messages, metadata, deadlines and statuses, over `h2`.

mod call;
mod service;
mod status;

pub use call::{Call, Metadata, Peer};
pub use service::{CallKey, Method, MethodKind, ReplySink, Service, StreamHandler, StreamReply, UnaryReply};
pub use status::{Code, Status};
