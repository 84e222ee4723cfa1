//! Who is at the other end of a connection, as far as the connection itself says.

use std::fmt;
use std::net::SocketAddr;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Through a Unix socket, whose clients have no name.
    Unix,
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAddress::Tcp(address) => address.fmt(f),
            // What Go prints for it.
            PeerAddress::Unix => f.write_str("@"),
        }
    }
}

/// Who is at the other end of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Remote address.
    pub address: PeerAddress,
    /// Common name of the verified client certificate, if TLS with client authentication is in use.
    pub common_name: Option<String>,
    /// Whether nobody else reads along.
    pub is_encrypted: bool,
}

impl Peer {
    /// Somebody without a certificate, over a connection that is not encrypted.
    pub fn in_clear(address: PeerAddress) -> Peer {
        Peer { address, common_name: None, is_encrypted: false }
    }
}
