//! Cases of the gateway's JSON, and messages of every kind there and back.

use super::*;
use crate::methods;
use crate::proto::{etcdserverpb as pb, mvccpb, v3electionpb as election};
use proptest::prelude::*;
use prost::Message;

/// What a body is read as: the first value of it.
fn read_body(spec: &'static MessageSpec, body: &[u8]) -> Result<Vec<u8>, String> {
    let mut scanner = Scanner::default();
    let value = match scanner.scan(body).map_err(|error| error.to_string())? {
        Step::Value(range) => Some(range),
        Step::NeedMore => scanner.end().map_err(|error| error.to_string())?,
    };
    value.map_or(Ok(Vec::new()), |range| read(spec, &body[range]))
}

fn request(path: &str) -> &'static MessageSpec {
    messages(path).expect("a method").0
}

fn read_as<M: Message + Default>(path: &str, json: &str) -> Result<M, String> {
    let bytes = read_body(request(path), json.as_bytes())?;
    Ok(M::decode(&bytes[..]).expect("a message"))
}

fn range(json: &str) -> Result<pb::RangeRequest, String> {
    read_as(methods::RANGE.path, json)
}

fn written<M: Message>(path: &str, message: &M) -> String {
    let mut out = Vec::new();
    write(messages(path).expect("a method").1, &message.encode_to_vec(), Escapes::Least, &mut out).expect("a message");
    String::from_utf8(out).expect("text")
}

#[test]
fn every_method_has_messages_and_every_route_a_method() {
    for (path, _) in methods::ALL {
        assert!(messages(path).is_some(), "{path}");
    }
    for route in ROUTES {
        assert!(methods::ALL.iter().any(|(path, _)| *path == route.method), "{}", route.path);
    }
    let without: Vec<_> =
        methods::ALL.iter().filter(|(path, _)| !ROUTES.iter().any(|route| route.method == *path)).collect();
    let is_own = |path: &str| path.starts_with("/plinthpb.");
    let of_etcd = without.iter().filter(|(path, _)| !is_own(path)).count();
    assert_eq!(of_etcd, 3, "health and range streams have none, nor have our own: {without:?}");
}

#[test]
fn tables_are_in_the_order_of_numbers() {
    for (path, request, answer) in tables::METHODS {
        for spec in [request, answer] {
            assert!(spec.fields.is_sorted_by_key(|field| field.number), "{path}");
            assert!(spec.fields.len() < 64, "{path}");
        }
    }
}

