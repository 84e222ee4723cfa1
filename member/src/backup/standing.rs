//! Where a member of another server stood, put into trees that were imported from its database: the last entry it had
//! applied, and who the members are. With that its log can go on.

use crate::META_CONF_STATE;
use crate::records;
use plinth_engine::store::meta;
use plinth_engine::trees::{TreeError, TreeId, Trees};
use plinth_raft::{ConfState, EntryId, Member, MemberId};

/// A position in the log of a cluster, with its members at that position.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// The last entry whose effects are in the data; [`EntryId::ZERO`] if none is.
    pub applied: EntryId,
    /// The members, with what they published.
    pub members: Vec<Member>,
    /// Ids that must not come back.
    pub removed: Vec<MemberId>,
}

impl Standing {
    /// Who votes and who learns. A joint configuration cannot be: etcd changes one member at a time.
    pub fn conf_state(&self) -> ConfState {
        let ids = |learners: bool| {
            let members = self.members.iter().filter(|member| member.is_learner == learners);
            let mut ids: Vec<u64> = members.map(|member| member.id.0).collect();
            ids.sort_unstable();
            ids
        };
        ConfState { voters: ids(false), learners: ids(true), ..ConfState::default() }
    }

    /// Writes it.
    ///
    /// # Errors
    /// If the trees cannot be written.
    pub fn place<T: Trees>(&self, trees: &mut T) -> Result<(), TreeError> {
        for member in &self.members {
            records::put(trees, member)?;
        }
        for id in &self.removed {
            records::put_removed(trees, *id)?;
        }
        if self.applied != EntryId::ZERO {
            let applied = plinth_engine::store::EntryId { index: self.applied.index, term: self.applied.term };
            trees.insert(TreeId::Meta, meta::APPLIED, &applied.encode())?;
            trees.insert(TreeId::Meta, META_CONF_STATE, &self.conf_state().encode())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_engine::store::{Store, StoreConfig};
    use plinth_engine::trees::MemTrees;

    #[test]
    fn what_is_placed_is_what_the_records_say() {
        let member = Member {
            id: MemberId(7),
            name: "seven".into(),
            peer_urls: vec!["http://p:1".into()],
            client_urls: vec!["http://c:1".into(), "http://c:2".into()],
            is_learner: false,
        };
        let learner = Member { id: MemberId(9), is_learner: true, ..Member::default() };
        let applied = EntryId { index: 12, term: 3 };
        let standing = Standing { applied, members: vec![member, learner], removed: vec![MemberId(4)] };
        let mut trees = MemTrees::new();
        standing.place(&mut trees).expect("memory");
        let store = Store::open(trees, StoreConfig::default()).expect("a store");
        assert_eq!(records::list(&store).expect("readable"), standing.members);
        assert!(records::is_removed(&store, MemberId(4)).expect("readable"));
        assert_eq!((store.applied().index, store.applied().term), (12, 3));
        let conf = store.meta(META_CONF_STATE).expect("readable").expect("there");
        let wanted = ConfState { voters: vec![7], learners: vec![9], ..ConfState::default() };
        assert_eq!(ConfState::decode(conf).expect("valid"), wanted);
    }
}
