//! Sleep, and what is known to go wrong with it: the numbers in comments are issues in which others found it.

use bytes::Bytes;
use plinth_raft::groups::{Asleep, Groups, Parcel};
use plinth_raft::{
    Change, ConfChange, ConfState, Group, GroupConfig, GroupId, MemberId, PeerBody, PeerMessage, RecoveredLog, Role,
};

use super::world::{ELECTION, GROUPS, MACHINES, World, all, members};

/// All members of all groups.
const EVERYBODY: usize = 3 * GROUPS as usize;

fn asleep_world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.tick(100);
    assert_eq!(world.sleeping(), EVERYBODY, "every member of every group sleeps");
    world
}

#[test]
fn groups_elect_sleep_wake_and_sleep_again() {
    let mut world = asleep_world(1);
    assert!(all().all(|id| world.leader(id).is_some()), "every group has a leader");
    // Asleep, only signs of life travel: one for each pair of machines that share a group, each way, each tick.
    let sent = |world: &World| world.machines.iter().map(|machine| machine.parcels_sent).sum::<u64>();
    let messages = |world: &World| world.machines.iter().map(|machine| machine.messages_sent).sum::<u64>();
    let before = (sent(&world), messages(&world));
    world.tick(100);
    assert_eq!(sent(&world) - before.0, 100 * MACHINES * (MACHINES - 1));
    assert_eq!(messages(&world), before.1);
    assert_eq!(world.sleeping(), EVERYBODY);
    // A proposal at a sleeping follower wakes its group, and no other.
    let id = GroupId(4);
    let follower = members(id).into_iter().find(|member| Some(member.0) != world.leader(id)).expect("a follower");
    world.groups(follower.0).propose(id, Bytes::from_static(b"x")).expect("it knows the leader");
    world.run_until_quiet();
    assert_eq!(world.sleeping(), EVERYBODY - 3);
    world.tick(1);
    assert!(members(id).iter().all(|member| world.has(*member, id, b"x")));
    world.tick(30);
    assert_eq!(world.sleeping(), EVERYBODY);
    world.check();
}

/// Heartbeats are for those who have nothing else to say.
#[test]
fn a_group_with_traffic_sends_no_heartbeats() {
    let mut world = World::new(1);
    world.tick(100);
    let id = GroupId(2);
    let leader = world.leader(id).expect("a leader");
    let mut heartbeats = 0;
    for _ in 0..100 {
        assert!(world.propose(id, b"x"));
        world.run_until_quiet();
        for machine in 1..=MACHINES {
            world.groups(machine).tick();
            world.machine(machine).work(0);
        }
        for parcel in world.machine(leader).parcels() {
            let is_heartbeat =
                |message: &&PeerMessage| message.group == id && matches!(message.body, PeerBody::Heartbeat { .. });
            heartbeats += parcel.messages.iter().filter(is_heartbeat).count();
            world.deliver(parcel);
        }
        world.run_until_quiet();
    }
    assert!(heartbeats <= 4, "{heartbeats} heartbeats in 100 busy ticks");
}

/// tikv 6672, 6736: an input that did not wake.
#[test]
fn every_input_wakes() {
    let inputs: [fn(&mut Groups, GroupId, MemberId); 5] = [
        |groups, id, _| drop(groups.propose(id, Bytes::from_static(b"x"))),
        |groups, id, _| groups.read_index(id, 1),
        |groups, id, target| groups.transfer_leader(id, target).expect("the leader can hand over"),
        |groups, id, _| {
            let change = ConfChange::one(Change::AddLearner(9), Bytes::new());
            groups.propose_conf_change(id, &change).expect("the leader takes it");
        },
        |groups, id, _| groups.with(id, Group::campaign).expect("it is here"),
    ];
    for input in inputs {
        let mut world = asleep_world(1);
        let (id, leader) = (GroupId(3), world.leader(GroupId(3)).expect("a leader"));
        let target = members(id).into_iter().find(|member| member.0 != leader).expect("another member");
        input(world.groups(leader), id, target);
        assert!(!world.groups(leader).is_asleep(id));
    }
}

