//! Where the other members are found: by the replicated list, and by what they say of themselves.
//!
//! A member that was away while the membership changed has an old list: the leader may be one that it does not know, or one
//! that has moved. It cannot catch up without answering that leader, and cannot answer without an address. So whoever connects
//! says where it listens itself, and that counts beside the list, for this life.
//!
//! Invariants: what a member says of itself never hides what is listed of it; who was removed is not talked to; what is told
//! by members that are not listed has a bound. Whether a member may talk at all is not decided here.

use crate::planted::{Planted, is_planted};
use crate::records;
use plinth_engine::error::StoreError;
use plinth_engine::store::Store;
use plinth_engine::trees::Trees;
use plinth_raft::{Member, MemberId};
use std::collections::BTreeMap;

/// Members that are not listed, of which addresses are remembered.
const UNLISTED_MAX: usize = 32;

/// What has changed about one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub id: MemberId,
    /// Its peer URLs, or nothing if it is not to be talked to any more.
    pub urls: Option<Vec<String>>,
}

/// See the module.
#[derive(Debug)]
pub struct AddressBook {
    own: MemberId,
    /// Members to talk to until the replicated list has this one.
    first: Vec<Member>,
    /// What members have said of themselves.
    told: BTreeMap<MemberId, Vec<String>>,
    known: BTreeMap<MemberId, Vec<String>>,
}

impl AddressBook {
    /// Of a member that was told of `first` when it joined.
    pub fn new(own: MemberId, first: Vec<Member>) -> AddressBook {
        AddressBook { own, first, told: BTreeMap::new(), known: BTreeMap::new() }
    }

    /// The members to talk to, with their peer URLs.
    pub fn known(&self) -> &BTreeMap<MemberId, Vec<String>> {
        &self.known
    }

    /// The replicated list may have changed.
    pub fn follow<T: Trees>(&mut self, store: &Store<T>) -> Result<Vec<Change>, StoreError> {
        let listed = records::list(store)?;
        let mut wanted: BTreeMap<MemberId, Vec<String>> = BTreeMap::new();
        let is_listed = listed.iter().any(|member| member.id == self.own);
        let first: &[Member] = if is_listed { &[] } else { &self.first };
        let members = first.iter().chain(&listed).map(|member| (member.id, &member.peer_urls));
        for (id, urls) in self.told.iter().map(|(id, urls)| (*id, urls)).chain(members) {
            if id == self.own || records::is_removed(store, id)? {
                continue;
            }
            // What a member says itself is newer, and comes first.
            let known = wanted.entry(id).or_default();
            known.extend(urls.iter().filter(|url| !known.contains(url)).cloned().collect::<Vec<_>>());
        }
        let gone = self.known.keys().filter(|id| !wanted.contains_key(id)).map(|id| Change { id: *id, urls: None });
        let mut changes: Vec<Change> = gone.collect();
        let new = wanted.iter().filter(|(id, urls)| self.known.get(id) != Some(urls));
        changes.extend(new.map(|(id, urls)| Change { id: *id, urls: Some(urls.clone()) }));
        self.known = wanted;
        Ok(changes)
    }

    /// A member has connected, and says where it listens.
    pub fn introduced<T: Trees>(
        &mut self,
        store: &Store<T>,
        from: MemberId,
        urls: &[String],
    ) -> Result<Vec<Change>, StoreError> {
        let is_new = !urls.is_empty() && self.told.get(&from).is_none_or(|told| told != urls);
        let fits = self.known.contains_key(&from) || self.told.len() < UNLISTED_MAX;
        if !is_new || !fits || is_planted(Planted::SendersNotFound) {
            return Ok(Vec::new());
        }
        self.told.insert(from, urls.to_vec());
        self.follow(store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_engine::store::StoreConfig;
    use plinth_engine::trees::MemTrees;
    use plinth_raft::MemberChange;

    fn member(id: u64, url: &str) -> Member {
        Member { id: MemberId(id), peer_urls: vec![url.into()], ..Member::default() }
    }

    fn apply(store: &mut Store<MemTrees>, change: MemberChange) {
        records::apply(store, &change.to_conf_change()).expect("applied");
    }

    #[test]
    fn who_is_not_listed_is_found_by_what_it_says() {
        let mut store = Store::open(MemTrees::new(), StoreConfig::default()).expect("a store");
        for (id, url) in [(1, "http://a"), (2, "http://b")] {
            apply(&mut store, MemberChange::Add(member(id, url)));
        }
        let mut book = AddressBook::new(MemberId(1), Vec::new());
        let urls = |book: &AddressBook, id| book.known().get(&MemberId(id)).cloned().unwrap_or_default();
        let change = |id, urls: &[&str]| Change {
            id: MemberId(id),
            urls: (!urls.is_empty()).then(|| urls.iter().map(ToString::to_string).collect()),
        };
        assert_eq!(book.follow(&store).expect("readable"), [change(2, &["http://b"])]);
        // One that the list does not have, and one that has moved.
        let told = book.introduced(&store, MemberId(3), &["http://c".into()]).expect("readable");
        assert_eq!(told, [change(3, &["http://c"])]);
        let told = book.introduced(&store, MemberId(2), &["http://b2".into()]).expect("readable");
        assert_eq!(told, [change(2, &["http://b2", "http://b"])]);
        assert_eq!(book.introduced(&store, MemberId(2), &["http://b2".into()]).expect("readable"), []);
        assert_eq!(book.introduced(&store, MemberId(2), &[]).expect("readable"), []);
        // The list goes on, behind them for a while.
        apply(&mut store, MemberChange::UpdatePeerUrls(MemberId(2), vec!["http://b2".into()]));
        assert_eq!(book.follow(&store).expect("readable"), [change(2, &["http://b2"])]);
        assert_eq!(urls(&book, 3), ["http://c"]);
        apply(&mut store, MemberChange::Add(member(3, "http://c")));
        assert_eq!(book.follow(&store).expect("readable"), []);
        apply(&mut store, MemberChange::Remove(MemberId(3)));
        assert_eq!(book.follow(&store).expect("readable"), [change(3, &[])]);
    }

    #[test]
    fn strangers_do_not_fill_the_book() {
        let store = Store::open(MemTrees::new(), StoreConfig::default()).expect("a store");
        let mut book = AddressBook::new(MemberId(1), vec![member(2, "http://b")]);
        assert_eq!(book.follow(&store).expect("readable").len(), 1);
        for id in 10..200 {
            book.introduced(&store, MemberId(id), &[format!("http://{id}")]).expect("readable");
        }
        assert_eq!(book.known().len(), 1 + UNLISTED_MAX);
        book.introduced(&store, MemberId(2), &["http://b2".into()]).expect("readable");
        assert_eq!(book.known()[&MemberId(2)], ["http://b2", "http://b"]);
    }
}
