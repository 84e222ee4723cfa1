//! The connections to the other members, as the home of a store uses them: who they are, and what is sent to whom. Links of
//! several stores share the transport, and the inbox, which knows them by their groups.
//!
//! The addresses follow the replicated list of members, and what members say of themselves: `plinth_member::addresses`.

use super::forward::{self, Question, Renewals};
use super::inbox::Inbox;
use super::snapshots::{self, Snapshots};
use crate::config::Url;
use crate::home::Home;
use crate::home::others::{Answer, LeaseRenewal, Others};
use crate::home::reactor::Reactor;
use crate::tls::Security;
use bytes::Bytes;
use plinth_engine::error::StoreError;
use plinth_member::addresses::{AddressBook, Change};
use plinth_member::records;
use plinth_net::peer::{Lane, PeerConfig, Peers, RequestError, Told};
use plinth_net::transport::Connector;
use plinth_raft::{GroupId, Lane as MessageLane, Member, MemberId, PeerBody, PeerMessage};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// See the module.
pub struct Link {
    /// Whose members they are.
    pub group: GroupId,
    peers: Rc<Peers>,
    reactor: Rc<Reactor>,
    addresses: RefCell<AddressBook>,
    /// Where this member is to be found by its configuration; the list may say something else.
    advertised: Vec<String>,
    /// The member's count of configuration changes when the list was last read.
    seen_changes: Cell<Option<u64>>,
    /// The certificates that this member shows.
    pub security: Security,
    /// When the member began to look for others.
    pub started: Instant,
    /// Keep-alives on their way to the leader.
    pub renewals: RefCell<Renewals>,
    /// Snapshots that followers copy, and the one that is copied from the leader.
    pub snapshots: Snapshots,
    counts: RefCell<BTreeMap<MemberId, Counts>>,
    head: RefCell<Vec<u8>>,
    parts: RefCell<Vec<Bytes>>,
}

/// What happened with one member since the start, for metrics. The transport counts what happens to its connections.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Snapshots that it has fetched.
    pub snapshots_sent: u64,
    /// Snapshots that were given up.
    pub snapshots_failed: u64,
    /// Messages with entries, or that there are none, that were sent to it.
    pub appends_sent: u64,
    /// The same from it.
    pub appends_received: u64,
    /// Of the pings that it has answered: number, sum and sum of squares, least and most, in milliseconds.
    pub pings: Pings,
    /// The newest kind of command that it reads; 0 if it does not say, nothing if it has not connected yet.
    pub reads: Option<u16>,
}

/// Times of pings, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pings {
    pub count: u64,
    pub last: f64,
    pub sum: f64,
    pub squares: f64,
    pub least: f64,
    pub most: f64,
}

impl Pings {
    /// One was answered.
    pub fn add(&mut self, took: Duration) {
        let millis = took.as_secs_f64() * 1000.0;
        self.least = if self.count == 0 { millis } else { self.least.min(millis) };
        self.most = self.most.max(millis);
        self.count += 1;
        self.last = millis;
        self.sum += millis;
        self.squares += millis * millis;
    }
}

impl Link {
    /// Nobody is known yet. What arrives for a group is ignored until it has a home on this reactor.
    pub fn new(
        (reactor, group): (Rc<Reactor>, GroupId),
        config: PeerConfig,
        connector: Connector,
        first_members: Vec<Member>,
        advertised: Vec<String>,
        security: Security,
    ) -> Rc<Link> {
        let addresses = RefCell::new(AddressBook::new(MemberId(config.member), first_members));
        let inbox = Rc::new(Inbox::default());
        let link = Rc::new(Link {
            group,
            peers: Peers::new(config, connector, inbox.clone()),
            reactor,
            addresses,
            advertised,
            seen_changes: Cell::new(None),
            security,
            started: Instant::now(),
            renewals: RefCell::default(),
            snapshots: Snapshots::default(),
            counts: RefCell::default(),
            head: RefCell::default(),
            parts: RefCell::default(),
        });
        inbox.add(&link);
        link
    }

    /// The home of its group, while it lives.
    pub fn home(&self) -> Option<Rc<Home>> {
        self.reactor.home(self.group)
    }

    /// The transport.
    pub fn peers(&self) -> &Rc<Peers> {
        &self.peers
    }

    fn send(&self, message: PeerMessage) -> bool {
        let mut head = self.head.borrow_mut();
        head.clear();
        message.encode_head(&mut head);
        let lane = match message.lane() {
            MessageLane::Bulk => Lane::Bulk,
            // The bytes of a snapshot are fetched by its receiver; its announcement is small.
            MessageLane::Urgent | MessageLane::Snapshot => Lane::Urgent,
        };
        let mut parts = self.parts.borrow_mut();
        parts.clear();
        parts.extend(message.entries.into_iter().map(|entry| entry.data));
        self.peers.send(message.to.0, lane, &head, &mut parts)
    }

