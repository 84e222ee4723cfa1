//! The same random requests to this program and to etcd 3.5.16: statuses, headers and bodies must be equal.
//!
//! What may differ: times (a time to live by a second), ids, and the order of listings, which is chance in etcd. What does
//! differ, and is not drawn: an update of a directory, which is broken in 3.5; a stream from the past, which goes on here;
//! and a stream is told of a removal once here, and twice there.

use crate::http::{Answer, Ask, Connection, ask};
use crate::side::Side;
use plinth_random::Random;
use serde_json::Value;
use std::env;
use std::time::Duration;

/// Longer than an answer takes that is on its way.
const SOON: Duration = Duration::from_millis(60);
const LATER: Duration = Duration::from_secs(3);

/// Somebody who waits at both.
struct Wait {
    ask: Ask,
    ours: Connection,
    theirs: Connection,
}

struct World {
    ours: Connection,
    theirs: Connection,
    addresses: [String; 2],
    waits: Vec<Wait>,
    /// What was counted before the first request: etcd counts what it did itself.
    counted: [Value; 2],
    /// The newest index that was told.
    index: u64,
    told: Vec<String>,
}

fn pick<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
    from[random.index(from.len())]
}

fn some_path(random: &mut Random) -> String {
    const NAMES: [&str; 9] = ["a", "b", "c", "_h", "a-b", "a%21", "%C3%A9", "%ff", "d%20e"];
    let mut path = String::from("/v2/keys");
    for _ in 0..random.below(4) {
        let names = if random.chance(85) { &NAMES[..4] } else { &NAMES[..] };
        path += "/";
        path += pick(random, names);
    }
    path + if random.chance(4) { "/" } else { "" }
}

/// Parameters, of which some make no sense.
fn parameters(random: &mut Random, world: &World, names: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    for name in names {
        if !random.chance(22) {
            continue;
        }
        let index = world.index.saturating_sub(random.below(4)).to_string();
        let value = match *name {
            "value" | "prevValue" => {
                pick(random, &["x", "y", "", "%3C%26%3E%22%5C", "%ff%0A%09", "a+b", "x"]).to_string()
            }
            "ttl" => pick(random, &["100", "5000", "", "abc", "-1", "", "100"]).to_string(),
            "prevIndex" | "waitIndex" => match random.below(8) {
                0 => pick(random, &["", "bad", "0", "99999999999999999999"]).to_string(),
                _ => index,
            },
            _ if random.chance(4) => pick(random, &["", "yes", "2", "%zz"]).to_string(),
            _ => pick(random, &["true", "true", "1", "false", "F"]).to_string(),
        };
        all.push(format!("{name}={value}"));
    }
    all
}

fn some_request(random: &mut Random, world: &World) -> Ask {
    let path = some_path(random);
    let with = |path: String, query: &[String]| match query {
        [] => path,
        query => format!("{path}?{}", query.join("&")),
    };
    match random.below(20) {
        0..=5 => {
            let query = parameters(random, world, &["recursive", "sorted", "quorum", "dir"]);
            ask(if random.chance(15) { "HEAD" } else { "GET" }, &with(path, &query), "")
        }
        6..=12 => {
            let names = ["dir", "ttl", "prevValue", "prevIndex", "prevExist", "noValueOnSuccess", "refresh"];
            let mut all = parameters(random, world, &names);
            if random.chance(75) && !all.iter().any(|text| text.starts_with("refresh=")) {
                all.push(format!("value={}", pick(random, &["x", "y", "z", "", "%3Cb%3E", "%ff"])));
            }
            if all.iter().any(|text| text.starts_with("prevExist=")) {
                // Directories are not updated by etcd 3.5 but by accident: they are refused a value.
                all.retain(|text| text != "value=" && !text.starts_with("refresh="));
                if !all.iter().any(|text| text.starts_with("value=")) {
                    all.push("value=u".to_string());
                }
            }
            match random.chance(50) {
                true => ask("PUT", &path, &all.join("&")),
                false => ask("PUT", &with(path, &all), ""),
            }
        }
        13 | 14 => {
            let mut all = parameters(random, world, &["dir", "ttl", "noValueOnSuccess"]);
            all.push("value=q".to_string());
            ask("POST", &path, &all.join("&"))
        }
        15..=17 => {
            let query = parameters(random, world, &["dir", "recursive", "prevValue", "prevIndex"]);
            ask("DELETE", &with(path, &query), "")
        }
        18 => ask("GET", "/v2/stats/store", ""),
        _ => {
            let method = pick(random, &["PATCH", "GET", "POST"]);
            let path = pick(random, &["/v2/keys/a", "/v2/members/xyz", "/v2/stats/none", "/v2/machines/", "/v2/keysa"]);
            ask(method, path, "")
        }
    }
}

