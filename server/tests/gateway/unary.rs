//! Paths, methods, headers, errors.

use super::client::{Connection, ask, call, must};
use super::server::Server;
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn requests_are_told_apart_as_etcd_tells_them() {
    let server = Server::plinth(&[]);
    let address = server.address.as_str();
    for (method, path, status, body) in [
        ("POST", "/v3/kv/range/", 404, r#"{"code":5,"message":"Not Found"}"#),
        ("POST", "/v3/KV/range", 404, r#"{"code":5,"message":"Not Found"}"#),
        ("POST", "/v3/", 404, r#"{"code":5,"message":"Not Found"}"#),
        ("POST", "/v3/kv/rangestream", 404, r#"{"code":5,"message":"Not Found"}"#),
        ("GET", "/v3/nothing", 404, r#"{"code":5,"message":"Not Found"}"#),
        ("GET", "/v3/kv/range", 501, r#"{"code":12,"message":"Method Not Allowed"}"#),
        ("PUT", "/v3/watch", 501, r#"{"code":12,"message":"Method Not Allowed"}"#),
        ("DELETE", "/v3/lease/keepalive", 501, r#"{"code":12,"message":"Method Not Allowed"}"#),
        ("POST", "/v3alpha/kv/range", 404, "404 page not found\n"),
        ("POST", "/v3x", 404, "404 page not found\n"),
        ("POST", "/v3", 307, ""),
        ("POST", "/v3//kv/range", 307, ""),
        ("OPTIONS", "/v3/kv/range", 200, ""),
    ] {
        let answer = ask(address, method, path, "", "{}");
        assert_eq!((answer.status, answer.text().as_str()), (status, body), "{method} {path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{method} {path}");
    }
    let put = ask(address, "POST", "/v3beta/kv/put?x=y", "Content-Type: text/plain\r\n", r#"{"key":"YQ=="}"#);
    assert_eq!((put.status, put.header("grpc-metadata-content-type")), (200, Some("application/grpc")));
    assert_eq!(put.json()["header"]["revision"], "2");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    assert_eq!(ask(address, "POST", "/v3/kv/range", form, r#"{"key":"YQ"} and more"#).json()["count"], "1");
    assert_eq!(call(address, "/v3/kv/range", "").text(), r#"{"code":3,"message":"etcdserver: key is not provided"}"#);
    let moved = ask(address, "POST", "/v3/./kv//range?a=b", "", "");
    assert_eq!((moved.status, moved.header("location")), (307, Some("/v3/kv/range?a=b")));
}

#[test]
fn one_connection_serves_many_calls() {
    let server = Server::plinth(&[]);
    let mut connection = Connection::open(&server.address);
    for round in 0..20 {
        connection.request("POST", "/v3/kv/put", "", r#"{"key":"YQ==","value":"Yg=="}"#);
        assert_eq!(connection.answer().json()["header"]["revision"], (2 + round).to_string());
        connection.request("POST", "/v3/kv/put", "", "{");
        assert_eq!(connection.answer().status, 400);
    }
    // Two at once, of which the second waits its turn; a body in pieces; one that says what it expects.
    connection.request("POST", "/v3/kv/range", "", r#"{"key":"YQ=="}"#);
    connection.request("GET", "/health", "", "");
    assert_eq!(connection.answer().json()["count"], "1");
    assert_eq!(connection.answer().json()["health"], "true");
    connection.begin("/v3/lease/keepalive");
    connection.chunk(r#"{"ID":1}{"ID""#);
    connection.chunk(":2}");
    connection.chunk("");
    assert_eq!(connection.answer().text().lines().count(), 2);
    connection.request("POST", "/v3/kv/range", "", r#"{"key":"YQ=="}"#);
    assert_eq!(connection.answer().json()["count"], "1");
}

#[test]
fn deadlines_end_calls() {
    let server = Server::plinth(&[]);
    let address = server.address.as_str();
    let first = must(address, "/v3/lock/lock", r#"{"name":"bA=="}"#);
    assert!(first["key"].is_string());
    let start = Instant::now();
    let second = ask(address, "POST", "/v3/lock/lock", "Grpc-Timeout: 300m\r\n", r#"{"name":"bA=="}"#);
    assert_eq!((second.status, second.json()), (504, json!({"code": 4, "message": "context deadline exceeded"})));
    assert!(start.elapsed() >= Duration::from_millis(300));
    let bad = ask(address, "POST", "/v3/lock/lock", "Grpc-Timeout: soon\r\n", "");
    assert_eq!((bad.status, bad.json()), (400, json!({"code": 3, "message": "invalid grpc-timeout: soon"})));
    assert_eq!(ask(address, "POST", "/v3/kv/range", "Grpc-Timeout: 0S\r\n", r#"{"key":"YQ=="}"#).status, 200);
    // Who waited and has gone leaves nothing behind: the lock is free when its first owner gives it back.
    let unlock = json!({"key": first["key"]}).to_string();
    must(address, "/v3/lock/unlock", &unlock);
    let third = ask(address, "POST", "/v3/lock/lock", "Grpc-Timeout: 20S\r\n", r#"{"name":"bA=="}"#);
    assert_eq!(third.status, 200, "{}", third.text());
}

#[test]
fn large_bodies_and_answers_go_through() {
    let server = Server::plinth(&["--max-request-bytes", "6000000"]);
    let address = server.address.as_str();
    let value = "QUFB".repeat(1_000_000);
    must(address, "/v3/kv/put", &json!({"key": "YQ==", "value": value}).to_string());
    let answer = must(address, "/v3/kv/range", r#"{"key":"YQ=="}"#);
    assert!(answer["kvs"][0]["value"] == value.as_str(), "the value as it was put");
    for key in ["YjE=", "YjI=", "YjM="] {
        must(address, "/v3/kv/put", &json!({"key": key, "value": value}).to_string());
    }
    let answer = must(address, "/v3/kv/range", r#"{"key":"AA==","range_end":"AA=="}"#);
    assert_eq!(answer["kvs"].as_array().map(Vec::len), Some(4));
    let larger = call(address, "/v3/kv/put", &json!({"key": "YQ==", "value": "QUFB".repeat(2_300_000)}).to_string());
    assert_eq!((larger.status, larger.json()["code"].clone()), (429, json!(8)), "{}", larger.text());
    assert!(
        larger.text().contains("grpc: received message larger than max (6900008 vs. 6524288)"),
        "{}",
        larger.text()
    );
    let early = call(address, "/v3/kv/put", &json!({"key": "YQ==", "value": "QUFB".repeat(2_100_000)}).to_string());
    assert_eq!((early.status, early.json()["message"].clone()), (400, json!("etcdserver: request is too large")));
}

#[test]
fn hosts_and_origins_are_looked_at() {
    let server = Server::plinth(&["--host-whitelist", "h,localhost", "--cors", "http://a:1,http://b:1"]);
    let address = server.address.as_str();
    let range = r#"{"key":"YQ=="}"#;
    let from = |origin: &str| ask(address, "POST", "/v3/kv/range", &format!("Origin: {origin}\r\n"), range);
    for (origin, allowed) in [("http://a:1", Some("http://a:1")), ("http://c:1", None)] {
        let answer = from(origin);
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, allowed), "{origin}");
    }
    let watch = ask(address, "POST", "/v3/election/observe", "Origin: http://b:1\r\n", "{");
    assert_eq!((watch.status, watch.header("access-control-allow-origin")), (400, Some("http://b:1")));
    let mut connection = Connection::open(address);
    connection.send(b"POST /v3/kv/range HTTP/1.1\r\nHost: evil:2379\r\nContent-Length: 2\r\n\r\n{}");
    let refused = connection.answer();
    assert_eq!(refused.status, 421);
    assert!(refused.text().contains("Host header was unrecognized"), "{}", refused.text());
    connection.send(b"GET /v3/watch HTTP/1.1\r\nHost: evil\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(connection.answer().status, 421);
}

#[test]
fn it_can_be_turned_off() {
    let server = Server::plinth(&["--enable-grpc-gateway=false"]);
    let answer = call(&server.address, "/v3/kv/range", r#"{"key":"YQ=="}"#);
    assert_eq!((answer.status, answer.text().as_str()), (404, "404 page not found\n"));
    assert_eq!(ask(&server.address, "GET", "/health", "", "").status, 200);
}

/// Calls count as those over gRPC do, on every reactor.
#[test]
fn edges_serve_it_and_calls_are_counted() {
    let server = Server::plinth(&["--reactors", "3"]);
    let address = server.address.as_str();
    // The kernel spreads connections over reactors.
    for round in 0..24 {
        let put = must(address, "/v3/kv/put", r#"{"key":"YQ==","value":"Yg=="}"#);
        assert_eq!(put["header"]["revision"], (2 + round).to_string());
        assert_eq!(call(address, "/v3/kv/put", "{").status, 400);
        let mut watch = Connection::open(address);
        watch.request("POST", "/v3/watch", "", r#"{"create_request":{"key":"YQ==","start_revision":"2"}}"#);
        assert_eq!(watch.head().status, 200);
        assert_eq!(watch.next_line().expect("a line")["result"]["created"], true);
        let events = watch.next_line().expect("a line")["result"]["events"].as_array().map(Vec::len);
        assert_eq!(events, Some(round + 1));
    }
    let metrics = ask(address, "GET", "/metrics", "", "").text();
    let handled = "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 24";
    assert!(
        metrics.contains(handled),
        "{}",
        metrics.lines().filter(|line| line.contains("\"Put\"")).collect::<String>()
    );
}