    /// Asks another member.
    pub async fn ask(
        &self,
        to: MemberId,
        question: Question,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, RequestError> {
        let lane = if question == Question::Piece { Lane::Snapshot } else { Lane::Urgent };
        let (kind, body) = question.address(self.group, body);
        self.peers.request(to.0, lane, kind, body, timeout).await
    }

    /// Counts something about a member.
    pub fn count(&self, id: MemberId, count: impl FnOnce(&mut Counts)) {
        count(self.counts.borrow_mut().entry(id).or_default());
    }

    /// What was counted about a member.
    pub fn counts(&self, id: MemberId) -> Counts {
        self.counts.borrow().get(&id).copied().unwrap_or_default()
    }

    /// The other members.
    pub fn others(&self) -> Vec<MemberId> {
        self.addresses.borrow().known().keys().copied().collect()
    }

    /// A member has connected, and says this of itself.
    pub fn introduced(&self, home: &Home, from: MemberId, told: &Told) {
        let changes = self.addresses.borrow_mut().introduced(home.state().member.store(), from, &told.addresses);
        self.follow(changes);
        if self.addresses.borrow().known().contains_key(&from) {
            self.count(from, |counts| counts.reads = Some(told.reads));
        }
    }

    /// Talks to others than before, or elsewhere.
    fn follow(&self, changes: Result<Vec<Change>, StoreError>) {
        let changes = match changes {
            Ok(changes) => changes,
            Err(error) => return tracing::error!(%error, "the list of members cannot be read"),
        };
        for Change { id, urls } in changes {
            match urls {
                None => {
                    tracing::info!(peer = %id, "stopped talking to removed member");
                    self.peers.remove_peer(id.0);
                    self.counts.borrow_mut().remove(&id);
                }
                Some(urls) => {
                    let addresses = addresses(&urls);
                    tracing::info!(peer = %id, addresses = addresses.join(","), "talking to member");
                    self.peers.set_peer(id.0, addresses);
                }
            }
        }
    }
}

impl Others for Link {
    fn send_all(&self, home: &Home, messages: &mut Vec<PeerMessage>) {
        for message in messages.drain(..) {
            let (to, is_snapshot) = (message.to, matches!(message.body, PeerBody::Snapshot(_)));
            // Kept for the case that nothing of it leaves; its bytes are shared.
            let proposal = matches!(message.body, PeerBody::Propose).then(|| message.clone());
            let is_append = matches!(message.body, PeerBody::Append { .. });
            let is_answer = !is_append && !is_snapshot;
            if self.send(message) {
                if is_append {
                    self.count(to, |counts| counts.appends_sent += 1);
                }
                continue;
            }
            if let Some(proposal) = proposal {
                home.state_mut().member.report_unsent(&proposal);
            } else if is_snapshot {
                home.state_mut().member.report_snapshot(to, false);
            } else if !is_answer {
                home.state_mut().member.report_unreachable(to);
            }
        }
    }

    fn follow_members(&self, home: &Home) {
        let changes = home.state().member.conf_changes();
        if self.seen_changes.replace(Some(changes)) == Some(changes) {
            return;
        }
        let own = MemberId(home.profile.member_id);
        let listed = match records::list(home.state().member.store()) {
            Ok(listed) => listed,
            Err(error) => {
                tracing::error!(%error, "the list of members cannot be read");
                return;
            }
        };
        let record = listed.iter().find(|member| member.id == own);
        home.note_own_record(record);
        let mut urls = record.map(|record| record.peer_urls.clone()).unwrap_or_default();
        urls.extend(self.advertised.iter().filter(|url| !urls.contains(url)).cloned().collect::<Vec<_>>());
        self.peers.tell_addresses(urls);
        let changes = self.addresses.borrow_mut().follow(home.state().member.store());
        self.follow(changes);
    }

    fn connected_since(&self, id: MemberId) -> Option<Instant> {
        self.peers.status(id.0).and_then(|status| status.active_since)
    }

    fn provide_snapshot(self: Rc<Self>, home: &Rc<Home>, to: MemberId) {
        snapshots::provide(home, &self, to);
    }

    fn data_replaced(&self) {
        self.snapshots.data_replaced();
    }

    fn renew_at_leader(self: Rc<Self>, home: &Rc<Home>, renewal: LeaseRenewal) {
        forward::renew_at_leader(home, &self, renewal);
    }

    fn is_renewing(&self) -> bool {
        self.renewals.borrow().is_running()
    }

    fn time_to_live_at_leader(self: Rc<Self>, home: &Rc<Home>, request: Bytes) -> Answer<Option<Bytes>> {
        let home = home.clone();
        Box::pin(async move { forward::time_to_live(&home, &self, request).await })
    }

    fn promote_at_leader(self: Rc<Self>, home: &Rc<Home>, id: MemberId) -> Answer<()> {
        let home = home.clone();
        Box::pin(async move { forward::promote(&home, &self, id).await })
    }
}

/// The peer URLs that parse.
fn addresses(urls: &[String]) -> Vec<String> {
    urls.iter().filter_map(|url| Url::parse(url).ok()).map(|url| url.to_string()).collect()
}
