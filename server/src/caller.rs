//! Who asks, and what else of a call handlers and their guard look at.
//!
//! One type carries it wherever the connection is: a reactor that has the connection makes it of the call, the mesh moves
//! it to the home as it is. There is nothing in it that could be there on one way and missing on the other.

use bytes::Bytes;
use plinth_engine::author::Author;
use plinth_net::grpc::{Call, Peer};
use std::sync::Arc;
use std::time::Instant;

/// Who asks. What its fields claim was checked by whoever fills them: the certificate by the handshake, the user by the
/// guard of the handlers; the token is as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user that the request counts as, once that is known; none while the cluster has no users.
    pub user: Option<User>,
    /// Address, and the common name of the certificate, if the connection has one. A call that came through the JSON
    /// gateway has none: the certificate is the gateway's.
    pub peer: Peer,
    /// The token, as sent.
    pub token: Option<Bytes>,
}

/// A user of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: Arc<str>,
    /// The revision of users and roles at which that was found.
    pub auth_revision: u64,
}

impl User {
    /// As the author of what it asks for.
    pub fn author(&self) -> Author<'_> {
        Author { user: &self.name, auth_revision: self.auth_revision }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFacts {
    /// Who asks.
    pub caller: Caller,
    /// The client wants no answer from a member that sees no leader.
    pub requires_leader: bool,
    /// The client's API version, as sent.
    pub client_api_version: Option<Bytes>,
    /// When the call's head was read.
    pub arrived: Instant,
}

impl Caller {
    fn of(call: &Call) -> Caller {
        let mut peer = call.peer().clone();
        if call.is_from_gateway() {
            peer.common_name = None;
        }
        Caller { user: None, peer, token: call.token().map(Bytes::copy_from_slice) }
    }

    /// Who a command says that it is from.
    pub fn author(&self) -> Option<Author<'_>> {
        self.user.as_ref().map(User::author)
    }
}

impl CallFacts {
    /// Those of a call that has arrived on this reactor.
    pub fn of(call: &Call) -> CallFacts {
        CallFacts {
            caller: Caller::of(call),
            requires_leader: call.requires_leader(),
            client_api_version: call.client_api_version().map(Bytes::copy_from_slice),
            arrived: call.arrived(),
        }
    }
}
