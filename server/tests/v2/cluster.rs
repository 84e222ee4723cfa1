//! What is written stays: through a kill, through the end of a member, and on members that were not there.

use crate::http::{Answer, Connection, ask, index, once};
use crate::side::Side;
use std::time::{Duration, Instant};

/// Asks until the answer is a success: there may be no leader for a moment.
fn insist(address: &str, method: &str, target: &str, form: &str) -> Answer {
    let deadline = Instant::now() + crate::common::PATIENCE;
    loop {
        let answer = once(address, method, target, form);
        if answer.status < 300 {
            return answer;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_kill_loses_nothing() {
    let mut side = Side::plinth(&[]);
    let address = side.address();
    let mut last = 0;
    for round in 0..3 {
        let mut connection = Connection::open(&address);
        for number in 0..200 {
            let answer = connection.send(&ask("PUT", &format!("/v2/keys/dir/{number}"), &format!("value={round}")));
            assert!(index(&answer) > last);
            last = index(&answer);
        }
        connection.send(&ask("PUT", "/v2/keys/lock", "value=mine&ttl=100"));
        side.kill();
        side.restart();
        let list = insist(&address, "GET", "/v2/keys/dir?quorum=true", "").json();
        let nodes = list["node"]["nodes"].as_array().expect("a list").clone();
        assert_eq!(nodes.len(), 200);
        let expected = round.to_string();
        assert!(nodes.iter().all(|node| node["value"] == *expected));
        let lock = once(&address, "GET", "/v2/keys/lock", "").json();
        assert!((80..=100).contains(&lock["node"]["ttl"].as_i64().expect("a time to live")), "{lock}");
        // The history, too: who has missed something asks for it.
        let target = format!("/v2/keys/dir?wait=true&recursive=true&waitIndex={last}");
        assert_eq!(once(&address, "GET", &target, "").json()["node"]["modifiedIndex"], last);
    }
}

#[test]
fn nothing_begins_before_all_members_can_read_it() {
    let mut sides = Side::three(&[]);
    sides[2].kill();
    // Those that are left begin anew, so that they have not seen the third.
    for side in &mut sides[..2] {
        side.kill();
    }
    let (first, others) = sides.split_at_mut(1);
    first[0].restart_with(&mut others[0]);
    let address = first[0].address();
    let refused = once(&address, "GET", "/v2/keys/", "");
    assert_eq!((refused.status, refused.json()["errorCode"].as_u64()), (500, Some(300)), "{refused:?}");
    assert!(refused.text().contains("has not connected yet"), "{}", refused.text());
    assert_eq!(once(&address, "GET", "/v2/auth/users", "").status, 503);
    others[1].restart();
    insist(&address, "PUT", "/v2/keys/a", "value=1");
    // From now on it is no matter who is there.
    others[1].kill();
    first[0].kill();
    first[0].restart();
    insist(&address, "PUT", "/v2/keys/a", "value=2");
}

#[test]
fn three_members_hold_the_same() {
    let mut sides = Side::three(&[]);
    let addresses: Vec<String> = sides.iter().map(Side::address).collect();
    for (at, address) in addresses.iter().cycle().take(9).enumerate() {
        insist(address, "PUT", &format!("/v2/keys/key{at}"), &format!("value={at}&ttl=600"));
    }
    insist(&addresses[1], "PUT", "/v2/keys/short", "value=v&ttl=1");
    let same = |addresses: &[String]| {
        let lists: Vec<Answer> =
            addresses.iter().map(|address| insist(address, "GET", "/v2/keys/?quorum=true", "")).collect();
        let shown = |answer: &Answer| {
            let nodes = answer.json()["node"]["nodes"].as_array().cloned().unwrap_or_default();
            let of = |node: &serde_json::Value| format!("{} {} {}", node["key"], node["value"], node["modifiedIndex"]);
            (index(answer), nodes.iter().map(of).collect::<Vec<_>>())
        };
        let first = shown(&lists[0]);
        for list in &lists {
            assert_eq!(shown(list), first);
        }
        first.1.len()
    };
    let deadline = Instant::now() + crate::common::PATIENCE;
    while once(&addresses[2], "GET", "/v2/keys/short?quorum=true", "").status != 404 {
        assert!(Instant::now() < deadline, "it never ends");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(same(&addresses), 9);
    sides[0].kill();
    for number in 0..50 {
        insist(&addresses[1 + number % 2], "POST", "/v2/keys/queue", "value=q");
    }
    sides[0].restart();
    assert_eq!(same(&addresses), 10);
    let leader = once(&addresses[0], "GET", "/v2/members/leader", "").json();
    assert!(leader["name"].is_string(), "{leader}");
    assert_eq!(once(&addresses[0], "GET", "/v2/machines", "").text().split(", ").count(), 3);
}
