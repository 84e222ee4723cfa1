//! A part of the keys as if it were all of them: a prefix goes in front of every key and range that is asked for, and is
//! taken off every key that is answered.

use bytes::Bytes;
use plinth_api::proto::etcdserverpb as pb;
use plinth_api::proto::mvccpb;
use plinth_api::range::prefix_end;
use tonic::Status;

/// The prefix. Empty: all keys.
#[derive(Clone, Debug, Default)]
pub struct Namespace(Bytes);

/// A key that no request may have.
pub fn empty_key() -> Status {
    Status::invalid_argument("etcdserver: key is not provided")
}

impl Namespace {
    /// With this prefix.
    pub fn new(prefix: &str) -> Namespace {
        Namespace(Bytes::copy_from_slice(prefix.as_bytes()))
    }

    /// Whether nothing is changed.
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    fn key(&self, key: &[u8]) -> Bytes {
        [&self.0[..], key].concat().into()
    }

    /// Puts the prefix in front of a range. One to the last key ends with the prefix.
    pub fn enter(&self, key: &mut Bytes, end: &mut Bytes) {
        if self.is_all() {
            return;
        }
        *key = self.key(key);
        match &end[..] {
            [] => {}
            [0] => *end = prefix_end(&self.0).into(),
            _ => *end = self.key(end),
        }
    }

    /// Takes the prefix off.
    pub fn leave(&self, key: &mut Bytes) {
        if key.starts_with(&self.0) {
            *key = key.slice(self.0.len()..);
        }
    }

