//! Start, stop, restart, and what is refused at start.

use super::common::Port;
use super::common::client::*;
use super::server::{Server, command};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;

#[tokio::test]
async fn everything_survives_a_restart() {
    let mut server = Server::start(&[]);
    let (revision, lease) = {
        let client = server.client().await;
        let mut kv = client.clone();
        let lease = client.clone().lease_grant(600, None).await.expect("grant").id();
        kv.put("leased", "x", Some(PutOptions::new().with_lease(lease))).await.expect("put");
        for n in 0..500 {
            kv.put(format!("k/{}", n % 50), n.to_string(), None).await.expect("put");
        }
        let compacted = kv.compact(200, None).await.expect("compact");
        (compacted.header().expect("header").revision(), lease)
    };
    for orderly in [true, false] {
        match orderly {
            true => assert_eq!(server.terminate().signal(), Some(15), "it ends by the signal, as etcd does"),
            false => server.kill(),
        }
        server.restart();
        let client = server.client().await;
        let mut kv = client.clone();
        let got = kv.get("k/7", None).await.expect("get");
        assert_eq!(got.header().expect("header").revision(), revision);
        assert_eq!((got.kvs()[0].value(), got.kvs()[0].version()), (&b"457"[..], 10));
        let info = client.clone().lease_time_to_live(lease, None).await.expect("time to live");
        assert!(info.ttl() > 500 && info.granted_ttl() == 600, "{info:?}");
        let old = kv.get("k/7", Some(GetOptions::new().with_revision(100))).await;
        let error = old.expect_err("compacted").to_string();
        assert!(error.contains("required revision has been compacted"), "{error}");
    }
}

#[tokio::test]
async fn several_reactors_serve_one_keyspace() {
    let server = Server::start(&["--reactors", "3"]);
    let mut writers = Vec::new();
    for writer in 0..12 {
        let mut kv = server.client().await;
        writers.push(tokio::spawn(async move {
            for n in 0..50 {
                kv.put(format!("r/{writer}/{n}"), "x", None).await.expect("put");
                kv.get(format!("r/{writer}/{n}"), None).await.expect("get");
            }
        }));
    }
    for writer in writers {
        writer.await.expect("joined");
    }
    let mut kv = server.client().await;
    let all = kv.get("r/", Some(GetOptions::new().with_prefix().with_count_only())).await.expect("count");
    assert_eq!(all.count(), 600);
}

/// Answers of several megabytes are made in steps and sent in pieces, from a reactor's own connections and from others'.
#[tokio::test]
async fn large_answers_are_whole() {
    for reactors in ["1", "3"] {
        let server = Server::start(&["--reactors", reactors]);
        let mut kv = server.client().await;
        let value = |n: usize| vec![b'a' + (n % 26) as u8; 40_000 + 1_999 * n];
        for n in 0..40 {
            kv.put(format!("large/{n:02}"), value(n), None).await.expect("put");
        }
        for _ in 0..6 {
            let mut kv = server.client().await;
            let prefix = GetOptions::new().with_prefix();
            let answer = kv.get("large/", Some(prefix)).await.expect("get");
            assert_eq!((answer.count(), answer.more()), (40, false));
            assert!(answer.header().is_some_and(|header| header.revision() == 41));
            for (n, pair) in answer.kvs().iter().enumerate() {
                assert_eq!(pair.key(), format!("large/{n:02}").as_bytes());
                assert!(pair.value() == value(n), "value {n}");
            }
        }
    }
}

fn refused(folder: &std::path::Path, arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|argument| argument.to_string()).collect();
    let output = command(folder, &Port::reserve(), &arguments).output().expect("the binary starts");
    assert!(!output.status.success(), "it should have been refused");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_directory_of_etcd_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let wal = folder.path().join("data/member/wal");
    std::fs::create_dir_all(&wal).expect("created");
    std::fs::write(wal.join("0000000000000000-0000000000000000.wal"), b"etcd's").expect("written");
    let text = refused(folder.path(), &[]);
    assert!(text.contains("etcd"), "{text}");
}

#[test]
fn damage_in_the_middle_of_the_log_is_refused() {
    let mut server = Server::start(&[]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut kv = server.client().await;
        for n in 0..200 {
            kv.put("k", n.to_string(), None).await.expect("put");
        }
    });
    server.kill();
    let log = server.data_dir().join("member");
    let segment = find(&log, "0000000000000001.wal").expect("the first segment");
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(&segment).expect("opened");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("read");
    // The first record behind the headers, well before the newest ones.
    let at = 4096 * 20 + 40;
    bytes[at] ^= 0x40;
    std::fs::write(&segment, &bytes).expect("written");
    file.flush().expect("flushed");
    let text = refused(server.data_dir().parent().expect("a folder"), &[]);
    assert!(text.contains("0000000000000001.wal"), "it names the file: {text}");
}

fn find(folder: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(folder).ok()? {
        let path = entry.ok()?.path();
        if path.is_dir() {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if path.file_name().is_some_and(|found| found == name) {
            return Some(path);
        }
    }
    None
}

#[test]
fn http_endpoints_answer_on_the_client_port() {
    let server = Server::start(&[]);
    for (path, wanted) in [
        ("/health", r#"{"health":"true","reason":""}"#),
        ("/readyz?verbose", "[+]linearizable_read ok"),
        ("/version", r#""etcdserver":"3.7.1""#),
        ("/metrics", "etcd_server_has_leader 1"),
        ("/nothing", "404 page not found"),
    ] {
        let mut stream = std::net::TcpStream::connect(&server.endpoint).expect("connected");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        assert!(answer.contains(wanted), "{path}: {answer}");
    }
}
