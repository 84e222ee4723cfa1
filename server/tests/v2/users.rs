//! Users and roles of the v2 API: the same requests here and, where one is at hand, to etcd 3.5.

use crate::http::{Ask, Connection, ask};
use crate::side::Side;
use std::env;

/// Who asks, method, target, body; status, and what the answer begins with. `-` for nobody; a body that begins with `{` is
/// JSON, others are forms.
type Case = (&'static str, &'static str, &'static str, &'static str, u16, &'static str);

const CASES: &[Case] = &[
    ("-", "GET", "/v2/auth/enable", "", 200, "{\"enabled\":false}\n"),
    ("-", "PUT", "/v2/auth/enable", "", 409, "{\"message\":\"auth: No root user available, please create one\"}"),
    ("-", "DELETE", "/v2/auth/enable", "", 409, "{\"message\":\"auth: already disabled\"}"),
    ("-", "GET", "/v2/auth/users", "", 200, "{\"users\":null}\n"),
    (
        "-",
        "GET",
        "/v2/auth/roles",
        "",
        200,
        "{\"roles\":[{\"role\":\"root\",\"permissions\":{\"kv\":{\"read\":[\"/*\"],\"write\":[\"/*\"]}}}]}\n",
    ),
    (
        "-",
        "PUT",
        "/v2/auth/users/root",
        "{\"user\":\"root\"}",
        400,
        "{\"message\":\"auth: Cannot create user root with an empty password\"}",
    ),
    (
        "-",
        "PUT",
        "/v2/auth/users/root",
        "{\"user\":\"other\"}",
        400,
        "{\"message\":\"User JSON name does not match the name in the URL\"}",
    ),
    ("-", "PUT", "/v2/auth/users/root", "no", 400, "{\"message\":\"Invalid JSON in request body.\"}"),
    (
        "-",
        "PUT",
        "/v2/auth/users/root",
        "{\"user\":\"root\",\"password\":\"pw\"}",
        201,
        "{\"user\":\"root\",\"roles\":[\"root\"]}\n",
    ),
    ("-", "PUT", "/v2/auth/users/u", "{\"user\":\"u\",\"password\":\"p\"}", 201, "{\"user\":\"u\",\"roles\":null}\n"),
    ("-", "PUT", "/v2/auth/users/u", "{\"user\":\"u\",\"grant\":[\"r\"]}", 200, "{\"user\":\"u\",\"roles\":[\"r\"]}\n"),
    (
        "-",
        "PUT",
        "/v2/auth/users/u",
        "{\"user\":\"u\",\"grant\":[\"r\"]}",
        409,
        "{\"message\":\"auth: Granting duplicate role r for user u\"}",
    ),
    (
        "-",
        "PUT",
        "/v2/auth/users/u",
        "{\"user\":\"u\",\"revoke\":[\"x\"]}",
        409,
        "{\"message\":\"auth: Revoking ungranted role x for user u\"}",
    ),
    (
        "-",
        "PUT",
        "/v2/auth/users/u",
        "{\"user\":\"u\"}",
        400,
        "{\"message\":\"auth: User not updated. Use grant/revoke/password to update the user.\"}",
    ),
    (
        "-",
        "PUT",
        "/v2/auth/users/u",
        "{\"user\":\"u\",\"roles\":[\"a\"],\"grant\":[\"b\"]}",
        400,
        "{\"message\":\"User JSON contains both roles and grant/revoke\"}",
    ),
    ("-", "GET", "/v2/auth/users/u", "", 404, "{\"message\":\"auth: Role r does not exist.\"}"),
    ("-", "GET", "/v2/auth/users/nobody", "", 404, "{\"message\":\"auth: User nobody does not exist.\"}"),
    (
        "-",
        "PUT",
        "/v2/auth/roles/r",
        "{\"role\":\"r\",\"permissions\":{\"kv\":{\"read\":[\"/a*\"],\"write\":[\"/a/k\"]}}}",
        201,
        "{\"role\":\"r\",\"permissions\":{\"kv\":{\"read\":[\"/a*\"],\"write\":[\"/a/k\"]}}}\n",
    ),
    ("-", "PUT", "/v2/auth/roles/r", "{\"role\":\"r\"}", 409, "{\"message\":\"auth: Role r already exists.\"}"),
    (
        "-",
        "PUT",
        "/v2/auth/roles/r",
        "{\"role\":\"r\",\"grant\":{\"kv\":{\"read\":[\"/b\"]}},\"revoke\":{\"kv\":{\"write\":[\"/none\"]}}}",
        200,
        "{\"role\":\"r\",\"permissions\":{\"kv\":{\"read\":[\"/a*\",\"/b\"],\"write\":[\"/a/k\"]}}}\n",
    ),
    (
        "-",
        "PUT",
        "/v2/auth/roles/r",
        "{\"role\":\"r\",\"grant\":{\"kv\":{\"read\":[\"/b\"]}}}",
        409,
        "{\"message\":\"auth: Granting duplicate read permission /b\"}",
    ),
    (
        "-",
        "PUT",
        "/v2/auth/roles/root",
        "{\"role\":\"root\"}",
        403,
        "{\"message\":\"auth: Cannot modify role root: is root role.\"}",
    ),
    ("-", "DELETE", "/v2/auth/roles/none", "", 404, "{\"message\":\"auth: Role none doesn't exist.\"}"),
    ("-", "GET", "/v2/auth/roles/r/x", "", 400, "{\"message\":\"Invalid path\"}"),
    ("-", "PUT", "/v2/auth/enable", "", 200, ""),
    ("root:pw", "PUT", "/v2/auth/enable", "", 409, "{\"message\":\"auth: already enabled\"}"),
    ("-", "PUT", "/v2/auth/enable", "", 401, "{\"message\":\"Insufficient credentials\"}"),
    ("-", "GET", "/v2/auth/users", "", 401, "{\"message\":\"Insufficient credentials\"}"),
    ("root:wrong", "GET", "/v2/auth/users", "", 401, "{\"message\":\"Insufficient credentials\"}"),
    ("u:p", "GET", "/v2/auth/users", "", 401, "{\"message\":\"Insufficient credentials\"}"),
    // Guests may do everything until that is taken from them.
    ("-", "PUT", "/v2/keys/a/k", "value=1", 201, "{\"action\":\"set\",\"node\":{\"key\":\"/a/k\""),
    (
        "root:pw",
        "PUT",
        "/v2/auth/roles/guest",
        "{\"role\":\"guest\",\"revoke\":{\"kv\":{\"read\":[\"/*\"],\"write\":[\"/*\"]}}}",
        200,
        "{\"role\":\"guest\",\"permissions\":{\"kv\":{\"read\":[],\"write\":[]}}}\n",
    ),
    (
        "-",
        "GET",
        "/v2/keys/a/k",
        "",
        401,
        "{\"errorCode\":110,\"message\":\"The request requires user authentication\",\"cause\":\"Insufficient credentials\",\"index\":0}\n",
    ),
    ("u:p", "GET", "/v2/keys/a/k", "", 200, "{\"action\":\"get\",\"node\":{\"key\":\"/a/k\""),
    ("u:p", "PUT", "/v2/keys/a/k", "value=2", 200, "{\"action\":\"set\",\"node\":{\"key\":\"/a/k\""),
    ("u:p", "PUT", "/v2/keys/a/other", "value=2", 401, "{\"errorCode\":110"),
    ("u:p", "GET", "/v2/keys/a?recursive=true", "", 200, "{\"action\":\"get\",\"node\":{\"key\":\"/a\""),
    ("u:p", "GET", "/v2/keys/b?recursive=true", "", 401, "{\"errorCode\":110"),
    ("u:p", "GET", "/v2/keys/b", "", 404, "{\"errorCode\":100"),
    ("u:x", "GET", "/v2/keys/a/k", "", 401, "{\"errorCode\":110"),
    (
        "root:pw",
        "DELETE",
        "/v2/auth/users/root",
        "",
        403,
        "{\"message\":\"auth: Cannot delete root user while auth is enabled.\"}",
    ),
    ("root:pw", "DELETE", "/v2/auth/users/nobody", "", 404, "{\"message\":\"auth: User nobody does not exist\"}"),
    ("-", "DELETE", "/v2/members/1", "", 401, "{\"message\":\"Insufficient credentials\"}"),
    ("root:pw", "DELETE", "/v2/auth/users/u", "", 200, ""),
    ("root:pw", "DELETE", "/v2/auth/enable", "", 200, ""),
    ("-", "GET", "/v2/keys/a/k", "", 200, "{\"action\":\"get\",\"node\":{\"key\":\"/a/k\""),
    ("-", "PATCH", "/v2/auth/enable", "", 405, "Method Not Allowed\n"),
    ("-", "GET", "/v2/auth/", "", 404, "404 page not found\n"),
];

fn encoded(who: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in who.as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let letter = char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]);
            text.push(if at <= chunk.len() { letter } else { '=' });
        }
    }
    text
}

