//! Killed at each step of moving data: conversion, restore, export, backup, follow and cut-over. The next start or run
//! finishes or begins anew, and nothing is lost.

use super::common::{PATIENCE, Port, Process};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PLINTH: &str = env!("CARGO_BIN_EXE_plinth");
const POINTS: &str = "GOFAIL_FAILPOINTS";

/// How a process ends at a fail point that panics.
const PANIC: i32 = 2;

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A server's folder and ports, from life to life.
struct Place {
    folder: TempDir,
    client: Port,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().expect("a folder"), client: Port::reserve() }
    }

    /// With what an etcd 3.5 left that was killed under load, and what it said of its hash.
    fn of_etcd() -> (Place, String) {
        let place = Place::new();
        let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade/golden/etcd-3.5-single.tar.gz");
        let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(place.folder.path()).status();
        assert!(status.expect("tar is installed").success());
        let left = place.folder.path().join("etcd-3.5-single");
        fs::rename(left.join("m1"), place.data()).expect("moved");
        (place, fs::read_to_string(left.join("hash")).expect("a hash").trim().to_owned())
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts it with a fault, or without one if that is empty.
    fn start(&self, fault: &str, arguments: &[String]) -> Process {
        let mut command = Command::new(PLINTH);
        command
            .arg("--data-dir")
            .arg(self.data())
            .args(["--name", "m1", "--initial-cluster", "m1=http://127.0.0.1:2380"])
            .args([
                "--initial-advertise-peer-urls",
                "http://127.0.0.1:2380",
                "--listen-peer-urls",
                "http://127.0.0.1:0",
            ])
            .args(["--listen-client-urls", &self.client.url(), "--advertise-client-urls", &self.client.url()])
            .args(arguments)
            .env(POINTS, panics_at(fault));
        Process::start(&mut command, &self.folder.path().join("log")).expect("it starts")
    }

    /// Starts it, and waits until it serves.
    fn serve(&self, arguments: &[String]) -> Process {
        let mut process = self.start("", arguments);
        process.wait_until_ready();
        process
    }

    fn ctl(&self, words: &[&str]) -> Output {
        let mut command = Command::new(PLINTH);
        command.args(["ctl", "--endpoints", &self.client.url()]).args(words).output().expect("it runs")
    }

    /// What the client printed, if it succeeded.
    fn told(&self, words: &[&str]) -> Option<String> {
        let output = self.ctl(words);
        output.status.success().then(|| String::from_utf8(output.stdout).expect("text"))
    }

    fn hash(&self, revision: &str) -> String {
        let text = self.told(&["endpoint", "hashkv", "--rev", revision, "-w", "json"]).expect("it answers");
        let rest = text.split("\"hash\":").nth(1).expect("a hash");
        rest.chars().take_while(char::is_ascii_digit).collect()
    }
}

/// A fault that says nothing else panics.
fn panics_at(fault: &str) -> String {
    if fault.is_empty() || fault.contains('=') { fault.to_owned() } else { format!("{fault}=panic") }
}

