//! Member records in tree `Members`, as changed by committed configuration changes and by what members publish.
//!
//! Keys: eight bytes of the id, big-endian, alone for the record; with a trailing `a` for name and client URLs (which
//! the store writes when a member publishes them); with a trailing `r` for the mark of a member that was removed.

use plinth_api::wire::{Value, field_bytes, fields};
use plinth_engine::error::StoreError;
use plinth_engine::store::Store;
use plinth_engine::trees::{TreeError, TreeId, Trees, View};
use plinth_raft::{
    ConfChange, Member, MemberChange, MemberId, Members, MembershipError, Status, check_learner_ready, check_promote,
};
use std::ops::ControlFlow;

/// Marks a removed member.
const REMOVED: u8 = b'r';
/// Holds what a member published.
const ATTRIBUTES: u8 = b'a';

fn key(id: MemberId, suffix: u8) -> Vec<u8> {
    let mut key = id.0.to_be_bytes().to_vec();
    key.push(suffix);
    key
}

fn damaged(key: &[u8], detail: &'static str) -> StoreError {
    StoreError::Record { tree: TreeId::Members.name(), key: key.to_vec(), detail }
}

fn decode(change: &ConfChange) -> Result<Option<MemberChange>, StoreError> {
    MemberChange::from_conf_change(change).map_err(|_| damaged(&[], "a change that does not decode"))
}

/// Why a committed change does not fit the records, if it does not. All members decide alike.
pub(crate) fn check<T: Trees>(
    store: &Store<T>,
    change: &ConfChange,
    learners_max: usize,
) -> Result<Option<MembershipError>, StoreError> {
    match decode(change)? {
        None => Ok(None),
        Some(change) => Ok(all(store)?.check(&change, learners_max).err()),
    }
}

/// Why a learner may not be promoted, as far as the leader can tell from its progress.
pub fn check_promotion(members: &Members, progress: &Status, id: MemberId) -> Result<(), MembershipError> {
    let member = members.get(id).ok_or(MembershipError::MemberNotFound)?;
    if !member.is_learner {
        return Err(MembershipError::MemberNotLearner);
    }
    let matched = progress.peers.iter().find(|peer| peer.member == id).map(|peer| peer.matched);
    check_learner_ready(matched, progress.last_index)?;
    check_promote(members)
}

/// Whether the change takes `member` out of the cluster.
pub(crate) fn removes(change: &ConfChange, member: MemberId) -> bool {
    matches!(decode(change), Ok(Some(MemberChange::Remove(id))) if id == member)
}

/// Whether `member` was removed.
pub fn is_removed<T: Trees>(store: &Store<T>, member: MemberId) -> Result<bool, StoreError> {
    Ok(store.trees().get(TreeId::Members, &key(member, REMOVED))?.is_some())
}

/// The members and the removed ones.
pub fn all<T: Trees>(store: &Store<T>) -> Result<Members, StoreError> {
    Ok(Members::restore(list(store)?, removed(store.trees())?))
}

/// The ids of removed members, in order.
pub fn removed(view: &impl View) -> Result<Vec<MemberId>, StoreError> {
    let mut removed = Vec::new();
    view.walk(TreeId::Members, &[], &mut |key, _| {
        if let (9, Some(&REMOVED)) = (key.len(), key.last()) {
            removed.push(MemberId(u64::from_be_bytes(key[..8].try_into().expect("eight bytes"))));
        }
        ControlFlow::Continue(())
    })?;
    Ok(removed)
}

/// Changes the records as a committed configuration change says.
pub(crate) fn apply<T: Trees>(store: &mut Store<T>, change: &ConfChange) -> Result<(), StoreError> {
    let Some(change) = decode(change)? else { return Ok(()) };
    let id = change.member();
    let place = id.0.to_be_bytes();
    let mut record = match &change {
        MemberChange::Add(member) => member.clone(),
        MemberChange::Remove(_) => {
            let trees = store.trees_mut();
            trees.remove(TreeId::Members, &place)?;
            trees.remove(TreeId::Members, &key(id, ATTRIBUTES))?;
            return Ok(put_removed(trees, id)?);
        }
        MemberChange::Promote(_) | MemberChange::UpdatePeerUrls(..) => match get(store, id)? {
            Some(member) => member,
            None => return Ok(()),
        },
    };
    match change {
        MemberChange::Promote(_) => record.is_learner = false,
        MemberChange::UpdatePeerUrls(_, urls) => record.peer_urls = urls,
        MemberChange::Add(_) | MemberChange::Remove(_) => {}
    }
    Ok(store.trees_mut().insert(TreeId::Members, &place, &record.encode())?)
}

