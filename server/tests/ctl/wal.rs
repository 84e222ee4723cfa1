//! `plinth wal` on the log of a server that was ended without a warning.

use super::server::Server;
use super::tool::Tool;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The folder with the segments of a log.
fn log_folder(folder: &Path) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    if entries.iter().any(|path| path.extension().is_some_and(|extension| extension == "wal")) {
        return Some(folder.to_owned());
    }
    entries.iter().filter(|path| path.is_dir()).find_map(|path| log_folder(path))
}

fn wal(words: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plinth"));
    command.arg("wal").args(words).arg(folder).output().expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_log_is_inspected_verified_and_refused_when_broken() {
    let mut server = Server::start();
    let tool = Tool::ours(&server.endpoint);
    for n in 0..20 {
        tool.run(&["put", "k", &n.to_string()], b"").ok();
    }
    server.kill();
    let folder = log_folder(&server.data_dir()).expect("a log");
    let verified = wal(&["verify"], &folder);
    assert!(verified.status.success() && text(&verified.stdout).starts_with("sound: "), "{verified:?}");
    let inspected = wal(&["inspect", "--json"], &folder);
    let sum: serde_json::Value = serde_json::from_slice(&inspected.stdout).expect("JSON");
    assert_eq!(sum["outcome"]["sound"], true, "{sum}");
    let entries = sum["contents"].as_array().expect("a list").iter().find(|part| part["kind"] == "Entry");
    assert!(entries.expect("entries")["records"].as_u64() >= Some(20), "{sum}");
    let shown = wal(&["inspect"], &folder);
    assert!(text(&shown.stdout).contains(".wal ") && text(&shown.stdout).contains("Entry: "), "{shown:?}");

    // A log with one broken header is not taken for a sound one, and nothing is repaired unasked.
    let mut segments: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("readable")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    segments.sort();
    let mut bytes = std::fs::read(&segments[0]).expect("readable");
    bytes[..64].fill(7);
    std::fs::write(&segments[0], &bytes).expect("writable");
    let refused = wal(&["verify"], &folder);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(text(&refused.stderr).contains("0000000000000001.wal"), "{refused:?}");
    let planned = wal(&["repair"], &folder);
    assert_eq!(planned.status.code(), Some(1), "{planned:?}");
    assert!(text(&planned.stderr).contains("nothing was changed"), "{planned:?}");
    assert_eq!(std::fs::read(&segments[0]).expect("readable"), bytes);
    assert_eq!(wal(&["nonsense"], &folder).status.code(), Some(128));
}
