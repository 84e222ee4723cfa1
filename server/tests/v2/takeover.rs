//! A data directory of etcd 3.5 with data of the v2 API, which etcd 3.6 refuses: it is carried over where it lies, from the
//! snapshot and from the log.

use crate::http::{Connection, ask, index, once};
use crate::side::Side;
use serde_json::Value;
use std::env;

fn sorted(mut value: Value) -> Value {
    fn sort(value: &mut Value) {
        if let Some(fields) = value.as_object_mut() {
            // Time goes on.
            fields.remove("ttl");
            fields.values_mut().for_each(sort);
        }
        if let Some(nodes) = value.as_array_mut() {
            nodes.iter_mut().for_each(sort);
            nodes.sort_by_key(|node| node["key"].as_str().unwrap_or_default().to_string());
        }
    }
    sort(&mut value);
    value
}

#[test]
fn a_directory_of_etcd_with_v2_data_opens() {
    let Ok(etcd) = env::var("PLINTH_ETCD_BIN") else { return eprintln!("skipped: PLINTH_ETCD_BIN names no etcd") };
    // All of it in the log; and most of it in a snapshot.
    for snapshots in ["--snapshot-count=100000", "--snapshot-count=20"] {
        let mut side = Side::start(&etcd, &[snapshots]);
        let address = side.address();
        let mut connection = Connection::open(&address);
        for number in 0..50 {
            let target = format!("/v2/keys/dir{}/key{number}", number % 3);
            assert_eq!(connection.send(&ask("PUT", &target, &format!("value=v{number}"))).status, 201);
        }
        for (method, target, form) in [
            ("PUT", "/v2/keys/lock", "value=mine&ttl=3000"),
            ("PUT", "/v2/keys/lock", "ttl=5000&refresh=true&prevExist=true"),
            ("PUT", "/v2/keys/sub", "dir=true&ttl=4000"),
            ("POST", "/v2/keys/queue", "value=q"),
            ("PUT", "/v2/keys/dir0/key0", "value=w&prevValue=v0"),
            ("DELETE", "/v2/keys/dir1?recursive=true", ""),
            ("DELETE", "/v2/keys/dir2/key2?prevValue=v2", ""),
            ("PUT", "/v2/keys/_hidden/%3Cb%3E", "value=%26"),
        ] {
            let answer = connection.send(&ask(method, target, form));
            assert!(answer.status < 300, "{answer:?}");
        }
        let targets = ["/v2/keys/?recursive=true", "/v2/keys/_hidden?recursive=true", "/v2/keys/lock", "/v2/keys/sub"];
        let read = |address: &str| {
            targets.map(|target| {
                let answer = once(address, "GET", target, "");
                (index(&answer), sorted(answer.json()))
            })
        };
        let before = read(&address);
        side.kill();
        side.become_plinth();
        let after = read(&address);
        // A member that starts says who it is, which counts.
        for ((before_index, before), (after_index, after)) in before.iter().zip(&after) {
            assert_eq!(after, before, "{snapshots}");
            assert!(after_index >= before_index && *after_index <= before_index + 2, "{before_index} {after_index}");
        }
        let made = once(&address, "POST", "/v2/keys/queue", "value=r");
        assert_eq!(made.status, 201);
        assert_eq!(
            once(&address, "GET", "/v2/keys/queue", "").json()["node"]["nodes"].as_array().map(Vec::len),
            Some(2)
        );
        side.kill();
        side.restart();
        assert_eq!(once(&address, "GET", "/v2/keys/lock", "").json()["node"]["value"], "mine");
    }
}
