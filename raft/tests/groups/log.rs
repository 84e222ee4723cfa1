//! The log that groups share: damage, removal, a number that is used again.

use plinth_raft::groups::GroupsRecovery;
use plinth_raft::log::{LOG_SCHEMA, bootstrap, encode_hard_state, encode_snapshot_mark, entry_header};
use plinth_raft::{EntryId, GroupId, HardState, MemberId};
use plinth_wal::{Lsn, Record, RecordKind};

use super::world::{World, Written, all, members};

fn damaged_world(harm: impl Fn(&mut Written)) {
    let mut world = World::new(7);
    world.tick(40);
    all().for_each(|id| assert!(world.propose(id, b"x")));
    world.tick(20);
    world.machine(1).crash(0);
    let mine: Vec<GroupId> = all().filter(|id| members(*id).contains(&MemberId(1))).collect();
    let bad = mine[1];
    let machine = world.machine(1);
    let of_bad = |record: &Written| record.0 == bad && record.1 == RecordKind::Entry;
    let at = machine.disk.records.iter().rposition(of_bad).expect("it has entries");
    harm(&mut machine.disk.records[at]);
    world.start(1);
    let refused: Vec<GroupId> = world.machine(1).refused.iter().map(|refused| refused.group).collect();
    assert_eq!(refused, [bad]);
    let text = world.machine(1).refused[0].to_string();
    assert!(text.starts_with(&format!("group {bad}: ")), "{text}");
    let ids: Vec<GroupId> = world.groups(1).ids().collect();
    assert_eq!(ids.len(), mine.len() - 1);
    world.tick(60);
    all().for_each(|id| assert!(world.propose(id, b"y"), "group {id}"));
    world.tick(5);
    world.check();
    assert!(world.has(MemberId(1), mine[0], b"y"));
}

#[test]
fn damage_to_one_groups_records_refuses_that_group_alone() {
    // An entry of a kind that does not exist; one that is too short; one that comes from nowhere.
    damaged_world(|record| record.2[16] = 9);
    damaged_world(|record| record.2.truncate(10));
    damaged_world(|record| record.2[1] = 77);
}

#[test]
fn a_group_that_is_removed_leaves_the_others_alone() {
    let mut world = World::new(8);
    world.tick(100);
    let gone = GroupId(0);
    for member in members(gone) {
        assert!(world.groups(member.0).remove(gone).is_some());
    }
    world.tick(60);
    assert_eq!(world.sleeping(), 27);
    world.machine(1).crash(0);
    world.start(1);
    world.tick(60);
    assert!(all().skip(1).all(|id| world.propose(id, b"x")));
}

fn feed(recovery: &mut GroupsRecovery, group: GroupId, kind: RecordKind, payload: &[u8]) {
    recovery.record(&Record { lsn: Lsn::new(1), group, kind, schema: LOG_SCHEMA, payload });
}

/// A tombstone ends a group: what was there, and damage to it, is nothing to the next one of its number.
#[test]
fn a_number_can_be_used_again_behind_a_tombstone() {
    let (id, other) = (GroupId(3), GroupId(4));
    let first = bootstrap(vec![(MemberId(1), bytes::Bytes::new())]);
    let begin = |recovery: &mut GroupsRecovery| {
        for entry in &first.entries {
            let payload = [&entry_header(entry)[..], &entry.data].concat();
            feed(recovery, id, RecordKind::Entry, &payload);
        }
        feed(recovery, id, RecordKind::HardState, &encode_hard_state(&first.hard_state));
    };
    let old = HardState { term: 70, vote: None, commit: 1 };
    let tombstone = encode_snapshot_mark(EntryId::ZERO);

    let mut recovery = GroupsRecovery::new([(id, EntryId::ZERO), (other, EntryId::ZERO)]);
    begin(&mut recovery);
    feed(&mut recovery, id, RecordKind::HardState, &encode_hard_state(&old));
    feed(&mut recovery, id, RecordKind::Entry, b"damaged");
    feed(&mut recovery, id, RecordKind::SnapshotMark, &tombstone);
    begin(&mut recovery);
    let mut groups = recovery.finish();
    let recovered = groups.remove(&id).expect("asked for").expect("the first one is forgotten");
    assert_eq!((recovered.hard_state.term, recovered.last().index), (1, 1));
    assert!(groups.remove(&other).expect("asked for").is_ok(), "an empty log");

    // Without it the second one would not fit the first.
    let mut recovery = GroupsRecovery::new([(id, EntryId::ZERO)]);
    begin(&mut recovery);
    feed(&mut recovery, id, RecordKind::HardState, &encode_hard_state(&old));
    begin(&mut recovery);
    assert!(recovery.finish().remove(&id).expect("asked for").is_err());
}