    /// Takes the prefix off an answer's pairs.
    pub fn leave_pairs<'a>(&self, pairs: impl IntoIterator<Item = &'a mut mvccpb::KeyValue>) {
        pairs.into_iter().for_each(|pair| self.leave(&mut pair.key));
    }

    /// The keys that are in it, without the prefix.
    pub fn leave_keys(&self, keys: &mut Vec<Bytes>) {
        keys.retain(|key| key.starts_with(&self.0));
        keys.iter_mut().for_each(|key| self.leave(key));
    }

    /// Of a transaction: compares and both branches, as deep as they go.
    ///
    /// # Errors
    /// If a key is missing: with a prefix it would be one.
    pub fn enter_txn(&self, txn: &mut pb::TxnRequest) -> Result<(), Status> {
        for compare in &mut txn.compare {
            let (key, end) = (&mut compare.key, &mut compare.range_end);
            self.enter_named(key, end)?;
        }
        for op in txn.success.iter_mut().chain(&mut txn.failure) {
            use pb::request_op::Request;
            match &mut op.request {
                Some(Request::RequestRange(range)) => self.enter_named(&mut range.key, &mut range.range_end)?,
                Some(Request::RequestPut(put)) => self.enter_named(&mut put.key, &mut Bytes::new())?,
                Some(Request::RequestDeleteRange(delete)) => {
                    self.enter_named(&mut delete.key, &mut delete.range_end)?;
                }
                Some(Request::RequestTxn(inner)) => self.enter_txn(inner)?,
                None => {}
            }
        }
        Ok(())
    }

    /// The same as [`Namespace::enter`], of a range that must have a key.
    ///
    /// # Errors
    /// If it has none.
    pub fn enter_named(&self, key: &mut Bytes, end: &mut Bytes) -> Result<(), Status> {
        if key.is_empty() {
            return Err(empty_key());
        }
        self.enter(key, end);
        Ok(())
    }

    /// Of a transaction's answer.
    pub fn leave_txn(&self, txn: &mut pb::TxnResponse) {
        for op in &mut txn.responses {
            use pb::response_op::Response;
            match &mut op.response {
                Some(Response::ResponseRange(range)) => self.leave_pairs(&mut range.kvs),
                Some(Response::ResponsePut(put)) => self.leave_pairs(&mut put.prev_kv),
                Some(Response::ResponseDeleteRange(delete)) => self.leave_pairs(&mut delete.prev_kvs),
                Some(Response::ResponseTxn(inner)) => self.leave_txn(inner),
                None => {}
            }
        }
    }

    /// Of what a watch tells.
    pub fn leave_events(&self, events: &mut [mvccpb::Event]) {
        for event in events {
            self.leave_pairs(event.kv.iter_mut().chain(&mut event.prev_kv));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pb::request_op::Request;
    use pb::response_op::Response;

    fn entered(prefix: &str, key: &[u8], end: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut key, mut end) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(end));
        Namespace::new(prefix).enter(&mut key, &mut end);
        (key.to_vec(), end.to_vec())
    }

    #[test]
    fn ranges_stay_within_the_prefix() {
        let pair = |key: &[u8], end: &[u8]| (key.to_vec(), end.to_vec());
        for (name, prefix, key, end, expected) in [
            ("one key", "p/", &b"a"[..], &b""[..], pair(b"p/a", b"")),
            ("a range", "p/", b"a", b"b", pair(b"p/a", b"p/b")),
            ("from a key on", "p/", b"a", b"\0", pair(b"p/a", b"p0")),
            ("all keys", "p/", b"\0", b"\0", pair(b"p/\0", b"p0")),
            ("a prefix that ends high", "\u{7f}", b"a", b"\0", pair(b"\x7fa", b"\x80")),
            ("no prefix", "", b"a", b"\0", pair(b"a", b"\0")),
        ] {
            assert_eq!(entered(prefix, key, end), expected, "{name}");
        }
        let high = Namespace(Bytes::from_static(b"a\xff\xff"));
        let (mut key, mut end) = (Bytes::from_static(b"k"), Bytes::from_static(b"\0"));
        high.enter(&mut key, &mut end);
        assert_eq!((&key[..], &end[..]), (&b"a\xff\xffk"[..], &b"b"[..]));
    }

    #[test]
    fn transactions_are_entered_to_the_bottom() {
        let put = |key: &'static str| pb::PutRequest { key: key.into(), ..Default::default() };
        let op = |request| pb::RequestOp { request: Some(request) };
        let compare = pb::Compare { key: "c".into(), range_end: Bytes::from_static(b"\0"), ..Default::default() };
        let inner = pb::TxnRequest {
            compare: vec![compare],
            success: vec![op(Request::RequestPut(put("a")))],
            failure: Vec::new(),
        };
        let delete =
            pb::DeleteRangeRequest { key: "d".into(), range_end: Bytes::from_static(b"e"), ..Default::default() };
        let range = pb::RangeRequest { key: "r".into(), ..Default::default() };
        let mut txn = pb::TxnRequest {
            compare: Vec::new(),
            success: vec![op(Request::RequestTxn(inner)), op(Request::RequestDeleteRange(delete))],
            failure: vec![op(Request::RequestRange(range))],
        };
        Namespace::new("n/").enter_txn(&mut txn).expect("all keys are there");
        let Some(Request::RequestTxn(inner)) = &txn.success[0].request else { panic!("it is one") };
        assert_eq!((&inner.compare[0].key[..], &inner.compare[0].range_end[..]), (&b"n/c"[..], &b"n0"[..]));
        let Some(Request::RequestPut(put)) = &inner.success[0].request else { panic!("it is one") };
        assert_eq!(put.key, "n/a");
        let Some(Request::RequestDeleteRange(delete)) = &txn.success[1].request else { panic!("it is one") };
        assert_eq!((&delete.key[..], &delete.range_end[..]), (&b"n/d"[..], &b"n/e"[..]));
        let Some(Request::RequestRange(range)) = &txn.failure[0].request else { panic!("it is one") };
        assert_eq!((&range.key[..], &range.range_end[..]), (&b"n/r"[..], &b""[..]));
    }

    #[test]
    fn a_key_that_is_missing_does_not_become_the_prefix() {
        let op = pb::RequestOp { request: Some(Request::RequestPut(pb::PutRequest::default())) };
        let mut txn = pb::TxnRequest { success: vec![op], ..Default::default() };
        let status = Namespace::new("n/").enter_txn(&mut txn).expect_err("no key");
        assert_eq!(status.message(), "etcdserver: key is not provided");
    }

    #[test]
    fn answers_lose_the_prefix() {
        let pair = |key: &'static str| mvccpb::KeyValue { key: key.into(), ..Default::default() };
        let namespace = Namespace::new("n/");
        let range = pb::RangeResponse { kvs: vec![pair("n/a"), pair("n/")], ..Default::default() };
        let inner = pb::ResponseOp { response: Some(Response::ResponseRange(range)) };
        let inner = pb::TxnResponse { responses: vec![inner], ..Default::default() };
        let outer = pb::ResponseOp { response: Some(Response::ResponseTxn(inner)) };
        let mut txn = pb::TxnResponse { responses: vec![outer], ..Default::default() };
        namespace.leave_txn(&mut txn);
        let Some(Response::ResponseTxn(inner)) = &txn.responses[0].response else { panic!("it is one") };
        let Some(Response::ResponseRange(range)) = &inner.responses[0].response else { panic!("it is one") };
        assert_eq!(range.kvs.iter().map(|pair| &pair.key[..]).collect::<Vec<_>>(), [&b"a"[..], b""]);
        let mut events = [mvccpb::Event { kv: Some(pair("n/k")), prev_kv: Some(pair("n/k")), ..Default::default() }];
        namespace.leave_events(&mut events);
        let keys = events.iter().flat_map(|event| event.kv.iter().chain(&event.prev_kv)).map(|pair| pair.key.clone());
        assert_eq!(keys.collect::<Vec<_>>(), ["k", "k"]);
        let mut keys = vec!["n/a".into(), "other".into(), "n".into()];
        namespace.leave_keys(&mut keys);
        assert_eq!(keys, ["a"]);
    }
}
