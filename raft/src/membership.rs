//! Members: their ids, their records, and when the cluster may change them. The rules and texts are etcd's.
//!
//! A record change travels as the context of a configuration change, so that records and voters change at one index:
//! [`MemberChange::to_conf_change`] makes the proposal; when it is committed every member asks [`Members::check`], and
//! either applies both halves or refuses both.
//!
//! Invariants: an id is never used again once it was removed; no two members share a peer URL; a member is started once it
//! has published its name. Everything here is a pure function of the records and the arguments.
//!
//! Not here: parsing of URLs, clocks (when a member was heard of is an argument), storing the records.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};
use sha1::{Digest, Sha1};
use thiserror::Error;

use crate::conf::{Change, ConfChange};
use crate::types::MemberId;

/// Schema version of [`Member`] records and of changes.
pub const MEMBER_SCHEMA: u16 = 1;

/// The id of a cluster, fixed when it is bootstrapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    /// Lowercase hexadecimal without leading zeros, as etcd prints ids.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// The id of a member: from its peer URLs and the cluster's token, and for one added later from the time as well.
pub fn member_id(peer_urls: &[String], token: &str, unix_seconds: Option<u64>) -> MemberId {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url);
    }
    hash.update(token);
    if let Some(seconds) = unix_seconds {
        hash.update(seconds.to_string());
    }
    MemberId(first_eight(hash))
}

/// The id of a cluster: from the ids of its first members.
pub fn cluster_id(members: impl IntoIterator<Item = MemberId>) -> ClusterId {
    let mut ids: Vec<MemberId> = members.into_iter().collect();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    for id in ids {
        hash.update(id.0.to_be_bytes());
    }
    ClusterId(first_eight(hash))
}

fn first_eight(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    u64::from_be_bytes(digest[..8].try_into().expect("a digest has twenty bytes"))
}

/// What the cluster knows of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Member {
    pub id: MemberId,
    /// Its name; empty until it has started for the first time.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started.
    pub client_urls: Vec<String>,
    pub is_learner: bool,
}

impl Member {
    /// Whether it has started at least once.
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }

    /// The stored form: schema version, archive.
    pub fn encode(&self) -> Bytes {
        archive(|out| rkyv::api::high::to_bytes_in::<_, rkyv::rancor::Error>(self, out))
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Member, RecordError> {
        rkyv::from_bytes::<Member, rkyv::rancor::Error>(body(bytes)?).map_err(RecordError::archive)
    }
}

/// A change of the member records.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum MemberChange {
    /// A new member, voter or learner.
    Add(Member),
    /// A learner becomes a voter.
    Promote(MemberId),
    /// A member leaves for good.
    Remove(MemberId),
    /// A member is reached elsewhere.
    UpdatePeerUrls(MemberId, Vec<String>),
}

impl MemberChange {
    /// Whom it is about.
    pub fn member(&self) -> MemberId {
        match self {
            MemberChange::Add(member) => member.id,
            MemberChange::Promote(id) | MemberChange::Remove(id) | MemberChange::UpdatePeerUrls(id, _) => *id,
        }
    }

    /// The proposal: this change as context, and what it means for consensus.
    pub fn to_conf_change(&self) -> ConfChange {
        let context = self.encode();
        let id = self.member().0;
        match self {
            MemberChange::Add(member) if member.is_learner => ConfChange::one(Change::AddLearner(id), context),
            MemberChange::Add(_) | MemberChange::Promote(_) => ConfChange::one(Change::AddVoter(id), context),
            MemberChange::Remove(_) => ConfChange::one(Change::Remove(id), context),
            MemberChange::UpdatePeerUrls(..) => ConfChange::records_only(context),
        }
    }

    /// The change of records in a committed configuration change; `None` if it has none.
    pub fn from_conf_change(change: &ConfChange) -> Result<Option<MemberChange>, RecordError> {
        if change.context.is_empty() { Ok(None) } else { MemberChange::decode(&change.context).map(Some) }
    }

    /// Schema version, archive.
    pub fn encode(&self) -> Bytes {
        archive(|out| rkyv::api::high::to_bytes_in::<_, rkyv::rancor::Error>(self, out))
    }

    /// The inverse of [`MemberChange::encode`].
    pub fn decode(bytes: &[u8]) -> Result<MemberChange, RecordError> {
        rkyv::from_bytes::<MemberChange, rkyv::rancor::Error>(body(bytes)?).map_err(RecordError::archive)
    }
}

