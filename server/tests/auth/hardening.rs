//! What nobody who is not let in may cost or see: tokens of any length, passwords that are counted, keys in a crash.

use super::common::{PATIENCE, Port, Process};
use super::realm::*;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

fn page(endpoint: &str, target: &str) -> String {
    let mut stream = std::net::TcpStream::connect(endpoint).expect("it listens");
    write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_are_counted_by_what_came_of_them() {
    let realm = Realm::start(&[]).await;
    let count = |success: &str| {
        let name = format!("plinth_auth_password_checks_total{{success=\"{success}\"}} ");
        let page = page(&realm.server.endpoint, "/metrics");
        page.lines().find_map(|line| line.strip_prefix(&name)?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    let before = [count("true"), count("false")];
    let mut client = realm.nobody().await;
    for _ in 0..3 {
        let _ = client.authenticate("root", "wrong").await;
        let _ = client.authenticate("nobody", "x").await;
    }
    client.authenticate("root", "root").await.expect("right");
    // Pages are made on another thread.
    let deadline = std::time::Instant::now() + PATIENCE;
    while [count("true"), count("false")] != [before[0] + 1.0, before[1] + 6.0] {
        assert!(std::time::Instant::now() < deadline, "{before:?}, then {:?}", [count("true"), count("false")]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_any_length_is_nobodys_at_once() {
    let realm = Realm::start(&[]).await;
    let mut client = realm.nobody().await;
    for length in [1, 1 << 10, 10 << 10] {
        client.set_token(Some(&"x".repeat(length)));
        assert_eq!(refusal(client.get("k", None).await), BAD_TOKEN, "{length}");
    }
    // More than the fields of a request may have.
    client.set_token(Some(&"x".repeat(1 << 20)));
    refusal(client.get("k", None).await);
    realm.nobody().await.status().await.expect_err("nobody, but answered");
}

/// Starts a server in `folder` that may leave core dumps, and has it crash.
fn crash(folder: &Path, flags: &[&str]) -> (ExitStatus, String) {
    let port = Port::reserve();
    let mut command = Command::new("sh");
    // A part of a dump is dump enough.
    command.current_dir(folder).args(["-c", "ulimit -c 2000; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_plinth")]);
    command.args(["--data-dir", "data", "--listen-client-urls", &port.url(), "--advertise-client-urls", &port.url()]);
    command.args(["--listen-peer-urls", "http://127.0.0.1:0"]).args(flags);
    let mut process = Process::start(&mut command, &folder.join("log")).expect("starts");
    process.wait_until_ready();
    process.signal("-ABRT");
    (process.wait_for_end(), process.log())
}

#[test]
fn keys_are_in_no_core_dump_and_their_files_are_looked_at() {
    let folder = tempfile::tempdir().expect("a folder");
    let (status, _) = crash(folder.path(), &[]);
    let system_dumps = status.core_dumped();
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "nobody knows it").expect("written");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).expect("set");
    let flag = format!("--auth-token=jwt,priv-key={},sign-method=HS256", secret.display());
    let (status, log) = crash(folder.path(), &[&flag]);
    assert!(!status.core_dumped(), "{status:?}");
    assert!(log.contains("the private key can be read by everybody"), "{log}");
    if !system_dumps {
        eprintln!("this system leaves no core dumps; nothing is shown by there being none");
    }
}
