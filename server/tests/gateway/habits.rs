//! What the programs that live on the gateway do: Patroni, APISIX, clients of OpenStack, people with curl.

use super::client::{Connection, ask, call, must};
use super::server::Server;
use serde_json::{Value, json};

/// Patroni finds the prefix by the version, races for a key with a lease, renews it, and follows its key space.
#[test]
fn as_patroni_does() {
    let server = Server::plinth(&[]);
    let address = server.address.as_str();
    let version = ask(address, "GET", "/version", "", "").json();
    assert!(version["etcdserver"].as_str().is_some_and(|version| version.starts_with("3.7")), "{version}");
    let members = must(address, "/v3/cluster/member/list", "{}");
    assert_eq!(members["members"][0]["clientURLs"], json!([server.ports[0].url()]));
    let lease = must(address, "/v3/lease/grant", r#"{"TTL":30}"#)["ID"].clone();
    assert!(lease.is_string(), "as text, since JavaScript has no such numbers: {lease}");
    let race = |value: &str| {
        let put = json!({"request_put": {"key": "L2xlYWRlcg==", "value": value, "lease": lease}});
        let compare = json!({"target": "CREATE", "key": "L2xlYWRlcg==", "create_revision": "0"});
        must(address, "/v3/kv/txn", &json!({"compare": [compare], "success": [put], "failure": []}).to_string())
    };
    assert_eq!(race("YQ==")["succeeded"], true);
    assert_eq!(race("Yg==")["succeeded"], Value::Null, "what is false is not there");
    let alive = must(address, "/v3/lease/keepalive", &json!({"ID": lease}).to_string());
    assert_eq!(alive["result"]["TTL"], "30");
    let range = must(address, "/v3/kv/range", r#"{"key":"Lw==","range_end":"MA==","serializable":true}"#);
    assert_eq!(range["kvs"][0]["lease"], lease);
    let revision: i64 = range["header"]["revision"].as_str().expect("text").parse().expect("a number");
    let mut connection = Connection::open(address);
    let start = (revision + 1).to_string();
    let create = json!({"create_request": {"key": "Lw==", "range_end": "MA==", "start_revision": start}});
    connection.request("POST", "/v3/watch", "", &create.to_string());
    assert_eq!(connection.head().status, 200);
    assert_eq!(connection.next_line().expect("a line")["result"]["created"], true);
    must(address, "/v3/lease/revoke", &json!({"ID": lease}).to_string());
    let gone = connection.next_line().expect("a line");
    assert_eq!(gone["result"]["events"][0]["type"], "DELETE");
    let missing = call(address, "/v3/lease/keepalive", &json!({"ID": lease}).to_string()).json();
    assert_eq!(missing["result"]["TTL"], Value::Null, "how it learns that its lease is gone");
    let error = call(address, "/v3/kv/range", r#"{"key":"YQ==","revision":"999"}"#);
    assert_eq!((error.status, &error.json()["code"]), (400, &json!(11)));
}

/// APISIX watches with a connection for each kind of resource and worker, and reads by prefix over kept connections.
#[test]
fn as_apisix_does() {
    let server = Server::plinth(&[]);
    let address = server.address.as_str();
    let body = r#"{"create_request":{"key":"L2FwaXNpeC8=","range_end":"L2FwaXNpeDA=","start_revision":"1","progress_notify":true}}"#;
    let mut watches: Vec<Connection> = (0..200).map(|_| Connection::open(address)).collect();
    for watch in &mut watches {
        watch.request("POST", "/v3/watch", "Content-Type: application/json\r\n", body);
    }
    for watch in &mut watches {
        assert_eq!(watch.head().status, 200);
        assert_eq!(watch.next_line().expect("a line")["result"]["created"], true);
    }
    must(address, "/v3/kv/put", r#"{"key":"L2FwaXNpeC9yb3V0ZXMvMQ==","value":"e30="}"#);
    for watch in &mut watches {
        let line = watch.next_line().expect("a line");
        assert_eq!(line["result"]["events"][0]["kv"]["value"], "e30=");
    }
    // It leaves when it likes; what it left is let go of.
    drop(watches);
    let mut connection = Connection::open(address);
    for _ in 0..50 {
        connection.request("POST", "/v3/kv/range", "", r#"{"key":"L2FwaXNpeC8=","range_end":"L2FwaXNpeDA="}"#);
        assert_eq!(connection.answer().json()["count"], "1");
    }
    let deadline = std::time::Instant::now() + super::common::PATIENCE;
    loop {
        let metrics = ask(address, "GET", "/metrics", "", "").text();
        if metrics.lines().any(|line| line == "etcd_debugging_mvcc_watcher_total 0") {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "watchers stay behind");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// The bodies of documentation and scripts.
#[test]
fn as_people_with_curl_do() {
    let server = Server::plinth(&[]);
    let address = server.address.as_str();
    must(address, "/v3/lease/grant", r#"{"TTL":600,"ID":7587862094610072847}"#);
    must(address, "/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy","lease":7587862094610072847}"#);
    must(address, "/v3/kv/put", r#"{"key":"Zm9vMg==","value":"YmFy"}"#);
    let all =
        r#"{"key":"AA==","range_end":"AA==","keys_only":true,"limit":10,"sort_order":"DESCEND","sort_target":"MOD"}"#;
    assert_eq!(must(address, "/v3/kv/range", all)["kvs"][0]["key"], "Zm9vMg==");
    let count = must(address, "/v3/kv/range", r#"{"key":"AA==","range_end":"AA==","count_only":true}"#);
    assert_eq!((&count["count"], &count["kvs"]), (&json!("2"), &Value::Null));
    let txn = r#"{"compare":[{"target":"CREATE","key":"Zm9v","createRevision":"2"}],"success":[{"requestPut":{"key":"Zm9v","value":"YmFy"}}]}"#;
    assert_eq!(must(address, "/v3/kv/txn", txn)["responses"][0]["response_put"]["header"]["revision"], "4");
    let status = must(address, "/v3/maintenance/status", "{}");
    assert_eq!(status["version"].as_str().map(|version| &version[..4]), Some("3.7."));
    assert!(status["dbSize"].is_string() && status["raftTerm"] == "2", "{status}");
    let keys = must(address, "/v3/kv/lease/timetolive", r#"{"ID":7587862094610072847,"keys":true}"#);
    assert_eq!(
        (&keys["grantedTTL"], &keys["keys"]),
        (&json!("600"), &Value::Null),
        "the second put took the lease away"
    );
    assert_eq!(call(address, "/v3/maintenance/defragment", "{}").text(), "{}");
}
