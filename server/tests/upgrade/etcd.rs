//! Data directories of etcd 3.4 to 3.7, killed under load, are taken over where they lie.

use super::common::Process;
use super::{Left, PLINTH, client_address, ctl, endpoints, open, peer_address, start, take_addresses, wait_for};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const RELEASES: [&str; 4] = ["3.4", "3.5", "3.6", "3.7"];

/// All files below a folder, with their content.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let name = path.strip_prefix(folder).expect("below it").to_owned();
                    found.insert(name, std::fs::read(path).expect("a file"));
                }
            }
        }
    }
    found
}

/// The folder of etcd's files in a member's folder.
pub fn kept(member: &Path) -> PathBuf {
    let names = std::fs::read_dir(member).expect("a folder").map(|entry| entry.expect("an entry"));
    let mut kept = names.filter(|entry| entry.file_name().to_string_lossy().starts_with("etcd-"));
    kept.next().expect("etcd's files are kept").path()
}

pub fn hash(endpoint: &str) -> String {
    let text = ctl(&["--endpoints", endpoint, "endpoint", "hashkv", "-w", "json"]).expect("it answers");
    let rest = text.split("\"hash\":").nth(1).expect("a hash");
    rest.chars().take_while(char::is_ascii_digit).collect()
}

#[test]
fn a_lone_member_goes_on_where_etcd_was_killed() {
    let _turn = take_addresses();
    for release in RELEASES {
        println!("etcd {release}");
        let left = Left::unpack(&format!("etcd-{release}-single"));
        let member = left.folder.join("m1/member");
        let before = files(&member);
        let mut members = open(&left, 1);
        let expected = std::fs::read_to_string(left.folder.join("hash")).expect("what etcd says of the same files");
        assert_eq!(hash(&client_address(1)), expected.trim(), "etcd {release}");
        let leases = ctl(&["--endpoints", &client_address(1), "lease", "list"]).expect("it answers");
        assert!(leases.starts_with("found 1 leases"), "{leases}");
        assert!(ctl(&["--endpoints", &client_address(1), "get", "old/1", "--rev", "30"]).is_none(), "compacted");

        // etcd's files are as they were, in a folder of their own; in their place is a note.
        let kept = files(&kept(&member));
        let moved = before.iter().filter(|(name, _)| name.starts_with("snap") || name.starts_with("wal"));
        assert_eq!(kept, moved.map(|(name, bytes)| (name.clone(), bytes.clone())).collect());
        let note = std::fs::read_to_string(member.join("snap/db")).expect("a note");
        assert!(note.contains("taken over by Plinth"), "{note}");

        // The next start is one as any other.
        ctl(&["--endpoints", &client_address(1), "put", "after", "the conversion"]).expect("it is writable");
        members[0].kill();
        members[0] = start(Path::new(PLINTH), &left.folder, 1, 1);
        members[0].wait_until_ready();
        assert!(!members[0].log().contains("converted the data directory"));
        let value = ctl(&["--endpoints", &client_address(1), "get", "after", "--print-value-only"]);
        assert_eq!(value.as_deref(), Some("the conversion\n"));
    }
}

#[test]
fn a_cluster_goes_on_where_its_members_were_killed() {
    let _turn = take_addresses();
    for release in RELEASES {
        println!("etcd {release}");
        let left = Left::unpack(&format!("etcd-{release}-cluster"));
        let _members = open(&left, 3);
        ctl(&["--endpoints", &endpoints(3), "put", "after", "the conversion"]).expect("it is writable");
        let first = hash(&client_address(1));
        for number in 2..=3 {
            wait_for("hashes agree", || hash(&client_address(number)) == first);
        }
    }
}

#[test]
fn a_change_of_members_is_carried_over() {
    let _turn = take_addresses();
    for release in RELEASES {
        println!("etcd {release}");
        let left = Left::unpack(&format!("etcd-{release}-change"));
        let _members = open(&left, 3);
        let list = ctl(&["--endpoints", &endpoints(3), "member", "list"]).expect("it answers");
        let learner = list.lines().find(|line| line.contains(&peer_address(4))).expect("the learner was added");
        assert!(learner.contains("unstarted") && learner.ends_with("true"), "{learner}");
        assert_eq!(list.lines().filter(|line| line.contains("started, m")).count(), 3, "{list}");
    }
}

/// A conversion that was cut off is begun again; one whose log is damaged does not begin, and touches nothing.
#[test]
fn a_conversion_begins_again_or_not_at_all() {
    let _turn = take_addresses();
    let left = Left::unpack("etcd-3.5-single");
    let member = left.folder.join("m1/member");
    std::fs::write(member.join("converting"), "").expect("written");
    std::fs::write(member.join("data.plinth"), "half a file").expect("written");
    std::fs::create_dir(member.join("log")).expect("a folder");
    std::fs::write(member.join("log/0000000000000001.wal"), "half a segment").expect("written");
    let mut members = open(&left, 1);
    members[0].kill();
    // Killed between the last steps: the mark is still there, etcd's files are half moved.
    let kept = kept(&member);
    std::fs::write(member.join("converted"), "").expect("written");
    std::fs::rename(kept.join("wal"), member.join("wal")).expect("moved");
    members[0] = start(Path::new(PLINTH), &left.folder, 1, 1);
    members[0].wait_until_ready();
    assert!(kept.join("wal").exists() && !member.join("converted").exists());
    members[0].kill();

    let left = Left::unpack("etcd-3.5-single");
    let member = left.folder.join("m1/member");
    let log = member.join("wal/0000000000000000-0000000000000000.wal");
    let mut bytes = std::fs::read(&log).expect("the log");
    bytes[2000] ^= 1;
    std::fs::write(&log, &bytes).expect("written");
    let before = files(&member);
    let mut process = start(Path::new(PLINTH), &left.folder, 1, 1);
    assert!(!process.wait_for_end().success());
    let text = process.log();
    assert!(text.contains("etcd's write-ahead log") && text.contains("offset"), "{text}");
    let after = files(&member);
    assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)), "etcd's files are as they were");
}

/// With a real etcd at hand: a directory that it holds is not taken, and it does not start on one that was taken over.
#[test]
fn etcd_and_its_successor_do_not_meet() {
    let Some(etcd) = std::env::var_os("PLINTH_ETCD_BIN") else {
        println!("skipped: PLINTH_ETCD_BIN names no etcd");
        return;
    };
    let _turn = take_addresses();
    let left = Left::unpack("etcd-3.5-single");
    let run = |log: &str| {
        let mut command = Command::new(&etcd);
        command.arg("--data-dir").arg(left.folder.join("m1")).args(["--name", "m1"]);
        command.args(["--listen-client-urls", &client_address(1), "--advertise-client-urls", &client_address(1)]);
        command.args(["--listen-peer-urls", &peer_address(1), "--initial-advertise-peer-urls", &peer_address(1)]);
        command.args(["--initial-cluster", &format!("m1={}", peer_address(1))]);
        Process::start(&mut command, &left.folder.join(log)).expect("it starts")
    };
    let mut running = run("etcd.log");
    running.wait_for_log("ready to serve client requests");
    let mut refused = start(Path::new(PLINTH), &left.folder, 1, 1);
    assert!(!refused.wait_for_end().success());
    assert!(refused.log().contains("an etcd server is running on this data directory"), "{}", refused.log());
    running.terminate();

    let mut members = open(&left, 1);
    members[0].terminate();
    let mut mistaken = run("mistaken.log");
    assert!(!mistaken.wait_for_end().success(), "{}", mistaken.log());
}
