//! A member whose data or disk is not what it should be.

use super::cluster::{Cluster, put, retry};
use super::common::PATIENCE;
use super::common::client::*;
use super::disk::SmallDisk;
use plinth_engine::pagefile::{FileStore, PageFile, ScrubCursor};
use plinth_engine::trees::{TreeError, TreeId, Trees};
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

/// A cluster of which one member, that does not lead, is a new one on a small disk. Nothing if this user may not mount one.
async fn with_a_small_disk() -> Option<(Cluster, usize, SmallDisk)> {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader(&[0, 1, 2]).await;
    let small = (leader + 1) % 3;
    let id = cluster.id(small).await;
    cluster.kill(small);
    cluster.wipe(small);
    let Some(disk) = SmallDisk::mount(&cluster.data_dir(small), 300) else {
        println!("skipped: this user may not mount a file system of its own");
        return None;
    };
    let mut client = cluster.client(leader).await;
    tokio::time::sleep(Duration::from_millis(5500)).await;
    client.member_remove(id).await.expect("removed");
    let url = cluster.seats[small].peer_url();
    client.member_add([url], None).await.expect("added");
    cluster.seats[small].starter = disk.starter();
    cluster.join(small, &[leader, 3 - leader - small]);
    cluster.wait_until_ready(small);
    Some((cluster, small, disk))
}

/// Writes through a member, however often it takes, until another one has said that its disk is full, and some more: what
/// there is room for ends soon. Nobody is told that the cluster is short of space.
async fn write_until_full(cluster: &Cluster, through: usize, small: usize) {
    let mut client = cluster.client(through).await;
    let (start, mut written, mut left) = (Instant::now(), 0_u32, 150);
    while left > 0 {
        assert!(start.elapsed() < 2 * PATIENCE, "the disk is never full");
        if let Err(error) = client.put(format!("k{}", written % 10), vec![b'x'; 1 << 20], None).await {
            assert!(!error.to_string().contains("database space exceeded"), "{error}");
            continue;
        }
        written += 1;
        left -= u32::from(cluster.log(small).contains("no room on the disk"));
    }
    let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await.expect("alarms");
    assert!(alarms.alarms().is_empty(), "a full disk is no matter of the others");
}

fn says_that_it_is_full(cluster: &Cluster, small: usize) {
    let full = cluster.seats[small].http("/readyz?verbose");
    assert!(full.starts_with("HTTP/1.1 503") && full.contains("failed: no room on the disk"), "{full}");
    assert!(cluster.seats[small].http("/metrics").contains("\nplinth_disk_full 1\n"));
}

