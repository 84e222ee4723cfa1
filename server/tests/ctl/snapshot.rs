//! Snapshots both ways: saved from a running server, told about and restored by our tools and by etcd's own.
//!
//! With an etcd beside us (see `PLINTH_ETCD_BIN`), its `etcdutl` reads what we save and we read what it saves, and both
//! arrive at the same `HashKV`.

use super::common::{Port, Process};
use super::same::find_etcdctl;
use super::server::Server;
use super::tool::Tool;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// Who a restored member is: what `Server` is started with.
pub(super) const MEMBER: [&str; 6] = [
    "--name",
    "test",
    "--initial-cluster",
    "test=http://127.0.0.1:2380",
    "--initial-advertise-peer-urls",
    "http://127.0.0.1:2380",
];

pub(super) fn util(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_plinth")).arg("util").args(words).output().expect("the tool runs")
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Keys, a lease, a tombstone, a compaction, and a value larger than a page.
pub(super) fn fill(ctl: &Tool) {
    let lease = ctl.run(&["lease", "grant", "600"], b"").ok();
    let lease = lease.split_whitespace().nth(1).expect("an id").to_owned();
    for n in 0..40 {
        ctl.run(&["put", &format!("k{}", n % 10), &format!("v{n}")], b"").ok();
    }
    ctl.run(&["put", "--lease", &lease, "leased", "x"], b"").ok();
    ctl.run(&["del", "k3"], b"").ok();
    ctl.run(&["put", "large"], &[b'x'; 100_000]).ok();
    ctl.run(&["compaction", "20"], b"").ok();
}

/// What must be equal: hash and compact revision, keys with their history marks, leases.
pub(super) fn content(ctl: &Tool) -> (String, String, String) {
    let hash = ctl.run(&["endpoint", "hashkv", "-w", "json"], b"").ok();
    let hash: serde_json::Value = serde_json::from_str(&hash).expect("JSON");
    let hash = &hash[0]["HashKV"];
    let keys = ctl.run(&["get", "", "--prefix", "-w", "fields"], b"").ok();
    let keys = keys.split_once("\"Key\"").expect("keys").1.to_owned();
    let leases = ctl.run(&["lease", "list"], b"").ok();
    (format!("{} {}", hash["hash"], hash["compact_revision"]), keys, leases)
}

fn restored(snapshot: &Path, words: &[&str]) -> (TempDir, Output) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let output =
        util(&[&["snapshot", "restore", text(snapshot), "--data-dir", text(&data)], &MEMBER[..], words].concat());
    (folder, output)
}

