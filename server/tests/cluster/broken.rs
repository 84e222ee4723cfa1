//! A member whose data or disk is not what it should be.

use super::cluster::{Cluster, put};
use super::common::PATIENCE;
use super::disk::SmallDisk;
use etcd_client::{AlarmAction, AlarmType};
use plinth_engine::pagefile::{FileStore, PageFile};
use plinth_engine::trees::{TreeId, Trees};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The data file below a member's data directory.
fn data_file(folder: &Path) -> PathBuf {
    folder.join("member").join("data.plinth")
}

/// Changes a byte of the newest value, checksums included: what a bug would do, not what a disk does.
fn falsify(folder: &Path) {
    let mut file = PageFile::open(FileStore::open(data_file(folder)).expect("a file")).expect("a data file");
    let mut newest = None;
    file.scan(TreeId::Rev, &[], &mut |key, value| {
        newest = Some((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })
    .expect("readable");
    let (key, mut value) = newest.expect("something is stored");
    let at = value.windows(5).position(|window| window == b"value").expect("the value is `value`");
    value[at] = b'f';
    file.insert(TreeId::Rev, &key, &value).expect("room");
    file.flush_now().expect("flushed");
}

async fn with_one_false(arguments: &[&str]) -> (Cluster, usize) {
    let mut cluster = Cluster::start(3, arguments);
    let leader = cluster.leader(&[0, 1, 2]).await;
    let liar = (leader + 1) % 3;
    put(&mut cluster.client(leader).await, "k", "value").await;
    cluster.wait_until_equal(&[0, 1, 2]).await;
    cluster.terminate(liar);
    falsify(&cluster.data_dir(liar));
    cluster.restart(liar);
    (cluster, liar)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_other_data_does_not_serve() {
    let (mut cluster, liar) = with_one_false(&["--feature-gates=InitialCorruptCheck=true"]).await;
    assert!(!cluster.wait_for_end(liar).success());
    assert!(cluster.log(liar).contains("found data inconsistency with peers"), "{}", cluster.log(liar));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_other_data_is_found_by_the_leader() {
    let (mut cluster, liar) = with_one_false(&["--corrupt-check-time=1s"]).await;
    cluster.wait_until_ready(liar);
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (id, mut client) = (cluster.id(liar).await, cluster.client(leader).await);
    let deadline = Instant::now() + PATIENCE;
    let alarms = loop {
        let answer = client.alarm(AlarmAction::Get, AlarmType::None, None).await.expect("alarms");
        let alarms: Vec<(u64, AlarmType)> =
            answer.alarms().iter().map(|alarm| (alarm.member_id(), alarm.alarm())).collect();
        if !alarms.is_empty() {
            break alarms;
        }
        assert!(Instant::now() < deadline, "nobody noticed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(alarms, [(id, AlarmType::Corrupt)]);
    let refused = client.put("k", "w", None).await.expect_err("writes are stopped").to_string();
    assert!(refused.contains("etcdserver: corrupt cluster"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_disk_is_full_stops_and_comes_back_with_more_room() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader(&[0, 1, 2]).await;
    let small = (leader + 1) % 3;
    // A new member in its place, on a small disk.
    let id = cluster.id(small).await;
    cluster.kill(small);
    cluster.wipe(small);
    let Some(disk) = SmallDisk::mount(&cluster.data_dir(small), 350) else {
        println!("skipped: this user may not mount a file system of its own");
        return;
    };
    let mut client = cluster.client(leader).await;
    tokio::time::sleep(Duration::from_millis(5500)).await;
    client.member_remove(id).await.expect("removed");
    let url = cluster.seats[small].peer_url();
    client.member_add([url], None).await.expect("added");
    cluster.seats[small].starter = disk.starter();
    cluster.join(small, &[leader, 3 - leader - small]);
    cluster.wait_until_ready(small);

    let start = Instant::now();
    let mut written = 0_u32;
    while !cluster.log(small).contains("no room") {
        assert!(start.elapsed() < 2 * PATIENCE, "the disk is never full");
        put(&mut client, &format!("k{}", written % 40), vec![b'x'; 1 << 20]).await;
        written += 1;
    }
    assert!(!cluster.wait_for_end(small).success());
    put(&mut client, "after", "the others go on").await;
    disk.grow(2000);
    cluster.restart(small);
    cluster.wait_until_ready(small);
    cluster.wait_until_equal(&[0, 1, 2]).await;
}