/// Bytes that are not a member record or change.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("member record: {detail}")]
pub struct RecordError {
    pub detail: String,
}

impl RecordError {
    fn archive(error: rkyv::rancor::Error) -> RecordError {
        RecordError { detail: error.to_string() }
    }
}

fn archive(write: impl FnOnce(Vec<u8>) -> Result<Vec<u8>, rkyv::rancor::Error>) -> Bytes {
    let out = MEMBER_SCHEMA.to_le_bytes().to_vec();
    Bytes::from(write(out).expect("archiving into memory does not fail"))
}

fn body(bytes: &[u8]) -> Result<&[u8], RecordError> {
    match bytes.split_first_chunk::<2>() {
        Some((schema, body)) if u16::from_le_bytes(*schema) == MEMBER_SCHEMA => Ok(body),
        Some((schema, _)) => Err(RecordError { detail: format!("schema version {} is not known", schema[0]) }),
        None => Err(RecordError { detail: format!("{} bytes are too few", bytes.len()) }),
    }
}

/// Why a change of members is refused. The texts are etcd's, as clients see them.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum MembershipError {
    /// The id is in use.
    #[error("etcdserver: member ID already exist")]
    MemberExist,
    /// Another member has one of the peer URLs.
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExist,
    /// No such member, or it was removed.
    #[error("etcdserver: member not found")]
    MemberNotFound,
    /// Only learners are promoted.
    #[error("etcdserver: can only promote a learner member")]
    MemberNotLearner,
    /// The learner lags.
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// As many learners as are allowed.
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    /// Too few voters would have started.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// Too few voters are connected.
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
}

/// The members of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    members: BTreeMap<MemberId, Member>,
    removed: BTreeSet<MemberId>,
}

impl Members {
    /// Members as they were stored.
    pub fn restore(members: impl IntoIterator<Item = Member>, removed: impl IntoIterator<Item = MemberId>) -> Members {
        let members = members.into_iter().map(|member| (member.id, member)).collect();
        Members { members, removed: removed.into_iter().collect() }
    }

    /// All members, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The voters, by id.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.iter().filter(|member| !member.is_learner)
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The record of a member.
    pub fn get(&self, id: MemberId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// Whether the member was removed. It can never return under this id.
    pub fn is_removed(&self, id: MemberId) -> bool {
        self.removed.contains(&id)
    }

    /// All members that were removed, by id.
    pub fn removed(&self) -> impl Iterator<Item = MemberId> {
        self.removed.iter().copied()
    }

    /// Whether a committed change fits the records. All members must decide alike, so nothing but the records and the
    /// replicated limit counts.
    pub fn check(&self, change: &MemberChange, max_learners: usize) -> Result<(), MembershipError> {
        let id = change.member();
        if self.is_removed(id) {
            return Err(MembershipError::MemberNotFound);
        }
        match change {
            MemberChange::Add(member) => {
                if self.members.contains_key(&id) {
                    return Err(MembershipError::MemberExist);
                }
                self.check_peer_urls(id, &member.peer_urls)?;
                let learners = self.iter().filter(|member| member.is_learner).count();
                if member.is_learner && learners >= max_learners {
                    return Err(MembershipError::TooManyLearners);
                }
            }
            MemberChange::Promote(_) => {
                if !self.existing(id)?.is_learner {
                    return Err(MembershipError::MemberNotLearner);
                }
            }
            MemberChange::Remove(_) => {
                self.existing(id)?;
            }
            MemberChange::UpdatePeerUrls(_, peer_urls) => {
                self.existing(id)?;
                self.check_peer_urls(id, peer_urls)?;
            }
        }
        Ok(())
    }

    /// Applies a change that [`Members::check`] accepts.
    ///
    /// # Panics
    /// If it does not fit.
    pub fn apply(&mut self, change: MemberChange) {
        let fits = "a change is checked before it is applied";
        match change {
            MemberChange::Add(member) => {
                assert!(!self.is_removed(member.id), "{fits}");
                let replaced = self.members.insert(member.id, member);
                assert!(replaced.is_none(), "{fits}");
            }
            MemberChange::Promote(id) => self.members.get_mut(&id).expect(fits).is_learner = false,
            MemberChange::Remove(id) => {
                self.members.remove(&id).expect(fits);
                self.removed.insert(id);
            }
            MemberChange::UpdatePeerUrls(id, peer_urls) => {
                self.members.get_mut(&id).expect(fits).peer_urls = peer_urls;
            }
        }
    }

    /// A member publishes its name and client URLs. `false` if it was removed meanwhile or never was.
    pub fn set_attributes(&mut self, id: MemberId, name: String, client_urls: Vec<String>) -> bool {
        let Some(member) = self.members.get_mut(&id) else { return false };
        (member.name, member.client_urls) = (name, client_urls);
        true
    }

    fn existing(&self, id: MemberId) -> Result<&Member, MembershipError> {
        self.members.get(&id).ok_or(MembershipError::MemberNotFound)
    }

    fn check_peer_urls(&self, id: MemberId, peer_urls: &[String]) -> Result<(), MembershipError> {
        let mut others = self.iter().filter(|member| member.id != id).flat_map(|member| &member.peer_urls);
        if others.any(|url| peer_urls.contains(url)) { Err(MembershipError::PeerUrlExist) } else { Ok(()) }
    }
}

/// What a member knows about its connections, for the strict checks before a change is proposed.
pub struct Health<'a> {
    /// The member that checks.
    pub own: MemberId,
    /// Connected without interruption for at least etcd's health interval (5 s).
    pub connected: &'a dyn Fn(MemberId) -> bool,
    /// Connected at all.
    pub active: &'a dyn Fn(MemberId) -> bool,
}

