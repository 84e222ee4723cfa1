//! Faults of all kinds, one after another and some at once, on real processes under load, for as long as one likes
//! (`tools/robustness SECONDS`): what etcd's robustness tests do to etcd. In rounds: what clients saw in each has one order,
//! and afterwards all members hold the same.
//!
//! Members are killed, paused, cut off in all ways, slowed down by a network that delays everything, replaced with the
//! loss of their data; and a disk is frozen, where this user may mount one.

use super::cluster::Cluster;
use super::common::client::*;
use super::freezer::Freezer;
use super::history::{Load, random};
use plinth_random::Random;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const ALL: [usize; 3] = [0, 1, 2];
/// A round of load; its history is checked at the end.
const ROUND: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill,
    KillLeader,
    KillAll,
    Pause,
    Part,
    Mute,
    Deaf,
    Delay,
    FreezeDisk,
    Replace,
}

const FAULTS: [Fault; 10] = [
    Fault::Kill,
    Fault::KillLeader,
    Fault::KillAll,
    Fault::Pause,
    Fault::Part,
    Fault::Mute,
    Fault::Deaf,
    Fault::Delay,
    Fault::FreezeDisk,
    Fault::Replace,
];

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

struct Robustness {
    /// The disk of the last seat. It goes before the folder that it is mounted in.
    freezer: Option<Freezer>,
    cluster: Cluster,
    random: Random,
    /// Member ids by seat, as the network knows them.
    ids: Vec<u64>,
    done: BTreeMap<Fault, u32>,
}

impl Robustness {
    fn others(&self, seat: usize) -> Vec<u64> {
        ALL.into_iter().filter(|other| *other != seat).map(|other| self.ids[other]).collect()
    }

    fn restart(&mut self, seats: &[usize]) {
        seats.iter().for_each(|seat| self.cluster.kill(*seat));
        seats.iter().for_each(|seat| self.cluster.restart(*seat));
        seats.iter().for_each(|seat| self.cluster.wait_until_ready(*seat));
    }

    /// One fault, from its beginning to its end.
    async fn strike(&mut self, fault: Fault) {
        let seat = self.random.below(3) as usize;
        let span = 300 + self.random.below(3000);
        match fault {
            Fault::Kill => self.restart(&[seat]),
            Fault::KillLeader => {
                let leader = self.cluster.leader(&ALL).await;
                self.restart(&[leader]);
            }
            Fault::KillAll => self.restart(&ALL),
            Fault::Pause => {
                self.cluster.signal(seat, "-STOP");
                pause(span).await;
                self.cluster.signal(seat, "-CONT");
            }
            Fault::Part | Fault::Mute | Fault::Deaf => {
                let own = self.ids[seat];
                for other in self.others(seat) {
                    match fault {
                        Fault::Part => self.cluster.net.part(own, other),
                        Fault::Mute => self.cluster.net.cut(own, other),
                        _ => self.cluster.net.cut(other, own),
                    }
                }
                pause(span).await;
                self.cluster.net.mend();
            }
            Fault::Delay => {
                let delay = 5 + self.random.below(100);
                self.cluster.net.delay(delay);
                pause(span).await;
                self.cluster.net.delay(0);
            }
            Fault::FreezeDisk => {
                let Some(freezer) = &self.freezer else { return };
                if freezer.freeze() {
                    pause(span).await;
                    freezer.thaw();
                }
            }
            Fault::Replace => self.replace(seat).await,
        }
        *self.done.entry(fault).or_default() += 1;
    }

    /// A member is removed, loses everything and comes back as another one.
    async fn replace(&mut self, seat: usize) {
        if self.freezer.is_some() && seat == 2 {
            return; // Its folder is a mount.
        }
        let id = self.ids[seat];
        let helper = (seat + 1) % 3;
        self.cluster.kill(seat);
        let mut client = self.cluster.client(helper).await;
        // Refused while another member has not been connected for long enough.
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let _ = tokio::time::timeout(Duration::from_secs(5), client.member_remove(id)).await;
            let listed = tokio::time::timeout(Duration::from_secs(5), client.member_list()).await;
            if matches!(&listed, Ok(Ok(list)) if list.members().iter().all(|member| member.id() != id)) {
                break;
            }
            assert!(Instant::now() < deadline, "member {id:x} cannot be removed: {listed:?}");
            pause(500).await;
        }
        let url = self.cluster.seats[seat].peer_url();
        loop {
            // Ids come of the second.
            pause(1100).await;
            let added = tokio::time::timeout(Duration::from_secs(5), client.member_add([url.clone()], None)).await;
            let listed = tokio::time::timeout(Duration::from_secs(5), client.member_list()).await;
            if matches!(&listed, Ok(Ok(list)) if list.members().len() == 3) {
                break;
            }
            assert!(Instant::now() < deadline, "it cannot be added again: {added:?}");
        }
        if self.cluster.data_dir(seat).exists() {
            self.cluster.wipe(seat);
        }
        let rest: Vec<usize> = ALL.into_iter().filter(|other| *other != seat).collect();
        self.cluster.join(seat, &rest);
        self.cluster.wait_until_ready(seat);
        self.ids[seat] = self.cluster.id(seat).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_all_kinds_lose_nothing() {
    let seconds = std::env::var("PLINTH_ROBUSTNESS_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds.unwrap_or(15));
    let mut freezer = None;
    let cluster = Cluster::start_with(3, &[], |cluster| {
        freezer = Freezer::mount(&cluster.data_dir(2), 600);
    });
    if freezer.is_none() {
        println!("no disk is frozen: this user may not mount one");
    }
    let ids = cluster.ids().await;
    cluster.wait_until_equal(&ALL).await;
    let mut run = Robustness { freezer, cluster, random: random(), ids, done: BTreeMap::new() };
    let mut acknowledged = 0;
    while Instant::now() < end {
        let load = Load::start(&run.cluster, &ALL, &mut run.random);
        let round = end.min(Instant::now() + ROUND);
        while Instant::now() < round {
            let fault = FAULTS[run.random.below(FAULTS.len() as u64) as usize];
            run.strike(fault).await;
            pause(run.random.below(1500)).await;
        }
        run.cluster.leader(&ALL).await;
        acknowledged += load.acknowledged();
        load.finish(&run.cluster, &ALL).await;
        println!("after {} s: {acknowledged} operations, faults {:?}", begin.elapsed().as_secs(), run.done);
    }
}
