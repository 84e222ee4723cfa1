//! Mistakes planted in what drives a group: each is caught by an assertion that names it, instead of by two members that
//! differ a week later.

use plinth_raft::log::{RecoveredLog, bootstrap};
use plinth_raft::{
    Change, ConfChange, ConfChangeKind, Entry, EntryKind, Group, GroupConfig, GroupId, MemberId, Ready, Transition,
};

const ME: MemberId = MemberId(1);

/// A group of one voter that has elected itself, and its work so far: the entry of its bootstrap and that of its term.
fn leader() -> (Group, Ready) {
    let log = RecoveredLog::bootstrapped(bootstrap(vec![(ME, bytes::Bytes::new())]));
    let mut group = Group::new(GroupConfig::new(GroupId(0), ME, 1), log).expect("a log that fits");
    let ready = group.ready().expect("an election");
    (group, ready)
}

/// The same, after its bootstrap was applied.
fn serving() -> (Group, Vec<Entry>) {
    let (mut group, ready) = leader();
    let mut applied = ready.committed;
    group.on_persisted(ready.number);
    while let Some(ready) = group.ready() {
        group.on_persisted(ready.number);
        applied.extend(ready.committed);
    }
    (group, applied)
}

fn apply_changes(group: &mut Group, entries: &[Entry]) {
    for entry in entries.iter().filter(|entry| entry.kind == EntryKind::ConfChange) {
        group.apply_conf_change(entry).expect("a change that fits");
    }
}

#[test]
#[should_panic(expected = "was never handed out")]
fn a_flush_that_nobody_asked_for() {
    let (mut group, ready) = leader();
    group.on_persisted(ready.number + 1);
}

#[test]
#[should_panic(expected = "work is handed out into an empty Ready")]
fn work_on_top_of_work() {
    let (mut group, applied) = serving();
    apply_changes(&mut group, &applied);
    group.on_applied(applied.last().expect("entries were committed").index);
    let mut ready = group.ready().expect("an election");
    group.on_persisted(ready.number);
    group.ready_into(&mut ready);
}

#[test]
#[should_panic(expected = "was the last handed out")]
fn an_entry_that_is_applied_before_it_is_handed_out() {
    let (mut group, applied) = serving();
    apply_changes(&mut group, &applied);
    group.on_applied(applied.last().expect("entries were committed").index + 1);
}

#[test]
#[should_panic(expected = "was not applied, but")]
fn a_change_of_members_that_is_left_out() {
    let (mut group, applied) = serving();
    group.on_applied(applied.last().expect("entries were committed").index);
}

#[test]
#[should_panic(expected = "configuration changes are applied in order, each once")]
fn a_change_of_members_that_is_applied_twice() {
    let (mut group, applied) = serving();
    let change = applied.iter().find(|entry| entry.kind == EntryKind::ConfChange).expect("the bootstrap");
    group.apply_conf_change(change).expect("a change that fits");
    let _ = group.apply_conf_change(change);
}

#[test]
#[should_panic(expected = "configuration changes are applied in order, each once")]
fn a_change_of_members_that_nobody_committed() {
    let (mut group, applied) = serving();
    let kind = ConfChangeKind::Members { changes: vec![Change::AddVoter(2)], transition: Transition::Auto };
    let data = ConfChange { kind, context: bytes::Bytes::new() }.encode();
    let last = applied.last().expect("entries were committed");
    let _ = group.apply_conf_change(&Entry { index: last.index + 1, data, ..last.clone() });
}
