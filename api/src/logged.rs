//! Requests as etcd's log shows them in a line about a slow one: how much was asked for and answered, and what, with values
//! left out. Only calls that read or write keys are shown so; of all others nothing is said.

use crate::methods::{DELETE_RANGE, PUT, RANGE, TXN};
use crate::proto::etcdserverpb as pb;
use crate::wire::integer_field;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request;
use prost::Message;
use std::fmt::{Display, Write};

/// What such a line says of a request. Negative numbers: nothing is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Puts, or operations of the branch of a transaction that was carried out; 0 for others.
    pub request_count: i64,
    /// Bytes of the request, or of that branch.
    pub request_size: i64,
    /// Keys found or deleted.
    pub response_count: i64,
    /// Bytes of the answer; 0 of a refusal.
    pub response_size: i64,
    /// The request, without values.
    pub content: String,
}

/// A request, before it is known how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Count and bytes, if a transaction's conditions held, and if not.
    branches: [(i64, i64); 2],
    answer: Answer,
    content: String,
}

/// Where an answer says how many keys it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Nowhere.
    Uncounted,
    /// In this field.
    Counted(u64),
    /// Nowhere, but which branch it was is in field 2.
    Branch,
}

/// Whether a method is one whose requests are shown.
pub fn is_shown(path: &str) -> bool {
    [RANGE.path, PUT.path, DELETE_RANGE.path, TXN.path].contains(&path)
}

fn size(message: &impl Message) -> i64 {
    message.encoded_len() as i64
}

impl Asked {
    /// That of a method, as it was sent; nothing if it is not shown, or cannot be read.
    pub fn new(path: &str, body: &[u8]) -> Option<Asked> {
        let whole = |count, answer, content| Some(Asked { branches: [(count, body.len() as i64); 2], answer, content });
        match path {
            path if path == RANGE.path => whole(0, Answer::Counted(4), range(&pb::RangeRequest::decode(body).ok()?)),
            path if path == PUT.path => whole(1, Answer::Uncounted, put(&pb::PutRequest::decode(body).ok()?)),
            path if path == DELETE_RANGE.path => {
                whole(0, Answer::Counted(2), delete(&pb::DeleteRangeRequest::decode(body).ok()?))
            }
            path if path == TXN.path => {
                let request = pb::TxnRequest::decode(body).ok()?;
                let branch = |ops: &[pb::RequestOp]| (ops.len() as i64, ops.iter().map(size).sum());
                let branches = [branch(&request.success), branch(&request.failure)];
                Some(Asked { branches, answer: Answer::Branch, content: txn(&request) })
            }
            _ => None,
        }
    }

    /// It has this answer, or was refused.
    pub fn answered(self, answer: Option<&[u8]>) -> Logged {
        let field = |number| answer.map_or(0, |answer| integer_field(answer, number));
        let (branch, response_count) = match self.answer {
            Answer::Uncounted => (0, 0),
            Answer::Counted(number) => (0, field(number)),
            Answer::Branch => (usize::from(field(2) == 0), 0),
        };
        let (request_count, request_size) = self.branches[branch];
        let response_size = answer.map_or(0, |answer| answer.len() as i64);
        Logged { request_count, request_size, response_count, response_size, content: self.content }
    }
}

impl Logged {
    /// A request that is not shown.
    pub fn nothing() -> Logged {
        Logged { request_count: -1, request_size: -1, response_count: -1, response_size: -1, content: String::new() }
    }
}

/// How etcd prints messages, of which it has two ways.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Notation {
    /// A blank behind each field, bytes that do not print as three octal digits: what leaves something out.
    Compact,
    /// A blank between fields, bytes that do not print as two hexadecimal digits, UTF-8 as it is.
    Plain,
}

/// A message that is printed. Fields with default values are left out.
struct Text {
    notation: Notation,
    out: String,
}

impl Text {
    fn new(notation: Notation) -> Text {
        Text { notation, out: String::new() }
    }

    fn field(&mut self, name: &str, value: impl Display) {
        if self.notation == Notation::Plain && !self.out.is_empty() {
            self.out.push(' ');
        }
        write!(self.out, "{name}:{value}").expect("writing to memory cannot fail");
        if self.notation == Notation::Compact {
            self.out.push(' ');
        }
    }

    fn bytes(&mut self, name: &str, value: &[u8]) {
        if !value.is_empty() {
            self.quoted(name, value);
        }
    }

