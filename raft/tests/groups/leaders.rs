//! Who leads: spread over the machines, pinned, moved.

use plinth_raft::{GroupId, MemberId};

use super::world::{MACHINES, World, all, members};

fn led(world: &World) -> Vec<usize> {
    (1..=MACHINES).map(|id| all().filter(|group| world.leader(*group) == Some(id)).count()).collect()
}

#[test]
fn leaders_spread_and_come_back_after_a_machine_was_away() {
    for seed in 0..10 {
        let mut world = World::new(seed);
        world.tick(150);
        let spread = |world: &World| led(world).into_iter().all(|led| (1..=3).contains(&led));
        assert!(spread(&world), "seed {seed}: {:?}", led(&world));
        world.machine(4).crash(0);
        world.tick(100);
        assert_eq!(led(&world)[3], 0);
        world.start(4);
        // Not all at once: what had all of them moved together would stand still together.
        let mut before = led(&world)[3];
        for _ in 0..20 {
            world.tick(1);
            let now = led(&world)[3];
            assert!(now <= before + 4, "one handover from each machine at a time");
            before = now;
        }
        world.tick(150);
        assert!(spread(&world), "seed {seed}: {:?}", led(&world));
        assert_eq!(world.sleeping(), 30, "seed {seed}: handing over comes to an end");
        world.check();
    }
}

#[test]
fn a_pinned_leader_leads_whenever_it_can() {
    let mut world = World::new(1);
    let (id, favourite) = (GroupId(7), members(GroupId(7))[1]);
    let pin = |world: &mut World| {
        members(id).iter().for_each(|member| {
            if let Some(groups) = &mut world.machine(member.0).groups {
                groups.pin_leader(id, Some(favourite));
            }
        })
    };
    pin(&mut world);
    world.tick(100);
    assert_eq!(world.leader(id), Some(favourite.0));
    world.machine(favourite.0).crash(0);
    world.tick(60);
    assert!(world.leader(id).is_some_and(|leader| leader != favourite.0));
    world.start(favourite.0);
    pin(&mut world);
    world.tick(100);
    assert_eq!(world.leader(id), Some(favourite.0));
}

#[test]
fn nothing_moves_by_itself_when_it_is_turned_off() {
    let mut world = World::new(3);
    (1..=MACHINES).for_each(|id| world.groups(id).set_spread_interval(0));
    world.tick(60);
    let before = led(&world);
    world.tick(200);
    assert_eq!(led(&world), before);
    // By hand it does.
    let id = GroupId(2);
    let leader = world.leader(id).expect("a leader");
    let target = members(id).into_iter().find(|member| member.0 != leader).expect("another");
    world.groups(leader).transfer_leader(id, target).expect("it can lead");
    world.tick(2);
    assert_eq!(world.leader(id), Some(target.0));
    assert!(world.groups(target.0).transfer_leader(id, MemberId(99)).is_err());
}
