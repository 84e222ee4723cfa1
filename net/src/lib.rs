//! Network edge: HTTP/2 and gRPC, HTTP/1.1, and the wire types of etcd's API.

pub mod grpc;
pub mod h2;
pub mod http1;
pub mod peer;
pub mod proto;
pub mod server;
mod sys;
pub mod turn;
