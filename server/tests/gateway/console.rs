//! The console of the real binary: what it is served with, who may ask for it, and what becomes of pages of others. Each
//! test is a row of what a console inside a server makes dangerous.

use super::client::{Answer, Connection};
use super::common::PATIENCE;
use super::server::Server;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Sends a request as a browser would: `headers` with line ends, `{h}` standing for the server's address.
fn ask(server: &Server, method: &str, target: &str, headers: &str, body: &str) -> Answer {
    let mut connection = Connection::open(&server.address);
    let headers = headers.replace("{h}", &server.address);
    let host = if headers.contains("Host: ") { String::new() } else { format!("Host: {}\r\n", server.address) };
    let length = body.len();
    connection.send(
        format!("{method} {target} HTTP/1.1\r\n{host}{headers}Content-Length: {length}\r\n\r\n{body}").as_bytes(),
    );
    connection.answer()
}

fn get(server: &Server, target: &str, headers: &str) -> Answer {
    ask(server, "GET", target, headers, "")
}

/// A call as the console's page makes it.
fn call(server: &Server, path: &str, body: Value, headers: &str) -> Answer {
    let headers = format!("Origin: http://{{h}}\r\nContent-Type: application/json\r\n{headers}");
    ask(server, "POST", &format!("/v3/{path}"), &headers, &body.to_string())
}

const RANGE: &str = r#"{"key":"Zm9v"}"#;
const JSON: &str = "Content-Type: application/json\r\n";

#[test]
fn it_is_off_unless_asked_for() {
    let server = Server::plinth(&[]);
    for path in ["/console", "/console/", "/console/api/about", "/console/api/samples"] {
        assert_eq!(get(&server, path, "").status, 404, "{path}");
    }
    // And nothing of etcd's manners changes: pages of others come in.
    let answer = ask(&server, "POST", "/v3/kv/range", "Origin: http://evil.com\r\nHost: evil.com\r\n", RANGE);
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some("*")));
}

#[test]
fn the_page_comes_whole_or_compressed_and_not_twice() {
    let server = Server::plinth(&["--enable-console"]);
    let plain = get(&server, "/console/", "");
    assert_eq!((plain.status, plain.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(plain.body == plinth_console::PAGE);
    for (name, value) in [
        ("content-security-policy", plinth_console::POLICY),
        ("cache-control", "no-cache"),
        ("vary", "Accept-Encoding"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("x-frame-options", "DENY"),
    ] {
        assert_eq!(plain.header(name), Some(value), "{name}");
    }
    assert_eq!(plain.header("content-encoding"), None);
    let compressed = get(&server, "/console/", "Accept-Encoding: gzip, br\r\n");
    assert_eq!(compressed.header("content-encoding"), Some("gzip"));
    assert!(compressed.body == plinth_console::PAGE_GZIP);
    let tag = plain.header("etag").expect("a tag");
    assert!(tag.starts_with('"'), "a strong one: {tag}");
    let known = get(&server, "/console/", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!((known.status, known.body.len()), (304, 0));
    let moved = get(&server, "/console", "");
    assert_eq!((moved.status, moved.header("location")), (307, Some("/console/")));
}

/// Pages of others (CSRF): there are no cookies, and what a browser says of the page is looked at.
#[test]
fn pages_of_others_stay_out() {
    let server = Server::plinth(&["--enable-console", "--cors", "http://friend.com:8080"]);
    let post = |headers: &str| ask(&server, "POST", "/v3/kv/range", headers, RANGE);
    let status = |headers: &str| post(&format!("{headers}{JSON}")).status;
    assert_eq!(status("Origin: http://{h}\r\n"), 200, "its own page");
    assert_eq!(status("Origin: http://friend.com:8080\r\n"), 200, "one that is listed");
    assert_eq!(status(""), 200, "no page at all");
    for foreign in ["http://evil.com", "https://{h}", "null", "http://{h}.evil.com", "http://friend.com:8080.evil.com"]
    {
        let answer = post(&format!("Origin: {foreign}\r\n{JSON}"));
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, None), "{foreign}");
        let asked_before = ask(&server, "OPTIONS", "/v3/kv/put", &format!("Origin: {foreign}\r\n"), "");
        assert_eq!((asked_before.status, asked_before.header("access-control-allow-origin")), (403, None), "{foreign}");
        assert_eq!(get(&server, "/console/api/samples", &format!("Origin: {foreign}\r\n")).status, 403, "{foreign}");
    }
    let allowed = post(&format!("Origin: http://friend.com:8080\r\n{JSON}"));
    assert_eq!(allowed.header("access-control-allow-origin"), Some("http://friend.com:8080"));
    // What a form could send without being asked for leave.
    assert_eq!(post("Origin: http://{h}\r\nContent-Type: text/plain\r\n").status, 415);
    assert_eq!(post("Origin: http://{h}\r\n").status, 415);
    // Browsers do not name the origin of what they fetch for a picture, but say that it is another's.
    assert_eq!(get(&server, "/console/api/samples", "Sec-Fetch-Site: cross-site\r\n").status, 403);
    assert_eq!(get(&server, "/console/api/samples", "Sec-Fetch-Site: same-origin\r\n").status, 200);
    assert_eq!(get(&server, "/console/", "Sec-Fetch-Site: cross-site\r\n").status, 200, "a link to the page");
    // Websockets are not asked for leave.
    let socket = "Origin: http://evil.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    assert_eq!(get(&server, "/v3/watch", socket).status, 403);
    for path in ["/console/", "/console/api/about", "/v3/kv/range"] {
        assert_eq!(get(&server, path, "").header("set-cookie"), None);
    }
}

/// `*` in `--cors`, which is etcd's default, lists nobody.
#[test]
fn a_star_lets_no_page_in() {
    let server = Server::plinth(&["--enable-console"]);
    let answer = ask(&server, "POST", "/v3/kv/range", &format!("Origin: http://evil.com\r\n{JSON}"), RANGE);
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, None));
}

