//! Requests and answers, as a probe or a browser sees them.

use plinth_member::downgrade::Release;
use plinth_net::http1::{Http1Request, Limits, Response, parse};

use super::*;
use crate::metrics::ProcessStats;

const CLIENT: Endpoints = Endpoints::Client;

fn request(method: &str, target: &str, fields: &str) -> Http1Request {
    let text = format!("{method} {target} HTTP/1.1\r\nHost: etcd.example.com:2379\r\n{fields}\r\n");
    parse(text.as_bytes(), Limits::default()).expect("well-formed").expect("complete").0
}

fn get(target: &str) -> Http1Request {
    request("GET", target, "")
}

fn answer(route: Route) -> Response {
    match route {
        Route::Answer(response) => response,
        other => panic!("not answered yet: {other:?}"),
    }
}

fn body(response: &Response) -> &str {
    std::str::from_utf8(&response.body).expect("UTF-8")
}

#[test]
fn endpoints_by_listener_and_method() {
    const CASES: &[(&str, &str, &str, &str)] = &[
        // method, target, on listeners for clients, on those for metrics
        ("GET", "/metrics", "Metrics", "Metrics"),
        ("POST", "/metrics", "Metrics", "Metrics"),
        ("GET", "/health", "Health", "Health"),
        ("GET", "/%68ealth?x", "Health", "Health"),
        ("POST", "/health", "405", "405"),
        ("HEAD", "/livez", "405", "405"),
        ("GET", "/livez", "Probe", "Probe"),
        ("GET", "/livez/serializable_read", "Probe", "Probe"),
        ("PUT", "/livez/serializable_read", "405", "405"),
        ("GET", "/livez/linearizable_read", "404", "404"),
        ("GET", "/readyz/non_learner", "Probe", "Probe"),
        ("GET", "/readyz/", "404", "404"),
        ("GET", "/version", "Version", "404"),
        ("DELETE", "/version", "405", "404"),
        ("GET", "/debug/vars", "DebugVars", "404"),
        ("POST", "/debug/vars", "405", "404"),
        ("GET", "/config/local/log", "405", "404"),
        ("PUT", "/config/local/log", "400", "404"),
        ("GET", "/", "404", "404"),
        ("GET", "/v2/keys", "404", "404"),
        ("POST", "/v3/kv/put", "404", "404"),
        ("POST", "/v3//kv/put?x", "307", "307"),
        ("POST", "/v3alpha/kv/put", "404", "404"),
        ("GET", "http://h/health", "Health", "Health"),
    ];
    let name = |route: Route| match route {
        Route::Answer(response) => response.status.to_string(),
        other => format!("{other:?}").split(['(', ' ']).next().expect("a name").to_owned(),
    };
    for (method, target, client, metrics) in CASES {
        let request = request(method, target, "");
        assert_eq!(name(route(&request, CLIENT)), *client, "{method} {target}");
        assert_eq!(name(route(&request, Endpoints::Metrics)), *metrics, "{method} {target}");
    }
    let gateway = |target| gateway_path(&request("POST", target, ""));
    assert_eq!(gateway("/v3beta/kv/put?x").as_deref(), Some("/v3/kv/put"));
    assert_eq!(gateway("/v3").as_deref(), Some("/v3"));
    for other in ["/v3alpha/kv/put", "/v3//kv/put", "/health"] {
        assert_eq!(gateway(other), None);
    }
    let moved = answer(route(&request("POST", "/v3beta//kv/put?x=1", ""), CLIENT));
    assert_eq!((moved.status, moved.get("location")), (307, Some("/v3/kv/put?x=1")));
}