async fn takes_part_again(mut cluster: Cluster, small: usize, disk: &SmallDisk) {
    disk.grow(2000);
    cluster.wait_for_log(small, "there is room on the disk again");
    cluster.wait_until_equal(&[0, 1, 2]).await;
    put(&mut cluster.client(small).await, "after", "the small one writes again").await;
    let ready = cluster.seats[small].http("/readyz?verbose");
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(cluster.seats[small].http("/metrics").contains("\nplinth_disk_full 0\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_disk_is_full_waits_for_room_and_the_others_go_on() {
    let Some((cluster, small, disk)) = with_a_small_disk().await else { return };
    let leader = cluster.leader(&[0, 1, 2]).await;
    disk.fill(24 << 20);
    write_until_full(&cluster, leader, small).await;
    says_that_it_is_full(&cluster, small);
    takes_part_again(cluster, small, &disk).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_is_full_leaves_leadership_to_others() {
    let Some((mut cluster, small, disk)) = with_a_small_disk().await else { return };
    let leader = cluster.leader(&[0, 1, 2]).await;
    let id = cluster.id(small).await;
    retry(async || cluster.client(leader).await.move_leader(id).await).await;
    assert_eq!(cluster.leader(&[0, 1, 2]).await, small);
    disk.fill(24 << 20);
    write_until_full(&cluster, leader, small).await;
    let refused = cluster.client(small).await.put("k", "v", None).await.expect_err("there is no room here");
    assert!(refused.to_string().contains("etcdserver: mvcc: database space exceeded"), "{refused}");
    assert_ne!(cluster.leader(&[0, 1, 2]).await, small);
    says_that_it_is_full(&cluster, small);
    // What it has applied in memory is in its log.
    cluster.kill(small);
    cluster.restart(small);
    cluster.wait_for_log(small, "no room on the disk");
    takes_part_again(cluster, small, &disk).await;
}

/// A leaf of tree `Rev` that is in use and does not hold the newest records, so that writing goes on without it.
fn old_leaf(file: &Path) -> u64 {
    const PAGE: usize = plinth_engine::pagefile::PAGE_SIZE;
    let bytes = std::fs::read(file).expect("the data file");
    let scratch = tempfile::tempdir().expect("a folder");
    let copy = scratch.path().join("copy");
    let is_leaf = |page: &usize| bytes[page * PAGE + 4..page * PAGE + 7] == [1, TreeId::Rev as u8, 0];
    (2..bytes.len() / PAGE)
        .filter(is_leaf)
        .find(|page| {
            let mut damaged = bytes.clone();
            damaged[page * PAGE + PAGE / 2] ^= 1;
            std::fs::write(&copy, damaged).expect("written");
            let file = PageFile::open(FileStore::open(copy.clone()).expect("a file")).expect("a data file");
            let mut cursor = ScrubCursor::default();
            let found = file.scrub_step(&mut cursor, usize::MAX);
            matches!(found, Err(TreeError::Corrupt { page: bad, .. }) if bad == *page as u64)
                && file.last(TreeId::Rev).is_ok()
        })
        .expect("some leaf is old") as u64
}

/// Flips a bit of a page while a process has the file open.
fn damage(file: &Path, page: u64) {
    use std::os::unix::fs::FileExt;
    let (mut byte, at) = ([0], page * plinth_engine::pagefile::PAGE_SIZE as u64 + 8192);
    let file = std::fs::OpenOptions::new().read(true).write(true).open(file).expect("the data file");
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 1], at).expect("written");
}

/// A damaged page is found though nobody reads it. Nobody gets what it holds, the member is not ready and does not lead any
/// more; the cluster, and what else the member has, goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_with_a_damaged_page_leaves_leadership_to_others() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader(&[0, 1, 2]).await;
    let mut client = cluster.client(leader).await;
    for n in 0..200 {
        put(&mut client, &format!("k{n:03}"), vec![b'x'; 1000]).await;
    }
    let folder = cluster.data_dir(leader);
    let deadline = Instant::now() + PATIENCE;
    while std::fs::metadata(data_file(&folder)).expect("the data file").len() < 200 * 1000 {
        assert!(Instant::now() < deadline, "nothing is flushed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    damage(&data_file(&folder), old_leaf(&data_file(&folder)));
    cluster.wait_for_log(leader, "a page of the data file is damaged");
    assert!(cluster.log(leader).contains("tree=rev") || cluster.log(leader).contains(r#""tree":"rev""#));

    let others = [(leader + 1) % 3, (leader + 2) % 3];
    let next = cluster.leader(&[0, 1, 2]).await;
    let moved = Instant::now() + PATIENCE;
    let mut next = next;
    while next == leader {
        assert!(Instant::now() < moved, "a damaged member goes on leading");
        tokio::time::sleep(Duration::from_millis(100)).await;
        next = cluster.leader(&[0, 1, 2]).await;
    }
    assert!(others.contains(&next));
    let ready = cluster.seats[leader].http("/readyz?verbose");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("[-]data_corruption failed"), "{ready}");
    assert!(cluster.seats[next].http("/readyz").starts_with("HTTP/1.1 200"));
    assert!(cluster.seats[leader].http("/metrics").contains("\nplinth_data_damaged_pages 1\n"));

    let everything = GetOptions::new().with_prefix();
    let refused = client.get("k", Some(everything.clone())).await.expect_err("damaged data is not served");
    assert!(refused.to_string().contains("checksum"), "{refused}");
    put(&mut client, "new", "through the damaged member").await;
    let mut healthy = cluster.client(next).await;
    assert_eq!(healthy.get("k", Some(everything)).await.expect("served by others").kvs().len(), 200);
    assert_eq!(healthy.get("new", None).await.expect("served by others").kvs().len(), 1);
    let alarms = healthy.alarm(AlarmAction::Get, AlarmType::None, None).await.expect("alarms");
    assert!(alarms.alarms().is_empty(), "it is no matter of the others");
}
