//! `plinth util export`: what Plinth holds, given back as a data directory of etcd. Opened by this program's own
//! conversion, and by each real etcd that is here: the same member of the same cluster, at the same revision.

use super::same::find_etcdctl;
use super::server::Server;
use super::snapshot::{content, etcd, fill, text, util};
use super::tool::Tool;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;

/// Releases that may be given something back, by the oldest that has to open it.
const WAYS: [(&str, &str); 4] = [("3.5", "3.5"), ("3.7", "3.5"), ("3.7", "3.7"), ("3.6", "3.6")];

fn export(data: &Path, to: &Path, words: &[&str]) -> Output {
    util(&[&["export", "--data-dir", text(data), "--to", text(to)], words].concat())
}

/// Keys, leases, users, an alarm; what of it must come back.
fn filled() -> (Server, Expected) {
    let server = Server::start();
    let ctl = Tool::ours(&server.endpoint);
    fill(&ctl);
    for words in [
        &["user", "add", "root:secret"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "ann:secret"],
        &["role", "add", "reader"],
        &["role", "grant-permission", "reader", "read", "k", "--prefix"],
        &["user", "grant-role", "ann", "reader"],
    ] {
        ctl.run(words, b"").ok();
    }
    let expected = Expected::of(&ctl);
    (server, expected)
}

/// What both sides must say.
#[derive(Debug, PartialEq)]
struct Expected {
    content: (String, String, String),
    user: String,
    role: String,
    /// Id and peer URLs of the member.
    member: String,
    cluster: serde_json::Value,
}

impl Expected {
    fn of(ctl: &Tool) -> Expected {
        let members: serde_json::Value =
            serde_json::from_str(&ctl.run(&["member", "list", "-w", "json"], b"").ok()).expect("JSON");
        let member = &members["members"][0];
        Expected {
            content: content(ctl),
            user: ctl.run(&["user", "get", "ann"], b"").ok(),
            role: ctl.run(&["role", "get", "reader"], b"").ok(),
            member: format!("{} {}", member["ID"], member["peerURLs"]),
            cluster: members["header"]["cluster_id"].clone(),
        }
    }
}

/// Each real etcd beside the one that is known.
fn etcds() -> Vec<(&'static str, PathBuf)> {
    let Some(known) = find_etcdctl() else { return Vec::new() };
    let all = known.ancestors().nth(4).map(Path::to_owned).unwrap_or_default();
    let place = |release: &str| all.join(release).join("usr/bin/etcd");
    ["3.5", "3.6", "3.7"]
        .into_iter()
        .map(|release| (release, place(release)))
        .filter(|(_, path)| path.exists())
        .collect()
}

#[test]
fn etcd_opens_what_was_exported() {
    let (mut server, expected) = filled();
    // What is in the log only has to come along.
    server.kill();
    let folder = tempfile::tempdir().expect("a folder");
    let etcds = etcds();
    if etcds.is_empty() {
        eprintln!("skipped in part: there is no etcd, see tools/install-etcd");
    }
    for (release, target) in WAYS {
        let Some((_, program)) = etcds.iter().find(|(found, _)| *found == release) else { continue };
        let place = tempfile::tempdir().expect("a folder");
        let output = export(&server.data_dir(), &place.path().join("data"), &["--target-version", target]);
        assert!(output.status.success(), "{output:?}");
        let etcd = etcd(program, place);
        assert_eq!(Expected::of(&etcd.ctl), expected, "etcd {release}, made for {target}");
        etcd.ctl.run(&["put", "after", "it"], b"").ok();
        etcd.ctl.run(&["get", "after"], b"").ok();
        println!("etcd {release} opened what was made for {target}");
    }
    // And this program takes it back.
    let place = TempDir::new_in(folder.path()).expect("a folder");
    let output = export(&server.data_dir(), &place.path().join("data"), &[]);
    assert!(output.status.success(), "{output:?}");
    let again = Server::start_in(place);
    assert_eq!(Expected::of(&Tool::ours(&again.endpoint)), expected);
    // The data directory is as it was.
    server.restart();
    assert_eq!(Expected::of(&Tool::ours(&server.endpoint)), expected);
}

#[test]
fn what_cannot_be_exported_is_refused() {
    let (mut server, _) = filled();
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("to");
    let error = |data: &Path, words: &[&str]| {
        let output = export(data, &to, words);
        assert!(!output.status.success() && !to.exists(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(error(&server.data_dir(), &[]).contains("in use by process"));
    server.kill();
    assert!(error(folder.path(), &[]).contains("no data directory of Plinth"));
    assert!(error(&server.data_dir(), &["--target-version", "3.4"]).contains("3.5, 3.6 or 3.7"));
    assert!(error(&server.data_dir(), &["--member", "nobody"]).contains("there are test ("));
    // What an export that was killed has left is no matter; what somebody else has is.
    let rest = folder.path().join("to.exporting/member");
    std::fs::create_dir_all(&rest).expect("created");
    let output = export(&server.data_dir(), &to, &["--member", "test"]);
    assert!(output.status.success() && to.join("member/snap/db").exists() && !rest.exists(), "{output:?}");
    let output = export(&server.data_dir(), &to, &[]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("not empty or could not be read"), "{output:?}");
}
