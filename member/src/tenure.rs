//! Since when a member keeps the times of leases: from when it takes notice of its leadership until it takes notice of
//! another's. What it does with them is `keeper`'s.

use crate::planted::{Planted, is_planted};
use plinth_engine::lease::{Lessor, Millis};
use plinth_raft::{Role, RoleChange};

/// See the module.
#[derive(Debug)]
pub(crate) struct Tenure {
    /// The term in which this member began to keep the times of leases. Not its present term: that may be another
    /// leader's already when it has been told of it and has not taken notice.
    term: Option<u64>,
    /// What a new leader adds to every lease, because nobody knows how long ago the last keep-alive was.
    extend_millis: u64,
}

impl Tenure {
    pub(crate) fn new(extend_millis: u64) -> Tenure {
        Tenure { term: None, extend_millis }
    }

    /// The term in which it began, if it goes on.
    pub(crate) fn term(&self) -> Option<u64> {
        self.term
    }

    /// A leader that decided about no leases so far, since another cluster did, does from now on.
    pub(crate) fn begin(&mut self, term: u64, leases: &mut Lessor, now: Millis) {
        assert!(self.term.is_none_or(|before| before <= term), "the times of leases were kept in a later term already");
        leases.promote(now, self.extend_millis);
        self.term = Some(term);
    }

    /// It keeps no times any more.
    pub(crate) fn end(&mut self) {
        self.term = None;
    }

    /// Leadership has changed.
    pub(crate) fn follow(&mut self, change: &RoleChange, leases: &mut Lessor, now: Millis) {
        assert!(self.term.is_none_or(|before| before <= change.term), "leadership changes in the order of terms");
        let everybody = is_planted(Planted::FollowersExpire);
        if change.role == Role::Leader || everybody {
            if !(everybody && leases.is_promoted()) {
                leases.promote(now, self.extend_millis);
            }
            self.term = Some(change.term);
        } else {
            leases.demote();
            self.term = None;
        }
    }
}
