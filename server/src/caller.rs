//! Who asks, and what else of a call handlers and their guard look at.
//!
//! One type carries it wherever the connection is: a reactor that has the connection makes it of the call, the mesh moves
//! it to the home as it is. There is nothing in it that could be there on one way and missing on the other.

use bytes::Bytes;
use plinth_api::metadata::{AUTHORIZATION, CLIENT_API_VERSION, GATEWAY_ACCEPT, HAS_LEADER, TOKEN};
use plinth_engine::author::Author;
use plinth_net::grpc::Call;
use plinth_net::transport::Peer;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Whether users matter, as the home has said last: reactors without a store look at it where a moment more or less is no
/// matter, and nowhere decide by it who may do what.
static USERS_MATTER: AtomicBool = AtomicBool::new(false);

/// See [`note_users`].
pub fn users_matter() -> bool {
    USERS_MATTER.load(Ordering::Relaxed)
}

/// The home says whether users matter.
pub fn note_users(matter: bool) {
    USERS_MATTER.store(matter, Ordering::Relaxed);
}

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

/// What etcd's clients send beside a request.
pub trait Metadata {
    /// The authentication token: `token`, else `authorization` without an optional leading `Bearer `.
    fn token(&self) -> Option<&[u8]>;
    /// Whether the client asked to be failed when the member sees no leader (`hasleader: true`).
    fn requires_leader(&self) -> bool;
    /// The client's API version as sent, not checked.
    fn client_api_version(&self) -> Option<&[u8]>;
    /// Whether the call came through the JSON gateway (the certificate's name does not count then).
    fn is_from_gateway(&self) -> bool;
}

impl Metadata for Call {
    fn token(&self) -> Option<&[u8]> {
        self.metadata(TOKEN).or_else(|| {
            let value = self.metadata(AUTHORIZATION)?;
            Some(value.strip_prefix(b"Bearer ".as_slice()).unwrap_or(value))
        })
    }

    fn requires_leader(&self) -> bool {
        self.metadata(HAS_LEADER) == Some(b"true")
    }

    fn client_api_version(&self) -> Option<&[u8]> {
        self.metadata(CLIENT_API_VERSION)
    }

    fn is_from_gateway(&self) -> bool {
        self.metadata(GATEWAY_ACCEPT).is_some()
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_net::transport::PeerAddress;
    use std::rc::Rc;

    /// What is made of a call with these metadata, from a client with a certificate.
    fn facts(metadata: &[(&str, &str)]) -> CallFacts {
        let fields = metadata.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect::<Vec<_>>();
        let common_name = Some("of the certificate".to_owned());
        let peer = Peer { address: PeerAddress::Unix, common_name, is_encrypted: true };
        CallFacts::of(&Call::new(Rc::new(fields), Rc::new(peer), None, Instant::now()))
    }

    #[test]
    fn metadata_are_read_as_etcd_reads_them() {
        let token = |metadata| facts(metadata).caller.token.map(|token| String::from_utf8_lossy(&token).into_owned());
        assert_eq!(token(&[]), None);
        assert_eq!(token(&[("token", "a.1"), ("authorization", "b")]).as_deref(), Some("a.1"));
        assert_eq!(token(&[("authorization", "Bearer b")]).as_deref(), Some("b"));
        assert_eq!(token(&[("authorization", "b")]).as_deref(), Some("b"));
        assert!(facts(&[("hasleader", "true")]).requires_leader);
        assert!(!facts(&[("hasleader", "yes")]).requires_leader && !facts(&[]).requires_leader);
        assert_eq!(facts(&[("client-api-version", "3.7")]).client_api_version.as_deref(), Some(&b"3.7"[..]));
    }

    #[test]
    fn the_gateways_certificate_is_not_the_callers() {
        assert!(facts(&[]).caller.peer.common_name.is_some());
        assert_eq!(facts(&[("grpcgateway-accept", "*/*")]).caller.peer.common_name, None);
    }
}
