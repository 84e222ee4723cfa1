//! The wire contract of etcd v3.7, and what is Plinth's own, generated from `proto/*.proto`. Generated code only; nothing is added here.
#![allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]

/// Package `authpb`.
pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
}
/// Package `mvccpb`.
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}
/// Package `etcdserverpb`.
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}
/// Package `v3lockpb`.
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
}
/// Package `v3electionpb`.
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
}
/// Package `plinthpb`.
pub mod plinthpb {
    include!(concat!(env!("OUT_DIR"), "/plinthpb.rs"));
}
/// Package `grpc.health.v1`.
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}