    fn quoted(&mut self, name: &str, value: &[u8]) {
        let text = quoted(self.notation, value);
        self.field(name, text);
    }

    fn number(&mut self, name: &str, value: i64) {
        if value != 0 {
            self.field(name, value);
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.field(name, value);
        }
    }

    /// A word of an enumeration; nothing for the first of them, the number for those without one.
    fn word(&mut self, name: &str, value: i32, word: Option<&str>) {
        match word {
            _ if value == 0 => {}
            Some(word) => self.field(name, word),
            None => self.field(name, value),
        }
    }
}

fn quoted(notation: Notation, bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    let escaped = |out: &mut String, byte: u8| {
        let written = match (byte, notation) {
            (b'"' | b'\\', _) => write!(out, "\\{}", char::from(byte)),
            (b'\n', _) => write!(out, "\\n"),
            (b'\r', _) => write!(out, "\\r"),
            (b'\t', _) => write!(out, "\\t"),
            (b' '..=b'~', _) => write!(out, "{}", char::from(byte)),
            (_, Notation::Compact) => write!(out, "\\{byte:03o}"),
            (_, Notation::Plain) => write!(out, "\\x{byte:02x}"),
        };
        written.expect("writing to memory cannot fail");
    };
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                _ if character.is_ascii() || notation == Notation::Compact => {
                    character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| escaped(&mut out, byte));
                }
                _ => out.push(character),
            }
        }
        chunk.invalid().iter().for_each(|byte| escaped(&mut out, *byte));
    }
    out.push('"');
    out
}

fn put(request: &pb::PutRequest) -> String {
    let mut text = Text::new(Notation::Compact);
    text.bytes("key", &request.key);
    text.number("value_size", request.value.len() as i64);
    text.number("lease", request.lease);
    text.flag("prev_kv", request.prev_kv);
    text.flag("ignore_value", request.ignore_value);
    text.flag("ignore_lease", request.ignore_lease);
    text.out
}

fn range(request: &pb::RangeRequest) -> String {
    let mut text = Text::new(Notation::Plain);
    text.bytes("key", &request.key);
    text.bytes("range_end", &request.range_end);
    text.number("limit", request.limit);
    text.number("revision", request.revision);
    let order = SortOrder::try_from(request.sort_order).ok();
    text.word("sort_order", request.sort_order, order.as_ref().map(SortOrder::as_str_name));
    let target = SortTarget::try_from(request.sort_target).ok();
    text.word("sort_target", request.sort_target, target.as_ref().map(SortTarget::as_str_name));
    text.flag("serializable", request.serializable);
    text.flag("keys_only", request.keys_only);
    text.flag("count_only", request.count_only);
    text.number("min_mod_revision", request.min_mod_revision);
    text.number("max_mod_revision", request.max_mod_revision);
    text.number("min_create_revision", request.min_create_revision);
    text.number("max_create_revision", request.max_create_revision);
    text.out
}

fn delete(request: &pb::DeleteRangeRequest) -> String {
    let mut text = Text::new(Notation::Plain);
    text.bytes("key", &request.key);
    text.bytes("range_end", &request.range_end);
    text.flag("prev_kv", request.prev_kv);
    text.out
}

fn compare(request: &pb::Compare) -> String {
    let notation = match request.target_union {
        Some(TargetUnion::Value(_)) => Notation::Compact,
        _ => Notation::Plain,
    };
    let mut text = Text::new(notation);
    let result = CompareResult::try_from(request.result).ok();
    text.word("result", request.result, result.as_ref().map(CompareResult::as_str_name));
    let target = CompareTarget::try_from(request.target).ok();
    text.word("target", request.target, target.as_ref().map(CompareTarget::as_str_name));
    text.bytes("key", &request.key);
    match &request.target_union {
        Some(TargetUnion::Version(version)) => text.field("version", version),
        Some(TargetUnion::CreateRevision(revision)) => text.field("create_revision", revision),
        Some(TargetUnion::ModRevision(revision)) => text.field("mod_revision", revision),
        Some(TargetUnion::Value(value)) => text.number("value_size", value.len() as i64),
        Some(TargetUnion::Lease(lease)) => text.field("lease", lease),
        None => {}
    }
    text.bytes("range_end", &request.range_end);
    text.out
}

fn operation(op: &pb::RequestOp) -> String {
    match &op.request {
        Some(Request::RequestPut(request)) => format!("request_put:<{}>", put(request)),
        Some(Request::RequestTxn(request)) => format!("request_txn:<{}>", txn(request)),
        Some(Request::RequestRange(request)) => format!("request_range:{{{}}}", range(request)),
        Some(Request::RequestDeleteRange(request)) => format!("request_delete_range:{{{}}}", delete(request)),
        None => String::new(),
    }
}