/// A name that a page has made point here (DNS rebinding): then its origin equals the host.
#[test]
fn names_of_others_stay_out() {
    let server = Server::plinth(&["--enable-console"]);
    let port = server.ports[0].number();
    for (host, status) in [
        ("evil.com", 421),
        ("127.0.0.1.evil.com", 421),
        ("localhost", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1", 200),
        ("10.1.2.3", 200),
        ("[::1]", 200),
    ] {
        let headers = format!("Host: {host}:{port}\r\n");
        assert_eq!(get(&server, "/console/", &headers).status, status, "{host}");
        assert_eq!(get(&server, "/console/api/about", &headers).status, status, "{host}");
        let page = format!("{headers}Origin: http://{host}:{port}\r\n{JSON}");
        assert_eq!(ask(&server, "POST", "/v3/kv/range", &page, RANGE).status, status, "{host}");
    }
}

/// Nothing that `etcdctl` could not do with the same user: figures for whoever has signed in, all data's hash for root.
#[test]
fn it_asks_who_is_there() {
    let server = Server::plinth(&["--enable-console", "--bcrypt-cost", "4"]);
    for (path, body) in [
        ("auth/user/add", json!({"name": "root", "password": "r"})),
        ("auth/user/grant", json!({"user": "root", "role": "root"})),
        ("auth/user/add", json!({"name": "clerk", "password": "c"})),
        ("auth/enable", json!({})),
    ] {
        assert_eq!(call(&server, path, body, "").status, 200, "{path}");
    }
    let token = |name: &str, password: &str| {
        let answer = call(&server, "auth/authenticate", json!({"name": name, "password": password}), "");
        answer.json()["token"].as_str().map(|token| format!("Authorization: {token}\r\n"))
    };
    assert_eq!(token("root", "wrong"), None);
    let (root, clerk) = (token("root", "r").expect("a token"), token("clerk", "c").expect("a token"));
    let status = |view: &str, who: &str| get(&server, &format!("/console/api/{view}"), &format!("{JSON}{who}")).status;
    assert_eq!(status("about", ""), 200);
    for view in ["overview", "samples", "hash"] {
        // As the gateway tells it: no user is an argument that is missing, a token of nobody is not authenticated.
        assert_eq!(status(view, ""), 400, "{view}");
        assert_eq!(status(view, "Authorization: nobody.1\r\n"), 401, "{view}");
        assert_eq!(status(view, &root), 200, "{view}");
        assert_eq!(status(view, &clerk), if view == "hash" { 403 } else { 200 }, "{view}");
    }
    assert_eq!(call(&server, "kv/range", json!({"key": "Zm9v"}), &clerk).status, 403);
}

#[test]
fn read_only_changes_nothing_for_the_page() {
    let server = Server::plinth(&["--enable-console", "--console-read-only"]);
    let about = get(&server, "/console/api/about", "").json();
    assert_eq!(about["read_only"], true);
    assert_eq!(call(&server, "kv/range", json!({"key": "Zm9v"}), "").status, 200);
    for path in ["kv/put", "kv/txn", "kv/deleterange", "lease/grant", "cluster/member/add", "auth/enable", "v3/kv/put"]
    {
        let answer = call(&server, path, json!({"key": "Zm9v"}), "");
        assert_eq!((answer.status, answer.json()["code"].clone()), (403, json!(7)), "{path}");
    }
    let beta = format!("Origin: http://{{h}}\r\n{JSON}");
    assert_eq!(ask(&server, "POST", "/v3beta/kv/put", &beta, RANGE).status, 403);
    // Programs are not meant.
    assert_eq!(ask(&server, "POST", "/v3/kv/put", "", RANGE).status, 200);
}

#[test]
fn there_is_nothing_else_behind_it() {
    let server = Server::plinth(&["--enable-console"]);
    for path in
        ["/console/index.html", "/console/api", "/console/api/", "/console/api/shell", "/console/%2e%2e%2fmetrics"]
    {
        let answer = get(&server, path, "");
        assert!(matches!(answer.status, 404 | 307), "{path}: {}", answer.status);
    }
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(ask(&server, method, "/console/api/overview", "", "").status, 405, "{method}");
    }
    // etcd's own paths are as they were.
    for path in ["/health", "/version", "/metrics", "/readyz"] {
        assert_eq!(get(&server, path, "").status, 200, "{path}");
    }
}

