//! Byte streams to and from other processes, whatever they run over: TCP, Unix sockets.
//!
//! ```text
//!   Listener --accepted socket--> Acceptor --Accepted { stream, first bytes, peer }--> server, peer port
//!   Connector --Target--> Stream
//! ```
//!
//! - `listen`: sockets that are listened on; `accept`: from an accepted socket to where requests can be read
//! - `connect`, `resolve`: the side that dials
//! - `remote`: who is at the other end
//! - `stream`: what both yield, and the trait that connections are written against
//! - [`tls`]: encrypted streams, and who is at their other end
//!
//! Invariant: nothing here blocks a reactor: names are resolved on threads of their own.

#[cfg(feature = "runtime")]
mod accept;
#[cfg(feature = "runtime")]
mod connect;
#[cfg(feature = "runtime")]
mod listen;
#[cfg(feature = "runtime")]
mod remote;
#[cfg(feature = "runtime")]
mod resolve;
#[cfg(feature = "runtime")]
mod stream;
pub mod tls;

#[cfg(feature = "runtime")]
pub(crate) use accept::Accepted;
#[cfg(feature = "runtime")]
pub use accept::{Acceptor, Rejected, TlsAcceptor};
#[cfg(feature = "runtime")]
pub(crate) use connect::timed_out;
#[cfg(feature = "runtime")]
pub use connect::{Connector, Target};
#[cfg(feature = "runtime")]
pub use listen::{ListenOptions, Listener};
#[cfg(feature = "runtime")]
pub use remote::{Peer, PeerAddress};
#[cfg(feature = "runtime")]
pub(crate) use resolve::Resolver;
#[cfg(feature = "runtime")]
pub use stream::{Plain, Stream, Transport, read_some, write_all};
