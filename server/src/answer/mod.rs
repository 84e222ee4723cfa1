//! What every answer is made of, whoever gives it: on the ground floor, so that home, cluster and handlers share it.
//!
//! - [`status`]: every error a client can see
//! - [`refusal`]: which status a refusal of the store, of the member or of the membership rules becomes
//! - [`header`]: the response header, and protobuf fields written by hand

pub mod header;
pub mod refusal;
pub mod status;