/// The same for what a sleeping follower is asked: it passes it on, and the leader wakes.
#[test]
fn what_a_sleeping_follower_is_asked_wakes_the_leader() {
    let inputs: [fn(&mut Groups, GroupId); 2] = [
        |groups, id| groups.propose(id, Bytes::from_static(b"x")).expect("it knows the leader"),
        |groups, id| groups.read_index(id, 7),
    ];
    for input in inputs {
        let mut world = asleep_world(2);
        let (id, leader) = (GroupId(3), world.leader(GroupId(3)).expect("a leader"));
        let follower = members(id).into_iter().find(|member| member.0 != leader).expect("a follower");
        input(world.groups(follower.0), id);
        world.run_until_quiet();
        assert!(!world.groups(leader).is_asleep(id));
    }
}

#[test]
fn when_a_machine_dies_only_what_it_leads_wakes_and_elects_in_time() {
    let mut world = asleep_world(3);
    let led: Vec<GroupId> = all().filter(|id| world.leader(*id) == Some(2)).collect();
    assert!(!led.is_empty(), "another seed, in which machine 2 leads something");
    world.machine(2).crash(0);
    // Silence for an election time, then the draw of each: within two election times all have new leaders.
    world.tick(2 * ELECTION + 2);
    for id in all() {
        let leader = world.leader(id).expect("a leader");
        assert_ne!(leader, 2);
        // cockroach 26911, 50865: everybody woke because one blinked. Who still has a quorum sleeps on.
        assert_eq!(world.groups(leader).is_asleep(id), !led.contains(&id), "group {id}");
    }
    // A member that is away keeps groups awake that had something to do; when it is back, all sleep.
    world.tick(50);
    let is_awake = |id: &GroupId| world.leader(*id).is_some_and(|leader| !world.asleep_at(leader, *id));
    assert!(led.iter().all(is_awake));
    world.start(2);
    world.tick(100);
    assert_eq!(world.sleeping(), EVERYBODY);
    world.check();
}

/// A machine whose signs come and go wakes nothing that it does not lead, and what it led has one election.
#[test]
fn a_machine_that_blinks_wakes_what_it_leads() {
    let mut world = asleep_world(3);
    let terms = |world: &mut World| all().map(|id| world.term(id)).collect::<Vec<_>>();
    let before = terms(&mut world);
    let led: Vec<GroupId> = all().filter(|id| world.leader(*id) == Some(2)).collect();
    (1..=MACHINES).filter(|id| *id != 2).for_each(|id| world.part(2, id));
    world.tick(ELECTION + 1);
    world.cut.clear();
    world.tick(100);
    assert_eq!(world.sleeping(), EVERYBODY);
    let after = terms(&mut world);
    for id in all().filter(|id| !led.contains(id)) {
        // Leaders may move since machine 2 leads less than before; nobody else had to be elected.
        let moved = after[id.0 as usize] - before[id.0 as usize];
        assert!(moved <= 1, "group {id} had {moved} elections");
    }
}

/// tikv 7042: nobody checks the quorum of a leader that sleeps with a minority.
#[test]
fn a_sleeping_leader_without_a_quorum_steps_down() {
    let mut world = asleep_world(4);
    let id = GroupId(1);
    let leader = world.leader(id).expect("a leader");
    (1..=MACHINES).filter(|other| *other != leader).for_each(|other| world.part(leader, other));
    world.tick(3 * ELECTION);
    assert_ne!(world.groups(leader).get(id).map(Group::role), Some(Role::Leader), "it cannot commit, and knows");
    let next = world.leader(id).expect("the others have a leader");
    assert_ne!(next, leader);
    assert!(world.propose(id, b"x"));
    world.cut.clear();
    world.tick(100);
    assert!(world.has(MemberId(leader), id, b"x"));
    assert_eq!(world.sleeping(), EVERYBODY);
    world.check();
}

