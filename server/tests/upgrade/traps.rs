//! What users of etcd have met, and what a conversion makes of it: members that the database does not know rightly, a
//! position that is missing, a torn log, a log elsewhere, a medium that cannot be written, a disk that is too small.

use super::disk::SmallDisk;
use super::etcd::{files, hash, kept};
use super::{Left, PLINTH, client_address, ctl, open, peer_address, start, start_by, take_addresses};
use plinth_bbolt::copy::{self, Changes};
use plinth_bbolt::schema::{Member, member_key, to_json};
use plinth_bbolt::{Database, DatabaseFile};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Writes etcd's database anew with other values in a bucket.
fn change(database: &Path, changes: &Changes<'_>) {
    let file = DatabaseFile::whole(File::open(database).expect("there")).expect("a length");
    let source = Database::open(&file).expect("whole");
    let layout = copy::plan(&source, changes).expect("planned");
    let txid = source.meta().txid + 1;
    let copied = copy::write(&source, changes, layout, Vec::new(), txid).expect("copied");
    fs::write(database, copied).expect("written");
}

fn expected(left: &Left) -> String {
    fs::read_to_string(left.folder.join("hash")).expect("what etcd says").trim().to_owned()
}

/// Up to 3.5.19 a promotion was not written to the database, and removed members stayed in it.
#[test]
fn members_up_to_3_5_are_those_of_the_log() {
    let _turn = take_addresses();
    for release in ["3.4", "3.5"] {
        let left = Left::unpack(&format!("etcd-{release}-single"));
        let mut members = open(&left, 1);
        let truth = ctl(&["--endpoints", &client_address(1), "member", "list"]).expect("it answers");
        members.iter_mut().for_each(|member| member.kill());
        let own = u64::from_str_radix(truth.split(',').next().expect("an id"), 16).expect("hexadecimal");

        let left = Left::unpack(&format!("etcd-{release}-single"));
        let zombie = Member { id: 0xdead, peer_urls: vec!["http://gone:2380".into()], ..Member::default() };
        let learner = Member {
            id: own,
            peer_urls: vec![peer_address(1)],
            is_learner: true,
            name: "m1".into(),
            ..Member::default()
        };
        let keys = [&zombie, &learner].map(|member| String::from_utf8(member_key(member.id)).expect("text"));
        let values = keys.iter().map(String::as_str).zip([Some(to_json(&zombie)), Some(to_json(&learner))]);
        let changes = Changes { bucket: "members", values: values.collect() };
        change(&left.folder.join("m1/member/snap/db"), &changes);
        let members = open(&left, 1);
        let found = ctl(&["--endpoints", &client_address(1), "member", "list"]).expect("it answers");
        assert_eq!(found, truth, "etcd {release}");
        let log = members[0].log();
        assert!(
            log.contains("differ from those of its log; the log's are kept") && log.contains("http://gone:2380"),
            "{log}"
        );
        assert_eq!(hash(&client_address(1)), expected(&left), "etcd {release}");
    }
}

/// Without it all of the log would be applied once more.
#[test]
fn a_database_that_does_not_say_what_it_holds_is_refused() {
    let _turn = take_addresses();
    let left = Left::unpack("etcd-3.6-single");
    let member = left.folder.join("m1/member");
    change(&member.join("snap/db"), &Changes { bucket: "meta", values: vec![("consistent_index", None)] });
    let before = files(&member);
    let mut process = start(Path::new(PLINTH), &left.folder, 1, 1);
    assert!(!process.wait_for_end().success());
    assert!(process.log().contains("consistent_index is missing"), "{}", process.log());
    let after = files(&member);
    assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)), "etcd's files are as they were");
}

/// Where the records of a file of etcd's log end.
fn end_of_records(log: &Path) -> u64 {
    let bytes = fs::read(log).expect("the log");
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + 8) {
        let head = u64::from_le_bytes(head.try_into().expect("eight bytes"));
        if head == 0 {
            break;
        }
        let (length, top) = ((head & ((1 << 56) - 1)) as usize, (head >> 56) as usize);
        at += 8 + length + if top & 0x80 != 0 { top & 7 } else { 0 };
    }
    at as u64
}

/// Power was lost while a record was written: a part of its sectors are still zero.
#[test]
fn a_torn_end_of_the_log_is_cut() {
    let _turn = take_addresses();
    for release in ["3.4", "3.7"] {
        let left = Left::unpack(&format!("etcd-{release}-single"));
        let path = left.folder.join("m1/member/wal/0000000000000000-0000000000000000.wal");
        let end = end_of_records(&path);
        let log = File::options().write(true).open(&path).expect("there");
        log.set_len(log.metadata().expect("a length").len().max(end + 8192)).expect("longer");
        log.write_all_at(&3000_u64.to_le_bytes(), end).expect("written");
        log.write_all_at(&[8; 64], end + 8).expect("written");
        let members = open(&left, 1);
        assert!(!members[0].log().contains("\"torn-bytes\":0,"), "{}", members[0].log());
        assert_eq!(hash(&client_address(1)), expected(&left), "etcd {release}");
    }
}

