//! Random schedules: messages lost, doubled and reordered, members crashing between any two steps, partitions,
//! configuration changes, snapshots, transfers. After each, the network heals and the cluster must make progress.
//!
//! A seed explains a run. `PLINTH_SEEDS=n` runs n seeds (from `PLINTH_FIRST_SEED`), `PLINTH_SEED=s` that one, with its story printed on failure. What
//! they have found is kept as scripts under `testdata/`.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use plinth_raft::Group;
use plinth_raft::{Change, ConfChange, ConfChangeKind, MemberId, Transition, WindowBounds};
use plinth_random::Random;
use support::{Cluster, Options};

/// What a schedule may do, drawn for each seed.
struct Weather {
    drop: u64,
    double: u64,
    reorder: u64,
    crash: u64,
    cut: u64,
    conf: u64,
    snapshot: u64,
    /// One in so many crashes takes everybody.
    blackout: u64,
    /// Flushes and applying take so many times longer.
    slow_disk: u64,
    slow_apply: u64,
}

impl Weather {
    fn draw(dice: &mut Random) -> Weather {
        let mut level = |levels: &[u64]| levels[dice.index(levels.len())];
        Weather {
            drop: level(&[5, 20, 100, 100_000]),
            double: level(&[5, 20, 100_000]),
            reorder: level(&[1, 3, 20, 100_000]),
            crash: level(&[100, 400, 2_000, 100_000]),
            cut: level(&[200, 1_000, 100_000]),
            conf: level(&[50, 300, 100_000]),
            snapshot: level(&[2, 10, 100]),
            blackout: level(&[2, 10, 100_000]),
            slow_disk: level(&[1, 1, 4, 20]),
            slow_apply: level(&[1, 1, 6]),
        }
    }
}

struct Run {
    cluster: Cluster,
    dice: Random,
    weather: Weather,
    proposed: u64,
    token: u64,
    /// Members that were removed and never return.
    retired: Vec<u64>,
    next_id: u64,
}