/// The same when it still hears the others, and they do not hear it: support is directed.
#[test]
fn a_sleeping_leader_that_is_not_heard_is_replaced() {
    let mut world = asleep_world(4);
    let id = GroupId(1);
    let leader = world.leader(id).expect("a leader");
    world.cut.extend((1..=MACHINES).filter(|other| *other != leader).map(|other| (leader, other)));
    world.tick(4 * ELECTION);
    assert!(world.leader(id).is_some_and(|next| next != leader));
    world.cut.clear();
    world.tick(100);
    assert_eq!(world.sleeping(), EVERYBODY);
    world.check();
}

/// tikv 10017: sleeping members were reported as down, because they say nothing.
#[test]
fn who_sleeps_is_not_reported_as_down() {
    let mut world = asleep_world(5);
    world.tick(50 * ELECTION);
    for id in 1..=MACHINES {
        assert!((1..=MACHINES).all(|other| world.groups(id).is_alive(MemberId(other))));
    }
}

/// tikv 6667, 9022: a sleeping leader never created a new member that was away.
#[test]
fn a_new_member_that_is_away_keeps_the_group_awake_until_it_is_there() {
    let mut world = asleep_world(6);
    world.creates = true;
    let id = GroupId(0);
    let leader = world.leader(id).expect("a leader");
    let newcomer = (1..=MACHINES).map(MemberId).find(|id| !members(GroupId(0)).contains(id)).expect("another machine");
    world.machine(newcomer.0).crash(0);
    let change = ConfChange::one(Change::AddVoter(newcomer.0), Bytes::new());
    world.groups(leader).propose_conf_change(id, &change).expect("the leader takes it");
    world.run_until_quiet();
    world.tick(20 * ELECTION);
    let leader = world.leader(id).expect("a leader");
    assert!(!world.groups(leader).is_asleep(id), "the newcomer has nothing yet");
    world.start(newcomer.0);
    world.tick(20 * ELECTION);
    assert!(world.propose(id, b"x"));
    world.tick(5);
    assert!(world.has(newcomer, id, b"x"));
    world.tick(60);
    assert_eq!(world.sleeping(), EVERYBODY + 1);
    world.check();
}

/// tikv 16368, 16408, 18886: woken groups fell back to sleep. Here by a notice that was long on its way.
#[test]
fn a_late_notice_puts_nobody_to_sleep_under_a_leader_that_is_gone() {
    let mut world = asleep_world(7);
    let id = GroupId(6);
    let leader = world.leader(id).expect("a leader");
    let (term, commit) = (world.term(id), world.commit(leader, id));
    world.machine(leader).crash(0);
    let others: Vec<MemberId> = members(id).into_iter().filter(|member| member.0 != leader).collect();
    let late = |to| Parcel {
        from: MemberId(leader),
        to,
        sign: None,
        asleep: vec![Asleep { group: id, term, commit }],
        messages: Vec::new(),
    };
    while !others.iter().all(|member| !world.asleep_at(member.0, id)) {
        world.tick(1);
    }
    others.iter().for_each(|member| world.deliver(late(*member)));
    assert!(others.iter().all(|member| !world.asleep_at(member.0, id)), "they are awake for good reason");
    world.tick(2 * ELECTION);
    assert!(world.leader(id).is_some_and(|next| next != leader));
}

