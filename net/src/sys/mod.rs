//! The room for unsafe code: system calls on sockets that the runtime has no name for.

mod socket;

pub use socket::{listener_from_socket, prepare_peer, send_vectored, stream_from_socket};
