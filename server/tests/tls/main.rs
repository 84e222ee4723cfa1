//! The real binary with certificates: who gets in, over which protocols, what is said of those who do not, and that
//! certificates can be exchanged while it runs.

mod authority;
#[path = "../common/mod.rs"]
mod common;
mod dial;
mod members;
mod names;

use authority::{Authority, params};
use common::client::*;
use common::{Port, Process};
use dial::Dialer;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// A server and what belongs to it.
struct Server {
    process: Process,
    port: Port,
}

/// Starts one whose URLs for clients have these schemes, all at one port.
fn start(folder: &Path, schemes: &[&str], flags: &[&str]) -> Server {
    let port = Port::reserve();
    let urls: Vec<String> = schemes.iter().map(|scheme| format!("{scheme}://{}", port.address())).collect();
    let mut process = spawn(folder, &urls.join(","), flags);
    process.wait_until_ready();
    Server { process, port }
}

fn spawn(folder: &Path, urls: &str, flags: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plinth"));
    command.arg("--data-dir").arg(folder.join("data"));
    command.args(["--listen-client-urls", urls, "--advertise-client-urls", urls]);
    command.args(["--listen-peer-urls", "http://127.0.0.1:0"]).args(flags);
    Process::start(&mut command, &folder.join("log")).expect("the binary starts")
}

fn folder() -> (TempDir, Authority) {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path());
    (folder, authority)
}

fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(test);
}

