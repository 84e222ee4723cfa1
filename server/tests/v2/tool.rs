//! `etcdctl` with `ETCDCTL_API=2`: ours, and etcd's own where one is at hand, which must print the same.

use crate::side::Side;
use std::env;
use std::path::Path;
use std::process::Command;

/// What a run came to: exit code, standard output, standard error.
type Ran = (Option<i32>, String, String);

/// Lines of the tool; a first word `!` says that only success or failure is compared.
const LINES: &[&str] = &[
    "set /a/one 1",
    "get /a/one",
    "get /a/missing",
    "get /a",
    "ls",
    "ls /a",
    "ls -r -p --sort /",
    "ls /a/one",
    "mk /a/one 2",
    "mk /a/two 2",
    "! mk --in-order /queue q",
    "mkdir /d",
    "mkdir /d",
    "mkdir /a/one",
    "setdir --ttl 100 /e",
    "update /a/one 11",
    "update /none 1",
    "set --swap-with-value 11 /a/one 12",
    "set --swap-with-value 11 /a/one 13",
    "set --swap-with-index 1 /a/one 13",
    "rm /a/one",
    "rm /a",
    "rm --with-value x /a/two",
    "rm --with-value 2 /a/two",
    "rmdir /d",
    "rmdir /d",
    "rm --recursive /a",
    "-o json set /j <&>",
    "-o json get /j",
    "-o json ls /",
    "-o extended get /j",
    "-o extended rm /j",
    "-o json get /none",
    "set /w v",
    "! watch --after-index 1 /w",
    "member list",
    "cluster-health",
    "member remove 1234",
    "role list",
    "role add r",
    "role add r",
    "role grant --path /a/* --readwrite r",
    "role get r",
    "role revoke --path /a/* --write r",
    "role get r",
    "user add root:pw",
    "user add u:p",
    "user grant --roles r u",
    "user get u",
    "user list",
    "user revoke --roles r u",
    "auth enable",
    "auth enable",
    "-u root:pw user remove u",
    "-u root:pw auth disable",
    "role remove r",
];

fn run(tool: &Path, word: Option<&str>, address: &str, line: &str) -> Ran {
    let mut command = Command::new(tool);
    command.args(word).env("ETCDCTL_API", "2").args(["--endpoints", &format!("http://{address}")]);
    let output = command.args(line.split(' ')).output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_string();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Addresses, ids and times are each server's own.
fn same(text: &str, address: &str) -> String {
    let mut out = text.replace(address, "ADDRESS");
    while let Some(at) = out.find("\"expiration\":\"") {
        let end = out[at + 14..].find('"').map_or(out.len(), |end| at + 15 + end);
        out.replace_range(at..end, "TIME");
    }
    let words = out.split_inclusive([' ', '\n', ':', '=']).map(|word| {
        let plain = word.trim_end_matches([' ', '\n', ':', '=']);
        let is_id = plain.len() >= 14 && plain.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_id { word.replace(plain, "ID") } else { word.to_string() }
    });
    words.collect()
}

#[test]
fn the_tool_prints_what_etcds_prints() {
    let ours = Path::new(env!("CARGO_BIN_EXE_plinth"));
    let side = Side::plinth(&["--bcrypt-cost=4"]);
    let reference = env::var("PLINTH_ETCD_BIN").ok().map(|etcd| Path::new(&etcd).with_file_name("etcdctl"));
    let other = reference.map(|tool| (Side::plinth(&["--bcrypt-cost=4"]), tool));
    for line in LINES {
        let (line, only_status) = line.strip_prefix("! ").map_or((*line, false), |line| (line, true));
        let found = run(ours, Some("ctl"), &side.address(), line);
        let Some((server, tool)) = &other else {
            assert!(found.0.is_some_and(|code| code <= 5 || code == 128), "{line}: {found:?}");
            continue;
        };
        let expected = run(tool, None, &server.address(), line);
        assert_eq!(found.0, expected.0, "{line}: {found:?}, {expected:?}");
        if only_status || line.contains("member list") {
            continue;
        }
        let of = |ran: &Ran, address: &str| (same(&ran.1, address), same(&ran.2, address));
        assert_eq!(of(&found, &side.address()), of(&expected, &server.address()), "{line}");
    }
}

/// A file as an etcd 0.4 has left it.
const FIRST_FORMAT: &str = r#"{"Root":{"Path":"/","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"",
    "Children":{"a":{"Path":"/a","CreatedIndex":2,"ModifiedIndex":2,"ExpireTime":"0001-01-01T00:00:00Z","Value":"",
    "Children":{"b":{"Path":"/a/b","CreatedIndex":2,"ModifiedIndex":2,"ExpireTime":"0001-01-01T00:00:00Z","Value":"x",
    "Children":null}}},"_h":{"Path":"/_h","CreatedIndex":3,"ModifiedIndex":3,"ExpireTime":"0001-01-01T00:00:00Z","Value":"y",
    "Children":null}}},"CurrentIndex":3,"CurrentVersion":2}"#;

#[test]
fn keys_of_a_file_are_imported() {
    let side = Side::plinth(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("0.4.snap");
    std::fs::write(&file, FIRST_FORMAT).expect("written");
    let run = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plinth"));
        command.arg("ctl").env("ETCDCTL_API", "2").env("ETCDCTL_ENDPOINTS", format!("http://{}", side.address()));
        let output = command.args(words).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let file = file.to_str().expect("text");
    assert_eq!(run(&["import", "--snap", file]), (Some(0), "finished importing 1 keys\n".to_owned()));
    assert_eq!(run(&["import", "--snap", file, "--hidden", "/_h"]).1, "finished importing 2 keys\n");
    assert_eq!(run(&["get", "/a/b"]).1, "x\n");
    assert_eq!(run(&["get", "/_h"]).1, "y\n");
    assert_eq!(run(&["import"]), (Some(1), "no snapshot file provided (use --snap)\n".to_owned()));
    assert_eq!(run(&["import", "--snap", "/none"]).1, "cannot read snapshot file /none\n");
}