#[test]
fn the_level_of_the_log_is_read() {
    let put = |body: &'static str| {
        let request = Http1Request { body: body.into(), ..request("PUT", "/config/local/log", "") };
        route(&request, CLIENT)
    };
    assert_eq!(put(r#"{"Level":"DEBUG"}"#), Route::LogLevel(LogLevel::Debug));
    assert_eq!(put(r#"{"level":"warning"}"#), Route::LogLevel(LogLevel::Warn));
    for (text, expected) in [
        (r#"{"Level":"LOUD"}"#, r#"{"message":"Invalid log level LOUD"}"#),
        ("{}", r#"{"message":"Invalid log level "}"#),
        ("DEBUG", r#"{"message":"Invalid json body"}"#),
        (r#"{"Level":1}"#, r#"{"message":"Invalid json body"}"#),
    ] {
        let refused = answer(put(text));
        assert_eq!((refused.status, body(&refused)), (400, expected), "{text}");
    }
}

#[test]
fn refusals_read_as_gos() {
    let missing = answer(route(&get("/nope"), CLIENT));
    assert_eq!((missing.status, body(&missing)), (404, "404 page not found\n"));
    assert_eq!(missing.get("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(missing.get("x-content-type-options"), Some("nosniff"));
    let wrong = answer(route(&request("POST", "/health", ""), CLIENT));
    assert_eq!((wrong.status, body(&wrong), wrong.get("allow")), (405, "Method Not Allowed\n", Some("GET")));
}

fn health(query: &str) -> HealthRequest {
    match route(&get(&format!("/health{query}")), CLIENT) {
        Route::Health(request) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn health_looks_at_alarms_then_leader_then_read() {
    use ActiveAlarm::{Corrupt, NoSpace, Unknown};
    const CASES: &[(&str, &[ActiveAlarm], bool, Option<&str>)] = &[
        ("", &[], true, None),
        ("", &[NoSpace], false, Some("ALARM NOSPACE")),
        ("", &[Corrupt, NoSpace], true, Some("ALARM CORRUPT")),
        ("", &[Unknown], true, Some("ALARM UNKNOWN")),
        ("?exclude=NOSPACE", &[NoSpace], true, None),
        ("?exclude=nospace", &[NoSpace], true, Some("ALARM NOSPACE")),
        ("?exclude=NOSPACE", &[NoSpace, Corrupt], true, Some("ALARM CORRUPT")),
        ("?exclude=NOSPACE&exclude=CORRUPT&exclude=", &[NoSpace, Corrupt], true, None),
        ("", &[], false, Some("RAFT NO LEADER")),
        ("?serializable=true", &[], false, None),
        ("?serializable=TRUE", &[], false, Some("RAFT NO LEADER")),
        ("?serializable=false&serializable=true", &[], false, Some("RAFT NO LEADER")),
        ("?serializable", &[], false, Some("RAFT NO LEADER")),
    ];
    for (query, alarms, has_leader, reason) in CASES {
        let response = health(query).before_read(alarms, *has_leader);
        let text = reason.map(|reason| format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n"));
        assert_eq!(response.as_ref().map(body), text.as_deref(), "{query} {alarms:?}");
        if let Some(response) = response {
            assert_eq!((response.status, response.get("x-content-type-options")), (503, Some("nosniff")));
        }
    }
}

#[test]
fn health_answers_after_the_read() {
    let good = health("").after_read(Ok(()));
    assert_eq!((good.status, body(&good)), (200, r#"{"health":"true","reason":""}"#));
    assert_eq!(good.get("x-content-type-options"), None);
    let bad = health("").after_read(Err("etcdserver: \"no\" <leader>".to_owned()));
    let text = "{\"health\":\"false\",\"reason\":\"RANGE ERROR:etcdserver: \\\"no\\\" \\u003cleader\\u003e\"}\n";
    assert_eq!((bad.status, body(&bad)), (503, text));
}

fn probe(target: &str) -> ProbeRequest {
    match route(&get(target), CLIENT) {
        Route::Probe(request) => request,
        other => panic!("{other:?}"),
    }
}

/// All checks of a request with the outcome `Ok`, but these.
fn outcomes(request: &ProbeRequest, failing: &[(Check, &str)]) -> Vec<(Check, CheckOutcome)> {
    let outcome = |check: &Check| {
        let failure = failing.iter().find(|(failed, _)| failed == check);
        (*check, failure.map_or(Ok(()), |(_, error)| Err(error.to_string())))
    };
    request.checks.iter().map(outcome).collect()
}

#[test]
fn probes_run_their_checks_without_those_excluded() {
    use Check::{DataCorruption, LinearizableRead, NonLearner, SerializableRead};
    assert_eq!(probe("/livez").checks, [SerializableRead]);
    assert_eq!(probe("/readyz").checks, [DataCorruption, SerializableRead, LinearizableRead, NonLearner]);
    assert_eq!(probe("/readyz/linearizable_read?exclude=linearizable_read").checks, [LinearizableRead]);
    let excluding = probe("/readyz?exclude=data_corruption&exclude=nope&exclude=");
    assert_eq!(excluding.checks, [SerializableRead, LinearizableRead, NonLearner]);
    assert_eq!(excluding.unknown_excluded, ["nope"]);
    assert!(probe("/livez?exclude=serializable_read").checks.is_empty());
}

#[test]
fn probes_answer_briefly_when_good_and_in_detail_when_not() {
    type Case = (&'static str, &'static [(Check, &'static str)], u16, &'static str);
    let cases: &[Case] = &[
        ("/livez", &[], 200, "ok\n"),
        ("/livez?verbose", &[], 200, "[+]serializable_read ok\nok\n"),
        ("/livez?verbose=false", &[], 200, "[+]serializable_read ok\nok\n"),
        ("/livez?exclude=serializable_read&verbose", &[], 200, "ok\n"),
        ("/livez", &[(Check::SerializableRead, "disk")], 503, "[-]serializable_read failed: disk\n\n"),
        (
            "/readyz?exclude=data_corruption",
            &[(Check::NonLearner, "not supported for learner")],
            503,
            "[+]serializable_read ok\n[+]linearizable_read ok\n[-]non_learner failed: not supported for learner\n\n",
        ),
        (
            "/readyz/data_corruption",
            &[(Check::DataCorruption, "alarm activated: CORRUPT")],
            503,
            "[-]data_corruption failed: alarm activated: CORRUPT\n\n",
        ),
    ];
    for (target, failing, status, text) in cases {
        let request = probe(target);
        let response = request.respond(&outcomes(&request, failing), "");
        assert_eq!((response.status, body(&response)), (*status, *text), "{target}");
        assert_eq!(response.get("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(response.get("x-content-type-options"), Some("nosniff"));
    }
}

#[test]
#[should_panic(expected = "every check has its outcome")]
fn a_check_cannot_be_forgotten() {
    let _ = probe("/readyz").respond(&[], "");
}

#[test]
fn versions() {
    let known = version(Release::new(3, 7));
    assert_eq!(body(&known), r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#);
    assert_eq!(known.get("content-type"), Some("application/json"));
    assert_eq!(body(&version(Release::new(3, 6))), r#"{"etcdserver":"3.7.1","etcdcluster":"3.6.0","storage":"3.6.0"}"#);
}

#[test]
fn debug_vars_are_json_of_the_known_shape() {
    let raft = RaftStatus {
        id: 0x8e9e,
        term: 2,
        vote: 0x8e9e,
        commit: 7,
        lead: 0x8e9e,
        state: "StateLeader",
        applied: 7,
        progress: vec![PeerProgress { id: 0x8e9e, matched: 7, next: 8, state: "StateReplicate" }],
        transferee: 0,
    };
    let command_line = ["etcd".to_owned(), "--name=\"x\"\u{1}".to_owned()];
    let process = ProcessStats { max_fds: Some(1024.0), ..ProcessStats::default() };
    let response = debug_vars(&DebugVars { command_line: &command_line, process, raft: &raft });
    assert_eq!(response.get("content-type"), Some("application/json; charset=utf-8"));
    let json: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
    assert_eq!(json["cmdline"][1], "--name=\"x\"\u{1}");
    assert_eq!(json["file_descriptor_limit"], 1024);
    assert_eq!(json["raft.status"]["raftState"], "StateLeader");
    assert_eq!(json["raft.status"]["progress"]["8e9e"]["next"], 8);
    assert_eq!(json["raft.status"]["leadtransferee"], "0");
}

fn access(hosts: &[&str], origins: &[&str]) -> Access {
    let owned = |list: &[&str]| list.iter().map(|entry| entry.to_string()).collect::<Vec<_>>();
    Access::new(&owned(hosts), &owned(origins))
}

/// Names that a page has made point here (DNS rebinding).
#[test]
fn ghsa_wf43_55jj_vwq8_hosts_are_checked_on_plain_connections() {
    const CASES: &[(&[&str], &str, bool)] = &[
        (&["*"], "evil.com", true),
        (&[], "evil.com", true),
        (&["good.com"], "good.com:2379", true),
        (&["good.com"], "good.com", true),
        (&["good.com"], "evil.com:2379", false),
        (&["::1"], "[::1]:2379", true),
        (&["[::1]"], "[::1]", true),
        (&["good.com"], "", false),
    ];
    for (hosts, host, admitted) in CASES {
        let text = format!("GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let request = parse(text.as_bytes(), Limits::default()).expect("well-formed").expect("complete").0;
        let admission = access(hosts, &["*"]).admit(&request, &Connection::default());
        assert_eq!(matches!(admission, Admission::Admitted { .. }), *admitted, "{hosts:?} {host}");
        let encrypted = Connection { tls: true, ..Connection::default() };
        assert!(matches!(access(hosts, &["*"]).admit(&request, &encrypted), Admission::Admitted { .. }));
        if let Admission::Answered(response) = admission {
            assert_eq!(response.status, 421);
            assert!(body(&response).trim_start().lines().next().is_some_and(|line| line.contains("unrecognized")));
        }
    }
}

/// Requests of pages of others.
#[test]
fn ghsa_5gjm_fj42_x983_origins_are_allowed_in_the_answer() {
    const CASES: &[(&[&str], &str, Option<&str>)] = &[
        (&["*"], "", Some("*")),
        (&[], "Origin: http://a.com\r\n", Some("*")),
        (&["http://a.com"], "Origin: http://a.com\r\n", Some("http://a.com")),
        (&["http://a.com"], "Origin: http://b.com\r\n", None),
        (&["http://a.com"], "", None),
    ];
    for (origins, field, allowed) in CASES {
        for method in ["GET", "OPTIONS"] {
            let admission = access(&["*"], origins).admit(&request(method, "/any", field), &Connection::default());
            let response = match (&admission, method) {
                (Admission::Answered(response), "OPTIONS") => response.clone(),
                (Admission::Admitted { .. }, "GET") => admission.finish(Response::new(404)),
                other => panic!("{other:?}"),
            };
            assert_eq!(response.status, if method == "GET" { 404 } else { 200 });
            assert!(response.body.is_empty());
            assert_eq!(response.get("access-control-allow-origin"), *allowed, "{origins:?} {field}");
            assert_eq!(response.get("access-control-allow-methods").is_some(), allowed.is_some());
            assert_eq!(response.get("access-control-allow-headers").is_some(), allowed.is_some());
        }
    }
}

#[test]
fn a_certificate_that_the_gateway_would_ignore_is_told() {
    let connection = Connection { tls: true, common_name_would_be_ignored: true, ..Connection::default() };
    let admission = access(&["*"], &["*"]).admit(&request("POST", "/v3/kv/put", ""), &connection);
    assert!(matches!(admission, Admission::Answered(response) if response.status == 400));
    let admission = access(&["*"], &["*"]).admit(&get("/health"), &connection);
    assert!(matches!(admission, Admission::Admitted { .. }));
}