#[test]
fn clients_over_both_versions_and_both_protocols() {
    let (folder, authority) = folder();
    let [cert, key] = authority.sign("server", params("server", &["localhost"])).texts();
    let flags = ["--cert-file", &cert, "--key-file", &key, "--reactors", "2", "--host-whitelist", "only.example"];
    let mut server = start(folder.path(), &["https"], &flags);
    run(async {
        for dialer in [Dialer::new(&authority, None), Dialer::old(&authority, None)] {
            let mut client = dialer.client(&server.port).await.expect("connected");
            let value = vec![7; 1 << 20];
            client.put("k", value.clone(), None).await.expect("put");
            let answer = client.get("k", None).await.expect("got");
            assert_eq!(answer.kvs()[0].value(), value);
            // Several, so that both reactors are asked. Names in certificates take the place of the list of hosts.
            for _ in 0..4 {
                let health = dialer.get(&server.port, "/health").expect("an answer");
                assert!(health.starts_with("HTTP/1.1 200") && health.contains("\"health\":\"true\""), "{health}");
            }
        }
    });
    let clear = std::net::TcpStream::connect(server.port.address()).expect("connected");
    let mut clear = (&clear, &clear);
    std::io::Write::write_all(&mut clear.0, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    assert_eq!(std::io::Read::read(&mut clear.1, &mut [0; 100]).unwrap_or(0), 0, "nothing is said in clear");
    server.process.wait_for_log("tls: first record does not look like a TLS handshake");
    let log = server.process.log();
    for words in [
        "\"msg\":\"starting with client TLS\"",
        "serving client traffic securely",
        "rejected connection on client endpoint",
    ] {
        assert!(log.contains(words), "{words} in {log}");
    }
    server.process.terminate();
}

#[test]
fn clear_and_encrypted_at_one_port() {
    let (folder, authority) = folder();
    let [cert, key] = authority.sign("server", params("server", &["localhost"])).texts();
    let server = start(folder.path(), &["http", "https"], &["--cert-file", &cert, "--key-file", &key]);
    run(async {
        let mut encrypted = Dialer::new(&authority, None).client(&server.port).await.expect("connected");
        let mut clear = common::client::Client::connect(server.port.address(), None).await.expect("connected");
        encrypted.put("k", "v", None).await.expect("put");
        assert_eq!(clear.get("k", None).await.expect("got").kvs()[0].value(), b"v");
    });
    assert!(Dialer::new(&authority, None).get(&server.port, "/version").expect("an answer").contains("etcdserver"));
}

#[test]
fn certificates_of_clients_are_demanded_and_revoked() {
    let (folder, authority) = folder();
    let [cert, key] = authority.sign("server", params("server", &["localhost"])).texts();
    let alice = authority.sign("alice", params("alice", &["alice.example"]));
    let bob = authority.sign("bob", params("bob", &["bob.example"]));
    let list = folder.path().join("revoked.crl");
    std::fs::write(&list, authority.revoke(&[])).expect("written");
    let (ca, crl) = (authority.file.display().to_string(), list.display().to_string());
    // The authority alone demands certificates.
    let flags = [
        ["--cert-file", &cert],
        ["--key-file", &key],
        ["--trusted-ca-file", &ca],
        ["--client-crl-file", &crl],
        ["--client-cert-allowed-hostname", "alice.example"],
    ];
    let mut server = start(folder.path(), &["https"], flags.as_flattened());
    let health = |pair| Dialer::new(&authority, pair).get(&server.port, "/health");
    assert!(health(Some(&alice)).is_ok());
    assert!(health(None).expect_err("refused").contains("CertificateRequired"));
    assert!(health(Some(&bob)).expect_err("refused").contains("BadCertificate"));
    // To a client of TLS 1.3 the handshake is complete before it is refused; its request must not cost it the reason.
    let late = Dialer::new(&authority, Some(&bob)).get_after(Duration::from_millis(100), &server.port, "/health");
    assert!(late.as_ref().expect_err("refused").contains("BadCertificate"), "{late:?}");
    std::fs::write(&list, authority.revoke(&[&alice])).expect("written");
    assert!(health(Some(&alice)).is_err());
    std::fs::write(&list, "no list").expect("written");
    assert!(health(Some(&alice)).is_err(), "a list that cannot be read lets nobody in");
    std::fs::write(&list, authority.revoke(&[&bob])).expect("written");
    assert!(health(Some(&alice)).is_ok());
    for words in [
        "tls: client didn't provide a certificate",
        "client certificate authentication failed",
        "revoked",
        "malformed crl",
    ] {
        server.process.wait_for_log(words);
    }
}

#[test]
fn certificates_are_exchanged_while_it_runs() {
    let (folder, authority) = folder();
    let pair = authority.sign("server", params("server", &["localhost"]));
    let [cert, key] = pair.texts();
    let mut server = start(folder.path(), &["https"], &["--cert-file", &cert, "--key-file", &key]);
    let other_folder = tempfile::tempdir().expect("a folder");
    let other = Authority::new(other_folder.path());
    let health = |authority| Dialer::new(authority, None).get(&server.port, "/health");
    run(async {
        let mut open = Dialer::new(&authority, None).client(&server.port).await.expect("connected");
        assert!(health(&other).is_err());
        // Half of it: the old pair goes on.
        let next = other.sign("server", params("server", &["localhost"]));
        std::fs::copy(&next.cert, &pair.cert).expect("copied");
        assert!(health(&authority).is_ok() && health(&other).is_err());
        next.replace(&pair);
        assert!(health(&other).is_ok() && health(&authority).is_err());
        open.put("k", "v", None).await.expect("connections go on");
    });
    server.process.wait_for_log("failed to create peer certificate");
    server.process.wait_for_log("certificates were read again");
}

#[test]
fn what_cannot_be_served_ends_the_start() {
    let (folder, authority) = folder();
    let [cert, key] = authority.sign("server", params("server", &["localhost"])).texts();
    let [_, other] = authority.sign("other", params("other", &["localhost"])).texts();
    let url = "https://127.0.0.1:0";
    for (flags, words) in [
        (["--cert-file", &cert, "--key-file", &other], "tls: private key does not match public key"),
        (["--cert-file", "/nonexistent", "--key-file", &key], "open /nonexistent: no such file or directory"),
        (["--cert-file", &cert, "--key-file", &cert], "tls: failed to find any PEM data in key input"),
    ] {
        let mut process = spawn(folder.path(), url, &flags);
        assert!(!process.wait_for_end().success());
        assert!(process.log().contains(words), "{words}");
    }
}

/// Handshakes had no deadline: whoever began one and said no more held a connection for ever.
#[test]
fn ghsa_6vch_q96h_7gc3_a_handshake_has_its_time() {
    use std::io::{Read, Write};
    let (folder, authority) = folder();
    let [cert, key] = authority.sign("server", params("server", &["localhost"])).texts();
    let server = start(folder.path(), &["https"], &["--cert-file", &cert, "--key-file", &key]);
    let start = std::time::Instant::now();
    // The beginning of a record, in pieces, and then no more.
    let begun = |pieces: &'static [u8]| {
        let mut socket = std::net::TcpStream::connect(server.port.address()).expect("connected");
        for byte in pieces {
            socket.write_all(&[*byte]).expect("sent");
        }
        socket
    };
    for mut socket in [begun(b""), begun(b"\x16"), begun(b"\x16\x03\x01\x02\x00\x01\x00")] {
        socket.set_read_timeout(Some(common::PATIENCE)).expect("set");
        // An alert may come before the end.
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
        let elapsed = start.elapsed();
        assert!((9..common::PATIENCE.as_secs()).contains(&elapsed.as_secs()), "{elapsed:?}");
    }
    assert!(Dialer::new(&authority, None).get(&server.port, "/health").is_ok());
}
