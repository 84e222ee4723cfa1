//! metad: what it says, when it says it, and to whom.

use super::authority::{Authority, params};
use super::common::{Port, Process};
use super::confd::{Confdir, once};
use super::http::{Answer, get, send};
use super::server::Server;
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A running metad.
struct Metad {
    process: Process,
    /// Its data API.
    data: Port,
    /// Its management API.
    manage: Port,
    _folder: tempfile::TempDir,
}

impl Metad {
    fn start(nodes: &str, flags: &[&str]) -> Metad {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plinth"));
        command.arg("metad");
        Metad::run(command, nodes, flags)
    }

    fn run(mut command: Command, nodes: &str, flags: &[&str]) -> Metad {
        let (data, manage) = (Port::reserve(), Port::reserve());
        let folder = tempfile::tempdir().expect("a temporary folder");
        command.args(["--backend", "etcdv3", "--nodes", nodes]).args(flags);
        command.args(["--listen", &data.address(), "--listen_manage", &manage.address()]);
        let mut process = Process::start(&mut command, &folder.path().join("log")).expect("it starts");
        process.wait_for_log("Listening on");
        Metad { process, data, manage, _folder: folder }
    }

    fn manage(&self, method: &str, path: &str, body: &str) -> Answer {
        send(&self.manage.address(), method, path, "", body)
    }

    fn put(&self, path: &str, body: &str) {
        let answer = self.manage("PUT", path, body);
        assert_eq!((answer.status, answer.body.as_str()), (200, "OK"), "{answer:?}");
    }

    fn get(&self, path: &str) -> Answer {
        get(&self.data.address(), path)
    }
}

const NODES: &str =
    r#"{"nodes":{"1":{"ip":"192.168.1.1","name":"node1"},"2":{"ip":"192.168.1.2","name":"node2"}},"n":7}"#;
const MAPPING: &str = r#"{"127.0.0.1":{"node":"/nodes/1","dir":{"other":"/nodes/2","gone":"/nodes/9"}}}"#;