/// Writes a member with what it published, into trees that do not know it.
pub(crate) fn put<T: Trees>(trees: &mut T, member: &Member) -> Result<(), TreeError> {
    let record = Member { name: String::new(), client_urls: Vec::new(), ..member.clone() };
    trees.insert(TreeId::Members, &record.id.0.to_be_bytes(), &record.encode())?;
    let mut published = Vec::new();
    if member.is_started() {
        field_bytes(&mut published, 1, member.name.as_bytes());
    }
    for url in &member.client_urls {
        field_bytes(&mut published, 2, url.as_bytes());
    }
    match published.is_empty() {
        true => Ok(()),
        false => trees.insert(TreeId::Members, &key(member.id, ATTRIBUTES), &published),
    }
}

/// Marks an id that must not come back.
pub(crate) fn put_removed<T: Trees>(trees: &mut T, id: MemberId) -> Result<(), TreeError> {
    trees.insert(TreeId::Members, &key(id, REMOVED), b"removed")
}

/// The record of one member, without what it published.
fn get<T: Trees>(store: &Store<T>, id: MemberId) -> Result<Option<Member>, StoreError> {
    let place = id.0.to_be_bytes();
    match store.trees().get(TreeId::Members, &place)? {
        None => Ok(None),
        Some(bytes) => Member::decode(bytes).map(Some).map_err(|_| damaged(&place, "a record that does not decode")),
    }
}

/// All members, by id, with what they published.
pub fn list<T: Trees>(store: &Store<T>) -> Result<Vec<Member>, StoreError> {
    listed(store.trees())
}

/// As [`list`], in any state that can be read.
pub fn listed(view: &impl View) -> Result<Vec<Member>, StoreError> {
    let mut members: Vec<Member> = Vec::new();
    let mut bad = None;
    view.walk(TreeId::Members, &[], &mut |key, value| {
        let known = match key.len() {
            8 => Member::decode(value).map(|member| members.push(member)).is_ok(),
            9 if key[8] == ATTRIBUTES => match members.last_mut() {
                Some(member) if member.id.0.to_be_bytes() == key[..8] => publish(member, value).is_some(),
                _ => true,
            },
            _ => true,
        };
        if known {
            return ControlFlow::Continue(());
        }
        bad = Some(damaged(key, "a record that does not decode"));
        ControlFlow::Break(())
    })?;
    bad.map_or(Ok(members), Err)
}

/// Reads protobuf fields 1 (name) and 2 (client URLs) into a member.
fn publish(member: &mut Member, bytes: &[u8]) -> Option<()> {
    let mut reader = fields(bytes);
    for (number, value) in reader.by_ref() {
        let Value::Bytes(text) = value else { return None };
        let text = std::str::from_utf8(text).ok()?.to_owned();
        match number {
            1 => member.name = text,
            2 => member.client_urls.push(text),
            _ => return None,
        }
    }
    reader.rest().is_empty().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_engine::command::{Command, MemberAttributes};
    use plinth_engine::lease::Millis;
    use plinth_engine::store::StoreConfig;
    use plinth_engine::trees::MemTrees;

    #[test]
    fn a_member_is_added_published_moved_and_removed() {
        let mut store = Store::open(MemTrees::new(), StoreConfig::default()).expect("an empty store");
        let id = MemberId(7);
        let member = Member { id, peer_urls: vec!["http://a:1".into()], is_learner: true, ..Member::default() };
        apply(&mut store, &MemberChange::Add(member).to_conf_change()).expect("added");
        let urls = vec!["http://a:2".to_string(), "http://a:3".to_string()];
        let attributes = MemberAttributes { member: 7, name: "seven".into(), client_urls: urls.clone() };
        let mut encoded = Vec::new();
        Command::SetMemberAttributes(attributes).encode_into(&mut encoded);
        store.apply(Command::access(&encoded).expect("valid"), Millis(1)).expect("applied");
        apply(&mut store, &MemberChange::Promote(id).to_conf_change()).expect("promoted");
        let moved = MemberChange::UpdatePeerUrls(id, vec!["http://b:1".into()]);
        apply(&mut store, &moved.to_conf_change()).expect("moved");
        let wanted = Member {
            id,
            name: "seven".into(),
            peer_urls: vec!["http://b:1".into()],
            client_urls: urls,
            is_learner: false,
        };
        assert_eq!(list(&store).expect("readable"), [wanted]);
        apply(&mut store, &MemberChange::Remove(id).to_conf_change()).expect("removed");
        assert_eq!(list(&store).expect("readable"), []);
    }
}