#[test]
fn a_snapshot_is_saved_told_about_and_restored() {
    let server = Server::start();
    let ctl = Tool::ours(&server.endpoint);
    fill(&ctl);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let snapshot = folder.path().join("s.db");
    ctl.run(&["snapshot", "save", text(&snapshot)], b"").ok();
    let status = util(&["snapshot", "status", text(&snapshot), "-w", "json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!((&status["totalKey"], &status["version"]), (&11.into(), &"3.7.0".into()), "{status}");

    let (place, output) = restored(&snapshot, &[]);
    assert!(output.status.success(), "{output:?}");
    let again = Server::start_in(place);
    assert_eq!(content(&Tool::ours(&again.endpoint)), content(&ctl));
}

#[test]
fn a_bump_compacts_what_watchers_of_the_old_cluster_ask_for() {
    let server = Server::start();
    let ctl = Tool::ours(&server.endpoint);
    fill(&ctl);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let snapshot = folder.path().join("s.db");
    ctl.run(&["snapshot", "save", text(&snapshot)], b"").ok();
    let (_, output) = restored(&snapshot, &["--bump-revision", "1000"]);
    assert_eq!(output.status.code(), Some(128), "{output:?}");
    let (place, output) = restored(&snapshot, &["--bump-revision", "1000", "--mark-compacted"]);
    assert!(output.status.success(), "{output:?}");
    let again = Server::start_in(place);
    let ctl = Tool::ours(&again.endpoint);
    let old = ctl.run(&["get", "k1", "--rev", "40"], b"");
    assert_eq!(old.failure(), (1, "Error: etcdserver: mvcc: required revision has been compacted"));
    assert_eq!(ctl.run(&["get", "k1", "--print-value-only"], b"").ok(), "v31\n");
}

#[test]
fn what_is_no_whole_snapshot_is_refused_and_leaves_nothing() {
    let server = Server::start();
    let ctl = Tool::ours(&server.endpoint);
    fill(&ctl);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let snapshot = folder.path().join("s.db");
    ctl.run(&["snapshot", "save", text(&snapshot)], b"").ok();
    let whole = std::fs::read(&snapshot).expect("saved");
    let error = |bytes: &[u8], words: &[&str]| {
        std::fs::write(&snapshot, bytes).expect("written");
        let (place, output) = restored(&snapshot, words);
        assert!(!place.path().join("data/member/data.plinth").exists(), "nothing that could be started");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let mut flipped = whole.clone();
    flipped[20_000] ^= 1;
    let (code, text) = error(&flipped, &[]);
    assert!(code == Some(1) && text.starts_with("Error: expected sha256 ["), "{text}");
    let cut = &whole[..whole.len() - 32];
    let missing = "Error: snapshot missing hash but --skip-hash-check=false\n".to_owned();
    assert_eq!(error(cut, &[]), (Some(1), missing));
    let (code, text) = error(&whole[..8192], &["--skip-hash-check"]);
    assert!(code == Some(1) && text.contains("not a database of etcd"), "{text}");
    let full = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(full.path().join("x"), b"").expect("written");
    std::fs::write(&snapshot, &whole).expect("written");
    let output = util(&["snapshot", "restore", self::text(&snapshot), "--data-dir", self::text(full.path())]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("not empty or could not be read"), "{output:?}");
}

/// A real etcd on free ports, with a restored data directory or an empty one.
pub(super) struct Etcd {
    _process: Process,
    _ports: (Port, Port),
    pub(super) ctl: Tool,
    folder: TempDir,
}

pub(super) fn etcd(program: &Path, folder: TempDir) -> Etcd {
    let (client, peer) = (Port::reserve(), Port::reserve());
    let mut command = Command::new(program);
    command.arg("--data-dir").arg(folder.path().join("data")).args(MEMBER);
    command.args(["--listen-peer-urls", &peer.url(), "--listen-client-urls", &client.url()]);
    command.args(["--advertise-client-urls", &client.url()]);
    let mut process = Process::start(&mut command, &folder.path().join("log")).expect("etcd starts");
    process.wait_until_ready();
    let ctl = Tool::ours(&client.address());
    Etcd { _process: process, _ports: (client, peer), ctl, folder }
}

fn programs() -> Option<(PathBuf, PathBuf)> {
    let Some(etcdctl) = find_etcdctl() else {
        eprintln!("skipped: there is no etcd, see tools/install-etcd");
        return None;
    };
    Some((etcdctl.with_file_name("etcd"), etcdctl.with_file_name("etcdutl")))
}

#[test]
fn etcd_restores_what_we_save() {
    let Some((program, etcdutl)) = programs() else { return };
    let server = Server::start();
    let ctl = Tool::ours(&server.endpoint);
    fill(&ctl);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (snapshot, data) = (folder.path().join("s.db"), folder.path().join("data"));
    ctl.run(&["snapshot", "save", text(&snapshot)], b"").ok();
    let mut restore = Command::new(&etcdutl);
    restore.args(["snapshot", "restore", text(&snapshot), "--data-dir", text(&data)]).args(MEMBER);
    let output = restore.output().expect("etcdutl runs");
    assert!(output.status.success(), "{output:?}");
    let etcd = etcd(&program, folder);
    assert_eq!(content(&etcd.ctl), content(&ctl));
}

#[test]
fn we_restore_what_etcd_saves() {
    let Some((program, _)) = programs() else { return };
    let etcd = etcd(&program, tempfile::tempdir().expect("a temporary folder"));
    fill(&etcd.ctl);
    let snapshot = etcd.folder.path().join("s.db");
    etcd.ctl.run(&["snapshot", "save", text(&snapshot)], b"").ok();
    let (place, output) = restored(&snapshot, &[]);
    assert!(output.status.success(), "{output:?}");
    let server = Server::start_in(place);
    assert_eq!(content(&Tool::ours(&server.endpoint)), content(&etcd.ctl));
}