impl Health<'_> {
    fn connected_voters(&self, members: &Members) -> usize {
        members.voters().filter(|member| member.id == self.own || (self.connected)(member.id)).count()
    }
}

fn majority(of: usize) -> usize {
    of / 2 + 1
}

fn started_voters(members: &Members) -> usize {
    members.voters().filter(|member| member.is_started()).count()
}

/// Strict check before a member is added: enough voters have started, and enough are connected when the new one is
/// counted as down.
pub fn check_add(members: &Members, is_learner: bool, health: &Health<'_>) -> Result<(), MembershipError> {
    let voters = members.voters().count();
    let started = started_voters(members);
    // One started member may always grow to two: that is how a cluster is rebuilt from a backup.
    let rebuilding = started == 1 && voters == 1;
    if !is_learner && !rebuilding && started < majority(voters + 1) {
        return Err(MembershipError::NotEnoughStarted);
    }
    if voters != 1 && health.connected_voters(members) < majority(voters + 1) {
        return Err(MembershipError::Unhealthy);
    }
    Ok(())
}

/// Strict check before a learner is promoted: it counts as started.
pub fn check_promote(members: &Members) -> Result<(), MembershipError> {
    let (voters, started) = (members.voters().count() + 1, started_voters(members) + 1);
    if started < majority(voters) { Err(MembershipError::NotEnoughStarted) } else { Ok(()) }
}

/// Strict check before a member is removed: the rest must have started, and enough of it be connected unless the removed
/// member is down anyway. Learners can always go.
pub fn check_remove(members: &Members, id: MemberId, health: &Health<'_>) -> Result<(), MembershipError> {
    if members.get(id).is_some_and(|member| member.is_learner) {
        return Ok(());
    }
    let voters = members.voters().count();
    let rest = || members.voters().filter(|member| member.id != id);
    if rest().filter(|member| member.is_started()).count() < majority(rest().count()) {
        return Err(MembershipError::NotEnoughStarted);
    }
    if id != health.own && !(health.active)(id) {
        return Ok(());
    }
    let connected = health.connected_voters(members);
    if connected.saturating_sub(1) < 1 + (voters.saturating_sub(1)) / 2 {
        return Err(MembershipError::Unhealthy);
    }
    Ok(())
}

