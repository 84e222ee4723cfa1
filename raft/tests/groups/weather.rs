//! Anything may happen to the machines; then all heals.

use super::world::{GROUPS, MACHINES, World, all, members};
use plinth_raft::GroupId;
use plinth_random::Random;

/// Crashes that tear the shared log at any record, partitions, stuck disks, lost parcels; then all heals and every group must
/// make progress and fall asleep. `PLINTH_SEEDS=n` runs n seeds; a failure names its seed.
#[test]
fn groups_survive_any_weather_and_come_to_rest() {
    let seeds = std::env::var("PLINTH_SEEDS").map_or(40, |seeds| seeds.parse().expect("a number"));
    for seed in 0..seeds {
        let mut dice = Random::new(seed);
        let mut world = World::new(seed);
        for _ in 0..300 {
            storm(&mut world, &mut dice);
        }
        world.cut.clear();
        for id in 1..=MACHINES {
            world.machine(id).is_stuck = false;
            if world.machine(id).groups.is_none() {
                world.start(id);
            }
        }
        world.tick(100);
        all().for_each(|id| assert!(world.propose(id, b"goal"), "seed {seed}: group {id} has no leader"));
        world.tick(150);
        world.check();
        for id in all() {
            for member in members(id) {
                assert!(world.has(member, id, b"goal"), "seed {seed}: group {id} is behind on machine {member}");
            }
        }
        assert_eq!(world.sleeping(), 30, "seed {seed}: some group does not come to rest");
    }
}

fn storm(world: &mut World, dice: &mut Random) {
    let id = 1 + dice.below(MACHINES);
    let runs = world.machine(id).groups.is_some();
    match dice.below(20) {
        0 if runs => {
            let torn = dice.below(6) as usize;
            world.machine(id).crash(torn);
        }
        1 | 2 if !runs => world.start(id),
        3 => {
            let other = 1 + dice.below(MACHINES);
            if dice.below(3) == 0 { world.cut.push((id, other)) } else { world.part(id, other) }
        }
        4 => world.cut.clear(),
        5 if runs => world.machine(id).is_stuck ^= true,
        6..=9 => drop(world.propose(GroupId(dice.below(u64::from(GROUPS)) as u32), b"x")),
        10 => {
            // Time for one machine, with flushes left in flight and everything it says lost.
            let left = dice.below(5) as usize;
            let machine = world.machine(id);
            if let Some(groups) = &mut machine.groups {
                groups.tick();
            }
            machine.work(left);
            drop(machine.parcels());
        }
        _ => world.tick(1),
    }
    world.check();
}
