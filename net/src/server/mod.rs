//! The server on glommio: listener, one task per connection, graceful shutdown.

mod options;

pub use options::ServerOptions;
