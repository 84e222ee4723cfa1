//! Network edge: HTTP/2 and gRPC, HTTP/1.1, and the transport between members. It knows no word of etcd.

pub mod grpc;
pub mod h2;
pub mod http1;
pub mod peer;
pub mod rt;
pub mod server;
mod sys;
pub mod transport;
pub mod turn;
mod wait;
