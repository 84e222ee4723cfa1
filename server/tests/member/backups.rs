//! Scheduled backups of the real binary: made, read back, pruned, restored; and failures that stop nothing.

use super::common::PATIENCE;
use super::metrics::Page;
use super::server::Server;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const PLINTH: &str = env!("CARGO_BIN_EXE_plinth");

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The whole backups in a folder, the oldest first.
fn backups(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "db")).collect();
    found.sort();
    found
}

fn details(endpoint: &str) -> String {
    let mut stream = TcpStream::connect(endpoint).expect("it listens");
    write!(stream, "GET /readyz?verbose HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").expect("asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text
}

fn started(folder: &Path, keep: &str) -> Server {
    let folder = format!("--backup-dir={}", folder.display());
    Server::start(&[&folder, "--backup-interval=1s", &format!("--backup-keep={keep}")])
}

#[tokio::test]
async fn a_backup_holds_what_the_member_holds_and_old_ones_go() {
    let folder = tempfile::tempdir().expect("a folder");
    // What a process that was killed has left goes; what is not this member's stays.
    fs::write(folder.path().join("0000000000000001-20200101T000000Z-r1.db"), "another member's").expect("written");
    let mut server = started(folder.path(), "2");
    let mut client = server.client().await;
    for number in 0..500 {
        client.put(format!("key/{}", number % 90), vec![7; 300], None).await.expect("a put");
    }
    let lease = client.lease_grant(4000, None).await.expect("a lease").id;
    let hash = client.hash_kv(0).await.expect("a hash");
    // One that was begun after the last write.
    wait_for("a backup holds all", || {
        backups(folder.path()).last().is_some_and(|last| last.to_string_lossy().contains("-r501."))
    });
    let last = backups(folder.path()).pop().expect("there is one");
    let first_of_all = backups(folder.path()).into_iter().nth(1).expect("there is one");
    wait_for("an old one goes", || !first_of_all.exists());
    wait_for("old ones go", || backups(folder.path()).len() == 3);
    assert!(folder.path().join("0000000000000001-20200101T000000Z-r1.db").exists(), "of this member only");
    let text = details(&server.endpoint);
    assert!(text.contains("[+]backup ok: last 20") && text.contains("at revision 501"), "{text}");
    let page = Page::scrape(&server.endpoint);
    assert!(page.sum("plinth_backup_last_success_timestamp_seconds", "") > 1.7e9);
    assert_eq!(page.sum("plinth_backup_last_success_revision", ""), 501.0);
    assert_eq!(page.sum("plinth_backup_failures_total", ""), 0.0);

    // Restored, it is the same.
    let copy = folder.path().join("copy");
    fs::copy(if last.exists() { last } else { backups(folder.path()).pop().expect("one") }, &copy).expect("copied");
    let status = Command::new(PLINTH).args(["util", "snapshot", "status"]).arg(&copy).output().expect("it runs");
    assert!(String::from_utf8_lossy(&status.stdout).contains(", 501, 90, "), "{status:?}");
    server.kill();
    fs::remove_dir_all(server.data_dir()).expect("removed");
    let restored = Command::new(PLINTH)
        .args(["util", "snapshot", "restore"])
        .arg(&copy)
        .arg("--data-dir")
        .arg(server.data_dir())
        .args(["--name", "test", "--initial-cluster", "test=http://localhost:2380"])
        .output()
        .expect("it runs");
    assert!(restored.status.success(), "{restored:?}");
    server.restart();
    let mut client = server.client().await;
    let again = client.hash_kv(0).await.expect("a hash");
    assert_eq!((again.hash, again.hash_revision), (hash.hash, hash.hash_revision));
    assert_eq!(client.leases().await.expect("leases").leases[0].id, lease);
    // The time of the last one is known at once, from its name.
    wait_for("the last success", || {
        Page::scrape(&server.endpoint).sum("plinth_backup_last_success_timestamp_seconds", "") > 0.0
    });
}

#[tokio::test]
async fn a_backup_that_fails_is_loud_and_stops_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("not there yet");
    let server = started(&place, "3");
    let mut client = server.client().await;
    client.put("k", "v", None).await.expect("a put");
    wait_for("it is told", || server.log().contains("no backup was made"));
    let text = details(&server.endpoint);
    assert!(text.contains("[!]backup failing: ") && text.contains("not there yet"), "{text}");
    assert!(text.contains("last none yet") && text.contains("\nok\n"), "{text}");
    let page = Page::scrape(&server.endpoint);
    assert!(page.sum("plinth_backup_failures_total", "") >= 1.0);
    assert_eq!(page.sum("plinth_backup_last_success_timestamp_seconds", ""), 0.0);
    client.put("k", "w", None).await.expect("it serves");
    fs::create_dir(&place).expect("created");
    wait_for("the next one is good", || details(&server.endpoint).contains("[+]backup ok"));
    assert_eq!(fs::metadata(&backups(&place)[0]).expect("there").permissions(), {
        use std::os::unix::fs::PermissionsExt;
        fs::Permissions::from_mode(0o100_600)
    });
}
