//! What a round costs with either core: an entry is proposed, written, sent, acknowledged, committed and applied by all members,
//! in one thread, without any I/O. A measurement, not a test:
//!
//! ```text
//! cargo test --release --test cost -- --ignored --nocapture
//! ```

mod either;

use std::time::Instant;

use bytes::Bytes;
use either::{Group, MAKE, Make};
use plinth_raft::{ConfState, GroupConfig, GroupId, MemberId, PeerMessage, RecoveredLog, Role};

/// Rounds in a run, and runs of each core, in turns: the best counts, which is what the code takes when nobody else has the
/// processor.
const ROUNDS: u32 = 2_000;
const RUNS: usize = 60;

fn cluster(make: Make, members: u64) -> Vec<Group> {
    MAKE.set(make);
    let ids = 1..=members;
    let member = |id| {
        let conf = ConfState::of_voters(ids.clone().map(MemberId));
        let config = GroupConfig { conf, ..GroupConfig::new(GroupId(0), MemberId(id), id) };
        Group::new(config, RecoveredLog::empty()).expect("a group")
    };
    let mut groups: Vec<Group> = ids.clone().map(member).collect();
    groups[0].campaign();
    run(&mut groups);
    assert!(groups[0].role() == Role::Leader, "nobody else campaigns");
    groups
}

/// Until there is nothing to do: what is written is durable at once, what is sent arrives.
fn run(groups: &mut [Group]) {
    let mut moving = true;
    let mut messages: Vec<PeerMessage> = Vec::new();
    while std::mem::take(&mut moving) {
        for group in groups.iter_mut() {
            while let Some(mut ready) = group.ready() {
                moving = true;
                messages.append(&mut ready.messages);
                if ready.must_persist() {
                    group.on_persisted(ready.number);
                }
                messages.append(&mut ready.persisted_messages);
                if let Some(last) = ready.committed.last() {
                    group.on_applied(last.index);
                }
            }
        }
        for message in messages.drain(..) {
            let to = message.to.0 as usize - 1;
            groups[to].step(message).expect("a message of a correct member");
        }
    }
}

/// Nanoseconds of a round.
fn measure(groups: &mut [Group], payload: &Bytes) -> f64 {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        groups[0].propose(payload.clone()).expect("the leader takes proposals");
        run(groups);
    }
    start.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_round() {
    let payload = Bytes::from(vec![7; 256]);
    for members in [1, 3] {
        let mut both = [cluster(Make::RaftRs, members), cluster(Make::Own, members)];
        let mut best = [f64::MAX; 2];
        for _ in 0..RUNS {
            for (groups, best) in both.iter_mut().zip(&mut best) {
                *best = best.min(measure(groups, &payload));
            }
        }
        let [raft_rs, own] = best;
        println!("{members} members, ns a round of all of them: raft-rs {raft_rs:.0}, own {own:.0}");
    }
}