/// tikv 19219: after a restart a follower slept before it knew what was committed.
#[test]
fn a_member_that_is_behind_is_not_left_asleep() {
    let mut world = asleep_world(5);
    let id = GroupId(6);
    let leader = world.leader(id).expect("a leader");
    let behind = members(id).into_iter().find(|member| member.0 != leader).expect("a follower").0;
    world.machine(behind).crash(0);
    assert!(world.propose(id, b"x"));
    world.tick(3);
    world.start(behind);
    let (term, commit) = (world.term(id), world.commit(leader, id));
    let asleep = vec![Asleep { group: id, term, commit }];
    let parcel = Parcel { from: MemberId(leader), to: MemberId(behind), sign: None, asleep, messages: Vec::new() };
    world.deliver(parcel);
    assert!(!world.groups(behind).is_asleep(id), "it has not caught up");
    world.tick(100);
    assert!(world.groups(behind).is_asleep(id));
    assert!(world.commit(behind, id) >= commit);
}

/// A machine that is back before anybody misses it leads nothing any more: its life says so.
#[test]
fn a_leader_that_restarts_at_once_is_not_believed_to_lead() {
    let mut world = asleep_world(8);
    let led: Vec<GroupId> = all().filter(|id| world.leader(*id) == Some(3)).collect();
    assert!(!led.is_empty());
    world.machine(3).crash(0);
    world.start(3);
    world.tick(2);
    for id in &led {
        let others = members(*id).into_iter().filter(|member| member.0 != 3);
        assert!(others.into_iter().all(|member| !world.asleep_at(member.0, *id)), "group {id} sleeps under nobody");
    }
    world.tick(2 * ELECTION);
    assert!(led.iter().all(|id| world.leader(*id).is_some()));
    world.tick(100);
    assert_eq!(world.sleeping(), EVERYBODY);
}

/// A member that is new knows nobody, not even the machine of the leader that it answers.
#[test]
fn a_newcomer_answers_a_machine_that_it_shares_nothing_with() {
    let (from, to) = (MemberId(9), MemberId(1));
    let mut groups = Groups::new(to, 1, ELECTION, 1);
    groups.add(GroupId(1), Group::new(GroupConfig::new(GroupId(1), to, 1), RecoveredLog::empty()).expect("a group"));
    let body = PeerBody::Heartbeat { commit: 0, round: None };
    let messages = vec![PeerMessage { group: GroupId(1), from, to, term: 3, body, entries: Vec::new() }];
    groups.receive(Parcel { from, to, sign: None, asleep: Vec::new(), messages }, |_, why| panic!("{why:?}"));
    let mut answers = Vec::new();
    while let Some((id, ready)) = groups.ready() {
        answers.extend(ready.messages);
        answers.extend(ready.persisted_messages);
        groups.on_persisted(id, ready.number);
    }
    answers.into_iter().for_each(|message| groups.send(message));
    let parcel = groups.parcel().expect("an answer");
    assert_eq!((parcel.to, parcel.messages.len()), (from, 1));
    // And then it is no machine of ours.
    assert!(groups.parcel().is_none());
    groups.tick();
    assert!(groups.parcel().is_none());
}

#[test]
fn a_group_says_nothing_of_another() {
    // A message of a group that is not here is told, and nothing else.
    let mut groups = Groups::new(MemberId(1), 1, ELECTION, 1);
    let mut config = GroupConfig::new(GroupId(1), MemberId(1), 1);
    config.conf = ConfState::of_voters([MemberId(1), MemberId(2)]);
    groups.add(GroupId(1), Group::new(config, RecoveredLog::empty()).expect("a group"));
    let (from, to) = (MemberId(2), MemberId(1));
    let body = PeerBody::Heartbeat { commit: 0, round: None };
    let message = |group| PeerMessage { group, from, to, term: 1, body: body.clone(), entries: Vec::new() };
    let messages = vec![message(GroupId(2)), message(GroupId(1))];
    let mut unknown = Vec::new();
    let parcel = Parcel { from, to, sign: None, asleep: Vec::new(), messages };
    groups.receive(parcel, |id, why| unknown.push((id, why)));
    assert_eq!(unknown, [(GroupId(2), plinth_raft::groups::Refused::Unknown)]);
    assert_eq!(groups.get(GroupId(1)).and_then(Group::leader), Some(from));
    assert!(groups.get(GroupId(2)).is_none());
}
