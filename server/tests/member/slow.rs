//! What the log says of slow requests, and of the flags at the start, in etcd's words and with its fields.

use super::common::PATIENCE;
use super::common::client::*;
use super::server::Server;
use serde_json::Value;
use std::time::{Duration, Instant};

/// Every line of the log with this message.
fn lines(server: &Server, message: &str) -> Vec<Value> {
    let log = server.log();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    lines.filter(|line| line["msg"] == message).collect()
}

/// What a line says beside who asked, when, and how long it took.
fn asked(line: &Value) -> (&str, [i64; 4], &str) {
    let number = |name: &str| line[name].as_i64().expect("a number");
    let figures = [number("request count"), number("request size"), number("response count"), number("response size")];
    (line["response type"].as_str().expect("a path"), figures, line["request content"].as_str().expect("a text"))
}

async fn wait_for_lines(server: &Server, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = lines(server, "request stats");
        if found.len() >= count {
            return found;
        }
        assert!(Instant::now() < deadline, "{} lines of {count}", found.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn slow_requests_have_a_line_each() {
    for reactors in ["1", "2"] {
        let server = Server::start(&["--warning-unary-request-duration=1ns", "--reactors", reactors]);
        let mut client = server.client().await;
        let put = client.put("foo", "bar", None).await.expect("put");
        let got = client.get("foo", None).await.expect("get");
        client.put("", "value", None).await.expect_err("refused");
        let txn = Txn::new()
            .when([Compare::version("k", CompareOp::Equal, 0)])
            .and_then([TxnOp::put("k", "v", None), TxnOp::get("k", None)])
            .or_else([TxnOp::get("k", None)]);
        let done = client.txn(txn).await.expect("txn");
        let large = client.put("large", vec![b'x'; 100_000], None).await.expect("put");
        let deleted = client.delete("f", Some(DeleteOptions::new().with_prefix())).await.expect("delete");
        client.lease_grant(60, None).await.expect("granted");

        let size = |message: &dyn Fn() -> usize| message() as i64;
        let put = size(&|| prost::Message::encoded_len(&put));
        let got = size(&|| prost::Message::encoded_len(&got));
        let done = size(&|| prost::Message::encoded_len(&done));
        let large = size(&|| prost::Message::encoded_len(&large));
        let deleted = size(&|| prost::Message::encoded_len(&deleted));
        let transaction = "compare:<key:\"k\" version:0> success:<request_put:<key:\"k\" value_size:1 > \
                           request_range:{key:\"k\"}> failure:<request_range:{key:\"k\"}>";
        let expected = [
            ("/etcdserverpb.KV/Put", [1, 10, 0, put], "key:\"foo\" value_size:3 "),
            ("/etcdserverpb.KV/Range", [0, 5, 1, got], "key:\"foo\""),
            ("/etcdserverpb.KV/Put", [1, 7, 0, 0], "value_size:5 "),
            ("/etcdserverpb.KV/Txn", [2, 13, 0, done], transaction),
            ("/etcdserverpb.KV/Put", [1, 100_011, 0, large], "key:\"large\" value_size:100000 "),
            ("/etcdserverpb.KV/DeleteRange", [0, 6, 1, deleted], "key:\"f\" range_end:\"g\""),
            ("/etcdserverpb.Lease/LeaseGrant", [-1; 4], ""),
        ];
        let found = wait_for_lines(&server, expected.len()).await;
        assert_eq!(found.iter().map(asked).collect::<Vec<_>>(), expected, "with {reactors} reactors");
        for line in &found {
            assert_eq!(line["level"], "warn");
            assert!(line["remote"].as_str().is_some_and(|remote| remote.starts_with("127.0.0.1:")), "{line}");
            let spent = line["time spent"].as_str().expect("a duration");
            assert!(plinth_api::go::parse_duration(spent).is_ok_and(|nanos| nanos > 1), "{line}");
            let started = line["start time"].as_str().expect("a time");
            assert!(started <= line["ts"].as_str().expect("a time"), "{line}");
        }
    }
}

#[tokio::test]
async fn a_wait_for_a_lock_is_told_when_it_is_over_and_quick_requests_are_not() {
    let server = Server::start(&["--warning-unary-request-duration=700ms"]);
    let mut client = server.client().await;
    let held = client.lock("mutex", None).await.expect("free");
    let mut second = client.clone();
    let waiting = tokio::spawn(async move { second.lock("mutex", None).await });
    tokio::time::sleep(Duration::from_millis(900)).await;
    client.unlock(held.key()).await.expect("unlocked");
    waiting.await.expect("joined").expect("locked");
    let found = wait_for_lines(&server, 1).await;
    assert_eq!(asked(&found[0]), ("/v3lockpb.Lock/Lock", [-1; 4], ""));
}

#[test]
fn the_start_line_shows_what_was_asked_for() {
    let server =
        Server::start(&["--snapshot-catchup-entries=77", "--snapshot-count=55", "--auto-compaction-retention=2h"]);
    let line = &lines(&server, "starting an etcd server")[0];
    assert_eq!((line["snapshot-count"].as_u64(), line["snapshot-catchup-entries"].as_u64()), (Some(55), Some(77)));
    assert_eq!(line["auto-compaction-retention"], "2h0m0s");
    let server = Server::start(&[]);
    let line = &lines(&server, "starting an etcd server")[0];
    assert_eq!(line["snapshot-catchup-entries"].as_u64(), Some(5000));
}
