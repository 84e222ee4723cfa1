//! Watches, keep-alives, snapshots and elections, line by line.

use super::client::{Connection, must};
use super::server::Server;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// How long nothing may come for us to say that nothing does.
const QUIET: Duration = Duration::from_millis(300);

fn watch(address: &str, body: &str) -> Connection {
    let mut connection = Connection::open(address);
    connection.request("POST", "/v3/watch", "", body);
    let head = connection.head();
    assert_eq!((head.status, head.header("content-type")), (200, Some("application/json")));
    connection
}

fn result(connection: &mut Connection) -> Value {
    let line = connection.next_line().expect("a line");
    assert!(line["result"].is_object(), "{line}");
    line["result"].clone()
}

#[test]
fn watches_tell_what_happens_as_it_happens() {
    let server = Server::plinth(&[]);
    let address = server.address.as_str();
    let body = r#"{"create_request":{"key":"YQ==","prev_kv":true}} {"create_request":{"key":"Yg=="}}"#;
    let mut connection = watch(address, body);
    assert_eq!(result(&mut connection)["created"], true);
    assert_eq!(result(&mut connection)["watch_id"], "1");
    must(address, "/v3/kv/put", r#"{"key":"YQ==","value":"MQ=="}"#);
    let put = result(&mut connection);
    assert_eq!(put["watch_id"], Value::Null, "the first has none");
    let kv = json!({"key": "YQ==", "create_revision": "2", "mod_revision": "2", "version": "1", "value": "MQ=="});
    assert_eq!(put["events"], json!([{"kv": kv}]));
    must(address, "/v3/kv/deleterange", r#"{"key":"YQ=="}"#);
    let deleted = result(&mut connection);
    assert_eq!(
        deleted["events"],
        json!([{"type": "DELETE", "kv": {"key": "YQ==", "mod_revision": "3"}, "prev_kv": kv}])
    );
    must(address, "/v3/kv/put", r#"{"key":"Yg=="}"#);
    assert_eq!(result(&mut connection)["watch_id"], "1");
}

#[test]
fn requests_are_taken_while_the_body_goes_on() {
    let server = Server::plinth(&[]);
    let address = server.address.as_str();
    let mut connection = Connection::open(address);
    connection.begin("/v3/watch");
    assert!(connection.is_silent(QUIET), "the head comes with the first answer");
    connection.chunk(r#"{"create_request":{"key":"#);
    connection.chunk(r#""YQ=="}}"#);
    assert_eq!(connection.head().status, 200);
    assert_eq!(result(&mut connection)["created"], true);
    connection.chunk(r#"{"progress_request":{}}"#);
    assert_eq!(result(&mut connection)["watch_id"], "-1");
    connection.chunk(r#"{"create_request":{"key":"Yg==","watch_id":"7"}}{"cancel_request":{"watch_id":7}}"#);
    assert_eq!(result(&mut connection)["created"], true);
    let canceled = result(&mut connection);
    assert_eq!((&canceled["canceled"], &canceled["watch_id"]), (&json!(true), &json!("7")));
    // What is no request ends the client's side only.
    connection.chunk("nonsense");
    connection.chunk(r#"{"progress_request":{}}"#);
    assert!(connection.is_silent(QUIET));
    must(address, "/v3/kv/put", r#"{"key":"YQ=="}"#);
    assert_eq!(result(&mut connection)["events"][0]["kv"]["key"], "YQ==");
}

#[test]
fn a_stream_that_begins_with_nonsense_is_refused() {
    let server = Server::plinth(&[]);
    for (path, body) in [("/v3/watch", "x"), ("/v3/watch", r#"{"create_request":7}"#), ("/v3/lease/keepalive", "[]")] {
        let mut connection = Connection::open(&server.address);
        connection.request("POST", path, "", body);
        let answer = connection.answer();
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!(3)), "{path} {body}");
        connection.request("POST", path, "", r#"{"ID":"1","create_request":{"key":"YQ=="}}"#);
        assert_eq!(connection.head().status, 200, "the connection lives on");
    }
}

#[test]
fn leases_are_kept_alive() {
    let server = Server::plinth(&[]);
    let address = server.address.as_str();
    let lease = must(address, "/v3/lease/grant", r#"{"TTL":"60","ID":7587862094610072847}"#);
    assert_eq!((&lease["ID"], &lease["TTL"]), (&json!("7587862094610072847"), &json!("60")));
    let mut connection = Connection::open(address);
    connection.begin("/v3/lease/keepalive");
    for _ in 0..3 {
        connection.chunk(r#"{"ID":"7587862094610072847"}"#);
    }
    assert_eq!(connection.head().status, 200);
    for _ in 0..3 {
        assert_eq!(result(&mut connection)["TTL"], "60");
    }
    connection.chunk(r#"{"ID":"1"}"#);
    connection.chunk("");
    let missing = result(&mut connection);
    assert_eq!((&missing["ID"], &missing["TTL"]), (&json!("1"), &Value::Null));
    assert_eq!(connection.next_line(), None, "it ends when all are answered");
}

#[test]
fn snapshots_are_whole() {
    let server = Server::plinth(&[]);
    let address = server.address.as_str();
    for number in 0..40 {
        let key = format!("{number:03}");
        let value = "QUFB".repeat(4_000);
        must(address, "/v3/kv/put", &json!({"key": key + "A", "value": value}).to_string());
    }
    let mut connection = Connection::open(address);
    connection.request("POST", "/v3/maintenance/snapshot", "", "{}");
    assert_eq!(connection.head().status, 200);
    let mut pieces = Vec::new();
    while let Some(line) = connection.next_line() {
        let blob = line["result"]["blob"].as_str().expect("a piece").to_string();
        let left: u64 = line["result"]["remaining_bytes"].as_str().unwrap_or("0").parse().expect("a number");
        pieces.push((decode(&blob), left));
    }
    let (hash, _) = pieces.pop().expect("the hash");
    let whole: Vec<u8> = pieces.iter().flat_map(|(piece, _)| piece.clone()).collect();
    assert_eq!(Sha256::digest(&whole).as_slice(), hash);
    assert!(pieces.iter().map(|(_, left)| left).is_sorted_by(|a, b| a > b), "less and less remains");
    assert_eq!(pieces[0].0.len() as u64 + pieces[0].1, whole.len() as u64);
}

/// Base64 with padding, by hand: the tests know no more of the server than its clients do.
fn decode(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'=').collect();
    let four = |digits: &[u8]| {
        let bits = (0..4).fold(0_u32, |bits, at| bits << 6 | digits.get(at).map_or(0, |byte| u32::from(value(*byte))));
        bits.to_be_bytes()[1..digits.len()].to_vec()
    };
    digits.chunks(4).flat_map(four).collect()
}

#[test]
fn elections_are_observed() {
    let server = Server::plinth(&[]);
    let address = server.address.as_str();
    must(address, "/v3/lease/grant", r#"{"TTL":60,"ID":9}"#);
    let mut observer = Connection::open(address);
    observer.request("POST", "/v3/election/observe", "", r#"{"name":"ZQ=="}"#);
    assert!(observer.is_silent(QUIET), "nobody leads");
    let won = must(address, "/v3/election/campaign", r#"{"name":"ZQ==","lease":9,"value":"MQ=="}"#);
    assert!(won["leader"]["name"] == "ZQ==" && won["leader"]["lease"] == "9", "{won}");
    assert_eq!(observer.head().status, 200);
    assert_eq!(result(&mut observer)["kv"]["value"], "MQ==");
    must(address, "/v3/election/proclaim", &json!({"leader": won["leader"], "value": "Mg=="}).to_string());
    assert_eq!(result(&mut observer)["kv"]["value"], "Mg==");
    must(address, "/v3/election/resign", &json!({"leader": won["leader"]}).to_string());
}

/// A client that reads nothing holds back what is made for it, and gets all of it in the end.
#[test]
fn slow_readers_get_everything_in_their_time() {
    let server = Server::plinth(&[]);
    let address = server.address.as_str();
    let value = "QUFB".repeat(100_000);
    for _ in 0..40 {
        must(address, "/v3/kv/put", &json!({"key": "YQ==", "value": value}).to_string());
    }
    let mut connection = watch(address, r#"{"create_request":{"key":"YQ==","start_revision":"1"}}"#);
    std::thread::sleep(QUIET);
    must(address, "/v3/kv/put", r#"{"key":"YQ==","value":"bGFzdA=="}"#);
    assert_eq!(result(&mut connection)["created"], true);
    let mut versions = Vec::new();
    while versions.len() < 41 {
        for event in result(&mut connection)["events"].as_array().expect("events") {
            versions.push(event["kv"]["version"].as_str().expect("a version").parse::<u64>().expect("a number"));
        }
    }
    assert!(versions.iter().copied().eq(1..=41), "{versions:?}");
}

#[test]
fn a_server_stops_beside_open_watches() {
    let mut server = Server::plinth(&[]);
    let watches: Vec<Connection> =
        (0..20).map(|_| watch(&server.address, r#"{"create_request":{"key":"YQ=="}}"#)).collect();
    let took = server.stop();
    assert!(took < Duration::from_secs(5), "{took:?}");
    drop(watches);
}