fn small_window(config: &mut plinth_raft::GroupConfig) {
    config.window = WindowBounds { entries: 3, bytes: 1 << 20 };
    config.append_bytes = 300;
    config.in_flight_messages = 4;
    config.in_flight_bytes = 500;
    config.uncommitted_bytes = 4_000;
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut dice = Random::new(seed);
        let weather = Weather::draw(&mut dice);
        let voters: Vec<u64> = (1..=dice.pick(&[1, 2, 3, 3, 5])).collect();
        let next_id = voters.len() as u64 + 1;
        let options = Options { seed: dice.bits(), tune: if dice.once_in(2) { small_window } else { |_| {} } };
        let mut cluster = Cluster::bootstrapped(options, &voters);
        cluster.trace.off = std::env::var("PLINTH_SEED").is_err();
        Run { cluster, dice, weather, proposed: 0, token: 0, retired: Vec::new(), next_id }
    }

    fn running(&self) -> Vec<u64> {
        let nodes = self.cluster.nodes.iter();
        nodes.filter(|(_, node)| node.group.is_some()).map(|(id, _)| *id).collect()
    }

    fn storm(&mut self, steps: usize) {
        for _ in 0..steps {
            let running = self.running();
            if let Some(&down) =
                self.cluster.ids().iter().find(|id| !running.contains(id) && !self.retired.contains(id))
                && (running.is_empty() || self.dice.once_in(40))
            {
                self.cluster.restart(down);
                continue;
            }
            if running.is_empty() {
                continue;
            }
            let id = self.dice.pick(&running);
            self.step(id);
        }
    }

    fn step(&mut self, id: u64) {
        if self.dice.once_in(self.weather.crash) {
            let victims = if self.dice.once_in(self.weather.blackout) { self.running() } else { vec![id] };
            for id in victims {
                let torn = self.dice.index(4);
                self.cluster.crash(id, torn);
            }
            return;
        }
        if self.dice.once_in(self.weather.cut) {
            return self.change_cut();
        }
        if self.dice.once_in(self.weather.conf) {
            return self.change_conf(id);
        }
        match self.dice.index(20) {
            0 => self.cluster.tick(id),
            1 => self.propose(id),
            2 if self.dice.once_in(4) => {
                self.token += 1;
                self.cluster.read(id, self.token);
            }
            3 if self.dice.once_in(5) => self.cluster.node(id).flush_store(),
            4 if self.dice.once_in(10) => self.cluster.node(id).release_log(),
            5 if self.dice.once_in(30) => self.transfer(id),
            6 if self.dice.once_in(20) => {
                let peer = MemberId(self.dice.pick(&self.cluster.ids()));
                self.cluster.node(id).group.as_mut().expect("it runs").report_unreachable(peer);
            }
            7 => self.snapshots(id),
            8..=10 => {
                self.cluster.take_ready(id);
            }
            11..=12 if self.dice.once_in(self.weather.slow_disk) => {
                self.cluster.finish_flush(id);
            }
            13..=14 if self.dice.once_in(self.weather.slow_apply) => {
                self.cluster.apply_one(id);
            }
            _ => self.network(),
        }
    }

    fn propose(&mut self, id: u64) {
        self.proposed += 1;
        let data = format!("p{}{}", self.proposed, "x".repeat(self.dice.index(200)));
        let _ = self.cluster.propose(id, data.as_bytes());
    }

    fn transfer(&mut self, id: u64) {
        let target = MemberId(self.dice.pick(&self.cluster.ids()));
        let _ = self.cluster.node(id).group.as_mut().expect("it runs").transfer_leader(target);
    }

    fn snapshots(&mut self, id: u64) {
        if self.dice.once_in(self.weather.snapshot) {
            let applied = self.cluster.node(id).store.applied.index;
            self.cluster.node(id).group.as_mut().expect("it runs").compact(applied);
        }
        if let Some(to) = self.cluster.node(id).snapshots_wanted.first().copied() {
            if self.dice.once_in(4) {
                self.cluster.node(id).snapshots_wanted.remove(0);
                self.cluster.node(id).group.as_mut().expect("it runs").report_snapshot(to, false);
            } else {
                self.cluster.send_snapshot(id, to);
            }
        }
    }

    fn network(&mut self) {
        let waiting = self.cluster.network.len();
        if waiting == 0 {
            return;
        }
        let at = if self.dice.once_in(self.weather.reorder) { self.dice.index(waiting) } else { 0 };
        if waiting > 2_000 || self.dice.once_in(self.weather.drop) {
            let message = self.cluster.network.remove(at);
            return self.cluster.lose(&message);
        }
        let proposal = self.cluster.network[at].body == plinth_raft::PeerBody::Propose;
        if !proposal && self.dice.once_in(self.weather.double) {
            let message = self.cluster.network[at].clone();
            self.cluster.network.push(message);
        }
        self.cluster.deliver(at);
    }

    fn change_cut(&mut self) {
        self.cluster.cut.clear();
        let ids = self.cluster.ids();
        if self.dice.once_in(2) {
            return;
        }
        let side: Vec<u64> = ids.iter().copied().filter(|_| self.dice.once_in(2)).collect();
        for &a in &side {
            for &b in ids.iter().filter(|id| !side.contains(id)) {
                self.cluster.cut.push((a, b));
            }
        }
    }

    fn change_conf(&mut self, id: u64) {
        if self.cluster.conf().is_joint() && self.dice.once_in(2) {
            let _ = self.cluster.propose_conf(id, &ConfChange::leave_joint());
            return;
        }
        let mut changes = Vec::new();
        for _ in 0..self.dice.pick(&[1, 1, 1, 2, 3]) {
            let members = self.cluster.conf().members();
            let known = if members.is_empty() { self.next_id } else { self.dice.pick(&members).0 };
            changes.push(match self.dice.index(4) {
                0 if self.cluster.nodes.len() < 9 => {
                    let new = self.next_id;
                    self.next_id += 1;
                    self.cluster.join(new);
                    if self.dice.once_in(2) { Change::AddVoter(new) } else { Change::AddLearner(new) }
                }
                1 => Change::Remove(known),
                2 => Change::AddLearner(known),
                _ => Change::AddVoter(known),
            });
        }
        let transition =
            self.dice.pick(&[Transition::Auto, Transition::Auto, Transition::JointImplicit, Transition::JointExplicit]);
        let kind = ConfChangeKind::Members { changes, transition };
        let _ = self.cluster.propose_conf(id, &ConfChange { kind, context: bytes::Bytes::from_static(b"record") });
    }

    /// Everybody is up, the network is whole: within a bounded number of ticks a proposal must be applied by all members
    /// of the configuration, and all stores must agree.
    fn heal_and_check(&mut self) {
        self.cluster.cut.clear();
        let running = self.running();
        for id in self.cluster.ids() {
            if !running.contains(&id) {
                self.cluster.restart(id);
            }
        }
        let ids = self.cluster.ids();
        let goal = b"the goal".as_slice();
        for round in 0..400 {
            self.cluster.stabilize(&ids);
            if let Some(leader) = self.cluster.leader() {
                if round % 10 == 5 {
                    let _ = self.cluster.propose(leader, goal);
                    self.token += 1;
                    self.cluster.read(leader, self.token);
                    if self.cluster.conf().is_joint() {
                        let _ = self.cluster.propose_conf(leader, &ConfChange::leave_joint());
                    }
                }
                if self.converged(goal) {
                    return;
                }
            }
            for &id in &ids {
                self.cluster.tick(id);
            }
        }
        panic!("no progress after the network healed");
    }

    fn converged(&self, goal: &[u8]) -> bool {
        let conf = self.cluster.conf();
        let stores: Vec<_> =
            conf.members().iter().map(|id| &self.cluster.nodes.get(&id.0).expect("a member").store).collect();
        let last = self.cluster.checks.committed_max();
        !conf.is_joint()
            && stores.iter().all(|store| store.applied.index == last)
            && stores.windows(2).all(|pair| pair[0] == pair[1])
            && stores[0].data.iter().any(|data| &data[..] == goal)
    }
}

