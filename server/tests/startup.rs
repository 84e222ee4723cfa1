//! The binary as an operator meets it: exit codes, what is on which stream, the lines supervisors wait for, probes,
//! and that two servers never share a directory.

#[path = "common/mod.rs"]
mod common;

use common::{PATIENCE, Port, send_signal};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;

fn plinth(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plinth"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = plinth(arguments).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// A running server, its log line by line.
struct Server {
    child: Child,
    lines: mpsc::Receiver<serde_json::Value>,
    client_port: Port,
    _peer_port: Port,
}

impl Server {
    fn start(data_dir: &str) -> Server {
        let (client_port, peer_port) = (Port::reserve(), Port::reserve());
        let (client, peer) = (client_port.url(), peer_port.url());
        let mut child = plinth(&["--name=a", "--data-dir", data_dir])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Server { child, lines, client_port, _peer_port: peer_port }
    }

    /// The next line with this message.
    fn wait_for(&self, message: &str) -> serde_json::Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("no {message:?}: {error}"));
            if line["msg"] == message {
                return line;
            }
        }
    }

    /// Sends bytes and reads until the server closes the connection.
    fn exchange(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.client_port.address()).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }

    fn get(&self, target: &str) -> String {
        self.exchange(&format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn version_and_help_are_printed() {
    let (code, stdout, stderr) = output(&["--version"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.starts_with("etcd Version: 3.7.1\nGit SHA: ") && stdout.lines().count() == 4, "{stdout}");
    let (code, stdout, _) = output(&["--help"]);
    assert!(code == Some(0) && stdout.contains("--listen-client-urls 'http://localhost:2379'"), "{stdout}");
}

#[test]
fn a_wrong_command_line_exits_with_2_and_usage() {
    let (code, stdout, stderr) = output(&["--nope"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.starts_with("flag provided but not defined: -nope\nUsage:\n"), "{stderr}");
}

#[test]
fn an_unusable_configuration_exits_with_1_and_says_why_in_the_log() {
    let (code, _, stderr) = output(&["--election-timeout=1"]);
    assert_eq!(code, Some(1));
    let last: serde_json::Value = serde_json::from_str(stderr.lines().next_back().expect("a line")).expect("JSON");
    assert_eq!(last["msg"], "failed to verify flags");
    assert!(last["error"].as_str().is_some_and(|error| error.contains("--heartbeat-interval[100ms]")), "{last}");

    let shadowed = plinth(&["--name=a"]).env("ETCD_NAME", "a").output().expect("the binary runs");
    assert_eq!(shadowed.status.code(), Some(1));
    let line: serde_json::Value = serde_json::from_slice(&shadowed.stderr).expect("JSON");
    assert_eq!((&line["level"], &line["environment-variable"]), (&"fatal".into(), &"ETCD_NAME".into()));
}

#[test]
fn the_data_of_etcd_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let wal = folder.path().join("member/wal");
    std::fs::create_dir_all(&wal).expect("created");
    std::fs::write(wal.join("0000000000000000-0000000000000000.wal"), "").expect("written");
    let (code, _, stderr) = output(&["--data-dir", folder.path().to_str().expect("UTF-8")]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("etcdctl snapshot save"), "{stderr}");
}

#[test]
fn a_server_announces_itself_answers_probes_and_ends_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    let data_dir = data_dir.to_str().expect("UTF-8");
    let mut server = Server::start(data_dir);
    server.wait_for("starting an etcd server");
    server.wait_for("published local member to cluster through raft");
    server.wait_for("now serving peer/client/metrics");
    server.wait_for("ready to serve client requests");
    let serving = server.wait_for("serving client traffic insecurely; this is strongly discouraged!");
    assert_eq!(serving["address"], server.client_port.address());

    let (code, _, stderr) = output(&["--data-dir", data_dir]);
    assert!(code == Some(1) && stderr.contains("is in use by process"), "{stderr}");

    assert!(server.get("/health").ends_with("\r\n\r\n{\"health\":\"true\",\"reason\":\"\"}"));
    assert!(server.get("/livez?verbose").ends_with("\r\n\r\n[+]serializable_read ok\nok\n"));
    let ready = server.get("/readyz?verbose");
    for check in ["data_corruption", "serializable_read", "linearizable_read", "non_learner"] {
        assert!(ready.contains(&format!("[+]{check} ok\n")), "{ready}");
    }
    assert!(server.get("/version").ends_with(r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#));
    assert!(server.get("/metrics").contains("\netcd_server_has_leader 1\n"));
    assert!(server.get("/nope").starts_with("HTTP/1.1 404 Not Found\r\n"));
    assert!(server.exchange("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400 Bad Request: missing required Host"));
    let pipelined = server.exchange(
        "GET /version HTTP/1.1\r\nHost: x\r\n\r\nPOST /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    assert!(pipelined.starts_with("HTTP/1.1 200 OK\r\n"), "{pipelined}");
    assert!(pipelined.contains("HTTP/1.1 405 Method Not Allowed\r\n") && pipelined.contains("Allow: GET\r\n"));

    send_signal(&server.child, "-TERM");
    assert_eq!(server.wait_for("received signal; shutting down")["signal"], "terminated");
    server.wait_for("closing etcd server");
    server.wait_for("closed etcd server");
    let status = server.child.wait().expect("it ends");
    // etcd ends by the signal itself once it is done, or with 0 as the first process of a container.
    let by_the_signal = std::os::unix::process::ExitStatusExt::signal(&status) == Some(15);
    assert!(status.success() || by_the_signal, "{status}");
}