fn util(fault: &str, words: &[&str]) -> Output {
    let mut command = Command::new(PLINTH);
    command.arg("util").args(words).env(POINTS, panics_at(fault)).output().expect("it runs")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn a_conversion_begins_anew_or_is_finished() {
    for point in [
        "convertAfterImport",
        "convertAfterData",
        "convertAfterLog",
        "convertBeforeSetAside",
        "convertAfterSnapMoved",
        "convertAfterWalMoved",
        "convertBeforeDone",
    ] {
        println!("{point}");
        let (place, hash) = Place::of_etcd();
        assert_eq!(place.start(point, &[]).wait_for_end().code(), Some(PANIC), "{point}");
        let mut process = place.serve(&[]);
        assert_eq!(place.hash("0"), hash, "{point}");
        place.told(&["put", "after", point]).expect("it is writable");
        process.kill();
        let _process = place.serve(&[]);
        assert_eq!(place.told(&["get", "after", "--print-value-only"]), Some(format!("{point}\n")));
    }
}

#[test]
fn a_restore_begins_anew_and_no_server_starts_before() {
    for point in ["restoreAfterImport", "restoreAfterData", "restoreAfterLog"] {
        println!("{point}");
        let (etcd, _) = Place::of_etcd();
        let (place, database) = (Place::new(), etcd.data().join("member/snap/db"));
        let told = util("", &["hashkv", text(&database)]).stdout;
        let data = place.data();
        let words =
            ["snapshot", "restore", text(&database), "--skip-hash-check", "--data-dir", text(&data), "--name", "m1"];
        let cluster =
            ["--initial-cluster", "m1=http://127.0.0.1:2380", "--initial-advertise-peer-urls", "http://127.0.0.1:2380"];
        let words = [&words[..], &cluster].concat();
        assert_eq!(util(point, &words).status.code(), Some(PANIC), "{point}");
        let mut refused = place.start("", &[]);
        assert!(!refused.wait_for_end().success());
        assert!(refused.log().contains("its restore was cut off"), "{}", refused.log());
        let again = util("", &words);
        assert!(again.status.success(), "{point}: {again:?}");
        let _process = place.serve(&[]);
        let told = String::from_utf8_lossy(&told).into_owned();
        let mut parts = told.trim().split(", ");
        let (hash, revision) = (parts.next().expect("a hash"), parts.next().expect("a revision"));
        assert_eq!(place.hash(revision), hash, "{point}");
        assert!(!util("", &words).status.success(), "what is whole is not restored over");
    }
}

#[test]
fn an_export_is_there_whole_or_not_at_all() {
    let (place, hash) = Place::of_etcd();
    place.serve(&[]).kill();
    for point in ["exportAfterDatabase", "exportBeforeRename"] {
        let to = place.folder.path().join(point);
        let data = place.data();
        let words = ["export", "--data-dir", text(&data), "--to", text(&to)];
        assert_eq!(util(point, &words).status.code(), Some(PANIC), "{point}");
        assert!(!to.exists(), "{point}");
        let again = util("", &words);
        assert!(again.status.success(), "{point}: {again:?}");
        let told = util("", &["hashkv", text(&to.join("member/snap/db"))]);
        assert!(String::from_utf8_lossy(&told.stdout).starts_with(&format!("{hash}, ")), "{told:?} {hash}");
    }
    let _process = place.serve(&[]);
    assert_eq!(place.hash("0"), hash, "the source is as it was");
}

#[test]
fn a_backup_that_was_cut_off_is_none() {
    let place = Place::new();
    let folder = place.folder.path().join("backups");
    fs::create_dir(&folder).expect("created");
    let arguments = [format!("--backup-dir={}", folder.display()), "--backup-interval=1s".to_owned()];
    let ends = |end: &str| {
        let entries = fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        entries.filter(|path| text(path).ends_with(end)).count()
    };
    for point in ["backupBeforeWrite", "backupBeforeVerify", "backupBeforeRename"] {
        assert_eq!(place.start(point, &arguments).wait_for_end().code(), Some(PANIC), "{point}");
        assert_eq!((ends(".db"), ends(".part")), (0, 1), "{point}");
    }
    let _process = place.serve(&arguments);
    wait_for("a good one", || (ends(".db"), ends(".part")) == (1, 0));
}

/// What `GET` answers.
fn page(place: &Place, path: &str) -> String {
    let mut stream = TcpStream::connect(place.client.address()).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").expect("asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

/// As one onto a network file system that hangs.
#[test]
fn a_backup_that_hangs_is_told_and_keeps_no_member_from_stopping() {
    let place = Place::new();
    let folder = place.folder.path().join("backups");
    fs::create_dir(&folder).expect("created");
    let arguments = [format!("--backup-dir={}", folder.display()), "--backup-interval=1s".to_owned()];
    let rests = || fs::read_dir(&folder).expect("a folder").count();
    let mut process = place.start("backupBeforeVerify=1*sleep(10000)", &arguments);
    process.wait_until_ready();
    wait_for("it is told", || page(&place, "/readyz?verbose").contains("[!]backup stuck since 20"));
    assert!(page(&place, "/metrics").contains("\nplinth_backup_stuck 1\n"));
    assert!(process.log().contains("the backup under way comes no further"));
    wait_for("it goes on", || page(&place, "/readyz?verbose").contains("[+]backup ok: last 20"));
    assert!(page(&place, "/metrics").contains("\nplinth_backup_stuck 0\n"));
    process.terminate();

    // One that goes on soon takes its file away before the process ends; one that does not is not waited for.
    for (sleep, left) in [(700, 0), (60_000, 1)] {
        fs::remove_dir_all(&folder).and_then(|()| fs::create_dir(&folder)).expect("created anew");
        let mut process = place.start(&format!("backupBeforeVerify=sleep({sleep})"), &arguments);
        process.wait_until_ready();
        wait_for("it is under way", || rests() == 1);
        let asked = Instant::now();
        process.terminate();
        assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
        assert_eq!(rests(), left, "after {sleep} ms");
    }
}

#[test]
fn a_standby_goes_on_or_begins_anew() {
    for point in [
        "followAfterSnapshot",
        "followBeforeReplace",
        "followAfterReplace",
        "cutOverAfterAlarm",
        "cutOverBeforeEnd",
        "cutOverAfterEnd",
    ] {
        println!("{point}");
        let (old, new) = (Place::new(), Place::new());
        let _old = old.serve(&[]);
        for number in 0..20 {
            old.told(&["put", &format!("k{}", number % 7), &number.to_string()]).expect("a put");
        }
        let follow = [format!("--follow={}", old.client.url()), "--follow-check-time=1s".to_owned()];
        let mut standby = new.start(point, &follow);
        if point.starts_with("cutOver") {
            standby.wait_until_ready();
            // Its answer does not come: the standby ends.
            wait_for("the cut-over", || {
                new.ctl(&["migrate", "cut-over"]);
                standby.has_ended().is_some()
            });
        }
        assert_eq!(standby.wait_for_end().code(), Some(PANIC), "{point}");
        if !point.starts_with("cutOver") {
            old.told(&["put", "meanwhile", "1"]).expect("the other cluster serves");
        }
        let _standby = new.serve(&follow);
        wait_for("it takes over", || {
            let status = new.told(&["migrate", "status"]).unwrap_or_default();
            if !point.starts_with("cutOver") && !status.starts_with("took over") {
                new.ctl(&["migrate", "cut-over"]);
            }
            status.starts_with("took over") || new.told(&["put", "after", "1"]).is_some()
        });
        let revision = if point.starts_with("cutOver") { "21" } else { "22" };
        assert_eq!(new.hash(revision), old.hash(revision), "{point}");
        wait_for("it takes writes", || new.told(&["put", "after", "1"]).is_some());
        assert!(old.told(&["put", "after", "1"]).is_none(), "{point}: the other one does not");
    }
}
