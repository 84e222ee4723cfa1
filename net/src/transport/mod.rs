//! Byte streams to and from other processes, whatever they run over: TCP, Unix sockets.
//!
//! ```text
//!   Listener --accepted socket--> Acceptor --Accepted { stream, first bytes, peer }--> server, peer port
//!   Connector --Target--> Stream
//! ```
//!
//! - `listen`: sockets that are listened on; `accept`: from an accepted socket to where requests can be read
//! - `connect`, `resolve`: the side that dials
//! - `stream`: what both yield, and the trait that connections are written against
//!
//! Invariant: nothing here blocks a reactor: names are resolved on threads of their own.

mod connect;
mod listen;
mod resolve;
mod stream;

pub(crate) use connect::timed_out;
pub use connect::{Connector, Target};
pub use listen::{ListenOptions, Listener};
pub(crate) use resolve::Resolver;
pub use stream::{Plain, Stream, Transport, read_some, write_all};
