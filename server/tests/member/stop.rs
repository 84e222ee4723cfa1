//! The end of a server: at once and in order, whoever has a stream open; and the start of its successor.

use super::common::client::*;
use super::common::{PATIENCE, Port, Process};
use super::server::{Server, command};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

/// What a stop may take whatever clients do. (As a rule it is a tenth of that; this is for busy machines.)
const LIMIT: Duration = Duration::from_secs(1);

fn stopped<T: std::fmt::Debug>(result: &Result<T, Error>) -> bool {
    let is_text =
        |status: &Error| status.code() == tonic::Code::Unavailable && status.message() == "etcdserver: server stopped";
    matches!(result, Err(status) if is_text(status))
}

/// Puts until the server refuses; the keys that were acknowledged.
async fn write_until_the_end(server: &Server, writer: usize) -> tokio::task::JoinHandle<Vec<String>> {
    let mut kv = server.client().await;
    tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        for n in 0.. {
            let key = format!("w/{writer}/{n}");
            match kv.put(key.clone(), "x", None).await {
                Ok(_) => acknowledged.push(key),
                Err(_) => break,
            }
        }
        acknowledged
    })
}

/// On the home's own connections and on those of edges: watches, keep-alives and a wait for a lock are told at once, and
/// puts under way are either answered or not there to be missed.
#[tokio::test(flavor = "multi_thread")]
async fn open_streams_do_not_hold_up_the_end() {
    for reactors in ["1", "3"] {
        let mut server = Server::start(&["--reactors", reactors]);
        let (mut watches, mut keepers, mut waiters, mut writers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let first = server.client().await;
        let held = first.clone().lock("lock", None).await.expect("free");
        for number in 0..8 {
            let client = server.client().await;
            let mut watch = client.clone().watch("watched", None).await.expect("a watch");
            assert!(watch.message().await.expect("created").expect("created").created());
            watches.push(watch);
            let lease = client.clone().lease_grant(60, None).await.expect("granted").id();
            keepers.push(client.clone().lease_keep_alive(lease).await.expect("kept alive"));
            let mut locks = client.clone();
            waiters.push(tokio::spawn(async move { locks.lock("lock", None).await }));
            writers.push(write_until_the_end(&server, number).await);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let begun = Instant::now();
        assert_eq!(tokio::task::block_in_place(|| server.terminate()).signal(), Some(15));
        let took = begun.elapsed();
        println!("{reactors} reactors: the end took {took:?}");
        assert!(took < LIMIT, "with {reactors} reactors the end took {took:?}");
        for watch in &mut watches {
            let end = watch.message().await;
            assert!(stopped(&end), "{end:?}");
        }
        for (_keeper, answers) in &mut keepers {
            let end = answers.message().await;
            assert!(stopped(&end), "{end:?}");
        }
        for waiter in waiters {
            assert!(waiter.await.expect("joined").is_err(), "nobody gives {held:?} back");
        }
        let mut acknowledged = Vec::new();
        for writer in writers {
            acknowledged.extend(writer.await.expect("joined"));
        }
        server.restart();
        let mut kv = server.client().await;
        let all = kv.get("w/", Some(GetOptions::new().with_prefix().with_keys_only())).await.expect("get");
        let there: std::collections::HashSet<_> = all.kvs().iter().map(|pair| pair.key().to_vec()).collect();
        assert!(acknowledged.len() > 8, "only {} puts", acknowledged.len());
        let lost: Vec<_> = acknowledged.iter().filter(|key| !there.contains(key.as_bytes())).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    }
}

/// Clients that answer nothing, not even the announcement that the server goes.
#[test]
fn silent_clients_do_not_hold_up_the_end() {
    for reactors in ["1", "3"] {
        let mut server = Server::start(&["--reactors", reactors]);
        let mut silent = Vec::new();
        for first in
            ["", "PRI * HTTP/2.0\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "GET / HTTP/1.1\r\n"]
        {
            for _ in 0..4 {
                let mut stream = std::net::TcpStream::connect(&server.endpoint).expect("connected");
                stream.write_all(first.as_bytes()).expect("sent");
                silent.push(stream);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
        let begun = Instant::now();
        assert_eq!(server.terminate().signal(), Some(15));
        let took = begun.elapsed();
        println!("{reactors} reactors: the end took {took:?}");
        assert!(took < LIMIT, "with {reactors} reactors the end took {took:?}");
    }
}

const WAITS: &str = "the data directory is in use by another process; waiting for it";

/// The successor of a server that is still there waits for it, and can be told to stop meanwhile.
#[test]
fn a_second_process_waits_for_the_directory() {
    let mut server = Server::start(&[]);
    let folder = server.data_dir().parent().expect("a folder").to_path_buf();
    let port = Port::reserve();
    let mut second = Process::start(&mut command(&folder, &port, &[]), &folder.join("second.log")).expect("it starts");
    second.wait_for_log(WAITS);
    std::thread::sleep(Duration::from_millis(300));
    assert!(second.has_ended().is_none(), "it waits");
    assert_eq!(second.terminate().signal(), Some(15), "also while it waits");

    let mut third = Process::start(&mut command(&folder, &port, &[]), &folder.join("third.log")).expect("it starts");
    third.wait_for_log(WAITS);
    server.terminate();
    third.wait_until_ready();
    assert_eq!(third.log().matches(WAITS).count(), 1, "then every ten seconds");
    let deadline = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(port.address()).is_err() {
        assert!(Instant::now() < deadline, "it serves");
    }
}