fn txn(request: &pb::TxnRequest) -> String {
    let compares: Vec<String> = request.compare.iter().map(compare).collect();
    let operations = |ops: &[pb::RequestOp]| ops.iter().map(operation).collect::<Vec<_>>().join(" ");
    let (success, failure) = (operations(&request.success), operations(&request.failure));
    format!("compare:<{}> success:<{success}> failure:<{failure}>", compares.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(path: &str, request: &impl Message) -> String {
        Asked::new(path, &request.encode_to_vec()).expect("shown").answered(None).content
    }

    #[test]
    fn requests_read_as_in_etcds_log() {
        let key = b"fo\x01\xff\xc3\xa9\"\\o";
        let put = pb::PutRequest { key: key[..].into(), value: "bar".into(), prev_kv: true, ..Default::default() };
        assert_eq!(content(PUT.path, &put), r#"key:"fo\001\377\303\251\"\\o" value_size:3 prev_kv:true "#);
        let range = pb::RangeRequest { key: key[..].into(), revision: 2, keys_only: true, ..Default::default() };
        assert_eq!(content(RANGE.path, &range), r#"key:"fo\x01\xffé\"\\o" revision:2 keys_only:true"#);
        let all =
            pb::RangeRequest { key: vec![0].into(), range_end: vec![0].into(), sort_order: 2, ..Default::default() };
        assert_eq!(content(RANGE.path, &all), r#"key:"\x00" range_end:"\x00" sort_order:DESCEND"#);
        let delete = pb::DeleteRangeRequest { key: "foo".into(), range_end: "fop".into(), prev_kv: true };
        assert_eq!(content(DELETE_RANGE.path, &delete), r#"key:"foo" range_end:"fop" prev_kv:true"#);
    }

    #[test]
    fn transactions_show_their_branches() {
        let get = pb::RangeRequest { key: "k".into(), ..Default::default() };
        let put = pb::PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
        let op = |request| pb::RequestOp { request: Some(request) };
        let txn = pb::TxnRequest {
            compare: vec![
                pb::Compare { key: "k".into(), target_union: Some(TargetUnion::Version(0)), ..Default::default() },
                pb::Compare {
                    result: 1,
                    target: 3,
                    key: "k".into(),
                    target_union: Some(TargetUnion::Value("abc".into())),
                    ..Default::default()
                },
            ],
            success: vec![op(Request::RequestPut(put)), op(Request::RequestRange(get.clone()))],
            failure: vec![op(Request::RequestRange(get))],
        };
        let shown = "compare:<key:\"k\" version:0 result:GREATER target:VALUE key:\"k\" value_size:3 > \
                     success:<request_put:<key:\"k\" value_size:1 > request_range:{key:\"k\"}> \
                     failure:<request_range:{key:\"k\"}>";
        assert_eq!(content(TXN.path, &txn), shown);
        let branch = |succeeded| {
            let answer = pb::TxnResponse { succeeded, ..Default::default() }.encode_to_vec();
            let logged = Asked::new(TXN.path, &txn.encode_to_vec()).expect("shown").answered(Some(&answer));
            (logged.request_count, logged.request_size)
        };
        assert_eq!((branch(true), branch(false)), ((2, 13), (1, 5)), "as etcd counts them");
    }

    #[test]
    fn keys_found_and_deleted_are_counted() {
        let range = Asked::new(RANGE.path, b"").expect("shown");
        let found = pb::RangeResponse { count: 7, more: true, ..Default::default() }.encode_to_vec();
        let logged = range.clone().answered(Some(&found));
        assert_eq!((logged.response_count, logged.response_size), (7, found.len() as i64));
        let refused = range.answered(None);
        assert_eq!((refused.response_count, refused.response_size), (0, 0));
        let deleted = pb::DeleteRangeResponse { deleted: 3, ..Default::default() }.encode_to_vec();
        let delete = Asked::new(DELETE_RANGE.path, b"").expect("shown");
        assert_eq!(delete.answered(Some(&deleted)).response_count, 3);
        assert_eq!(Asked::new("/etcdserverpb.Lease/LeaseGrant", b""), None);
        assert_eq!(Asked::new(PUT.path, b"\x0a\xff"), None, "unreadable");
    }
}
