//! The binary as an operator meets it: exit codes, what is on which stream, the lines supervisors wait for, probes, and
//! what it says on machines that refuse it something.

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
    peer_port: Port,
}

impl Server {
    fn start(data_dir: &str) -> Server {
        Server::start_as(data_dir, |_| {})
    }

    fn start_as(data_dir: &str, prepare: impl FnOnce(&mut Command)) -> Server {
        let (client_port, peer_port) = (Port::reserve(), Port::reserve());
        let (client, peer) = (client_port.url(), peer_port.url());
        let mut command = plinth(&["--name=a", "--data-dir", data_dir]);
        command
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .stderr(Stdio::piped());
        prepare(&mut command);
        let mut child = command.spawn().expect("the binary runs");
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
        Server { child, lines, client_port, peer_port }
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

/// As Docker's and containerd's default profiles refuse it (EPERM, ENOSYS of late), and security modules (EACCES).
#[test]
fn a_machine_without_io_uring_is_told_what_to_do() {
    for (errno, wanted) in [
        (libc::EPERM, "io_uring is not permitted here"),
        (libc::EACCES, "io_uring is not permitted here"),
        (libc::ENOSYS, "this kernel has no io_uring, or a container's seccomp profile pretends so"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = plinth(&["--data-dir", folder.path().join("data").to_str().expect("UTF-8")]);
        command.args(["--listen-client-urls=http://127.0.0.1:0", "--advertise-client-urls=http://127.0.0.1:0"]);
        command.args(["--listen-peer-urls=http://127.0.0.1:0", "--reactors=2"]);
        let output = common::sys::without_io_uring(&mut command, errno).output().expect("the binary runs");
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(wanted) && stderr.contains("io_uring_setup, io_uring_enter"), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

/// 64 KiB is what many systems allow.
#[test]
fn little_locked_memory_is_enough() {
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    let mut server = Server::start_as(data_dir.to_str().expect("UTF-8"), |command| {
        common::sys::with_locked_memory(command, 64 << 10);
    });
    let hint = server.wait_for(
        "buffers of the write-ahead log are not registered with io_uring, which takes some more CPU per flush; allow more \
         locked memory (ulimit -l, LimitMEMLOCK=, CAP_IPC_LOCK)",
    );
    assert_eq!((&hint["limit"], &hint["wanted-bytes"]), (&"65536 bytes".into(), &(2 << 20).into()), "{hint}");
    server.wait_for("ready to serve client requests");
    assert!(server.get("/health").ends_with("\r\n\r\n{\"health\":\"true\",\"reason\":\"\"}"));
    send_signal(&server.child, "-TERM");
    server.wait_for("closed etcd server");
    server.child.wait().expect("it ends");
}

#[test]
fn a_part_of_etcds_data_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let wal = folder.path().join("member/wal");
    std::fs::create_dir_all(&wal).expect("created");
    std::fs::write(wal.join("0000000000000000-0000000000000000.wal"), "").expect("written");
    let (code, _, stderr) = output(&["--data-dir", folder.path().to_str().expect("UTF-8")]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("a part of an etcd server's data"), "{stderr}");
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

/// A founder asks the others whether there is a cluster already. Those that do not answer cost it one time-out together, and
/// whoever asks it meanwhile is answered at once.
#[test]
fn a_founder_waits_once_for_all_who_do_not_answer() {
    let silent = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    let server = Server::start_as(data_dir.to_str().expect("UTF-8"), |command| {
        let words: Vec<String> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let own = words.iter().position(|word| word == "--initial-advertise-peer-urls").expect("given") + 1;
        let others = silent.iter().zip(["b", "c", "d"]);
        let others = others.map(|(port, name)| format!("{name}=http://{}", port.local_addr().expect("bound")));
        let all: Vec<String> = others.chain([format!("a={}", words[own])]).collect();
        command.args(["--initial-cluster", &all.join(",")]);
    });
    let start = std::time::Instant::now();
    let mut stream = loop {
        match TcpStream::connect(server.peer_port.address()) {
            Ok(stream) => break stream,
            Err(error) => assert!(start.elapsed() < PATIENCE, "nobody listens: {error}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(b"GET /members HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("the member is starting\n"), "{answer}");
    let seconds = |line: &serde_json::Value| {
        let time = line["ts"].as_str().expect("a time");
        let [minutes, seconds] = [&time[14..16], &time[17..23]].map(|part| part.parse::<f64>().expect("a number"));
        60.0 * minutes + seconds
    };
    let failures = [(); 3].map(|()| server.wait_for("failed to get cluster response"));
    for failure in &failures {
        let error = failure["error"].as_str().expect("an error");
        assert!(error.starts_with("read tcp 127.0.0.1:") && error.ends_with(": i/o timeout"), "{error}");
    }
    let apart = (seconds(&failures[2]) - seconds(&failures[0])).rem_euclid(3600.0);
    assert!(apart < 1.5, "they were asked one after the other, {apart} s apart");
    server.wait_for("bootstrapped a new cluster");
}

/// Those who found a cluster find each other in a registry of another one, and one too many is told so.
#[test]
fn founders_find_each_other_in_a_registry() {
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let registry = Server::start(&data_dir("registry"));
    registry.wait_for("ready to serve client requests");
    let endpoint = registry.client_port.url();
    let ctl = |server: &Server, arguments: &[&str]| {
        let endpoint = server.client_port.url();
        let (code, stdout, stderr) = output(&[&["ctl", "--endpoints", &endpoint], arguments].concat());
        assert_eq!(code, Some(0), "{arguments:?}: {stderr}");
        stdout
    };
    let discovery = ["--discovery-token=blue", "--discovery-endpoints", &endpoint];
    let unknown = Server::start_as(&data_dir("unknown"), |command| {
        command.args(discovery);
    });
    let failure = unknown.wait_for("the server stopped");
    assert_eq!(failure["error"], "discovery: size key not found");

    ctl(&registry, &["put", "/_etcd/registry/blue/_config/size", "2"]);
    let start = |name: &'static str| {
        Server::start_as(&data_dir(name), |command| {
            command.args(discovery).args(["--name", name]);
        })
    };
    let first = start("first");
    first.wait_for("entered the registry of discovery; waiting for the others");
    let second = start("second");
    for founder in [&first, &second] {
        founder.wait_for("ready to serve client requests");
    }
    let members = ctl(&second, &["member", "list"]);
    assert!(members.contains("first") && members.contains("second") && members.lines().count() == 2, "{members}");
    assert_eq!(
        ctl(&registry, &["get", "--prefix", "/_etcd/registry/blue/members/", "--keys-only"]).matches('\n').count(),
        4
    );
    let late = start("late");
    assert_eq!(late.wait_for("the server stopped")["error"], "discovery: cluster is full");
}

/// A founder that waits for others ends when it is told to.
#[test]
fn a_founder_that_waits_for_others_can_be_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = silent.local_addr().expect("bound").to_string();
    let mut server = Server::start_as(folder.path().join("data").to_str().expect("UTF-8"), |command| {
        command.args(["--discovery-token=t", "--discovery-endpoints", &endpoint]);
    });
    server.wait_for("the registry of discovery does not answer; trying again");
    send_signal(&server.child, "-TERM");
    let status = server.child.wait().expect("it ends");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15), "{status}");
}