/// What is compared of a body: lists in order, and without times.
fn normal(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.remove("expiration").is_some() {
                // Seen at another moment it may be another one.
                let ttl = fields.remove("ttl").and_then(|ttl| ttl.as_i64()).unwrap_or(0);
                fields.insert("ttl".into(), if ttl > 2 { "long".into() } else { "short".into() });
            }
            fields.remove("watchers");
            fields.values_mut().for_each(normal);
        }
        Value::Array(values) => {
            values.iter_mut().for_each(normal);
            values.sort_by_key(|value| value["key"].as_str().unwrap_or_default().to_string());
        }
        _ => {}
    }
}

fn normal_text(body: &[u8]) -> String {
    match serde_json::from_slice::<Value>(body) {
        Ok(mut value) => {
            normal(&mut value);
            let end = if body.ends_with(b"\n") { "\n" } else { "" };
            format!("{value}{end}")
        }
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

/// What is compared of an answer.
fn compared(answer: &Answer) -> String {
    let body = normal_text(&answer.body);
    let shown = ["Content-Type", "X-Etcd-Index", "Allow", "X-Content-Type-Options", "Location"];
    let present = ["X-Etcd-Cluster-Id", "X-Raft-Index", "X-Raft-Term"];
    let shown = shown.map(|name| format!("{name}: {:?}", answer.header(name)));
    let present = present.map(|name| format!("{name}: {}", answer.header(name).is_some()));
    format!("{}\n{}\n{}\n{}", answer.status, shown.join("\n"), present.join("\n"), body)
}

/// Events of a stream, each once.
fn events(body: &[u8]) -> Vec<String> {
    let mut all: Vec<String> = body.split_inclusive(|byte| *byte == b'\n').map(normal_text).collect();
    all.dedup();
    all
}

/// Counts, less those of before.
fn since(answer: &Answer, before: &Value) -> Vec<u8> {
    let mut counts = answer.json();
    for (name, count) in counts.as_object_mut().expect("counts") {
        *count = Value::from(count.as_i64().unwrap_or(0) - before[name].as_i64().unwrap_or(0));
    }
    counts.to_string().into_bytes()
}

impl World {
    fn both(&mut self, ask: &Ask) {
        let (mut ours, mut theirs) = (self.ours.send(ask), self.theirs.send(ask));
        if ask.target == "/v2/stats/store" && ask.method == "GET" {
            ours.body = since(&ours, &self.counted[0]);
            theirs.body = since(&theirs, &self.counted[1]);
        }
        self.told.push(format!("{} {} {:?} -> {} {}", ask.method, ask.target, ask.form, theirs.status, theirs.text()));
        if let Some(index) = theirs.header("X-Etcd-Index") {
            self.index = self.index.max(index.parse().expect("a number"));
        }
        if compared(&ours) != compared(&theirs) {
            let last = self.told.iter().rev().take(12).rev().cloned().collect::<Vec<_>>().join("\n");
            panic!("{last}\nours:\n{}\ntheirs:\n{}\n{ask:?}", compared(&ours), compared(&theirs));
        }
    }

    fn wait(&mut self, random: &mut Random) {
        let mut query = parameters(random, self, &["recursive", "waitIndex"]);
        if query.iter().all(|text| !text.starts_with("waitIndex")) && random.chance(40) {
            query.push("stream=true".to_string());
        }
        query.push("wait=true".to_string());
        let ask = ask("GET", &format!("{}?{}", some_path(random), query.join("&")), "");
        let [mut ours, mut theirs] = [0, 1].map(|at| Connection::open(&self.addresses[at]));
        let [our_head, their_head] = [&mut ours, &mut theirs].map(|side| {
            side.request(&ask);
            side.head()
        });
        assert_eq!(compared(&our_head), compared(&their_head), "{ask:?}");
        if our_head.status == 200 {
            self.waits.push(Wait { ask, ours, theirs });
        }
    }

    /// Looks at what one that waits was told; those that have got their event are gone.
    fn look(&mut self, at: usize) {
        let mut wait = self.waits.swap_remove(at);
        let mut theirs = wait.theirs.chunks_within(SOON, usize::MAX);
        let is_stream = wait.ask.target.contains("stream=true");
        let mut ours = wait.ours.chunks_within(if theirs.is_empty() { SOON } else { LATER }, theirs.len().max(1));
        for _ in 0..20 {
            if events(&ours) == events(&theirs) {
                break;
            }
            ours.extend(wait.ours.chunks_within(SOON, usize::MAX));
            theirs.extend(wait.theirs.chunks_within(SOON, usize::MAX));
        }
        assert_eq!(events(&ours), events(&theirs), "{:?}\n{}", wait.ask, self.told.join("\n"));
        if is_stream || ours.is_empty() {
            self.waits.push(wait);
        }
    }
}

#[test]
fn random_requests_are_answered_as_by_etcd() {
    let number = |name: &str, otherwise| env::var(name).map_or(otherwise, |text| text.parse().expect("a number"));
    let etcd = match env::var("PLINTH_ETCD_BIN") {
        Ok(etcd) => etcd,
        Err(_) if env::var_os("PLINTH_DIFF_REQUIRED").is_some() => panic!("PLINTH_ETCD_BIN names no etcd"),
        Err(_) => return eprintln!("skipped: PLINTH_ETCD_BIN names no etcd"),
    };
    let (seed, requests) = (number("PLINTH_DIFF_SEED", 1), number("PLINTH_DIFF_OPS", 1000));
    println!("seed {seed}, {requests} requests");
    let (ours, theirs) = (Side::plinth(&[]), Side::start(&etcd, &[]));
    let addresses = [ours.address(), theirs.address()];
    let [mut first, mut second] = [0, 1].map(|at| Connection::open(&addresses[at]));
    // The tree begins with the first look at it.
    let counted = [&mut first, &mut second].map(|side| {
        side.send(&ask("GET", "/v2/keys/", ""));
        side.send(&ask("GET", "/v2/stats/store", "")).json()
    });
    let mut world =
        World { ours: first, theirs: second, addresses, waits: Vec::new(), counted, index: 3, told: Vec::new() };
    let mut random = Random::new(seed);
    for number in 0..requests {
        if random.chance(5) && world.waits.len() < 12 {
            world.wait(&mut random);
        }
        if random.chance(3) && !world.waits.is_empty() {
            let at = random.index(world.waits.len());
            world.look(at);
        }
        let request = some_request(&mut random, &world);
        world.both(&request);
        if number % 500 == 250 {
            expire(&mut world);
        }
    }
    while !world.waits.is_empty() {
        let before = world.waits.len();
        world.look(0);
        if world.waits.len() == before {
            world.waits.pop();
        }
    }
}

/// Something ends at both.
fn expire(world: &mut World) {
    world.both(&ask("PUT", "/v2/keys/ending", "dir=true&ttl=1"));
    world.both(&ask("PUT", "/v2/keys/ending/key", "value=v"));
    std::thread::sleep(Duration::from_millis(2500));
    world.both(&ask("GET", "/v2/keys/ending?recursive=true", ""));
}