#[test]
fn it_has_listeners_of_its_own() {
    let port = super::common::Port::reserve();
    let server = Server::plinth(&["--listen-console-urls", &port.url()]);
    assert_eq!(get(&server, "/console/", "").status, 404);
    let own = |target: &str, headers: &str, method: &str, body: &str| {
        let mut connection = Connection::open(&port.address());
        let length = body.len();
        let host = port.address();
        connection.send(
            format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
                .as_bytes(),
        );
        connection.answer()
    };
    assert_eq!(own("/console/", "", "GET", "").status, 200);
    assert_eq!(own("/v3/kv/range", &format!("Origin: {}\r\n{JSON}", port.url()), "POST", RANGE).status, 200);
    assert_eq!(own("/v3/kv/range", &format!("Origin: http://evil.com\r\n{JSON}"), "POST", RANGE).status, 403);
}

/// What the page draws: members, and figures of each second that do not outgrow fifteen minutes.
#[test]
fn figures_and_members() {
    let server = Server::plinth(&["--enable-console", "--reactors", "2"]);
    for _ in 0..5 {
        assert_eq!(ask(&server, "POST", "/v3/kv/put", "", RANGE).status, 200);
    }
    let deadline = Instant::now() + PATIENCE;
    let newest = loop {
        let samples = get(&server, "/console/api/samples", "").json();
        let names = samples["names"].as_array().expect("names");
        let column = |name: &str| names.iter().position(|known| known == name).expect("a column");
        let last = samples["rows"].as_array().and_then(|rows| rows.last()?.as_array());
        if let Some(last) = last.filter(|last| last[column("puts")] == json!(5)) {
            assert_eq!((last.len(), &last[column("has_leader")]), (names.len(), &json!(1)));
            break last[column("time")].as_i64().expect("a time");
        }
        assert!(Instant::now() < deadline, "puts are not counted: {last:?}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let later = get(&server, &format!("/console/api/samples?since={newest}"), "").json();
    let is_later = |row: &Value| row[0].as_i64().is_some_and(|time| time > newest);
    assert!(later["rows"].as_array().is_some_and(|rows| rows.iter().all(is_later)));
    let overview = get(&server, "/console/api/overview", "").json();
    let member = &overview["members"][0];
    assert_eq!((&member["own"], &member["error"]), (&json!(true), &Value::Null));
    assert!(member["id"].is_string() && member["status"]["revision"].is_string(), "64 bits are texts: {member}");
    let hashes = get(&server, "/console/api/hash", "Content-Type: application/json\r\n").json();
    assert_eq!(hashes["hashes"][0]["revision"], "6");
}
