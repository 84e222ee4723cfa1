//! What other members say, and who may say it. One for all stores that share the connections: what is said to a group goes
//! to its home, what concerns the machines to all homes.

use super::Link;
use super::forward::{self, Question};
use super::{member_list, snapshots};
use crate::answer::status;
use crate::home::Home;
use bytes::Bytes;
use plinth_member::records;
use plinth_net::http1::Http1Reply;
use plinth_net::http1::{Http1Request, Response};
use plinth_net::peer::{Answerer, Lane, PeerHandler, Refusal, Told};
use plinth_net::turn;
use plinth_raft::{GroupId, MemberId, PeerBody, PeerMessage};
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// Hands over to the homes what arrives.
#[derive(Default)]
pub struct Inbox {
    /// The links of the stores, which hold the transport that holds this.
    links: RefCell<Vec<(GroupId, Weak<Link>)>>,
}

impl Inbox {
    /// What is said to the link's group goes to its home from now on.
    ///
    /// # Panics
    /// If there is a link for this group.
    pub fn add(&self, link: &Rc<Link>) {
        let mut links = self.links.borrow_mut();
        assert!(links.iter().all(|(group, _)| *group != link.group), "{:?} has one link", link.group);
        links.push((link.group, Rc::downgrade(link)));
    }

    /// The link of a group, or without one of any, with its home.
    fn find(&self, group: Option<GroupId>) -> Option<(Rc<Home>, Rc<Link>)> {
        let links = self.links.borrow();
        let link = links.iter().find(|(id, _)| group.is_none_or(|group| group == *id))?.1.upgrade()?;
        Some((link.home()?, link))
    }

    fn with(&self, group: GroupId, act: impl FnOnce(&Rc<Home>, &Rc<Link>)) {
        if let Some((home, link)) = self.find(Some(group)).filter(|(home, _)| !home.is_stopping()) {
            act(&home, &link);
        }
    }

    fn with_all(&self, mut act: impl FnMut(&Rc<Home>, &Rc<Link>)) {
        let groups: Vec<GroupId> = self.links.borrow().iter().map(|(group, _)| *group).collect();
        groups.into_iter().for_each(|group| self.with(group, &mut act));
    }
}

impl PeerHandler for Inbox {
    fn admit(&self, from: u64, _cluster: u64) -> Result<(), Refusal> {
        let (home, _) = self.find(None).ok_or(Refusal::Stopping)?;
        // One that is not known here yet may be the member that this one lags behind.
        let removed = records::is_removed(home.state().member.store(), MemberId(from));
        match removed {
            Ok(true) => Err(Refusal::Removed),
            Ok(false) | Err(_) => Ok(()),
        }
    }

    fn introduced(&self, from: u64, told: Told) {
        self.with_all(|home, link| link.introduced(home, MemberId(from), &told));
    }

    fn message(&self, from: u64, _lane: Lane, payload: Bytes) {
        turn::short_work_came();
        let message = match PeerMessage::decode(&payload) {
            Ok(message) => message,
            Err(error) => {
                return tracing::warn!(peer = %MemberId(from), %error, "ignored a message that cannot be read");
            }
        };
        self.with(message.group, |home, link| {
            if message.from.0 != from || message.to.0 != home.profile.member_id {
                return tracing::warn!(peer = %MemberId(from), from = %message.from, to = %message.to, "a message of others");
            }
            match message.body {
                PeerBody::Snapshot(_) => snapshots::announced(home, link, message),
                _ => {
                    if matches!(message.body, PeerBody::Append { .. }) {
                        link.count(message.from, |counts| counts.appends_received += 1);
                    }
                    home.step(message);
                }
            }
        });
    }

    fn request(&self, from: u64, kind: u16, body: Bytes, answerer: Answerer) {
        match Question::read(kind, body) {
            Some((question, group, body)) => self.with(group, |home, link| {
                forward::respond(home, link, MemberId(from), question, body, answerer);
            }),
            None => answerer.answer(forward::refusal(&status::UNKNOWN_QUESTION)),
        }
    }

    fn unreachable(&self, id: u64) {
        self.with_all(|home, _| home.state_mut().member.report_unreachable(MemberId(id)));
    }

    fn gone(&self, id: u64) {
        self.with_all(|home, _| home.state_mut().member.report_gone(MemberId(id)));
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
            self.with_all(|home, _| home.removed());
        }
    }

    fn http(&self, request: Http1Request, reply: Http1Reply) {
        match self.find(None) {
            Some((home, _)) => reply.respond(&respond(&home, &request)),
            None => reply.respond(&Response::error(503, "stopping")),
        }
    }

    fn round_trip(&self, id: u64, _lane: Lane, time: Duration) {
        if let Some((home, link)) = self.find(None) {
            home.reactor.metrics.peers.record_round_trip(id, time);
            link.count(MemberId(id), |counts| counts.pings.add(time));
        }
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
        "/version" => crate::http::version(home.cluster_version()),
        "/health" => Response::with_body(200, "application/json", r#"{"health":"true"}"#),
        _ => Response::error(404, "404 page not found"),
    };
    response.header("X-Etcd-Cluster-ID", format!("{:x}", home.profile.cluster_id))
}