#[test]
fn a_log_in_a_folder_of_its_own_is_taken_over_there() {
    let _turn = take_addresses();
    for release in ["3.4", "3.5", "3.6", "3.7"] {
        let left = Left::unpack(&format!("etcd-{release}-single"));
        let (member, wal) = (left.folder.join("m1/member"), left.folder.join("wal"));
        fs::rename(member.join("wal"), &wal).expect("moved");
        let before = files(&wal);
        // The wrapper gives the flag to whatever it starts.
        let script = r#"wal=$1; shift; exec "$@" --wal-dir "$wal""#;
        let starter = ["sh", "-c", script, "sh", &wal.display().to_string()].map(str::to_owned);
        let mut process = start_by(&starter, Path::new(PLINTH), &left.folder, 1, 1);
        process.wait_until_ready();
        assert_eq!(hash(&client_address(1)), expected(&left), "etcd {release}");
        let after = files(&kept(&wal));
        let mut segments = before.iter().filter(|(name, _)| name.extension().is_some_and(|end| end == "wal"));
        let is_kept = segments.all(|(name, bytes)| after.get(name) == Some(bytes));
        assert!(is_kept, "etcd's log lies beside ours, in a folder of its own");
        assert!(kept(&member).join("snap/db").exists());
        process.kill();
        let mut again = start_by(&starter, Path::new(PLINTH), &left.folder, 1, 1);
        again.wait_until_ready();
        assert_eq!(hash(&client_address(1)), expected(&left), "etcd {release}, again");
    }
}

/// Whether this user may mount what only its own processes see.
fn may_mount() -> bool {
    let allowed = Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success());
    if !allowed {
        eprintln!("skipped: no mounts in a namespace of one's own here");
    }
    allowed
}

#[test]
fn a_medium_that_cannot_be_written_is_told_and_left() {
    if !may_mount() {
        return;
    }
    let _turn = take_addresses();
    let left = Left::unpack("etcd-3.7-single");
    let data = left.folder.join("m1");
    let before = files(&data);
    let script = r#"mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@""#;
    let starter = ["unshare", "-rm", "sh", "-c", script, "sh", &data.display().to_string()].map(str::to_owned);
    let mut process = start_by(&starter, Path::new(PLINTH), &left.folder, 1, 1);
    assert!(!process.wait_for_end().success());
    let log = process.log();
    assert!(log.contains("Read-only file system") && log.contains(&*data.to_string_lossy()), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(files(&data), before);
    let _members = open(&left, 1);
    assert_eq!(hash(&client_address(1)), expected(&left), "once it can be written, it goes on");
}

#[test]
fn a_disk_that_is_too_small_is_told_and_nothing_is_lost() {
    let _turn = take_addresses();
    let left = Left::unpack("etcd-3.5-single");
    let saved = left.folder.join("saved");
    fs::rename(left.folder.join("m1"), &saved).expect("moved");
    let Some(disk) = SmallDisk::mount(&left.folder.join("m1"), 100) else {
        return eprintln!("skipped: no mounts in a namespace of one's own here");
    };
    let starter = disk.starter();
    let run = |words: &[&str]| {
        let mut command = Command::new(&starter[0]);
        let output = command.args(&starter[1..]).args(words).output().expect("nsenter is installed");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let place: PathBuf = left.folder.join("m1");
    let (from, to) = (format!("{}/.", saved.display()), place.display().to_string());
    run(&["cp", "-r", &from, &to]);
    // etcd's log has 64 MB; of the rest as good as nothing is left.
    disk.fill(256 << 10);
    let sums = || run(&["sh", "-c", r#"cd "$1" && sha256sum member/snap/db member/wal/*.wal"#, "sh", &to]);
    let before = sums();
    for _ in 0..2 {
        let mut process = start_by(&starter, Path::new(PLINTH), &left.folder, 1, 1);
        assert!(!process.wait_for_end().success());
        let log = process.log();
        assert!(log.contains("No space left on device") || log.contains("data file: no room to grow"), "{log}");
        assert!(!log.contains("panicked"), "{log}");
        assert_eq!(sums(), before, "etcd's files are as they were");
    }
    disk.grow(400);
    let mut process = start_by(&starter, Path::new(PLINTH), &left.folder, 1, 1);
    process.wait_until_ready();
    assert_eq!(hash(&client_address(1)), expected(&left));
}
