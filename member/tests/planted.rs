//! Mistakes planted in what drives a member and the log: each is caught by an assertion that names it.

use plinth_engine::lease::Millis;
use plinth_engine::store::{Store, StoreConfig};
use plinth_engine::trees::MemTrees;
use plinth_member::log::Log;
use plinth_member::recover::{self, Identity};
use plinth_member::{Effects, Member, MemberConfig};
use plinth_raft::{EntryId, GroupConfig, MemberChange, MemberId, RecoveredLog};
use plinth_wal::sim_disk::NullDisk;
use plinth_wal::{GroupId, WalId, WalOptions};

const GROUP: GroupId = GroupId(4);
const NOW: Millis = Millis(1);

fn log() -> Log<NullDisk> {
    let groups = [(GROUP, EntryId::default())];
    recover::recover(NullDisk::default(), WalOptions::new(WalId(1)), groups).expect("an empty log").log
}

fn member(entries: RecoveredLog) -> Member<MemTrees, u64> {
    let identity = Identity { member: MemberId(1), cluster: 1 };
    let config = MemberConfig {
        identity,
        group: GroupConfig::new(GROUP, identity.member, 1),
        lease_extension_millis: 1000,
        first_sequence: 1,
        request_timeout_millis: 60_000,
        learners_max: 1,
        apply_budget: plinth_member::limits::APPLY_PER_PUMP,
    };
    let store = Store::open(MemTrees::new(), StoreConfig::default()).expect("empty trees open");
    Member::new(config, entries, store).expect("a sound member")
}

fn founded(log: &mut Log<NullDisk>) -> RecoveredLog {
    let record = plinth_raft::Member { id: MemberId(1), ..plinth_raft::Member::default() };
    let identity = Identity { member: MemberId(1), cluster: 1 };
    recover::append_bootstrap(log, GROUP, identity, vec![(MemberId(1), MemberChange::Add(record).encode())])
}

fn lead(member: &mut Member<MemTrees, u64>, log: &mut Log<NullDisk>) {
    let mut effects = Effects::default();
    for _ in 0..100 {
        member.tick(NOW, &mut effects);
        let _ = member.pump(log, NOW, &mut effects).expect("nothing fails");
    }
    assert!(member.is_leader());
}

#[test]
#[should_panic(expected = "the data file holds what was applied")]
fn a_data_file_that_is_said_to_hold_more_than_was_applied() {
    let mut log = log();
    let mut member = member(founded(&mut log));
    lead(&mut member, &mut log);
    member.stored_up_to(&mut log, 1000);
}

#[test]
#[should_panic(expected = "the term of GroupId(4) does not go back")]
fn a_member_that_has_forgotten_its_vote() {
    let mut log = log();
    let mut member = member(founded(&mut log));
    lead(&mut member, &mut log);
    // It has voted for itself, in a later term than this.
    founded(&mut log);
}

#[test]
#[should_panic(expected = "a group is taken once, and was asked for")]
fn a_group_that_nobody_asked_for() {
    let groups = [(GROUP, EntryId::default())];
    let found = recover::recover(NullDisk::default(), WalOptions::new(WalId(1)), groups);
    let _ = found.expect("an empty log").take(GroupId(5));
}

#[test]
#[should_panic(expected = "the log was read for what the store has applied")]
fn a_log_that_was_read_for_another_store() {
    let mut entries = founded(&mut log());
    entries.applied = EntryId { index: 1, term: 1 };
    member(entries);
}

#[test]
#[should_panic(expected = "an encoder only appends")]
fn an_encoder_that_takes_from_the_commands_before() {
    let mut log = log();
    let mut member = member(founded(&mut log));
    assert!(member.submit(|out| out.extend_from_slice(b"a command"), 1, NOW).is_ok());
    let _ = member.submit(Vec::clear, 2, NOW);
}
