//! Every path of the gateway, with requests of every kind, sent to a real etcd and to the binary under test: the same
//! status, the same JSON. What is each server's own (ids, sizes, ports) is made equal first; nothing else is.

use super::client::{Answer, Connection, ask};
use super::server::{Server, find_etcd};
use serde_json::Value;
use std::io::Write;

/// Fields whose values are a server's own.
const OWN: &[&str] = &[
    "cluster_id",
    "member_id",
    "memberID",
    "leader_id",
    "raftIndex",
    "raftAppliedIndex",
    "dbSize",
    "dbSizeInUse",
    "storageVersion",
    "token",
    "blob",
    "remaining_bytes",
];

/// Requests in order. `!` in front: an etcd older than 3.7 words it otherwise, or does not have it.
const CASES: &[(&str, &str)] = &[
    ("/kv/range", ""),
    ("/kv/range", r#"{"key":"YQ=="}"#),
    ("/kv/put", r#"{"key":"YQ==","value":"MQ=="}"#),
    ("/kv/put", r#"{"key":"YQ==","value":"Mg==","prev_kv":true}"#),
    ("/kv/put", r#"{"key":"YQ==","prevKv":true}"#),
    ("/kv/put", r#"{"key":"Yg==","value":"","lease":0,"prev_kv":false,"ignore_value":false,"ignore_lease":false}"#),
    ("/kv/put", r#"{"key":"Yg==","value":"eA==","ignore_value":true}"#),
    ("/kv/put", r#"{"key":"bm8=","ignoreValue":true}"#),
    ("/kv/put", r#"{"key":"Yg==","lease":"77"}"#),
    ("/kv/put", r#"{"value":"eA=="}"#),
    ("/kv/put", r#"{"key":null,"value":null}"#),
    ("/kv/range", r#"{"key":"AA==","range_end":"AA=="}"#),
    ("/kv/range", r#"{"key":"AA==","rangeEnd":"AA==","limit":"1","sort_order":"DESCEND","sort_target":"KEY"}"#),
    ("/kv/range", r#"{"key":"AA==","range_end":"AA==","limit":1,"sortOrder":2,"sortTarget":3,"keys_only":true}"#),
    ("/kv/range", r#"{"key":"AA==","range_end":"AA==","count_only":true}"#),
    (
        "/kv/range",
        r#"{"key":"AA==","range_end":"AA==","limit":0,"revision":"0","sort_order":"NONE","serializable":true}"#,
    ),
    ("/kv/range", r#"{"key":"AA==","range_end":"AA==","min_mod_revision":"4","maxCreateRevision":5}"#),
    ("/kv/range", r#"{"key":"YQ==","revision":2}"#),
    ("/kv/range", r#"{"key":"YQ==","revision":"1000"}"#),
    ("!/kv/range", r#"{"key":"YQ==","limit":1e3}"#),
    ("!/kv/range", r#"{"key":"YQ==","limit":1.5}"#),
    ("!/kv/range", r#"{"key":"YQ==","limit":true}"#),
    ("!/kv/range", r#"{"key":"YQ==","limit":"99999999999999999999"}"#),
    ("!/kv/range", r#"{"key":"YQ==","sort_order":"SIDEWAYS"}"#),
    ("!/kv/range", r#"{"key":"YQ==","sort_order":17}"#),
    ("!/kv/range", r#"{"key":"YQ==","sort_order":"17"}"#),
    ("!/kv/range", r#"{"key":"YQ==","sort_order":1.5}"#),
    ("/kv/range", r#"{"key":"YQ==","unknown":{"a":[1,2,{"b":"c"}]}}"#),
    ("!/kv/range", r#"{"key":"YQ==","key":"YQ=="}"#),
    ("!/kv/range", r#"{"key":"YQ==","range_end":"","rangeEnd":""}"#),
    ("!/kv/range", r#"{"key":"*"}"#),
    ("!/kv/range", r#"{"key":"YQ="}"#),
    ("!/kv/range", r#"{"key":"YR"}"#),
    ("!/kv/range", r#"{"key":"_-8"}"#),
    ("!/kv/range", r#"{"key":"_+8"}"#),
    ("!/kv/range", r#"{"key":7}"#),
    ("!/kv/range", r#"{"key":["YQ=="]}"#),
    ("!/kv/range", "{\n \"key\": \"YQ==\",\n \"keys_only\": \"yes\"}"),
    ("!/kv/range", "[]"),
    ("!/kv/range", "null"),
    ("!/kv/range", "7"),
    ("!/kv/range", r#""key""#),
    ("!/kv/range", "{"),
    ("!/kv/range", r#"{"key""#),
    ("!/kv/range", "{x}"),
    ("!/kv/range", r#"{"key":"YQ==",}"#),
    ("!/kv/range", r#"{"key":"YQ==" "x":1}"#),
    ("!/kv/range", r#"{"key":tru}"#),
    ("!/kv/range", r#"{"limit":01}"#),
    ("!/kv/range", r#"{"limit":-}"#),
    ("!/kv/range", r#"{"key":"\q"}"#),
    ("!/kv/range", r#"{"key":"\u12x4"}"#),
    ("!/kv/range", "{\"key\":\"\u{1}\"}"),
    ("!/kv/range", r#"{"x":"\ud800"}"#),
    ("/kv/range", r#"{"key":"YQ=="} garbage"#),
    ("!/nothing", "{}"),
    ("!/kv/range/", "{}"),
    ("/kv/txn", "{}"),
    ("/kv/txn", r#"{"compare":[],"success":[],"failure":[]}"#),
    (
        "/kv/txn",
        r#"{"compare":[{"key":"YQ==","target":"VERSION","result":"GREATER","version":"0"}],"success":[{"request_range":{"key":"YQ=="}},{"requestPut":{"key":"Yw==","value":"Mw==","prev_kv":true}},{"request_delete_range":{"key":"Yg==","prevKv":true}}],"failure":[{"requestRange":{"key":"Yg=="}}]}"#,
    ),
    (
        "/kv/txn",
        r#"{"compare":[{"key":"YQ==","target":3,"value":"bm8="}],"success":[{"request_put":{"key":"ZA=="}}],"failure":[{"request_range":{"key":"bm8="}}]}"#,
    ),
    (
        "/kv/txn",
        r#"{"compare":[{"key":"YQ==","target":"CREATE","result":"NOT_EQUAL","createRevision":"0"},{"key":"YQ==","target":"MOD","mod_revision":4},{"key":"YQ==","target":"LEASE","lease":0}],"success":[{"request_txn":{"success":[{"request_put":{"key":"ZQ=="}}]}}]}"#,
    ),
    (
        "/kv/txn",
        r#"{"compare":[{"key":"YQ==","range_end":"eg==","target":"VERSION","result":"LESS","version":99}],"failure":[{}]}"#,
    ),
    ("/kv/txn", r#"{"success":[{"request_put":{"key":"ZA=="}},{"request_put":{"key":"ZA=="}}]}"#),
    ("/kv/txn", r#"{"success":[{}]}"#),
    ("!/kv/txn", r#"{"success":[{"request_put":{"key":"ZA=="},"request_range":{"key":"ZA=="}}]}"#),
    ("!/kv/txn", r#"{"compare":[{"version":1,"value":"YQ=="}]}"#),
    ("!/kv/txn", r#"{"compare":[null]}"#),
    ("!/kv/txn", r#"{"compare":{}}"#),
    ("/kv/deleterange", r#"{"key":"bm8="}"#),
    ("/kv/deleterange", r#"{"key":"Yw==","prev_kv":true}"#),
    ("/kv/deleterange", "{}"),
    ("/kv/compaction", r#"{"revision":"3"}"#),
    ("/kv/compaction", r#"{"revision":"2"}"#),
    ("/kv/compaction", r#"{"revision":999,"physical":true}"#),
    ("/kv/compaction", r#"{"revision":4,"physical":true}"#),
    ("/kv/range", r#"{"key":"YQ==","revision":2}"#),
    ("/lease/grant", r#"{"TTL":"600","ID":"77"}"#),
    ("/lease/grant", r#"{"TTL":600,"ID":77}"#),
    ("/lease/grant", r#"{"TTL":0,"ID":78}"#),
    ("/lease/grant", r#"{"TTL":"9000000001"}"#),
    ("/kv/put", r#"{"key":"bA==","lease":77}"#),
    ("/lease/timetolive", r#"{"ID":"77","keys":true}"#),
    ("/kv/lease/timetolive", r#"{"ID":78}"#),
    ("/lease/leases", "{}"),
    ("/kv/lease/leases", ""),
    ("/lease/keepalive", r#"{"ID":"77"}"#),
    ("/lease/keepalive", r#"{"ID":77}{"ID":1}"#),
    ("/lease/keepalive", ""),
    ("/lease/revoke", r#"{"ID":"77"}"#),
    ("/kv/lease/revoke", r#"{"ID":"77"}"#),
    ("/lease/grant", r#"{"TTL":600,"ID":80}"#),
    ("/lock/lock", r#"{"name":"bA==","lease":80}"#),
    ("/lock/unlock", r#"{"key":"bA=="}"#),
    ("/lock/lock", r#"{"name":"bA==","lease":81}"#),
    ("/election/leader", r#"{"name":"ZQ=="}"#),
    ("/election/leader", "{}"),
    ("/election/campaign", r#"{"name":"ZWw=","lease":"80","value":"djE="}"#),
    ("/election/leader", r#"{"name":"ZWw="}"#),
    ("/election/proclaim", "{}"),
    ("/election/resign", "{}"),
    ("/election/campaign", r#"{"name":"ZWw=","lease":"81","value":"djE="}"#),
    ("/election/observe", "["),
    ("/cluster/member/list", "{}"),
    ("/cluster/member/list", r#"{"linearizable":true}"#),
    ("/cluster/member/add", "{}"),
    ("/cluster/member/add", r#"{"peerURLs":["not a url"]}"#),
    ("!/cluster/member/add", r#"{"peerURLs":"http://x"}"#),
    ("/cluster/member/remove", r#"{"ID":"1"}"#),
    ("/cluster/member/update", r#"{"ID":1,"peerURLs":["http://127.0.0.1:1"]}"#),
    ("/cluster/member/promote", r#"{"ID":"1"}"#),
    ("/maintenance/alarm", "{}"),
    ("/maintenance/alarm", r#"{"action":"ACTIVATE","memberID":"7","alarm":"NOSPACE"}"#),
    ("/maintenance/alarm", r#"{"action":"GET","alarm":"NONE"}"#),
    ("/maintenance/alarm", r#"{"action":2,"memberID":7,"alarm":1}"#),
    ("!/maintenance/status", "{}"),
    ("/maintenance/defragment", ""),
    ("/maintenance/hashkv", "{}"),
    ("/maintenance/hashkv", r#"{"revision":"1"}"#),
    ("/maintenance/transfer-leadership", r#"{"targetID":"1"}"#),
    ("/auth/status", "{}"),
    ("/auth/authenticate", r#"{"name":"root","password":"x"}"#),
    ("/auth/disable", "{}"),
    ("/auth/role/get", r#"{"role":"nobody"}"#),
    ("/auth/user/get", r#"{"name":"nobody"}"#),
    ("/auth/user/list", "{}"),
    ("/auth/role/list", ""),
];

/// As `CASES`, of users and roles: whose token goes along, path, body.
const AUTH_CASES: &[(&str, &str, &str)] = &[
    ("", "/auth/enable", "{}"),
    ("", "/auth/role/add", r#"{"name":"root"}"#),
    ("", "/auth/role/add", r#"{"name":""}"#),
    ("", "/auth/role/add", r#"{"name":"some"}"#),
    ("", "/auth/role/add", r#"{"name":"some"}"#),
    ("", "/auth/role/grant", r#"{"name":"some","perm":{"permType":"READWRITE","key":"YQ==","range_end":"Yg=="}}"#),
    ("", "/auth/role/grant", r#"{"name":"some","perm":{"permType":"READ","key":"eA==","rangeEnd":"AA=="}}"#),
    ("", "/auth/role/grant", r#"{"name":"some","perm":{"perm_type":1,"permType":1,"key":"dw=="}}"#),
    ("", "/auth/role/grant", r#"{"name":"nobody","perm":{"key":"dw=="}}"#),
    ("", "/auth/role/get", r#"{"role":"some"}"#),
    ("", "/auth/role/revoke", r#"{"role":"some","key":"dw=="}"#),
    ("", "/auth/role/revoke", r#"{"role":"some","key":"bm8="}"#),
    ("", "/auth/role/list", "{}"),
    ("", "/auth/user/add", r#"{"name":"root","password":"r"}"#),
    ("", "/auth/user/add", r#"{"name":"ann","password":"a"}"#),
    ("", "/auth/user/add", r#"{"name":"bot","options":{"no_password":true}}"#),
    ("", "/auth/user/add", r#"{"name":"bot2","options":{"noPassword":true}}"#),
    ("", "/auth/user/add", r#"{"name":"ann","password":"a"}"#),
    ("", "/auth/user/add", r#"{"name":"","password":"a"}"#),
    ("", "/auth/user/changepw", r#"{"name":"ann","password":"b"}"#),
    ("", "/auth/user/changepw", r#"{"name":"nobody","password":"b"}"#),
    ("", "/auth/user/grant", r#"{"user":"root","role":"root"}"#),
    ("", "/auth/user/grant", r#"{"user":"ann","role":"some"}"#),
    ("", "/auth/user/grant", r#"{"user":"ann","role":"nobody"}"#),
    ("", "/auth/user/get", r#"{"name":"ann"}"#),
    ("", "/auth/user/list", ""),
    ("", "/auth/user/delete", r#"{"name":"bot2"}"#),
    ("", "/auth/status", "{}"),
    ("", "/auth/authenticate", r#"{"name":"ann","password":"b"}"#),
    ("", "/auth/enable", "{}"),
    ("", "/auth/status", "{}"),
    ("", "/auth/authenticate", r#"{"name":"ann","password":"wrong"}"#),
    ("", "/auth/authenticate", r#"{"name":"bot","password":""}"#),
    ("", "/kv/range", r#"{"key":"YQ=="}"#),
    ("", "/kv/put", r#"{"key":"YQ=="}"#),
    ("", "/auth/user/list", "{}"),
    ("", "/watch", r#"{"create_request":{"key":"YQ=="}}"#),
    ("none", "/kv/range", r#"{"key":"YQ=="}"#),
    ("ann b", "/kv/put", r#"{"key":"YQ==","value":"MQ=="}"#),
    ("ann b", "/kv/range", r#"{"key":"YQ=="}"#),
    ("ann b", "/kv/range", r#"{"key":"YWI="}"#),
    ("ann b", "/kv/range", r#"{"key":"Yg=="}"#),
    ("ann b", "/kv/put", r#"{"key":"eA=="}"#),
    ("ann b", "/kv/deleterange", r#"{"key":"YQ==","range_end":"ew=="}"#),
    (
        "ann b",
        "/kv/txn",
        r#"{"compare":[{"key":"YQ==","version":1,"target":"VERSION"}],"success":[{"request_put":{"key":"Yg=="}}]}"#,
    ),
    ("ann b", "/auth/user/list", "{}"),
    ("ann b", "/auth/user/get", r#"{"name":"ann"}"#),
    ("ann b", "/maintenance/defragment", "{}"),
    ("root r", "/kv/put", r#"{"key":"eA=="}"#),
    ("root r", "/auth/user/revoke", r#"{"name":"ann","role":"some"}"#),
    ("root r", "/auth/user/revoke", r#"{"name":"ann","role":"some"}"#),
    ("root r", "/auth/role/delete", r#"{"role":"some"}"#),
    ("root r", "/auth/role/delete", r#"{"role":"some"}"#),
    ("root r", "/auth/disable", "{}"),
    ("", "/kv/range", r#"{"key":"eA=="}"#),
];

struct Side {
    server: Server,
    /// Ids in the order they appear, which stand for themselves.
    ids: Vec<String>,
}

impl Side {
    fn start(binary: &std::path::Path) -> Side {
        Side { server: Server::start(binary, &[]), ids: Vec::new() }
    }

    fn ask(&mut self, headers: &str, path: &str, body: &str) -> (u16, Vec<Value>) {
        let mut connection = Connection::open(&self.server.address);
        connection.request("POST", &format!("/v3{path}"), headers, body);
        let mut answer = connection.head();
        if path == "/watch" && answer.status == 200 {
            let mut line = connection.next_line().expect("a line");
            self.normalize("", &mut line);
            return (200, vec![line]);
        }
        connection.rest(&mut answer);
        let lines = self.lines(&mut answer);
        (answer.status, lines)
    }

    /// The header of somebody who says who they are: `NAME PASSWORD`, or a word that is no token.
    fn authorization(&self, who: &str, number: usize) -> String {
        let Some((name, password)) = who.split_once(' ') else {
            return if who.is_empty() { String::new() } else { format!("Authorization: {who}\r\n") };
        };
        let body = serde_json::json!({"name": name, "password": password}).to_string();
        let answer = ask(&self.server.address, "POST", "/v3/auth/authenticate", "", &body).json();
        let token = answer["token"].as_str().unwrap_or_else(|| panic!("{answer}"));
        // Every way to send it, in turns.
        match number % 3 {
            0 => format!("Authorization: {token}\r\n"),
            1 => format!("authorization: Bearer {token}\r\n"),
            _ => format!("Grpc-Metadata-Token: {token}\r\n"),
        }
    }

    /// An answer's JSON: one value, or one a line.
    fn lines(&mut self, answer: &mut Answer) -> Vec<Value> {
        let text = answer.text();
        let lines = text.lines().filter(|line| !line.is_empty());
        let values = lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| Value::from(line)));
        let mut values: Vec<Value> = values.collect();
        values.iter_mut().for_each(|value| self.normalize("", value));
        values
    }

    fn normalize(&mut self, name: &str, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                // Older gateways say it twice.
                if fields.contains_key("code") && fields.contains_key("message") {
                    fields.remove("error");
                }
                // Shared by the first server and the members it lists.
                for (name, value) in fields.iter_mut() {
                    self.normalize(name, value);
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.normalize(name, value)),
            Value::String(text) => {
                let is_own_id = name == "ID" && text.len() > 15 || name == "leader";
                // Of the program; that of a key is a number alone.
                let is_release = name == "version" && text.contains('.');
                if OWN.contains(&name) || is_own_id || is_release {
                    let place = self.ids.iter().position(|id| id == text).unwrap_or_else(|| {
                        self.ids.push(text.clone());
                        self.ids.len() - 1
                    });
                    // That it is there is compared, and which ids are the same one.
                    *text = if name.contains("_id") || is_own_id { format!("id {place}") } else { "own".into() };
                }
                // Go may put a blank that does not break behind the name of its library.
                *text = text.replace('\u{a0}', " ");
                for (place, port) in self.server.ports.iter().enumerate() {
                    *text = text.replace(&port.number().to_string(), &format!("port {place}"));
                }
            }
            Value::Number(_) if name == "hash" => *value = Value::from("own"),
            _ => {}
        }
    }
}

#[test]
fn every_path_answers_as_etcds() {
    let Some((etcd, is_new)) = find_etcd() else {
        assert!(std::env::var_os("PLINTH_DIFF_REQUIRED").is_none(), "no etcd; run tools/install-etcd");
        let _ = writeln!(std::io::stderr(), "SKIPPED every_path_answers_as_etcds: no etcd; run tools/install-etcd");
        return;
    };
    let mut reference = Side::start(&etcd);
    let mut subject = Side::start(std::path::Path::new(env!("CARGO_BIN_EXE_plinth")));
    let mut faults = Vec::new();
    for (path, body) in CASES {
        let (path, is_common) = path.strip_prefix('!').map_or((*path, true), |path| (path, false));
        if !is_common && !is_new {
            continue;
        }
        let [expected, found] = [&mut reference, &mut subject].map(|side| side.ask("", path, body));
        if expected != found {
            faults.push(format!("{path} {body}\n  etcd:   {expected:?}\n  plinth: {found:?}"));
        }
    }
    watch(&mut reference, &mut subject, &mut faults);
    for (number, (who, path, body)) in AUTH_CASES.iter().enumerate() {
        let [expected, found] = [&mut reference, &mut subject].map(|side| {
            let headers = side.authorization(who, number);
            side.ask(&headers, path, body)
        });
        if expected != found {
            faults.push(format!("[{who}] {path} {body}\n  etcd:   {expected:?}\n  plinth: {found:?}"));
        }
    }
    let count = CASES.len() + AUTH_CASES.len();
    assert!(faults.is_empty(), "{} of {count} differ:\n{}", faults.len(), faults.join("\n"));
}

/// A watch over everything that happened, and what comes of its requests.
fn watch(reference: &mut Side, subject: &mut Side, faults: &mut Vec<String>) {
    let body = r#"{"create_request":{"key":"AA==","range_end":"AA==","start_revision":"1"}}
        {"create_request":{"key":"AA==","rangeEnd":"AA==","startRevision":5,"prev_kv":true,"filters":["NODELETE"]}}
        {"create_request":{"key":"YQ==","watch_id":"9"}}{"create_request":{"key":"YQ==","watch_id":9}}
        {"cancel_request":{"watchId":"9"}}"#;
    let mut seen = [Vec::new(), Vec::new()];
    for (side, seen) in [reference, subject].into_iter().zip(&mut seen) {
        let mut connection = Connection::open(&side.server.address);
        connection.request("POST", "/v3/watch", "", body);
        assert_eq!(connection.head().status, 200);
        // The first is told of the compaction, the second has history, the third begins and ends, the fourth is refused.
        while seen.len() < 7 {
            let mut line = connection.next_line().expect("a line");
            side.normalize("", &mut line);
            seen.push(line);
        }
        // What belongs to different watchers may come in any order.
        seen.sort_by_key(|line| line["result"]["watch_id"].to_string());
    }
    if seen[0] != seen[1] {
        faults.push(format!("/watch\n  etcd:   {:?}\n  plinth: {:?}", seen[0], seen[1]));
    }
}
