//! What an earlier build, or an etcd, left behind is opened by this build with nothing lost; members of both builds work
//! together.
//!
//! The archives below `golden/` were made by `tools/golden-directories`, those of an earlier build with the last build before the version of
//! commands that carries an author and before the consensus core of today: its members were killed under load. Beside
//! each directory stands the list of the writes that had been acknowledged.
//!
//! The members have loopback addresses of their own (127.83.41.1 to .3), since these are part of what is recorded. Tests
//! that use them take turns.

#[path = "../common/mod.rs"]
mod common;
#[path = "../cluster/disk.rs"]
mod disk;
mod etcd;
mod traps;

use common::Process;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PLINTH: &str = env!("CARGO_BIN_EXE_plinth");

/// The binary of an earlier build, for the test that mixes both.
const EARLIER: &str = "PLINTH_EARLIER_BIN";

/// Whoever has it may use the addresses.
static ADDRESSES: Mutex<()> = Mutex::new(());

fn take_addresses() -> MutexGuard<'static, ()> {
    ADDRESSES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn client_address(member: usize) -> String {
    format!("http://127.83.41.{member}:2379")
}

fn peer_address(member: usize) -> String {
    format!("http://127.83.41.{member}:2380")
}

fn endpoints(count: usize) -> String {
    (1..=count).map(client_address).collect::<Vec<_>>().join(",")
}

/// Starts member `number` of `count` on its directory below `folder`.
fn start(binary: &Path, folder: &Path, number: usize, count: usize) -> Process {
    start_by(&[], binary, folder, number, count)
}

/// Starts a member by another program, which is given the member's command line behind its own words.
fn start_by(starter: &[String], binary: &Path, folder: &Path, number: usize, count: usize) -> Process {
    let initial: Vec<_> = (1..=count).map(|member| format!("m{member}={}", peer_address(member))).collect();
    let mut command = match starter {
        [] => Command::new(binary),
        [program, words @ ..] => {
            let mut command = Command::new(program);
            command.args(words).arg(binary);
            command
        }
    };
    command
        .args(["--name", &format!("m{number}"), "--initial-cluster", &initial.join(",")])
        .arg("--data-dir")
        .arg(folder.join(format!("m{number}")))
        .args(["--initial-cluster-token", &folder.file_name().expect("a name").to_string_lossy()])
        .args(["--listen-client-urls", &client_address(number), "--advertise-client-urls", &client_address(number)])
        .args(["--listen-peer-urls", &peer_address(number), "--initial-advertise-peer-urls", &peer_address(number)]);
    Process::start(&mut command, &folder.join(format!("m{number}.log"))).expect("it starts")
}

/// Runs the client; what it printed, if it succeeded.
fn ctl(arguments: &[&str]) -> Option<String> {
    let output = Command::new(PLINTH).arg("ctl").args(arguments).output().expect("it runs");
    output.status.success().then(|| String::from_utf8(output.stdout).expect("text"))
}

