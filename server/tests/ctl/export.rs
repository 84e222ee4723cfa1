//! `plinth util export`: what Plinth holds, given back as a data directory of etcd. Opened by this program's own
//! conversion, and by each real etcd that is here: the same member of the same cluster, at the same revision.

use super::same::find_etcdctl;
use super::server::Server;
use super::snapshot::{content, etcd, fill, text, util};
use super::tool::Tool;
use std::io::{Read, Write};
use std::net::TcpStream;
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
    activate_alarm(&server.endpoint, &ctl);
    let expected = Expected::of(&ctl);
    assert!(expected.alarms.contains("alarm:NOSPACE"), "{expected:?}");
    (server, expected)
}

/// Which no command of the tool does.
fn activate_alarm(endpoint: &str, ctl: &Tool) {
    let member = Expected::of(ctl).member;
    let body = format!(
        r#"{{"action":"ACTIVATE","alarm":"NOSPACE","memberID":"{}"}}"#,
        member.split(' ').next().expect("an id")
    );
    let mut stream = TcpStream::connect(endpoint).expect("it listens");
    let length = body.len();
    let head =
        format!("POST /v3/maintenance/alarm HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}");
    write!(stream, "{head}\r\n\r\n{body}").expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// What both sides must say.
#[derive(Debug, PartialEq)]
struct Expected {
    content: (String, String, String),
    alarms: String,
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
            alarms: ctl.run(&["alarm", "list"], b"").ok(),
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
        let refused = etcd.ctl.run(&["put", "after", "it"], b"");
        assert!(refused.failure().1.contains("database space exceeded"), "{refused:?}");
        etcd.ctl.run(&["alarm", "disarm"], b"").ok();
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

/// Names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// With a slash at its end, into an empty directory, behind a link, into what another file system has below this name.
#[test]
fn an_export_goes_where_it_is_told() {
    let (mut server, _) = filled();
    server.kill();
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    for empty in ["empty", "behind", "kept open"] {
        std::fs::create_dir(at(empty)).expect("created");
    }
    std::fs::create_dir(at("empty/lost+found")).expect("created");
    std::os::unix::fs::symlink(at("behind"), at("link")).expect("linked");
    for to in ["new/", "deep/er/", "empty/", "link", "kept open"] {
        let output = export(&server.data_dir(), &at(to), &[]);
        assert!(output.status.success() && at(to).join("member/snap/db").exists(), "{to}: {output:?}");
        let rest = names(&at(to)).into_iter().filter(|name| name != "lost+found").collect::<Vec<_>>();
        assert_eq!(rest, ["member"], "{to}");
    }
    assert!(at("link").is_symlink() && at("behind/member").exists(), "the link stays one");
    assert_eq!(names(folder.path()), ["behind", "deep", "empty", "kept open", "link", "new"], "nothing is left beside");
    // The directory that is there is a file system of its own, which nothing can be renamed onto; one that is too small.
    let script = r#"mount -t tmpfs -o "size=$4" none "$1" && "$2" util export --data-dir "$3" --to "$1"; ls -A "$1""#;
    std::fs::create_dir(at("mounted")).expect("created");
    for (size, left, told) in [("9M", "member\n", "exported data directory"), ("40k", "", "No space left on device")] {
        let data = server.data_dir();
        let words = [text(&at("mounted")), env!("CARGO_BIN_EXE_plinth"), text(&data), size].map(str::to_owned);
        let mut command = std::process::Command::new("unshare");
        let Ok(output) = command.args(["-rm", "sh", "-c", script, "sh"]).args(words).output() else { return };
        let text = String::from_utf8_lossy(&output.stderr);
        if text.contains("unshare:") || text.contains("mount:") {
            return eprintln!("skipped in part: no mounts in a namespace of one's own here");
        }
        assert!(text.contains(told) && output.stdout == left.as_bytes(), "{output:?}");
    }
}

/// Whatever fails leaves nothing behind; a conversion that has not ended is no member to export.
#[test]
fn an_export_that_fails_leaves_nothing() {
    let (mut server, _) = filled();
    server.kill();
    let folder = tempfile::tempdir().expect("a folder");
    let (dangling, file) = (folder.path().join("dangling"), folder.path().join("file"));
    std::os::unix::fs::symlink(folder.path().join("nothing"), &dangling).expect("linked");
    std::fs::write(&file, "mine").expect("written");
    for to in [&dangling, &file] {
        let output = export(&server.data_dir(), to, &[]);
        assert!(String::from_utf8_lossy(&output.stderr).contains("not empty or could not be read"), "{output:?}");
    }
    assert_eq!(names(folder.path()), ["dangling", "file"]);
    for mark in ["converting", "converted"] {
        let mark = server.data_dir().join("member").join(mark);
        std::fs::write(&mark, "").expect("written");
        let output = export(&server.data_dir(), &folder.path().join("new"), &[]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains("its conversion has not ended"), "{output:?}");
        std::fs::remove_file(&mark).expect("removed");
    }
}
