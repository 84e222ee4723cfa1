//! The v2 store of an etcd that is stopped, 2.3 to 3.5: the tree of its newest `.snap`, and what its log says behind that.
//!
//! Files are only read. Requests that the log does not know to be committed are left out, as etcd would leave them to consensus.

use crate::etcd_dir;
use crate::failure::{Exit, Failure};
use plinth_bbolt::snap::{Snap, V2Nodes};
use plinth_bbolt::wal::{EntryType, v2_request};
use plinth_v2::json::parse_time;
use plinth_v2::tree::Adopted;
use plinth_v2::{Tree, etcd, path};
use serde_json::Value;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

fn failed(text: impl ToString) -> Failure {
    Failure::new(Exit::Error, text.to_string())
}

/// The tree of a data directory.
///
/// # Errors
/// If its files are not there, or are damaged.
pub(super) fn tree(data_dir: &Path, wal_dir: Option<&Path>) -> Result<Tree, Failure> {
    let member = data_dir.join("member");
    let snapshot = etcd_dir::newest(&member.join("snap"))?;
    let nodes = snapshot.as_ref().map(|snapshot| snapshot.v2_nodes(parse_time)).transpose().map_err(failed)?;
    let mut tree = adopt(nodes.unwrap_or_default())?;
    let from = snapshot.map_or(0, |snapshot| snapshot.index);
    let log = etcd_dir::read_log(wal_dir.unwrap_or(&member.join("wal")))?;
    if log.entries.first().is_some_and(|first| first.index > from + 1) {
        return Err(failed(format!("the log begins behind entry {from}, where the newest whole .snap ends")));
    }
    let behind = log.entries.iter().filter(|entry| entry.index > from && entry.index <= log.hard_state.commit);
    for entry in behind.filter(|entry| entry.kind == EntryType::Normal) {
        let request = v2_request(&entry.data).filter(|request| !etcd::is_own(request));
        let command = request.map(etcd::command).transpose();
        let command = command.map_err(|error| failed(format!("entry {} of the log: {error}", entry.index)))?;
        if let Some(command) = command.flatten() {
            tree.follow(&command);
        }
    }
    Ok(tree)
}

/// The tree in one file: a `.snap`, or what an etcd 0.4 has written.
///
/// # Errors
/// If it is neither.
pub(super) fn snapshot(bytes: &[u8]) -> Result<Tree, Failure> {
    let nodes = match Snap::read(bytes) {
        Ok(snapshot) => snapshot.v2_nodes(parse_time),
        Err(_) => Snap::nodes_of_the_first_format(bytes, parse_time),
    };
    adopt(nodes.map_err(failed)?)
}

fn adopt(found: V2Nodes) -> Result<Tree, Failure> {
    let nodes = found.nodes.into_iter().map(|node| Adopted {
        path: node.path,
        created: node.created,
        modified: node.modified,
        deadline: node.deadline,
        value: node.value.map(Into::into),
    });
    Tree::adopt(found.index, nodes).map_err(failed)
}

/// A node and all below it, as the API shows it now.
///
/// # Errors
/// If it is not there.
pub(super) fn listed(tree: &Tree, key: &str) -> Result<Value, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let read = tree.peek(&path::join(path::KEYS, key.as_bytes()), true, now).map_err(failed)?;
    let mut json = Vec::new();
    read.write_json(&mut json, false);
    let mut whole: Value = serde_json::from_slice(&json).map_err(failed)?;
    Ok(whole["node"].take())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v2::migrate::{Leaf, leaves};
    use std::io::Read;
    use std::process::{Command, Stdio};

    /// Unpacks a golden directory (`tools/golden-v2`).
    fn golden(release: &str) -> tempfile::TempDir {
        let packed = format!("{}/tests/data/v2-{release}.tar.gz", env!("CARGO_MANIFEST_DIR"));
        let mut tar = Vec::new();
        let file = std::fs::File::open(packed).expect("it is there");
        flate2::read::GzDecoder::new(file).read_to_end(&mut tar).expect("gzip");
        let folder = tempfile::tempdir().expect("a folder");
        let mut unpacking =
            Command::new("tar").arg("-xC").arg(folder.path()).stdin(Stdio::piped()).spawn().expect("tar");
        std::io::copy(&mut &tar[..], &mut unpacking.stdin.take().expect("piped")).expect("taken");
        assert!(unpacking.wait().expect("ends").success());
        folder
    }

    #[test]
    fn directories_of_etcd_are_read() {
        for release in ["2.3", "3.4", "3.5"] {
            let folder = golden(release);
            let tree = tree(folder.path(), None).expect("readable");
            let (mut all, mut left_out) = (Vec::new(), Vec::new());
            leaves(&listed(&tree, "/").expect("the root"), &mut all, &mut left_out);
            let value = |key: &str| all.iter().find(|leaf: &&Leaf| leaf.key == key).map(|leaf| leaf.value.as_str());
            assert_eq!(all.len(), 25 + 3, "{release}");
            for (key, expected) in [
                ("/dir/0", Some("old 0")),
                ("/dir/3", Some("new 3")),
                ("/dir/4", Some("swapped")),
                ("/a b", Some("<")),
                ("/lock", Some("mine")),
                ("/gone", None),
                ("/tree/a/b", None),
            ] {
                assert_eq!(value(key), expected, "{release} {key}");
            }
            assert!(all.iter().any(|leaf| leaf.key == "/lock" && leaf.ttl > 0));
            assert!(all.iter().any(|leaf| leaf.key.starts_with("/queue/0000") && leaf.value == "job"));
            assert_eq!(left_out, ["/empty/ (an empty directory)"]);
            let hidden = listed(&tree, "/_hidden").expect("it is there");
            assert_eq!(hidden["nodes"][0]["value"], "seen");
            let snap = etcd_dir::newest(&folder.path().join("member/snap")).expect("readable").expect("there");
            assert!(snap.index > 0 && !tree.contains(b"/1/gone"));
        }
    }

    #[test]
    fn files_of_the_first_format_are_read() {
        let json =
            br#"{"Root":{"Path":"/","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"",
            "Children":{"foo":{"Path":"/foo","CreatedIndex":2,"ModifiedIndex":2,"ExpireTime":"0001-01-01T00:00:00Z",
            "Value":"bar","Children":null}}},"CurrentIndex":2,"CurrentVersion":2}"#;
        let tree = snapshot(json).expect("readable");
        assert_eq!(listed(&tree, "/foo").expect("it is there")["value"], "bar");
        assert!(snapshot(b"nonsense").is_err());
    }
}