fn request(case: &Case) -> Ask {
    let (who, method, target, body, ..) = *case;
    let mut ask = ask(method, target, body);
    if body.starts_with('{') {
        ask.headers = "Content-Type: application/json\r\n".to_string();
    }
    if who != "-" {
        ask.headers += &format!("Authorization: Basic {}\r\n", encoded(who));
    }
    ask
}

fn answers_as_written(side: &Side) {
    let mut connection = Connection::open(&side.address());
    for case in CASES {
        let answer = connection.send(&request(case));
        let (status, text) = (answer.status, answer.text());
        assert!(status == case.4 && text.starts_with(case.5), "{case:?}: {status} {text}");
        assert!(!case.5.is_empty() || text.is_empty(), "{case:?}: {text}");
    }
}

#[test]
fn users_and_roles() {
    answers_as_written(&Side::plinth(&["--bcrypt-cost=4"]));
}

#[test]
fn users_and_roles_of_etcd() {
    match env::var("PLINTH_ETCD_BIN") {
        Ok(etcd) => answers_as_written(&Side::start(&etcd, &[])),
        Err(_) => eprintln!("skipped: PLINTH_ETCD_BIN names no etcd"),
    }
}

/// What a client writes is never taken for users and roles, whatever its paths and names are.
#[test]
fn nobody_gets_out_of_the_namespace_of_keys() {
    let side = Side::plinth(&["--bcrypt-cost=4"]);
    let mut connection = Connection::open(&side.address());
    let mut send = |who: &'static str, method: &'static str, target: &'static str, body: &'static str| {
        connection.send(&request(&(who, method, target, body, 0, "")))
    };
    // A user as he is stored, whose password is `p`.
    let hash = bcrypt::hash("p", 4).expect("hashed");
    let forged = format!("value={{\"user\":\"x\",\"password\":\"{hash}\",\"roles\":[\"root\"]}}");
    assert_eq!(send("-", "PUT", "/v2/keys/evil", forged.leak()).status, 201);
    assert_eq!(send("-", "PUT", "/v2/auth/users/root", "{\"user\":\"root\",\"password\":\"pw\"}").status, 201);
    assert_eq!(send("-", "PUT", "/v2/auth/enable", "").status, 200);
    for target in
        ["/v2/keys/%ff/../../2/enabled", "/v2/keys/%ff/../../../2/enabled", "/v2/keys/a%ff/..%2f..%2f..%2f2/enabled"]
    {
        assert_eq!(send("-", "PUT", target, "value=false").status, 400, "{target}");
        assert_eq!(send("-", "GET", target, "").status, 400, "{target}");
    }
    for name in ["../../1/evil:p", "../1/evil:p", "a/../../../1/evil:p"] {
        assert_eq!(send(name, "DELETE", "/v2/auth/enable", "").status, 401, "{name}");
    }
    assert_eq!(send("root:pw", "GET", "/v2/auth/enable", "").text(), "{\"enabled\":true}\n");
}