/// What a run came across, so that an idle weather does not pass for a good one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    committed: u64,
    terms: usize,
    crashes: u64,
    reads: u64,
    snapshots: u64,
    conf_changes: usize,
}

fn run(seed: u64, steps: usize) -> Tally {
    let mut run = Run::new(seed);
    let result = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..2 {
            run.storm(steps);
            run.heal_and_check();
        }
    }));
    if let Err(panic) = result {
        for line in &run.cluster.trace.lines {
            println!("{line}");
        }
        println!("seed {seed} fails; PLINTH_SEED={seed} tells its story");
        resume_unwind(panic);
    }
    let cluster = &run.cluster;
    Tally {
        committed: cluster.checks.committed_max(),
        terms: cluster.checks.leaders(),
        crashes: cluster.nodes.values().map(|node| node.life - 1).sum(),
        reads: cluster.reads_served,
        snapshots: cluster.nodes.values().map(|node| node.installed).sum(),
        conf_changes: cluster.checks.confs(),
    }
}

#[test]
fn raft_keeps_its_promises_in_any_weather() {
    if let Ok(seed) = std::env::var("PLINTH_SEED") {
        run(seed.parse().expect("a seed"), 4_000);
        return;
    }
    let number = |name, default| std::env::var(name).map_or(default, |value| value.parse().expect("a number"));
    let (first, seeds) = (number("PLINTH_FIRST_SEED", 0), number("PLINTH_SEEDS", 300));
    let mut sum = Tally::default();
    for seed in first..first + seeds {
        let tally = run(seed, 4_000);
        sum.committed += tally.committed;
        sum.terms += tally.terms;
        sum.crashes += tally.crashes;
        sum.reads += tally.reads;
        sum.snapshots += tally.snapshots;
        sum.conf_changes += tally.conf_changes;
    }
    println!("{seeds} seeds: {sum:?}");
    let all = [sum.committed, sum.terms as u64, sum.crashes, sum.reads, sum.snapshots, sum.conf_changes as u64];
    assert!(all.iter().all(|count| *count > seeds / 2), "the weather leaves something out: {sum:?}");
}

#[test]
fn a_seed_explains_a_run() {
    assert_eq!(run(3, 2_000), run(3, 2_000));
}
