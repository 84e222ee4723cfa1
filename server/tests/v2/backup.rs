//! Snapshots for the outside hold the v2 store, in buckets that etcd leaves alone.

use crate::http::{Connection, ask, once};
use crate::side::Side;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn run(tool: &Path, words: &[&str]) {
    let output = Command::new(tool).args(words).output().expect("it runs");
    assert!(output.status.success(), "{tool:?} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// etcd's `etcdutl` of the releases that are at hand.
fn reference_tools() -> Vec<PathBuf> {
    let etcds = [env::var("PLINTH_ETCD_BIN"), env::var("PLINTH_GATEWAY_ETCD")];
    let tools = etcds.into_iter().flatten().map(|etcd| Path::new(&etcd).with_file_name("etcdutl"));
    tools.filter(|tool| tool.exists()).collect()
}

fn bytes_of(file: &str) -> u64 {
    std::fs::metadata(file).expect("it was saved").len()
}

#[test]
fn a_snapshot_holds_the_v2_store() {
    let plinth = Path::new(env!("CARGO_BIN_EXE_plinth"));
    let mut side = Side::plinth(&[]);
    let address = side.address();
    let mut connection = Connection::open(&address);
    for number in 0..300 {
        connection.send(&ask("PUT", &format!("/v2/keys/dir/{number}"), &format!("value={number}&ttl=5000")));
    }
    run(plinth, &["ctl", "--endpoints", &address, "put", "v3", "key"]);
    let before = once(&address, "GET", "/v2/keys/dir/7", "").json();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("snapshot.db").display().to_string();
    run(plinth, &["ctl", "--endpoints", &address, "snapshot", "save", &file]);
    let without = folder.path().join("without.db").display().to_string();
    run(plinth, &["ctl", "--endpoints", &address, "snapshot", "save", "--without-v2", &without]);
    assert!(bytes_of(&without) < bytes_of(&file), "the buckets are left out");
    for (number, tool) in reference_tools().into_iter().enumerate() {
        for (form, file) in [("with", &file), ("without", &without)] {
            let data = folder.path().join(format!("etcd{number}-{form}")).display().to_string();
            run(&tool, &["snapshot", "restore", file, "--data-dir", &data]);
        }
    }
    side.kill();
    side.empty();
    side.restore(&file, &[]);
    let after = once(&address, "GET", "/v2/keys/dir/7", "").json();
    for part in ["key", "value", "createdIndex", "modifiedIndex", "expiration"] {
        assert_eq!(after["node"][part], before["node"][part]);
    }
    assert_eq!(once(&address, "GET", "/v2/keys/dir", "").json()["node"]["nodes"].as_array().map(Vec::len), Some(300));
    side.kill();
    side.empty();
    side.restore(&file, &["--without-v2"]);
    assert_eq!(once(&address, "GET", "/v2/keys/dir", "").status, 404);
    run(plinth, &["ctl", "--endpoints", &address, "get", "v3"]);
    side.kill();
    side.empty();
    side.restore(&without, &[]);
    assert_eq!(once(&address, "GET", "/v2/keys/dir", "").status, 404);
    run(plinth, &["ctl", "--endpoints", &address, "get", "v3"]);
}

#[test]
fn keys_are_copied_to_v3_and_back() {
    let plinth = Path::new(env!("CARGO_BIN_EXE_plinth"));
    let side = Side::plinth(&[]);
    let address = side.address();
    let output = |words: &[&str]| {
        let output = Command::new(plinth).args(words).output().expect("it runs");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    for (target, form) in [("a/1", "value=x"), ("a/2", "value=y&ttl=500"), ("b", "dir=true"), ("c", "value=%26")] {
        assert_eq!(once(&address, "PUT", &format!("/v2/keys/{target}"), form).status, 201);
    }
    let migrate = |more: &[&str]| {
        let words = ["util", "migrate-v2", "--endpoints", &address, "--prefix", "/v3"];
        output(&[&words[..], more].concat())
    };
    let told =
        "left out: /b/ (an empty directory)\n3 keys would be copied, 0 were there already, 1 leases, 1 left out\n";
    assert_eq!(migrate(&["--dry-run"]), told);
    assert_eq!(migrate(&[]), told.replace("would be copied", "copied"));
    assert_eq!(migrate(&[]).lines().last(), Some("0 keys copied, 3 were there already, 1 leases, 1 left out"));
    let keys = output(&["ctl", "--endpoints", &address, "get", "--prefix", "/v3"]);
    assert_eq!(keys, "/v3/a/1\nx\n/v3/a/2\ny\n/v3/c\n&\n");
    once(&address, "DELETE", "/v2/keys/a?recursive=true", "");
    let told = migrate(&["--back"]);
    assert_eq!(told, "2 keys copied, 1 were there already, 1 leases, 0 left out\n");
    let back = once(&address, "GET", "/v2/keys/a/2", "").json();
    assert_eq!(back["node"]["value"], "y");
    assert!((400..=500).contains(&back["node"]["ttl"].as_i64().expect("a time to live")), "{back}");
}
