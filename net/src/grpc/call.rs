//! What a handler may know about the call it serves: metadata, deadline, peer.
//!
//! A `Call` is cheap to clone (two reference counts), so a handler that answers later may keep it.

use std::rc::Rc;
use std::time::Instant;

use crate::transport::Peer;

/// Metadata of a request: field names in lower case, values as they came.
pub trait Metadata {
    /// Value of the first field called `name` (lower case).
    fn get(&self, name: &str) -> Option<&[u8]>;
}

impl Metadata for Vec<(String, String)> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_bytes())
    }
}

/// One call, as its handler sees it.
#[derive(Clone)]
pub struct Call {
    metadata: Rc<dyn Metadata>,
    peer: Rc<Peer>,
    deadline: Option<Instant>,
    arrived: Instant,
}

impl Call {
    /// A call that did not arrive as gRPC (the JSON gateway, tests). The gRPC server makes its own.
    pub fn new(metadata: Rc<dyn Metadata>, peer: Rc<Peer>, deadline: Option<Instant>, arrived: Instant) -> Call {
        Call { metadata, peer, deadline, arrived }
    }

    /// Value of a metadata field, `name` in lower case.
    pub fn metadata(&self, name: &str) -> Option<&[u8]> {
        self.metadata.get(name)
    }

    /// When the client stops waiting. The transport answers DeadlineExceeded by itself at this time.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// When the pass of the connection began that read the call's head.
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// The other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}
