//! What other members say, and who may say it.

use super::Link;
use super::forward::{self, Question};
use super::{member_list, snapshots};
use crate::answer::status;
use crate::config::version;
use crate::home::Home;
use bytes::Bytes;
use plinth_member::records;
use plinth_net::http1::{Http1Request, Response};
use plinth_net::peer::{Answerer, Lane, PeerHandler, Refusal};
use plinth_net::server::Http1Reply;
use plinth_net::turn;
use plinth_raft::{MemberId, PeerBody, PeerMessage};
use std::rc::{Rc, Weak};
use std::time::Duration;

/// Hands over to the home what arrives.
pub struct Inbox {
    link: Weak<Link>,
}

impl Inbox {
    /// For the home of a link, which holds the transport that holds this.
    pub fn new(link: Weak<Link>) -> Inbox {
        Inbox { link }
    }

    fn home(&self) -> Option<Rc<Home>> {
        self.link.upgrade()?.home()
    }

    fn with(&self, act: impl FnOnce(&Rc<Home>, &Rc<Link>)) {
        if let Some(link) = self.link.upgrade()
            && let Some(home) = link.home().filter(|home| !home.is_stopping())
        {
            act(&home, &link);
        }
    }
}

impl PeerHandler for Inbox {
    fn admit(&self, from: u64, _cluster: u64) -> Result<(), Refusal> {
        let home = self.home().ok_or(Refusal::Stopping)?;
        // One that is not known here yet may be the member that this one lags behind.
        let removed = records::is_removed(home.state().member.store(), MemberId(from));
        match removed {
            Ok(true) => Err(Refusal::Removed),
            Ok(false) | Err(_) => Ok(()),
        }
    }

    fn introduced(&self, from: u64, addresses: Vec<String>) {
        self.with(|home, link| link.introduced(home, MemberId(from), &addresses));
    }

    fn message(&self, from: u64, _lane: Lane, payload: Bytes) {
        turn::short_work_came();
        self.with(|home, link| match PeerMessage::decode(&payload) {
            Ok(message) if message.from.0 == from && message.to.0 == home.profile.member_id => match message.body {
                PeerBody::Snapshot(_) => snapshots::announced(home, link, message),
                _ => home.step(message),
            },
            Ok(message) => {
                tracing::warn!(peer = %MemberId(from), from = %message.from, to = %message.to, "a message of others");
            }
            Err(error) => tracing::warn!(peer = %MemberId(from), %error, "ignored a message that cannot be read"),
        });
    }

    fn request(&self, from: u64, kind: u16, body: Bytes, answerer: Answerer) {
        self.with(|home, link| match Question::from_u16(kind) {
            Some(question) => forward::respond(home, link, MemberId(from), question, body, answerer),
            None => answerer.answer(forward::refusal(&status::UNKNOWN_QUESTION)),
        });
    }

    fn unreachable(&self, id: u64) {
        self.with(|home, _| home.state_mut().member.report_unreachable(MemberId(id)));
    }

    fn gone(&self, id: u64) {
        self.with(|home, _| home.state_mut().member.report_gone(MemberId(id)));
    }

    fn connected(&self, id: u64, lane: Lane) {
        tracing::info!(peer = %MemberId(id), ?lane, "established connection to peer");
    }

    fn disconnected(&self, id: u64, lane: Lane, why: &str) {
        tracing::warn!(peer = %MemberId(id), ?lane, error = why, "lost connection to peer");
    }

    fn refused(&self, id: u64, refusal: Refusal) {
        tracing::error!(peer = %MemberId(id), reason = %refusal, "peer refused the connection");
        if refusal == Refusal::Removed {
            self.with(|home, _| home.removed());
        }
    }

    fn http(&self, request: Http1Request, reply: Http1Reply) {
        match self.home() {
            Some(home) => reply.respond(&respond(&home, &request)),
            None => reply.respond(&Response::error(503, "stopping")),
        }
    }

    fn round_trip(&self, id: u64, _lane: Lane, time: Duration) {
        self.with(|home, _| home.metrics.peers.record_round_trip(id, time));
    }

    fn rejected(&self, from: u64, cluster: u64, refusal: Refusal) {
        tracing::warn!(
            peer = %MemberId(from),
            cluster = %format!("{cluster:x}"),
            reason = %refusal,
            "rejected connection of peer"
        );
    }
}

/// The few plain HTTP endpoints of the peer port.
fn respond(home: &Home, request: &Http1Request) -> Response {
    let path = request.target.split('?').next().unwrap_or_default();
    let response = match path {
        "/members" => {
            let members = records::list(home.state().member.store()).unwrap_or_default();
            Response::with_body(200, "application/json", member_list::encode(members) + "\n")
        }
        "/version" => crate::http::version(Some(version::CLUSTER_VERSION), Some(version::STORAGE_VERSION)),
        "/health" => Response::with_body(200, "application/json", r#"{"health":"true"}"#),
        _ => Response::error(404, "404 page not found"),
    };
    response.header("X-Etcd-Cluster-ID", format!("{:x}", home.profile.cluster_id))
}
