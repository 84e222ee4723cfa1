//! Election timeouts: a pure function of seed, group, member and term, spread over one to two election times.

use std::collections::BTreeSet;

use plinth_raft::{
    ConfState, EntryId, Group, GroupConfig, GroupId, HardState, MemberId, PeerBody, PeerMessage, RecoveredLog, Role,
};

const ELECTION: usize = 10;

fn until_it_campaigns(group: &mut Group) -> usize {
    let campaigns = |_: &usize| {
        group.tick();
        group.role() != Role::Follower
    };
    (1..).find(campaigns).expect("it campaigns")
}

/// Ticks after which a member that hears nothing in this term campaigns.
fn timeout(seed: u64, group: u32, member: u64, term: u64) -> usize {
    let mut config = GroupConfig::new(GroupId(group), MemberId(member), seed);
    config.conf = ConfState::of_voters((1..=5).map(MemberId));
    let hard_state = HardState { term, vote: None, commit: 0 };
    let recovered = RecoveredLog { base: EntryId::ZERO, hard_state, ..RecoveredLog::empty() };
    let mut group = Group::new(config, recovered).expect("a group");
    until_it_campaigns(&mut group)
}

#[test]
fn the_same_seed_gives_the_same_timeouts() {
    for (seed, group, member, term) in [(1, 0, 1, 1), (1, 0, 2, 1), (9, 3, 5, 70)] {
        let first = timeout(seed, group, member, term);
        assert!((0..5).all(|_| timeout(seed, group, member, term) == first));
    }
}

#[test]
fn timeouts_spread_over_members_terms_and_seeds() {
    let in_range = |timeout: &usize| (ELECTION..2 * ELECTION).contains(timeout);
    let over = |timeouts: Vec<usize>| {
        assert!(timeouts.iter().all(in_range), "{timeouts:?}");
        timeouts.into_iter().collect::<BTreeSet<_>>().len()
    };
    // Of ten possible values, a few hundred draws miss none, twenty draws most likely meet eight or nine.
    assert_eq!(over((1..300).map(|term| timeout(1, 0, 1, term)).collect()), ELECTION);
    assert_eq!(over((1..300).map(|member| timeout(1, 0, member.min(5), member)).collect()), ELECTION);
    assert!(over((0..20).map(|seed| timeout(seed, 0, 1, 1)).collect()) >= 6);
    assert!(over((0..20).map(|group| timeout(1, group, 1, 1)).collect()) >= 6);
}

#[test]
fn a_member_that_reaches_a_majority_at_its_start_waits_for_what_was_drawn_alone() {
    for member in 1..=5 {
        let mut config = GroupConfig::new(GroupId(0), MemberId(member), 3);
        config.conf = ConfState::of_voters((1..=5).map(MemberId));
        let mut group = Group::new(config, RecoveredLog::empty()).expect("a group");
        group.hurry_election();
        assert_eq!(group.role(), Role::Follower, "it only waits less");
        let waited = until_it_campaigns(&mut group);
        assert_eq!(waited, (timeout(3, 0, member, 0) - ELECTION).max(1));
    }
}

#[test]
fn members_that_split_a_vote_do_not_split_the_next_for_ever() {
    // For any two members and seeds there is soon a term in which one is clearly first.
    for seed in 0..20 {
        let tied = (1..40).take_while(|term| timeout(seed, 0, 1, *term) == timeout(seed, 0, 2, *term)).count();
        assert!(tied < 6, "seed {seed}: {tied} terms in a row");
    }
}

/// Ticks from the last word of leader 2 to the campaign of member 1, when `gone` is told right after it.
fn after_leader(seed: u64, gone: Option<u64>) -> usize {
    let mut config = GroupConfig::new(GroupId(0), MemberId(1), seed);
    config.conf = ConfState::of_voters((1..=3).map(MemberId));
    let mut group = Group::new(config, RecoveredLog::empty()).expect("a group");
    let heartbeat = PeerMessage {
        group: GroupId(0),
        from: MemberId(2),
        to: MemberId(1),
        term: 4,
        body: PeerBody::Heartbeat { commit: 0, round: None },
        entries: Vec::new(),
    };
    group.step(heartbeat).expect("a heartbeat");
    assert_eq!(group.leader(), Some(MemberId(2)));
    gone.into_iter().for_each(|id| group.report_gone(MemberId(id)));
    until_it_campaigns(&mut group)
}

#[test]
fn who_knows_that_the_leader_is_gone_waits_only_for_its_draw() {
    for seed in 0..50 {
        let patient = after_leader(seed, None);
        assert_eq!(after_leader(seed, Some(3)), patient, "another member's end means nothing");
        assert_eq!(after_leader(seed, Some(2)), (patient - ELECTION).max(1));
    }
}