/// What a request may hold counts all of it, and users and roles are no way around that.
#[test]
fn requests_are_bounded_whatever_they_are_made_of() {
    let side = Side::plinth(&["--bcrypt-cost=4", "--max-request-bytes=4096"]);
    let mut connection = Connection::open(&side.address());
    let mut send = |method: &'static str, target: &'static str, body: String| {
        connection.send(&request(&("-", method, target, body.leak(), 0, "")))
    };
    assert_eq!(send("PUT", "/v2/keys/a", "value=1".to_owned()).status, 201);
    let long = "x".repeat(5000);
    for (method, target, body) in [
        ("PUT", "/v2/keys/a", format!("value={long}")),
        ("PUT", "/v2/keys/a", format!("value=2&prevValue={long}")),
        ("PUT", "/v2/auth/roles/r", format!("{{\"role\":\"r\",\"permissions\":{{\"kv\":{{\"read\":[\"{long}\"]}}}}}}")),
    ] {
        let answer = send(method, target, body);
        // What goes wrong with users and roles is not told in detail, as by etcd.
        let is_told = answer.text().contains("request is too large");
        assert!(is_told || (answer.status == 500 && target.starts_with("/v2/auth")), "{method} {target}: {answer:?}");
    }
    let target = format!("/v2/keys/a?prevValue={long}").leak();
    assert!(send("DELETE", target, String::new()).text().contains("request is too large"));
    assert_eq!(send("GET", "/v2/keys/a", String::new()).json()["node"]["value"], "1");
}
