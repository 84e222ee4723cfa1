//! Requests and answers one by one: what etcd's own tests ask, put in our words.

use crate::http::{Connection, ask, index, once};
use crate::side::Side;
use std::time::{Duration, Instant};

/// Method, target, form; status and body, whose end stands for a line end.
type Case = (&'static str, &'static str, &'static str, u16, &'static str);

const CASES: &[Case] = &[
    ("GET", "/v2/keys/", "", 200, r#"{"action":"get","node":{"dir":true}}"#),
    (
        "PUT",
        "/v2/keys/foo/bar",
        "value=bar",
        201,
        r#"{"action":"set","node":{"key":"/foo/bar","value":"bar","modifiedIndex":4,"createdIndex":4}}"#,
    ),
    (
        "PUT",
        "/v2/keys/foodir?dir=true",
        "",
        201,
        r#"{"action":"set","node":{"key":"/foodir","dir":true,"modifiedIndex":5,"createdIndex":5}}"#,
    ),
    (
        "PUT",
        "/v2/keys/fooempty",
        "value=",
        201,
        r#"{"action":"set","node":{"key":"/fooempty","value":"","modifiedIndex":6,"createdIndex":6}}"#,
    ),
    ("PUT", "/v2/keys/foo/novalue", "value=x&noValueOnSuccess=true", 201, r#"{"action":"set"}"#),
    (
        "PUT",
        "/v2/keys/foo/bar",
        "value=x&ttl=bad_ttl",
        400,
        r#"{"errorCode":202,"message":"The given TTL in POST form is not a number","cause":"invalid value for \"ttl\"","index":0}"#,
    ),
    (
        "PUT",
        "/v2/keys/foo/bar",
        "value=x&prevIndex=bad",
        400,
        r#"{"errorCode":203,"message":"The given index in POST form is not a number","cause":"invalid value for \"prevIndex\"","index":0}"#,
    ),
    (
        "PUT",
        "/v2/keys/foo/bar",
        "value=x&prevExist=yes",
        400,
        r#"{"errorCode":209,"message":"Invalid field","cause":"invalid value for prevExist","index":0}"#,
    ),
    (
        "PUT",
        "/v2/keys/foo/bar?wait=true",
        "value=x",
        400,
        r#"{"errorCode":209,"message":"Invalid field","cause":"\"wait\" can only be used with GET requests","index":0}"#,
    ),
    (
        "PUT",
        "/v2/keys/foo/bar",
        "value=x&prevValue=",
        400,
        r#"{"errorCode":201,"message":"PrevValue is Required in POST form","cause":"\"prevValue\" cannot be empty","index":0}"#,
    ),
    (
        "PUT",
        "/v2/keys/foo/bar",
        "refresh=true&value=x&ttl=5",
        400,
        r#"{"errorCode":211,"message":"Value provided on refresh","cause":"A value was provided on a refresh","index":0}"#,
    ),
    (
        "PUT",
        "/v2/keys/foo/bar",
        "refresh=true",
        400,
        r#"{"errorCode":212,"message":"A TTL must be provided on refresh","cause":"No TTL value set","index":0}"#,
    ),
    (
        "GET",
        "/v2/keys/foo?recursive=%zz",
        "",
        400,
        r#"{"errorCode":210,"message":"Invalid POST form","cause":"invalid URL escape \"%zz\"","index":0}"#,
    ),
    (
        "POST",
        "/v2/keys/queue",
        "value=a",
        201,
        r#"{"action":"create","node":{"key":"/queue/00000000000000000008","value":"a","modifiedIndex":8,"createdIndex":8}}"#,
    ),
    (
        "PUT",
        "/v2/keys/foo/bar",
        "value=y&prevValue=bar",
        200,
        r#"{"action":"compareAndSwap","node":{"key":"/foo/bar","value":"y","modifiedIndex":9,"createdIndex":4},"prevNode":{"key":"/foo/bar","value":"bar","modifiedIndex":4,"createdIndex":4}}"#,
    ),
    (
        "DELETE",
        "/v2/keys/foo/bar?prevIndex=4",
        "",
        412,
        r#"{"errorCode":101,"message":"Compare failed","cause":"[4 != 9]","index":9}"#,
    ),
    ("DELETE", "/v2/keys/foodir", "", 403, r#"{"errorCode":102,"message":"Not a file","cause":"/foodir","index":9}"#),
    (
        "DELETE",
        "/v2/keys/foo?dir=true",
        "",
        403,
        r#"{"errorCode":108,"message":"Directory not empty","cause":"/foo","index":9}"#,
    ),
    ("GET", "/v2/keys/nothing", "", 404, r#"{"errorCode":100,"message":"Key not found","cause":"/nothing","index":9}"#),
    ("PUT", "/v2/keys", "value=x", 400, r#"{"errorCode":107,"message":"Root is read only","cause":"/","index":9}"#),
    (
        "GET",
        "/v2/keys/foo/bar?quorum=true",
        "",
        200,
        r#"{"action":"get","node":{"key":"/foo/bar","value":"y","modifiedIndex":9,"createdIndex":4}}"#,
    ),
    ("PATCH", "/v2/keys/foo", "", 405, "Method Not Allowed"),
    ("GET", "/v2/stats/none", "", 404, "404 page not found"),
];

#[test]
fn requests_are_answered_as_written() {
    let side = Side::plinth(&[]);
    let mut connection = Connection::open(&side.address());
    for (method, target, form, status, body) in CASES {
        let answer = connection.send(&ask(method, target, form));
        assert_eq!((answer.status, answer.text()), (*status, format!("{body}\n")), "{method} {target} {form}");
        if answer.status < 400 {
            for name in ["X-Etcd-Index", "X-Raft-Index", "X-Raft-Term", "X-Etcd-Cluster-Id"] {
                assert!(answer.header(name).is_some(), "{name}: {answer:?}");
            }
        }
    }
    let head = connection.send(&ask("HEAD", "/v2/keys/foo/bar", ""));
    assert_eq!((head.status, head.header("Content-Length")), (200, Some("90")));
    let head = connection.send(&ask("HEAD", "/v2/keys/missing", ""));
    assert!(head.status == 404 && head.header("Content-Length").is_some_and(|length| length != "0"));
}

#[test]
fn what_is_off_is_not_there() {
    // Given twice, the last one counts.
    let side = Side::plinth(&["--enable-v2=false"]);
    assert_eq!(once(&side.address(), "GET", "/v2/keys/", "").status, 404);
}

#[test]
fn who_waits_gets_the_head_at_once() {
    let side = Side::plinth(&["--reactors=2"]);
    // Of several connections some are at home, and some at the edge.
    let mut waiting: Vec<Connection> = (0..6).map(|_| Connection::open(&side.address())).collect();
    for (at, connection) in waiting.iter_mut().enumerate() {
        let stream = if at % 2 == 0 { "&stream=true" } else { "" };
        connection.request(&ask("GET", &format!("/v2/keys/dir?wait=true&recursive=true{stream}"), ""));
        let head = connection.head();
        assert_eq!((head.status, index(&head)), (200, 3));
        assert_eq!(head.header("Content-Type"), Some("application/json"));
    }
    let mut writer = Connection::open(&side.address());
    for number in 0..3 {
        assert_eq!(writer.send(&ask("PUT", "/v2/keys/dir/key", &format!("value={number}"))).status / 100, 2);
    }
    for (at, connection) in waiting.iter_mut().enumerate() {
        let events = if at % 2 == 0 { 3 } else { 1 };
        for number in 0..events {
            let chunk = connection.chunk().expect("an event");
            let event: serde_json::Value = serde_json::from_slice(&chunk).expect("JSON");
            assert_eq!(event["node"]["value"], number.to_string());
        }
        if at % 2 == 1 {
            assert_eq!(connection.chunk(), None, "one event is all");
            assert_eq!(connection.send(&ask("GET", "/v2/keys/dir/key", "")).status, 200, "the connection goes on");
        }
    }
}

#[test]
fn one_who_reads_slowly_is_caught_up() {
    const EVENTS: usize = 4000;
    let side = Side::plinth(&["--reactors=2"]);
    let mut slow: Vec<Connection> = (0..4).map(|_| Connection::open(&side.address())).collect();
    for connection in &mut slow {
        connection.request(&ask("GET", "/v2/keys/key?wait=true&stream=true", ""));
        assert_eq!(connection.head().status, 200);
    }
    let mut writer = Connection::open(&side.address());
    let filler = "x".repeat(1500);
    for number in 0..EVENTS {
        writer.send(&ask("PUT", "/v2/keys/key", &format!("value={number}-{filler}&noValueOnSuccess=true")));
    }
    for connection in &mut slow {
        let mut text = Vec::new();
        for number in 0..EVENTS {
            while !text.contains(&b'\n') {
                text.extend(connection.chunk().expect("more comes"));
            }
            let end = text.iter().position(|byte| *byte == b'\n').expect("it is there");
            let line: Vec<u8> = text.drain(..=end).collect();
            let event: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
            let value = event["node"]["value"].as_str().expect("a value");
            assert_eq!(value.split('-').next(), Some(&*number.to_string()));
        }
    }
}

#[test]
fn what_is_forgotten_is_told() {
    let side = Side::plinth(&["--v2-history=10"]);
    let mut connection = Connection::open(&side.address());
    for number in 0..20 {
        connection.send(&ask("PUT", "/v2/keys/key", &format!("value={number}")));
    }
    let answer = connection.send(&ask("GET", "/v2/keys/key?wait=true&waitIndex=5", ""));
    let body = r#"{"errorCode":401,"message":"The event in requested index is outdated and cleared","cause":"the requested history has been cleared [14/5]","index":23}"#;
    assert_eq!((answer.status, answer.text()), (400, format!("{body}\n")));
    assert_eq!(index(&answer), 23);
    assert_eq!(connection.send(&ask("GET", "/v2/keys/key?wait=true&waitIndex=14", "")).json()["node"]["value"], "10");
}

#[test]
fn what_has_a_time_to_live_ends() {
    let side = Side::plinth(&[]);
    let (mut connection, mut waiting) = (Connection::open(&side.address()), Connection::open(&side.address()));
    let set = connection.send(&ask("PUT", "/v2/keys/dir", "dir=true&ttl=1"));
    let begun = Instant::now();
    assert_eq!((set.status, set.json()["node"]["ttl"].as_i64()), (201, Some(1)));
    connection.send(&ask("PUT", "/v2/keys/dir/key", "value=v"));
    waiting.request(&ask("GET", "/v2/keys/dir/key?wait=true", ""));
    assert_eq!(waiting.head().status, 200);
    let event: serde_json::Value = serde_json::from_slice(&waiting.chunk().expect("an event")).expect("JSON");
    assert_eq!((event["action"].as_str(), event["node"]["key"].as_str()), (Some("expire"), Some("/dir")));
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(20), "{took:?}");
    assert_eq!(connection.send(&ask("GET", "/v2/keys/dir", "")).status, 404);
}

#[test]
fn members_machines_and_counts() {
    let side = Side::plinth(&[]);
    let address = side.address();
    let list = once(&address, "GET", "/v2/members", "");
    let members = list.json()["members"].as_array().expect("a list").clone();
    assert_eq!((list.status, members.len()), (200, 1));
    assert_eq!(members[0]["clientURLs"][0], format!("http://{address}"));
    assert!(list.header("X-Etcd-Cluster-Id").is_some() && list.body.ends_with(b"\n"));
    assert_eq!(once(&address, "GET", "/v2/members/leader", "").json()["id"], members[0]["id"]);
    assert_eq!(once(&address, "GET", "/v2/machines", "").text(), format!("http://{address}"));
    assert_eq!(once(&address, "GET", "/v2/stats/self", "").json()["state"], "StateLeader");
    assert_eq!(once(&address, "GET", "/v2/stats/leader", "").json()["followers"], serde_json::json!({}));
    once(&address, "PUT", "/v2/keys/a", "value=1");
    let counts = once(&address, "GET", "/v2/stats/store", "").json();
    assert_eq!((counts["setsSuccess"].as_u64(), counts["watchers"].as_u64()), (Some(1), Some(0)));
    let missing = once(&address, "DELETE", "/v2/members/1234", "");
    assert_eq!((missing.status, missing.text()), (404, "{\"message\":\"No such member: 1234\"}".to_string()));
    assert_eq!(once(&address, "POST", "/v2/members", "x=y").status, 415);
}