#[test]
fn names_are_taken_in_both_spellings() {
    let expected = pb::RangeRequest { range_end: "b".into(), limit: 3, sort_order: 2, ..Default::default() };
    for json in [
        r#"{"range_end":"Yg==","limit":"3","sort_order":"DESCEND"}"#,
        r#" {"rangeEnd":"Yg","limit":3,"sortOrder":2} trailing {"#,
        r#"{"rangeEnd":"Yg==","limit":3e0,"sort_order":"DESCEND","nothing":{"a":[1,"}",{"b":null}]},"key":null}"#,
        "{\n\t\"r\\u0061ngeEnd\" : \"Yg==\" , \"limit\" : \"30e-1\", \"sortOrder\" : 2.0 }",
    ] {
        assert_eq!(range(json).as_ref(), Ok(&expected), "{json}");
    }
    let grant: pb::LeaseGrantRequest = read_as(methods::LEASE_GRANT.path, r#"{"TTL":60,"ID":"7"}"#).expect("read");
    assert_eq!(grant, pb::LeaseGrantRequest { ttl: 60, id: 7 });
    assert_eq!(read_as::<pb::LeaseGrantRequest>(methods::LEASE_GRANT.path, r#"{"ttl":60}"#), Ok(Default::default()));
}

#[test]
fn bytes_are_read_as_go_reads_them() {
    for (json, expected) in [
        ("", Some("")),
        ("YQ==", Some("a")),
        ("YQ", Some("a")),
        ("YR==", Some("a")),
        ("_-8=", Some("")),
        ("/+8", Some("")),
        ("Y\\r\\nQ==", None),
        ("YWJj\\n\\n\\n\\n", Some("abc")),
        ("YQ=", None),
        ("Y", None),
        ("Y Q=", None),
        ("_+8=", None),
    ] {
        let read = range(&format!(r#"{{"key":"{json}"}}"#));
        match expected {
            Some("") if !json.is_empty() => assert_eq!(read.expect(json).key[..], [0xff, 0xef]),
            Some(expected) => assert_eq!(read.expect(json).key, expected),
            None => assert!(read.expect_err(json).contains("invalid value for bytes field key: "), "{json}"),
        }
    }
}

#[test]
fn integers_are_read_as_go_reads_them() {
    for (json, expected) in [
        ("0", Some(0)),
        ("-0", Some(0)),
        ("12", Some(12)),
        ("\"-12\"", Some(-12)),
        ("1e3", Some(1000)),
        ("1.5e1", Some(15)),
        ("\"1.0\"", Some(1)),
        ("1200E-2", Some(12)),
        ("9223372036854775807", Some(i64::MAX)),
        ("\"-9223372036854775808\"", Some(i64::MIN)),
        ("9223372036854775808", None),
        ("1.5", None),
        ("1e-1", None),
        ("1e20", None),
        ("1e99999999999", None),
        ("\" 1\"", None),
        ("\"1 \"", None),
        ("\"01\"", None),
        ("\"+1\"", None),
        ("\"1,\"", None),
        ("\"\"", None),
        ("true", None),
        ("[1]", None),
        ("{}", None),
    ] {
        let read = range(&format!(r#"{{"limit":{json}}}"#));
        match expected {
            Some(expected) => assert_eq!(read.expect(json).limit, expected, "{json}"),
            None => assert!(read.expect_err(json).contains("invalid value for int64 field limit: "), "{json}"),
        }
    }
    let hash = |json| read_as::<pb::MemberRemoveRequest>(methods::MEMBER_REMOVE.path, json);
    assert_eq!(hash(r#"{"ID":"18446744073709551615"}"#).expect("read").id, u64::MAX);
    assert!(hash(r#"{"ID":-1}"#).is_err());
}

#[test]
fn enums_are_names_or_numbers() {
    for (json, expected) in [("\"VALUE\"", 4), ("4", 4), ("17", 17), ("\"17\"", 0), ("\"nonsense\"", 0), ("-1", -1)] {
        assert_eq!(range(&format!(r#"{{"sort_target":{json}}}"#)).expect(json).sort_target, expected, "{json}");
    }
    assert!(
        range(r#"{"sort_target":true}"#).expect_err("none").contains("invalid value for enum field sortTarget: true")
    );
    let json = r#"{"create_request":{"filters":["NOPUT","nonsense",1]}}"#;
    let watch: pb::WatchRequest = read_as(methods::WATCH.path, json).expect("read");
    let Some(pb::watch_request::RequestUnion::CreateRequest(create)) = watch.request_union else { panic!("{watch:?}") };
    assert_eq!(create.filters, [0, 1]);
}

#[test]
fn what_is_chosen_is_kept_at_its_default() {
    let json = r#"{"compare":[{"key":"YQ==","version":"0"},{"key":"YQ==","target":"VALUE","value":""},{}],
        "success":[{"requestPut":{}},{"request_txn":{"failure":[{"request_delete_range":{"key":"YQ=="}}]}}]}"#;
    let txn: pb::TxnRequest = read_as(methods::TXN.path, json).expect("read");
    use pb::compare::TargetUnion;
    let targets: Vec<_> = txn.compare.iter().map(|compare| compare.target_union.clone()).collect();
    assert_eq!(targets, [Some(TargetUnion::Version(0)), Some(TargetUnion::Value(Default::default())), None]);
    use pb::request_op::Request;
    assert_eq!(txn.success[0].request, Some(Request::RequestPut(Default::default())));
    let Some(Request::RequestTxn(inner)) = &txn.success[1].request else { panic!("{txn:?}") };
    assert!(matches!(&inner.failure[0].request, Some(Request::RequestDeleteRange(range)) if range.key == "a"));
}

#[test]
fn faults_are_told_in_the_words_of_go() {
    for (json, expected) in [
        ("{", "unexpected EOF"),
        (r#"{"key":"Yg=="#, "unexpected EOF"),
        ("x", "invalid character 'x' looking for beginning of value"),
        ("{x", "invalid character 'x' looking for beginning of object key string"),
        ("{\"a\" 1}", "invalid character '1' after object key"),
        ("{\"a\":1 1}", "invalid character '1' after object key:value pair"),
        ("{\"a\":[1 1]}", "invalid character '1' after array element"),
        ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
        ("{\"a\":01}", "invalid character '1' after object key:value pair"),
        ("{\"a\":-}", "invalid character '}' in numeric literal"),
        ("{\"a\":1.}", "invalid character '}' after decimal point in numeric literal"),
        ("{\"a\":1e }", "invalid character ' ' in exponent of numeric literal"),
        ("{\"a\":nulx}", "invalid character 'x' in literal null (expecting 'l')"),
        ("{\"a\":\"\n\"}", "invalid character '\\n' in string literal"),
        (r#"{"a":"\x"}"#, "invalid character 'x' in string escape code"),
        (r#"{"a":"\u00g0"}"#, r"invalid character 'g' in \u hexadecimal character escape"),
        ("{é}", "invalid character 'Ã' looking for beginning of object key string"),
        ("null", "proto: syntax error (line 1:1): unexpected token null"),
        (" [1]", "proto: syntax error (line 1:1): unexpected token ["),
        ("\"a\" x", "proto: syntax error (line 1:1): unexpected token \"a\""),
        ("17", "proto: syntax error (line 1:1): unexpected token 17"),
        (r#"{"key":"","key":""}"#, "proto: (line 1:11): duplicate field \"key\""),
        ("{\"range_end\":\"\",\n \"rangeEnd\":\"\"}", "proto: (line 2:2): duplicate field \"rangeEnd\""),
        (r#"{"keys_only":"true"}"#, "proto: (line 1:14): invalid value for bool field keysOnly: \"true\""),
        (r#"{"é":1,"key":7}"#, "proto: (line 1:14): invalid value for bytes field key: 7"),
        (r#"{"x":"\ud800"}"#, "proto: unexpected EOF"),
        (
            r#"{"x":"\ud800","y":"\u0041"}"#,
            "proto: syntax error (line 1:6): invalid escape code \"\\\",\\\"y\\\":\" in string",
        ),
        (r#"{"key":"\ud800\u0041"}"#, "proto: syntax error (line 1:8): invalid escape code \"\\\\u0041\" in string"),
    ] {
        assert_eq!(range(json).expect_err(json), expected, "{json}");
    }
    let txn = |json: &str| read_as::<pb::TxnRequest>(methods::TXN.path, json).expect_err(json);
    assert_eq!(txn(r#"{"compare":{}}"#), "proto: syntax error (line 1:12): unexpected token {");
    assert_eq!(txn(r#"{"compare":[null]}"#), "proto: syntax error (line 1:13): unexpected token null");
    let twice = r#"{"success":[{"requestPut":{},"requestRange":{}}]}"#;
    let expected =
        "proto: (line 1:30): error parsing \"requestRange\", oneof etcdserverpb.RequestOp.request is already set";
    assert_eq!(txn(twice), expected);
    let peers = r#"{"peerURLs":["a",null]}"#;
    let members = read_as::<pb::MemberAddRequest>(methods::MEMBER_ADD.path, peers).expect_err("null");
    assert_eq!(members, "proto: (line 1:18): invalid value for string field peerURLs: null");
    let body = [b"{\"key\":\"\xff\"}".as_slice(), b"{\"x\":\"\xff\"}"];
    for body in body {
        let error = read_body(request(methods::RANGE.path), body).expect_err("no UTF-8");
        assert!(error.contains("invalid UTF-8 in string"), "{error}");
    }
}

#[test]
fn nothing_is_an_empty_message_and_depth_is_bounded() {
    for body in ["", " \r\n\t"] {
        assert_eq!(range(body), Ok(pb::RangeRequest::default()));
    }
    let nested = |levels: usize| {
        let (open, close) = (r#"{"success":[{"requestTxn":"#.repeat(levels), "}]}".repeat(levels));
        read_as::<pb::TxnRequest>(methods::TXN.path, &format!("{open}{{}}{close}"))
    };
    assert!(nested(40).is_ok());
    let bytes = |levels: usize| {
        let (open, close) = (r#"{"success":[{"requestTxn":"#.repeat(levels), "}]}".repeat(levels));
        read_body(request(methods::TXN.path), format!("{open}{{}}{close}").as_bytes())
    };
    assert!(bytes(DEPTH_MAX / 2 - 1).is_ok());
    assert_eq!(bytes(DEPTH_MAX / 2), Err("proto: exceeded max recursion depth".to_string()));
    let deep = format!("{{\"x\":{}", "[".repeat(20_000));
    assert_eq!(range(&deep), Err("invalid character '[' exceeded max depth".to_string()));
    let skipped = format!("{{\"x\":{}{}}}", "[".repeat(9_000), "]".repeat(9_000));
    assert_eq!(range(&skipped), Ok(pb::RangeRequest::default()));
}

#[test]
fn values_follow_each_other_in_pieces() {
    let text = br#" {"a":"}"} {"b":[1,{"c":"\""}]}7 {"d":tru"#;
    for size in 1..text.len() {
        let (mut scanner, mut buffer, mut found) = (Scanner::default(), Vec::new(), Vec::new());
        for piece in text.chunks(size) {
            buffer.extend_from_slice(piece);
            while let Step::Value(range) = scanner.scan(&buffer).expect("fine so far") {
                found.push(String::from_utf8(buffer[range.clone()].to_vec()).expect("text"));
                buffer.drain(..range.end);
            }
        }
        assert_eq!(found, [r#"{"a":"}"}"#, r#"{"b":[1,{"c":"\""}]}"#, "7"], "in pieces of {size}");
        assert_eq!(scanner.end(), Err(ScanError::Truncated));
    }
}

#[test]
fn answers_are_written_as_etcd_writes_them() {
    let header = pb::ResponseHeader { cluster_id: u64::MAX, member_id: 2, revision: 3, raft_term: 4 };
    let head = r#""header":{"cluster_id":"18446744073709551615","member_id":"2","revision":"3","raft_term":"4"}"#;
    let kv = mvccpb::KeyValue { key: "foo".into(), create_revision: 2, version: 1, lease: -1, ..Default::default() };
    let answer = pb::RangeResponse { header: Some(header), kvs: vec![kv, Default::default()], more: true, count: 2 };
    assert_eq!(
        written(methods::RANGE.path, &answer),
        format!(
            r#"{{{head},"kvs":[{{"key":"Zm9v","create_revision":"2","version":"1","lease":"-1"}},{{}}],"more":true,"count":"2"}}"#
        )
    );
    let hash = pb::HashKvResponse { header: None, hash: u32::MAX, compact_revision: -1, hash_revision: 0 };
    assert_eq!(written(methods::HASH_KV.path, &hash), r#"{"hash":4294967295,"compact_revision":"-1"}"#);
    use pb::response_op::Response;
    let op = |response| pb::ResponseOp { response: Some(response) };
    let responses = vec![op(Response::ResponsePut(Default::default())), pb::ResponseOp { response: None }];
    let txn = pb::TxnResponse { header: Some(Default::default()), succeeded: false, responses };
    assert_eq!(written(methods::TXN.path, &txn), r#"{"header":{},"responses":[{"response_put":{}},{}]}"#);
    let alarms = [1, 0, 9].map(|alarm| pb::AlarmMember { member_id: 5, alarm }).to_vec();
    let alarms = pb::AlarmResponse { header: None, alarms };
    let expected = r#"{"alarms":[{"memberID":"5","alarm":"NOSPACE"},{"memberID":"5"},{"memberID":"5","alarm":9}]}"#;
    assert_eq!(written(methods::ALARM.path, &alarms), expected);
    let member =
        pb::Member { id: 1, peer_ur_ls: vec!["http://a".into(), "\"\\\n\u{1}<é".into()], ..Default::default() };
    let list = pb::MemberListResponse { header: None, members: vec![member] };
    let expected = r#"{"members":[{"ID":"1","peerURLs":["http://a","\"\\\n\u0001<é"]}]}"#;
    assert_eq!(written(methods::MEMBER_LIST.path, &list), expected);
    let mut out = Vec::new();
    push_string(&mut out, "<&>\u{2028}é", Escapes::Html);
    assert_eq!(String::from_utf8(out).expect("text"), r#""\u003c\u0026\u003e\u2028é""#);
}

#[test]
fn the_order_of_the_wire_and_defaults_on_it_do_not_show() {
    let answer = messages(methods::RANGE.path).expect("a method").1;
    let json = |message: &[u8]| {
        let mut out = Vec::new();
        write(answer, message, Escapes::Least, &mut out).map(|()| String::from_utf8(out).expect("text"))
    };
    assert_eq!(
        json(&[0x20, 2, 0x12, 2, 0x0a, 0, 0x18, 0, 0x12, 0, 0x78, 1]),
        Ok(r#"{"kvs":[{},{}],"count":"2"}"#.into())
    );
    for bad in [&[0x20][..], &[0x12, 5, 1], &[0x22, 1, 1], &[0x0a, 1, 0xff]] {
        assert_eq!(json(bad), Err(Malformed), "{bad:?}");
    }
}

fn any_bytes() -> impl Strategy<Value = bytes::Bytes> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(bytes::Bytes::from)
}

prop_compose! {
    fn any_range()(
        (key, range_end, limit, revision) in (any_bytes(), any_bytes(), any::<i64>(), any::<i64>()),
        (order, target, serializable, keys_only) in (-1..4_i32, 0..6_i32, any::<bool>(), any::<bool>()),
    ) -> pb::RangeRequest {
        pb::RangeRequest {
            key, range_end, limit, revision, sort_order: order, sort_target: target, serializable, keys_only,
            ..Default::default()
        }
    }
}

fn any_txn() -> impl Strategy<Value = pb::TxnRequest> {
    use pb::request_op::Request;
    let op = |request| pb::RequestOp { request: Some(request) };
    let leaf = any_range().prop_map(move |range| pb::TxnRequest {
        success: vec![op(Request::RequestRange(range)), pb::RequestOp::default()],
        ..Default::default()
    });
    leaf.prop_recursive(6, 40, 4, move |inner| {
        let ops = prop::collection::vec(inner.prop_map(move |txn| op(Request::RequestTxn(txn))), 0..4);
        (ops, any_bytes()).prop_map(|(failure, value)| pb::TxnRequest {
            compare: vec![pb::Compare {
                target: 3,
                target_union: Some(pb::compare::TargetUnion::Value(value)),
                ..Default::default()
            }],
            success: Vec::new(),
            failure,
        })
    })
}

/// There and back through the same table.
fn round_trip(spec: &'static MessageSpec, message: &[u8]) -> Vec<u8> {
    let mut json = Vec::new();
    write(spec, message, Escapes::Html, &mut json).expect("a message");
    read_body(spec, &json).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&json)))
}

proptest! {
    /// Transactions cover everything that nests, and lengths of one byte and more.
    #[test]
    fn messages_survive_json(txn in any_txn(), lease in any::<i64>(), id in any::<u64>(), name in ".{0,20}") {
        let back = round_trip(request(methods::TXN.path), &txn.encode_to_vec());
        prop_assert_eq!(&back[..], &txn.encode_to_vec()[..]);
        let member = pb::MemberUpdateRequest { id, peer_ur_ls: vec![name.clone(), name] };
        let back = round_trip(request(methods::MEMBER_UPDATE.path), &member.encode_to_vec());
        prop_assert_eq!(pb::MemberUpdateRequest::decode(&back[..]).expect("a message"), member);
        let leader = election::LeaderKey { lease, rev: lease >> 7, ..Default::default() };
        let resign = election::ResignRequest { leader: Some(leader) };
        let back = round_trip(request(methods::RESIGN.path), &resign.encode_to_vec());
        prop_assert_eq!(election::ResignRequest::decode(&back[..]).expect("a message"), resign);
    }

    /// Whatever the bytes: an answer or an error, and no panic.
    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        json in r#"[{}\[\],:"a-z0-9\\ .+eun]{0,60}"#,
    ) {
        let _ = read_body(request(methods::TXN.path), &bytes);
        let _ = read_body(request(methods::RANGE.path), json.as_bytes());
        let _ = write(request(methods::TXN.path), &bytes, Escapes::Least, &mut Vec::new());
        let spiced = format!(r#"{{"success":[{{"requestPut":{json}}}]}}"#);
        let _ = read_body(request(methods::TXN.path), spiced.as_bytes());
    }
}
