//! The real binary with its fail points, driven as outside test suites drive etcd's: by environment and by HTTP.

#[path = "../common/mod.rs"]
mod common;
mod migration;

use common::{PATIENCE, Port, Process};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Sends one request; status and body.
fn ask(address: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes()).expect("sent");
    let mut answer = String::new();
    // A server that ends breaks off.
    let _ = stream.read_to_string(&mut answer);
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_string()))
}

struct Server {
    process: Process,
    client: Port,
    points: Port,
}

fn start(folder: &Path, environment: &str, client: Port, points: Port) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plinth"));
    command
        .arg("--data-dir")
        .arg(folder.join("data"))
        .args(["--listen-client-urls", &client.url(), "--advertise-client-urls", &client.url()])
        .args(["--listen-peer-urls", "http://127.0.0.1:0"])
        .env("GOFAIL_FAILPOINTS", environment)
        .env("GOFAIL_HTTP", points.address());
    let mut process = Process::start(&mut command, &folder.join("log")).expect("the binary starts");
    process.wait_until_ready();
    Server { process, client, points }
}

fn fresh(folder: &Path, environment: &str) -> Server {
    start(folder, environment, Port::reserve(), Port::reserve())
}

impl Server {
    fn point(&self, method: &str, name: &str, terms: &str) -> (u16, String) {
        ask(&self.points.address(), method, &format!("/{name}"), terms)
    }

    fn put(&self) -> u16 {
        ask(&self.client.address(), "POST", "/v3/kv/put", r#"{"key":"YQ==","value":"Yg=="}"#).0
    }
}

#[test]
fn points_are_listed_set_and_cleared() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = fresh(folder.path(), "beforeSendWatchResponse=off;raftAfterSave=3*print(\"x\")");
    let (status, list) = server.point("GET", "", "");
    assert_eq!(status, 200);
    assert!(list.lines().any(|line| line == "beforeSendWatchResponse=off"), "{list}");
    assert!(list.lines().any(|line| line == "raftBeforeSave="), "{list}");
    assert_eq!(list.lines().count(), plinth_server::failpoints::NAMES.len());
    assert_eq!(server.point("GET", "beforeSendWatchResponse", ""), (200, "off\n".into()));
    assert_eq!(server.point("GET", "raftBeforeSave", "").0, 404);
    assert_eq!(server.point("PUT", "raftBeforeSave", "1*off->off").0, 204);
    assert_eq!(server.point("GET", "raftBeforeSave", ""), (200, "1*off->off\n".into()));
    assert_eq!(server.point("DELETE", "raftBeforeSave", "").0, 204);
    assert_eq!(server.point("DELETE", "raftBeforeSave", "").0, 400);
    assert_eq!(server.point("PUT", "raftBeforeSave", "explode").0, 400);
    assert_eq!(server.point("PUT", "nothing", "off").0, 400);
    assert_eq!(server.point("POST", "raftBeforeSave", "off").0, 405);
    assert_eq!(server.put(), 200);
}

#[test]
fn a_panic_ends_the_process_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = fresh(folder.path(), "");
    assert_eq!(server.put(), 200);
    for (name, terms) in
        [("raftBeforeSave", "panic"), ("raftAfterSave", "panic(\"on purpose\")"), ("beforeCommit", "panic")]
    {
        assert_eq!(server.point("PUT", name, terms).0, 204);
        let _ = server.put();
        assert_eq!(server.process.wait_for_end().code(), Some(2), "{name}");
        assert!(server.process.log().contains(&format!("panic: failpoint panic: {name}")), "{name}");
        let Server { client, points, .. } = server;
        server = start(folder.path(), "", client, points);
        let range = ask(&server.client.address(), "POST", "/v3/kv/range", r#"{"key":"YQ=="}"#);
        assert!(range.0 == 200 && range.1.contains(r#""count":"1""#), "{name}: {}", range.1);
    }
}

#[test]
fn sleeps_and_returns_do_what_they_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = fresh(folder.path(), "");
    assert_eq!(server.point("PUT", "beforeApplyOneEntryNormal", "1*sleep(\"700ms\")").0, 204);
    let began = Instant::now();
    assert_eq!(server.put(), 200);
    assert!(began.elapsed() >= Duration::from_millis(700), "{:?}", began.elapsed());
    assert_eq!(server.point("PUT", "defragOpenFileError", "return(\"no room\")").0, 204);
    let failed = ask(&server.client.address(), "POST", "/v3/maintenance/defragment", "{}");
    assert_eq!(failed, (500, r#"{"code":2,"message":"no room"}"#.into()));
    assert_eq!(server.point("DELETE", "defragOpenFileError", "").0, 204);
    assert_eq!(ask(&server.client.address(), "POST", "/v3/maintenance/defragment", "{}").0, 200);
}

/// The data file's disk does not answer for a while: the member says so, goes on serving, and is well again.
#[test]
fn a_data_file_that_stalls_is_told_and_over_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = fresh(folder.path(), "");
    let ready = || ask(&server.client.address(), "GET", "/readyz?verbose", "");
    assert_eq!(ready().0, 200);
    assert_eq!(server.point("PUT", "beforeCommit", "1*sleep(\"4s\")").0, 204);
    assert_eq!(server.put(), 200);
    let wait_for = |status: u16| {
        let begin = Instant::now();
        while ready().0 != status {
            assert!(begin.elapsed() < PATIENCE, "{:?}", ready());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait_for(503);
    let (_, why) = ready();
    assert!(why.contains("the disk of the data file has not answered for"), "{why}");
    assert_eq!(server.put(), 200, "acknowledgements do not wait for the data file");
    wait_for(200);
    let log = server.process.log();
    let count = |text| log.matches(text).count();
    assert!(count("the disk does not answer: ") > 0 && count("the disk answers again") > 0, "{log}");
}

#[test]
fn what_cannot_be_read_is_no_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_plinth"))
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .env("GOFAIL_FAILPOINTS", "raftBeforeSave=explode")
        .output()
        .expect("it runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("failpoint: could not parse"), "{output:?}");
}