/// All keys with their values, as this member has them.
fn contents(endpoint: &str, consistency: &str) -> BTreeMap<String, String> {
    let text =
        ctl(&["--endpoints", endpoint, "get", "", "--from-key", "--consistency", consistency]).expect("it answers");
    let lines: Vec<_> = text.lines().collect();
    lines.chunks_exact(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect()
}

/// An earlier build's directory, unpacked, and the writes that it had acknowledged.
struct Left {
    _scratch: TempDir,
    folder: PathBuf,
    acknowledged: Vec<(String, String)>,
}

impl Left {
    fn unpack(name: &str) -> Left {
        let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/upgrade/golden/{name}.tar.gz"));
        let scratch = tempfile::tempdir().expect("a folder");
        let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(scratch.path()).status();
        assert!(status.expect("tar is installed").success());
        let folder = scratch.path().join(name);
        let list = std::fs::read_to_string(folder.join("acknowledged")).expect("the list");
        let acknowledged: Vec<_> =
            list.lines().map(|line| line.split_once(' ').expect("key and value")).map(own).collect();
        assert!(acknowledged.len() > 50, "there was a load");
        Left { _scratch: scratch, folder, acknowledged }
    }

    /// All that was acknowledged is there, and nothing is that was deleted.
    fn check(&self, contents: &BTreeMap<String, String>) {
        for (key, value) in &self.acknowledged {
            assert_eq!(contents.get(key), Some(value), "{key}");
        }
        assert!(!contents.contains_key("gone"));
    }
}

fn own((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

/// Starts all members on what was left, and waits until they serve and hold the same.
fn open(left: &Left, count: usize) -> Vec<Process> {
    let mut members: Vec<_> = (1..=count).map(|number| start(Path::new(PLINTH), &left.folder, number, count)).collect();
    members.iter_mut().for_each(Process::wait_until_ready);
    left.check(&contents(&endpoints(count), "l"));
    for number in 1..=count {
        wait_for("the members hold the same", || {
            contents(&client_address(number), "s") == contents(&client_address(1), "l")
        });
    }
    members
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + common::PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_lone_member_opens_what_an_earlier_build_left() {
    let _turn = take_addresses();
    let left = Left::unpack("single");
    let _members = open(&left, 1);
    let lease = ctl(&["--endpoints", &client_address(1), "lease", "list"]).expect("it answers");
    assert!(lease.starts_with("found 1 leases"), "{lease}");
    let compacted = ctl(&["--endpoints", &client_address(1), "get", "old/1", "--rev", "30"]);
    assert!(compacted.is_none(), "history that was compacted is gone");
}

#[test]
fn a_cluster_opens_what_an_earlier_build_left() {
    let _turn = take_addresses();
    let left = Left::unpack("cluster");
    let _members = open(&left, 3);
    ctl(&["--endpoints", &endpoints(3), "put", "after", "the upgrade"]).expect("it is writable");
}

#[test]
fn a_cluster_goes_on_with_a_membership_change_of_an_earlier_build() {
    let _turn = take_addresses();
    let left = Left::unpack("change");
    let _members = open(&left, 3);
    let list = ctl(&["--endpoints", &endpoints(3), "member", "list"]).expect("it answers");
    let learner = list.lines().find(|line| line.contains(&peer_address(4))).expect("the learner was added");
    assert!(learner.contains("unstarted") && learner.ends_with("true"), "{learner}");
    let id = learner.split(',').next().expect("an id");
    wait_for("the learner can be removed", || ctl(&["--endpoints", &endpoints(3), "member", "remove", id]).is_some());
}

/// Puts keys one after the other until it is told to stop; those that were acknowledged, and how many were not.
fn write(endpoints: &str, stop: &AtomicBool) -> (BTreeMap<String, String>, u32) {
    let (mut acknowledged, mut failed) = (BTreeMap::new(), 0);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (key, value) = (format!("rolling/{number}"), format!("value {number}"));
        match ctl(&["--endpoints", endpoints, "put", &key, &value]) {
            Some(_) => _ = acknowledged.insert(key, value),
            None => failed += 1,
        }
    }
    (acknowledged, failed)
}

/// Members are replaced by the new build one after the other while a client writes, then back by the earlier one, which
/// must read what the new one wrote as long as nothing new was used, and forth again.
#[test]
fn a_cluster_is_upgraded_and_taken_back_member_by_member_under_load() {
    let Some(earlier) = std::env::var_os(EARLIER).map(PathBuf::from) else {
        println!("skipped: {EARLIER} names no binary of an earlier build");
        return;
    };
    let _turn = take_addresses();
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path().join("rolling");
    std::fs::create_dir(&folder).expect("a folder");
    let mut members: Vec<_> = (1..=3).map(|number| start(&earlier, &folder, number, 3)).collect();
    members.iter_mut().for_each(Process::wait_until_ready);

    let stop = AtomicBool::new(false);
    let (acknowledged, failed) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&endpoints(3), &stop));
        for binary in [Path::new(PLINTH), &earlier, Path::new(PLINTH)] {
            for number in 1..=3 {
                members[number - 1].terminate();
                members[number - 1] = start(binary, &folder, number, 3);
                members[number - 1].wait_until_ready();
                wait_for("it takes part", || {
                    ctl(&["--endpoints", &client_address(number), "endpoint", "health"]).is_some()
                });
            }
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("it writes")
    });
    println!("{} writes acknowledged, {failed} failed", acknowledged.len());
    assert!(acknowledged.len() > 50, "there was a load");
    let found = contents(&endpoints(3), "l");
    for (key, value) in &acknowledged {
        assert_eq!(found.get(key), Some(value), "{key}");
    }
}
