//! The room for unsafe code: system calls on sockets that glommio has no name for.

mod socket;

pub use socket::{keep_alive, listener_from_socket, send_vectored, stream_from_socket};
