//! The room for unsafe code: system calls that the runtime has no name for.

mod names;
mod socket;
mod thread;

pub use names::name_of;
pub use socket::{listener_from_socket, prepare_peer, send_vectored, stream_from_socket};
pub use thread::be_nice;