fn ctl(server: &Server, words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plinth"));
    let output = command.args(["ctl", "--endpoints", &server.endpoint]).args(words).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn each_machine_is_told_what_is_about_it() {
    let server = Server::start();
    let mut metad = Metad::start(&server.endpoint, &[]);
    assert_eq!(metad.get("/").status, 404, "neither mapping nor rules");
    metad.put("/v1/data", NODES);
    metad.put("/v1/mapping", MAPPING);
    let own = json!({"node": {"ip": "192.168.1.1", "name": "node1"}, "dir": {"other": {"ip": "192.168.1.2", "name": "node2"}}});
    assert_eq!(metad.get("/self").json(), own, "its own write is seen by who has written");
    assert_eq!(metad.get("/self/node/name").json(), json!("node1"));
    assert_eq!(metad.get("/self/dir/other").json(), json!({"ip": "192.168.1.2", "name": "node2"}));
    assert_eq!(metad.get("/nodes/2/name").json(), json!("node2"));
    let root = metad.get("/").json();
    assert_eq!(root["self"], own);
    assert_eq!(root["n"], json!(null), "not mapped, and so not to be read");
    let missing = metad.get("/self/nonsense");
    assert_eq!((missing.status, missing.json()), (404, json!({"code": 404, "message": "Not found", "type": "ERROR"})));
    let text = send(&metad.data.address(), "GET", "/self", "", "");
    assert_eq!(
        text.body,
        "/dir/other/ip\t192.168.1.2\n/dir/other/name\tnode2\n/node/ip\t192.168.1.1\n/node/name\tnode1\n"
    );
    assert_eq!(text.header("content-type"), Some("text/plain"));
    assert!(text.header("x-metad-requestid").is_some_and(|id| id.starts_with("REQ-")));
    let yaml = send(&metad.data.address(), "GET", "/self/node", "Accept: text/yaml\r\n", "");
    assert_eq!(yaml.body, "ip: 192.168.1.1\nname: node1\n");
    assert_eq!(send(&metad.data.address(), "POST", "/quit", "", "").status, 405, "nobody ends it so");
    let head = send(&metad.data.address(), "HEAD", "/self/node", "", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(metad.manage("GET", "/health", "").json(), json!({"status": "up"}));
    assert!(metad.manage("GET", "/metrics", "").body.contains("metad_values{area=\"data\"} 5"));
    assert!(!metad.process.log().contains("node1"), "values are in no log");
    assert!(metad.process.terminate().success(), "an end that was asked for is none that failed");
}

#[test]
fn rules_decide_what_is_seen() {
    let server = Server::start();
    let metad = Metad::start(&server.endpoint, &["--group", "g", "--prefix", "/users/u1"]);
    metad.put("/v1/data", NODES);
    metad
        .put("/v1/rule", r#"{"127.0.0.1":[{"path":"/nodes","mode":1},{"path":"/nodes/*/ip","mode":0}],"10.0.0.1":[]}"#);
    assert_eq!(metad.get("/").json(), json!({"nodes": {"1": {"name": "node1"}, "2": {"name": "node2"}}}));
    assert_eq!(metad.get("/nodes/1/ip").status, 404);
    let rules = get(&metad.manage.address(), "/v1/rule?hosts=127.0.0.1,10.9.9.9").json();
    assert_eq!(rules, json!({"127.0.0.1": [{"path": "/nodes", "mode": 1}, {"path": "/nodes/*/ip", "mode": 0}]}));
    assert_eq!(metad.manage("DELETE", "/v1/rule?hosts=127.0.0.1", "").status, 200);
    assert_eq!(metad.get("/").status, 404);
    assert_eq!(ctl(&server, &["get", "--prefix", "/_metad", "--keys-only"]).trim(), "/_metad/rule/g/10.0.0.1");
    assert_eq!(ctl(&server, &["get", "/users/u1/nodes/1/name", "--print-value-only"]).trim(), "node1");
    for (method, path, body, status, text) in [
        ("PUT", "/v1/data", "{", 400, "invalid json format, error:"),
        ("PUT", "/v1/rule", r#"{"x":[{"path":"/","mode":5}]}"#, 500, "Invalid AccessMode [5]"),
        ("PUT", "/v1/mapping", r#"{"host":{}}"#, 500, "mapping's first level key should be ip ."),
        ("DELETE", "/v1/data?subs=a/b", "", 500, "Sub node must not a path."),
        ("PATCH", "/v1/data", "", 405, "Method not allowed"),
        ("GET", "/v2", "", 404, "404 page not found"),
    ] {
        let answer = metad.manage(method, path, body);
        assert!(answer.status == status && answer.body.contains(text), "{method} {path}: {answer:?}");
    }
}

#[test]
fn a_replacement_is_one_change() {
    let server = Server::start();
    let metad = Metad::start(&server.endpoint, &[]);
    metad.put("/v1/data", r#"{"a":{"x":"1","y":"2"},"ab":"stays","b":"3"}"#);
    metad.put("/v1/data/a/x", r#""4""#);
    let revision = |server: &Server| -> i64 {
        let status: serde_json::Value = serde_json::from_str(&ctl(server, &["get", "x", "-w", "json"])).expect("JSON");
        status["header"]["revision"].as_i64().expect("a revision")
    };
    let before = revision(&server);
    let many: serde_json::Map<String, serde_json::Value> = (0..400).map(|n| (format!("k{n}"), json!(n))).collect();
    assert_eq!(metad.manage("POST", "/v1/data/a", &json!(many).to_string()).status, 200);
    assert_eq!(revision(&server), before + 1, "more than a transaction's usual number, and yet one");
    let data = get(&metad.manage.address(), "/v1/data").json();
    assert_eq!((data["a"].as_object().map(serde_json::Map::len), &data["a"]["k399"]), (Some(400), &json!("399")));
    assert_eq!((&data["ab"], &data["b"]), (&json!("stays"), &json!("3")));
    metad.put("/v1/mapping", r#"{"127.0.0.1":{"b":"/b"}}"#);
    assert_eq!(metad.manage("DELETE", "/v1/data?subs=a,ab", "").status, 200);
    assert_eq!(get(&metad.manage.address(), "/v1/data").json(), json!({"b": "3"}));
    assert_eq!(metad.manage("POST", "/v1/data", "{}").status, 200);
    assert_eq!(get(&metad.manage.address(), "/v1/data").json(), json!({}));
    assert_eq!(
        get(&metad.manage.address(), "/v1/mapping").json(),
        json!({"127.0.0.1": {"b": "/b"}}),
        "metad's own stays"
    );
}

#[test]
fn who_waits_is_told_of_changes_of_its_own() {
    let server = Server::start();
    let metad = Metad::start(&server.endpoint, &[]);
    metad.put("/v1/data", NODES);
    metad.put("/v1/mapping", MAPPING);
    let wait = |query: &str| {
        let (address, path) = (metad.data.address(), format!("/self/node?wait=true{query}"));
        std::thread::spawn(move || (get(&address, &path), Instant::now()))
    };
    let version = metad.get("/self").header("x-metad-version").expect("a version").to_owned();
    let other = wait("&prev_version=1").join().expect("no panic").0;
    assert_eq!(other.header("x-metad-version"), Some(version.as_str()), "another version: at once");
    let waiting = [wait(""), wait(&format!("&prev_version={version}"))];
    std::thread::sleep(Duration::from_millis(300));
    metad.put("/v1/data/n", "8");
    std::thread::sleep(Duration::from_millis(500));
    assert!(waiting.iter().all(|thread| !thread.is_finished()), "what is others' wakes nobody");
    let changed = Instant::now();
    ctl(&server, &["put", "/nodes/1/name", "renamed"]);
    for thread in waiting {
        let (answer, when) = thread.join().expect("no panic");
        assert_eq!(answer.json(), json!({"ip": "192.168.1.1", "name": "renamed"}), "the whole value");
        assert_ne!(answer.header("x-metad-version"), Some(version.as_str()));
        assert!(when - changed >= Duration::from_millis(90), "changes that follow at once are joined");
    }
    let waiting = wait("");
    std::thread::sleep(Duration::from_millis(300));
    metad.put("/v1/mapping/127.0.0.1/node", r#""/nodes/2""#);
    assert_eq!(waiting.join().expect("no panic").0.json()["name"], json!("node2"), "another mapping, too");
}

#[test]
fn what_is_known_is_served_on_without_the_store_and_made_good_after() {
    let mut server = Server::start();
    let metad = Metad::start(&server.endpoint, &[]);
    metad.put("/v1/data", NODES);
    metad.put("/v1/mapping", MAPPING);
    server.kill();
    assert_eq!(metad.get("/self/node/name").json(), json!("node1"));
    server.restart();
    // The watch may have to find its history compacted.
    for _ in 0..20 {
        ctl(&server, &["put", "/nodes/1/name", "x"]);
    }
    let last = ctl(&server, &["put", "/nodes/1/name", "last", "-w", "json"]);
    let last: serde_json::Value = serde_json::from_str(&last).expect("JSON");
    ctl(&server, &["compaction", &last["header"]["revision"].to_string()]);
    let deadline = Instant::now() + super::common::PATIENCE;
    while metad.get("/self/node/name").json() != json!("last") {
        assert!(Instant::now() < deadline, "it never learned what has changed: {}", metad.process.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn addresses_headers_and_rates_are_looked_at() {
    let server = Server::start();
    let flags = [
        "--xff",
        "--xff_from",
        "127.0.0.1",
        "--require_header",
        "X-Metad: yes",
        "--rate_limit",
        "1",
        "--rate_burst",
        "5",
    ];
    let metad = Metad::start(&server.endpoint, &flags);
    let manage =
        |method: &str, path: &str, body: &str| send(&metad.manage.address(), method, path, "X-Metad: yes\r\n", body);
    assert_eq!(metad.manage("PUT", "/v1/data", NODES).status, 403, "managers have to show it, too");
    assert_eq!(manage("PUT", "/v1/data", NODES).status, 200);
    assert_eq!(manage("PUT", "/v1/mapping", r#"{"10.0.0.9":{"node":"/nodes/2"}}"#).status, 200);
    let data = |headers: &str| send(&metad.data.address(), "GET", "/self/node/name", headers, "");
    assert_eq!(data("X-Forwarded-For: 10.0.0.9\r\n").status, 403);
    assert_eq!(
        data("X-Metad: yes\r\nX-Forwarded-For: 6.6.6.6, 10.0.0.9\r\n").body,
        "node2",
        "the last is the proxy's word"
    );
    assert_eq!(data("X-Metad: yes\r\n").status, 404, "the proxy itself is nobody");
    let statuses: Vec<u16> = (0..8).map(|_| data("X-Metad: yes\r\nX-Forwarded-For: 10.0.0.9\r\n").status).collect();
    assert!(statuses.contains(&429) && statuses[0] == 200, "{statuses:?}");
    assert_eq!(data("X-Metad: yes\r\nX-Forwarded-For: 10.0.0.10\r\n").status, 404, "others have rates of their own");
}

/// The real one answers the same, on the same keys.
#[test]
fn the_original_says_the_same() {
    let Some(original) = std::env::var_os("PLINTH_METAD_BIN") else {
        eprintln!("skipped: no PLINTH_METAD_BIN");
        return;
    };
    let server = Server::start();
    let ours = Metad::start(&server.endpoint, &[]);
    let theirs = Metad::run(Command::new(Path::new(&original)), &format!("http://{}", server.endpoint), &[]);
    theirs.put("/v1/data", NODES);
    theirs.put("/v1/mapping", MAPPING);
    theirs.put("/v1/data", r#"{"deep":{"a":{"b":[1,true,null,0.5,{"c":"d"}]}},"t":"x<y"}"#);
    theirs.put("/v1/mapping/127.0.0.1/deep", r#""/deep""#);
    std::thread::sleep(Duration::from_secs(1));
    let compare = |what: &str| {
        let paths =
            ["/", "/self", "/self/", "/self/node", "/self/node/ip", "/self/dir", "/self/dir/gone", "/self/deep/a/b"];
        for path in paths.iter().chain(&["/nodes", "/nodes/1", "/nodes/9", "/n", "/deep/a", "/t", "/self/node/ip/x"]) {
            for accept in ["text/plain", "application/json"] {
                let ask = |metad: &Metad| {
                    let answer = send(&metad.data.address(), "GET", path, &format!("Accept: {accept}\r\n"), "");
                    let is_json = answer.body.starts_with(['{', '"']) && accept.ends_with("json");
                    let body = if is_json { answer.json() } else { json!(answer.body) };
                    (answer.status, body)
                };
                assert_eq!(ask(&ours), ask(&theirs), "{what}: {path} as {accept}");
            }
        }
        for path in ["/v1/data", "/v1/data/nodes/1", "/v1/data/x", "/v1/mapping", "/v1/mapping/127.0.0.1/dir"] {
            let ask = |metad: &Metad| {
                let answer = get(&metad.manage.address(), path);
                (answer.status, answer.json())
            };
            assert_eq!(ask(&ours), ask(&theirs), "{what}: {path}");
        }
    };
    compare("mapping");
    ours.put(
        "/v1/rule",
        r#"{"127.0.0.1":[{"path":"/nodes","mode":1},{"path":"/nodes/*/ip","mode":0},{"path":"/deep/a","mode":1}]}"#,
    );
    std::thread::sleep(Duration::from_secs(1));
    compare("rules");
    for (method, path) in
        [("DELETE", "/v1/data?subs=deep,none"), ("DELETE", "/v1/mapping/127.0.0.1/dir"), ("DELETE", "/v1/data/nodes/1")]
    {
        assert_eq!(ours.manage(method, path, "").status, 200);
        std::thread::sleep(Duration::from_secs(1));
        compare(path);
    }
}

/// A member may be a metad as well.
#[test]
fn a_member_answers_as_a_metad() {
    let (data, manage) = (Port::reserve(), Port::reserve());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("metad.yaml");
    let settings = format!("listen: '{}'\nlisten_manage: '{}'\nprefix: /tree\n", data.address(), manage.address());
    std::fs::write(&file, settings).expect("written");
    let server = Server::start_with(&[&format!("--metad-config={}", file.display())]);
    let put = |path, body| {
        let answer = send(&manage.address(), "PUT", path, "", body);
        assert_eq!((answer.status, answer.body.as_str()), (200, "OK"), "{answer:?}");
    };
    put("/v1/data", NODES);
    put("/v1/mapping", MAPPING);
    assert_eq!(get(&data.address(), "/self/node/name").json(), json!("node1"));
    assert_eq!(ctl(&server, &["get", "/tree/n", "--print-value-only"]), "7\n");
    ctl(&server, &["put", "/tree/nodes/1/name", "other"]);
    let deadline = Instant::now() + super::common::PATIENCE;
    while get(&data.address(), "/self/node/name").json() != json!("other") {
        assert!(Instant::now() < deadline, "the watch tells of it");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut wrong = Command::new(env!("CARGO_BIN_EXE_plinth"));
    wrong.arg("--metad-config=/nonexistent").current_dir(folder.path());
    wrong.args(["--listen-client-urls=http://127.0.0.1:0", "--listen-peer-urls=http://127.0.0.1:0"]);
    wrong.arg("--advertise-client-urls=http://127.0.0.1:0");
    let output = wrong.output().expect("it runs");
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("--metad-config: /nonexistent")
    );
}

#[test]
fn certificates_tell_machines_apart() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = Authority::new(folder.path());
    let [cert, key] = authority.sign("server", params("server", &["127.0.0.1"])).texts();
    let ca = authority.file.display().to_string();
    let flags = ["--identity", "certificate", "--server_cert", &cert, "--server_key", &key, "--server_client_ca", &ca];
    let metad = Metad::start(&server.endpoint, &flags);
    metad.put("/v1/data", NODES);
    metad.put("/v1/mapping", r#"{"node-2":{"node":"/nodes/2"}}"#);
    let node = format!("https://{}", metad.data.address());
    let ask = |shown: &[&str]| {
        let confdir = Confdir::new();
        confdir.add("out", "{{getv \"/node/name\"}}", "keys = ['/node']");
        let words = ["-backend", "metad", "-prefix", "/self", "-node", &node, "-client-ca-keys", &ca];
        once(&confdir, &[&words[..], shown].concat());
        confdir.target("out")
    };
    for (name, expected) in [("node-2", Some("node2")), ("node-1", None)] {
        let [cert, key] = authority.sign(name, params(name, &[])).texts();
        let found = ask(&["-client-cert", &cert, "-client-key", &key]);
        assert_eq!(found.as_deref(), expected, "{name} is told what is about it alone");
    }
    assert_eq!(ask(&[]), None, "who shows no certificate is nobody");
}