/// Whether a learner has enough of the leader's log to be promoted: nine tenths.
pub fn check_learner_ready(learner_matched: Option<u64>, leader_matched: u64) -> Result<(), MembershipError> {
    let matched = learner_matched.ok_or(MembershipError::MemberNotFound)?;
    let ready = u128::from(matched) * 10 >= u128::from(leader_matched) * 9;
    if ready { Ok(()) } else { Err(MembershipError::LearnerNotReady) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(list: &[&str]) -> Vec<String> {
        list.iter().map(|url| (*url).to_owned()).collect()
    }

    /// A member called `n<id>`, or one that has not started.
    fn member(id: u64, started: bool, is_learner: bool) -> Member {
        Member {
            id: MemberId(id),
            name: if started { format!("n{id}") } else { String::new() },
            peer_urls: vec![format!("http://10.0.0.{id}:2380")],
            client_urls: Vec::new(),
            is_learner,
        }
    }

    /// `v` a started voter, `V` one that has not started, `l` a learner.
    fn cluster(kinds: &str) -> Members {
        let member = |(id, kind)| member(id, kind == 'v', kind == 'l');
        Members::restore((1..).zip(kinds.chars()).map(member), [])
    }

    #[test]
    fn ids_are_etcds() {
        let one = urls(&["http://10.0.0.8:2379"]);
        let two = urls(&["http://10.0.0.2:2379", "http://10.0.0.1:2379"]);
        let time = Some(472_662_245); // 1984-12-23T15:04:05Z
        assert_eq!(member_id(&one, "", None).0, 14_544_069_596_553_697_298);
        assert_eq!(member_id(&one, "", time).0, 2_448_790_162_483_548_276);
        assert_eq!(member_id(&one, "etcd", time).0, 6_973_882_743_191_604_649);
        assert_eq!(member_id(&two, "", None).0, 16_552_244_735_972_308_939);
        // What a member that is started without any flag says about itself.
        let default = member_id(&urls(&["http://localhost:2380"]), "etcd-cluster", None);
        assert_eq!(default.to_string(), "8e9e05c52164694d");
        assert_eq!(cluster_id([default]).to_string(), "cdf818194e3a8c32");
    }

    #[test]
    fn cluster_ids_do_not_depend_on_the_order() {
        let ids = [MemberId(3), MemberId(1), MemberId(2)];
        assert_eq!(cluster_id(ids), cluster_id([MemberId(1), MemberId(2), MemberId(3)]));
        assert_ne!(cluster_id(ids), cluster_id([MemberId(1), MemberId(2)]));
    }

    #[test]
    fn committed_changes_are_checked_against_the_records() {
        use MembershipError::*;
        let mut members = cluster("vvl");
        members.apply(MemberChange::Remove(MemberId(2)));
        let add = |id, is_learner| MemberChange::Add(member(id, false, is_learner));
        let moved = |id, url: &str| MemberChange::UpdatePeerUrls(MemberId(id), urls(&[url]));
        let taken = |id| MemberChange::Add(Member { id: MemberId(id), ..member(1, false, false) });
        let cases = [
            ("add a voter", add(4, false), 1, Ok(())),
            ("add an existing id", add(1, false), 1, Err(MemberExist)),
            ("add a removed id", add(2, false), 1, Err(MemberNotFound)),
            ("add a taken peer URL", taken(9), 1, Err(PeerUrlExist)),
            ("add a learner too many", add(4, true), 1, Err(TooManyLearners)),
            ("add a learner", add(4, true), 2, Ok(())),
            ("promote a learner", MemberChange::Promote(MemberId(3)), 1, Ok(())),
            ("promote a voter", MemberChange::Promote(MemberId(1)), 1, Err(MemberNotLearner)),
            ("promote nobody", MemberChange::Promote(MemberId(7)), 1, Err(MemberNotFound)),
            ("remove a member", MemberChange::Remove(MemberId(1)), 1, Ok(())),
            ("remove it again", MemberChange::Remove(MemberId(2)), 1, Err(MemberNotFound)),
            ("remove nobody", MemberChange::Remove(MemberId(7)), 1, Err(MemberNotFound)),
            ("move", moved(1, "http://10.1.1.1:2380"), 1, Ok(())),
            ("move to where it is", moved(1, "http://10.0.0.1:2380"), 1, Ok(())),
            ("move onto another", moved(1, "http://10.0.0.3:2380"), 1, Err(PeerUrlExist)),
            ("move nobody", moved(7, "http://10.1.1.1:2380"), 1, Err(MemberNotFound)),
        ];
        for (name, change, max_learners, expected) in cases {
            assert_eq!(members.check(&change, max_learners), expected, "{name}");
            let conf = ConfChange::decode(&change.to_conf_change().encode()).expect("own change");
            assert_eq!(MemberChange::from_conf_change(&conf), Ok(Some(change.clone())), "{name}");
            if expected.is_ok() {
                let mut changed = members.clone();
                changed.apply(change);
                assert_eq!(changed == members, name == "move to where it is", "{name}");
            }
        }
    }

    #[test]
    fn strict_checks_count_started_and_connected_voters() {
        use MembershipError::*;
        // Who is connected besides the first member, which checks.
        let health = |connected: &'static [u64]| Health {
            own: MemberId(1),
            connected: Box::leak(Box::new(move |id: MemberId| connected.contains(&id.0))),
            active: Box::leak(Box::new(move |id: MemberId| connected.contains(&id.0))),
        };
        type Answer = Result<(), MembershipError>;
        type Check = fn(&Members, &Health<'_>) -> Answer;
        type Case = (&'static str, &'static str, Check, &'static [u64], Answer);
        let add: Check = |members, health| check_add(members, false, health);
        let add_learner: Check = |members, health| check_add(members, true, health);
        let promote: Check = |members, _| check_promote(members);
        let remove_last: Check = |members, health| {
            let last = members.iter().last().expect("there is a member").id;
            check_remove(members, last, health)
        };
        let remove_own: Check = |members, health| check_remove(members, MemberId(1), health);
        let cases: &[Case] = &[
            ("one grows to two", "v", add, &[], Ok(())),
            ("an unstarted one does not", "V", add, &[], Err(NotEnoughStarted)),
            ("two with one unstarted", "vV", add, &[2], Err(NotEnoughStarted)),
            ("two grow to three", "vv", add, &[2], Ok(())),
            ("two, one away", "vv", add, &[], Err(Unhealthy)),
            ("three grow to four", "vvv", add, &[2, 3], Ok(())),
            ("three, one away: four need three", "vvv", add, &[2], Err(Unhealthy)),
            ("three, one unstarted", "vvV", add, &[2, 3], Err(NotEnoughStarted)),
            ("a learner needs no started quorum", "vvV", add_learner, &[2, 3], Ok(())),
            ("but a connected one", "vvv", add_learner, &[2], Err(Unhealthy)),
            ("a learner to one voter", "v", add_learner, &[], Ok(())),
            ("promote beside one", "vl", promote, &[], Ok(())),
            ("promote beside an unstarted one", "Vl", promote, &[], Err(NotEnoughStarted)),
            ("promote beside two, one unstarted", "vVl", promote, &[], Ok(())),
            ("promote beside three, two unstarted", "vVVl", promote, &[], Err(NotEnoughStarted)),
            ("remove a learner", "vVVl", remove_last, &[], Ok(())),
            ("remove the only one", "v", remove_last, &[], Err(NotEnoughStarted)),
            ("remove one of three", "vvv", remove_last, &[2, 3], Ok(())),
            ("remove the one that is down", "vvv", remove_last, &[2], Ok(())),
            ("remove one up while another is down", "vvv", remove_last, &[3], Err(Unhealthy)),
            ("remove leaving an unstarted one", "vVv", remove_last, &[2, 3], Err(NotEnoughStarted)),
            ("remove oneself of two", "vv", remove_own, &[2], Ok(())),
            ("remove oneself, the other away", "vv", remove_own, &[], Err(Unhealthy)),
        ];
        for (name, kinds, check, connected, expected) in cases {
            assert_eq!(check(&cluster(kinds), &health(connected)), *expected, "{name}");
        }
    }

    #[test]
    fn a_learner_is_ready_at_nine_tenths() {
        use MembershipError::*;
        assert_eq!(check_learner_ready(Some(90), 100), Ok(()));
        assert_eq!(check_learner_ready(Some(89), 100), Err(LearnerNotReady));
        assert_eq!(check_learner_ready(Some(u64::MAX), u64::MAX), Ok(()));
        assert_eq!(check_learner_ready(None, 100), Err(MemberNotFound));
    }

    #[test]
    fn records_survive_and_damage_is_noticed() {
        let record = Member { client_urls: urls(&["http://c:2379"]), ..member(5, true, true) };
        let bytes = record.encode();
        assert_eq!(Member::decode(&bytes), Ok(record));
        assert!(Member::decode(&bytes[..1]).is_err());
        assert!(Member::decode(&bytes[..bytes.len() - 3]).is_err());
        let mut later = bytes.to_vec();
        later[0] = 2;
        assert!(Member::decode(&later).is_err());
    }
}
