//! A machine whose disk does not answer leads nothing.

use plinth_raft::GroupId;

use super::world::{ELECTION, World, all};

fn stuck_world(seed: u64) -> (World, Vec<GroupId>) {
    let mut world = World::new(seed);
    world.tick(100);
    let led: Vec<GroupId> = all().filter(|id| world.leader(*id) == Some(2)).collect();
    assert!(!led.is_empty(), "machine 2 leads something");
    world.machine(2).is_stuck = true;
    (world, led)
}

fn assert_leads_nothing(world: &World, led: &[GroupId]) {
    for id in led {
        assert!(world.leader(*id).is_some_and(|leader| leader != 2), "group {id} is still led by the stuck machine");
    }
}

#[test]
fn one_flush_that_does_not_end_costs_all_that_is_led_there() {
    let (mut world, led) = stuck_world(3);
    // One of its groups has something to write; that is how it notices.
    assert!(world.propose(led[0], b"x"));
    // All are handed over when it does, also those that sleep: nobody waits for an election.
    world.tick(ELECTION + 2);
    assert_leads_nothing(&world, &led);
    assert!(world.groups(2).is_disk_stuck());
    world.tick(5 * ELECTION);
    assert_leads_nothing(&world, &led);
    all().for_each(|id| assert!(world.propose(id, b"y"), "group {id}"));
    world.machine(2).is_stuck = false;
    world.tick(200);
    assert!(!world.groups(2).is_disk_stuck());
    assert_eq!(world.sleeping(), 30);
    world.check();
}

/// A leader that is awake and writes nothing still heartbeats: only a probe tells that its disk is gone.
#[test]
fn a_leader_that_is_awake_with_nothing_to_write_is_found_by_a_probe() {
    let (mut world, led) = stuck_world(3);
    let id = led[0];
    // A read keeps it awake; nothing is written.
    for token in 0..4 * ELECTION as u64 {
        if world.leader(id) == Some(2) {
            world.groups(2).read_index(id, token);
        }
        world.tick(1);
    }
    assert_leads_nothing(&world, &led);
}

#[test]
fn a_machine_whose_groups_all_sleep_writes_nothing() {
    let mut world = World::new(3);
    world.tick(100);
    let written = world.machine(2).disk.records.len();
    for _ in 0..50 * ELECTION {
        world.tick(1);
        assert!(!world.groups(2).probe_is_due());
    }
    assert_eq!(world.machine(2).disk.records.len(), written);
}
