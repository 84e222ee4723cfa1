//! Where the state comes from and what is written goes to: ranges of an etcd v3.
//!
//! Data lies below the prefix, mappings below `/_metad/mapping/GROUP/CLIENT`, rules below `/_metad/rule/GROUP/CLIENT`.
//! A replacement is one transaction: the new pairs, and a range of deletions between each two of them, so that no reader
//! and no watcher ever sees the old ones gone and the new ones not yet there.

use crate::state::{Area, State};
use crate::tree::normal;
use crate::waiters::Waiters;
use plinth_api::methods::TXN;
use plinth_api::proto::etcdserverpb::request_op::Request;
use plinth_api::proto::etcdserverpb::response_op::Response;
use plinth_api::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, TxnResponse};
use plinth_companion::figures::Cell;
use plinth_companion::follow::{Follower, Span, Told};
use plinth_ctl::cluster::Cluster;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;
use tokio::sync::watch;

/// What metad keeps for itself.
const OWN: &str = "/_metad/";

/// Operations that a transaction may have on all of its levels together, unless a server is told otherwise: as many as the
/// widest of each level have, added up.
const OPS_MAX: usize = 128;

/// Operations of a transaction within another, and how deep they go.
const FAN: usize = 42;
const DEPTH_MAX: u32 = 3;
const _: () = assert!(FAN * DEPTH_MAX as usize <= OPS_MAX);

/// How long a writer waits until this process has seen its own change.
const SEEN_TIME: Duration = Duration::from_secs(3);

/// Where each area lies.
#[derive(Clone, Debug)]
pub struct Places {
    prefix: String,
    group: String,
}

impl Places {
    /// Data below `prefix`; mappings and rules of `group`.
    pub fn new(prefix: &str, group: &str) -> Places {
        Places { prefix: normal(prefix), group: group.to_owned() }
    }

    /// Without a slash at its end.
    fn base(&self, area: Area) -> String {
        match area {
            Area::Data => self.prefix.clone(),
            Area::Mapping => format!("{OWN}mapping/{}", self.group),
            Area::Rules => format!("{OWN}rule/{}", self.group),
        }
    }

    /// The path of a key within its area. Nothing if the key is none of the area's.
    fn path<'a>(&self, area: Area, key: &'a [u8]) -> Option<&'a str> {
        let key = std::str::from_utf8(key).ok()?;
        let path = key.strip_prefix(&self.base(area)).filter(|path| path.starts_with('/'))?;
        // Data that begin at the root surround what is metad's own.
        (area != Area::Data || !key.starts_with(OWN)).then_some(path)
    }

    /// What to do so that just `leaves` are at `path` and below it, or so that they are there besides what is.
    pub fn plan(&self, area: Area, path: &str, leaves: &BTreeMap<String, String>, replace: bool) -> Vec<RequestOp> {
        let at = self.base(area) + &normal(path);
        let pairs: BTreeMap<String, &String> =
            leaves.iter().map(|(path, value)| (at.clone() + &normal(path), value)).collect();
        let pairs = pairs.into_iter().filter(|(key, _)| !key.is_empty());
        let mut ops = Vec::new();
        // Each span: from its first key to before its end.
        let mut spans = vec![(format!("{at}/"), format!("{at}0"))];
        if !at.is_empty() {
            spans.insert(0, (at.clone(), format!("{at}\0")));
        } else if area == Area::Data {
            spans = vec![("/".to_owned(), OWN.to_owned()), ("/_metad0".to_owned(), "0".to_owned())];
        }
        let pairs: Vec<(String, &String)> = pairs.collect();
        if replace {
            for (from, end) in spans {
                let mut at = from.clone();
                for (key, _) in pairs.iter().filter(|(key, _)| (&from..&end).contains(&key)) {
                    gap(&mut ops, &at, key);
                    at = format!("{key}\0");
                }
                gap(&mut ops, &at, &end);
            }
        }
        ops.extend(pairs.into_iter().map(|(key, value)| {
            let put = PutRequest { key: key.into(), value: value.clone().into(), ..PutRequest::default() };
            RequestOp { request: Some(Request::RequestPut(put)) }
        }));
        ops
    }
}

/// Deletes what is from one key to before another.
fn gap(ops: &mut Vec<RequestOp>, from: &str, end: &str) {
    if from < end {
        let delete = DeleteRangeRequest {
            key: from.to_owned().into(),
            range_end: end.to_owned().into(),
            ..DeleteRangeRequest::default()
        };
        ops.push(RequestOp { request: Some(Request::RequestDeleteRange(delete)) });
    }
}

/// One transaction of any number of operations: transactions within it, where they are many.
fn transaction(mut ops: Vec<RequestOp>) -> Result<TxnRequest, String> {
    if ops.len() > FAN.pow(DEPTH_MAX) {
        return Err(format!("too many values at once: {} operations, {} at most", ops.len(), FAN.pow(DEPTH_MAX)));
    }
    let width = if ops.len() > OPS_MAX { FAN } else { OPS_MAX };
    while ops.len() > width {
        let nested = ops.chunks(FAN).map(|ops| TxnRequest { success: ops.to_vec(), ..TxnRequest::default() });
        ops = nested.map(|txn| RequestOp { request: Some(Request::RequestTxn(txn)) }).collect();
    }
    Ok(TxnRequest { success: ops, ..TxnRequest::default() })
}

/// Whether anything is other than before.
fn has_changed(answer: &TxnResponse) -> bool {
    answer.responses.iter().any(|op| match &op.response {
        Some(Response::ResponsePut(_)) => true,
        Some(Response::ResponseDeleteRange(deleted)) => deleted.deleted > 0,
        Some(Response::ResponseTxn(txn)) => has_changed(txn),
        _ => false,
    })
}

/// Flattens what the management API was given: texts by path; of lists, the numbers are names.
pub fn flatten(value: &serde_json::Value) -> BTreeMap<String, String> {
    fn walk(path: String, value: &serde_json::Value, leaves: &mut BTreeMap<String, String>) {
        use serde_json::Value::{Array, Bool, Null, Number, Object, String};
        match value {
            Null => drop(leaves.insert(path, std::string::String::new())),
            Bool(bool) => drop(leaves.insert(path, bool.to_string())),
            // Without an exponent, however large.
            Number(number) => {
                let float = number.as_f64().filter(|_| !number.is_i64() && !number.is_u64());
                drop(leaves.insert(path, float.map_or_else(|| number.to_string(), |float| float.to_string())));
            }
            String(text) => drop(leaves.insert(path, text.clone())),
            Array(list) => (0..).zip(list).for_each(|(number, value)| walk(format!("{path}/{number}"), value, leaves)),
            Object(map) => {
                let named = map.iter().filter(|(name, _)| !name.is_empty());
                named.for_each(|(name, value)| walk(format!("{path}/{name}"), value, leaves));
            }
        }
    }
    let mut leaves = BTreeMap::new();
    walk(String::new(), value, &mut leaves);
    leaves
}

/// The state, followed and written to.
#[derive(Debug)]
pub struct Store {
    state: RwLock<State>,
    /// Who waits for changes.
    pub waiters: Waiters,
    cluster: Cluster,
    places: Places,
    /// Up to which revision each area has been seen; 0 before it was first read.
    seen: BTreeMap<Area, watch::Sender<i64>>,
    /// How often an area had to be asked for anew.
    pub losses: Cell,
    /// Areas that are followed at the moment.
    pub followed: Cell,
}

/// The areas.
pub const AREAS: [Area; 3] = [Area::Data, Area::Mapping, Area::Rules];

impl Store {
    /// Nothing is asked yet.
    pub fn new(cluster: Cluster, places: Places, version: i64) -> Arc<Store> {
        Arc::new(Store {
            state: RwLock::new(State::new(version)),
            waiters: Waiters::default(),
            cluster,
            places,
            seen: AREAS.into_iter().map(|area| (area, watch::channel(0).0)).collect(),
            losses: Cell::new(),
            followed: Cell::new(),
        })
    }

    /// The state as it is now. Not to be held while waiting.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the store until the process ends; returns when all areas have been read.
    pub async fn start(self: &Arc<Store>) {
        for area in AREAS {
            let store = Arc::clone(self);
            tokio::spawn(async move { store.follow(area).await });
        }
        for seen in self.seen.values() {
            // The sender lives as long as the store.
            let _ = seen.subscribe().wait_for(|revision| *revision > 0).await;
        }
    }

    async fn follow(&self, area: Area) {
        let mut follower = Follower::new(self.cluster.clone(), Span::prefix(&(self.places.base(area) + "/")));
        let mut is_followed = false;
        loop {
            match follower.next().await {
                Told::All(revision, pairs) => {
                    let read = |(key, value): (Vec<u8>, Vec<u8>)| {
                        Some((self.places.path(area, &key)?.to_owned(), String::from_utf8_lossy(&value).into_owned()))
                    };
                    let pairs: BTreeMap<String, String> = pairs.into_iter().filter_map(read).collect();
                    plinth_companion::info!("{area:?}: {} keys at revision {revision}", pairs.len());
                    self.take(area, revision, |state| state.replace(area, pairs));
                    self.followed.add(u64::from(!is_followed));
                    is_followed = true;
                }
                Told::Changes(revision, changes) => {
                    let read = |(key, value): (Vec<u8>, Option<Vec<u8>>)| {
                        let value = value.map(|value| String::from_utf8_lossy(&value).into_owned());
                        Some((self.places.path(area, &key)?.to_owned(), value))
                    };
                    let changes = changes.into_iter().filter_map(read).collect();
                    self.take(area, revision, |state| state.apply(area, changes));
                }
                Told::Lost(reason) => {
                    plinth_companion::warn!("{area:?}: {reason}; what is known is served on");
                    self.losses.add(1);
                    if std::mem::take(&mut is_followed) {
                        self.followed.take();
                    }
                }
            }
        }
    }

    fn take(&self, area: Area, revision: i64, change: impl FnOnce(&mut State) -> Vec<String>) {
        let changed = change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
        self.waiters.wake(area, &changed);
        self.seen[&area].send_replace(revision);
    }

    /// Writes, and waits until this process has seen what it wrote.
    ///
    /// # Errors
    /// In words for the client.
    pub async fn write(&self, area: Area, ops: Vec<RequestOp>) -> Result<(), String> {
        if ops.is_empty() {
            return Ok(());
        }
        let answer = self.cluster.call(&TXN, transaction(ops)?).await.map_err(|failure| failure.text)?;
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        if has_changed(&answer) {
            let mut seen = self.seen[&area].subscribe();
            // Seen late, it is written all the same.
            let _ = tokio::time::timeout(SEEN_TIME, seen.wait_for(|seen| *seen >= revision)).await;
        }
        Ok(())
    }

    /// Puts a value of any shape at a path, instead of what is there or besides it.
    ///
    /// # Errors
    /// In words for the client.
    pub async fn put(&self, area: Area, path: &str, value: &serde_json::Value, replace: bool) -> Result<(), String> {
        self.write(area, self.places.plan(area, path, &flatten(value), replace)).await
    }

    /// Deletes paths with all that is below them.
    ///
    /// # Errors
    /// In words for the client.
    pub async fn delete(&self, area: Area, paths: &[String]) -> Result<(), String> {
        let none = BTreeMap::new();
        let mut paths: Vec<&String> = paths.iter().collect();
        paths.sort();
        paths.dedup();
        self.write(area, paths.into_iter().flat_map(|path| self.places.plan(area, path, &none, true)).collect()).await
    }
}

/// The paths of these names below one.
pub fn below(path: &str, names: &[String]) -> Vec<String> {
    names.iter().map(|name| format!("{}/{name}", normal(path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_random::Random;

    /// Applies operations as a store would.
    fn run(keys: &mut BTreeMap<String, String>, ops: &[RequestOp]) {
        let before = keys.clone();
        let mut touched = std::collections::BTreeSet::new();
        for op in ops {
            match op.request.as_ref().expect("set") {
                Request::RequestPut(put) => {
                    let key = String::from_utf8(put.key.to_vec()).expect("text");
                    assert!(touched.insert(key.clone()), "etcd refuses {key} twice in one transaction");
                    keys.insert(key, String::from_utf8(put.value.to_vec()).expect("text"));
                }
                Request::RequestDeleteRange(delete) => {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
                    let (from, end) = (text(&delete.key), text(&delete.range_end));
                    for op in ops {
                        if let Some(Request::RequestPut(put)) = &op.request {
                            assert!(!(from.clone()..end.clone()).contains(&text(&put.key)), "a put within a deletion");
                        }
                    }
                    before.range(from..end).for_each(|(key, _)| drop(keys.remove(key)));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_replacement_leaves_what_is_wanted_and_nothing_else() {
        let mut random = Random::from_variable("PLINTH_METAD_SEED", 17);
        for _ in 0..2000 {
            let prefix = random.pick(&["", "/p", "/p/q"]);
            let places = Places::new(prefix, "default");
            let name = |random: &mut Random| random.pick(&["a", "a!", "b", "a0", "_metad", "z/y", "b/c/d"]);
            let mut keys: BTreeMap<String, String> = BTreeMap::new();
            for _ in 0..random.below(12) {
                let base = random.pick(&["", "/p", "/p/q", "/other", "/_metad/mapping/default"]);
                keys.insert(format!("{base}/{}", name(&mut random)), "old".to_owned());
            }
            let path = random.pick(&["/", "/a", "/b", "/b/c"]);
            let leaves: BTreeMap<String, String> =
                (0..random.below(5)).map(|_| (format!("/{}", name(&mut random)), "new".to_owned())).collect();
            let before = keys.clone();
            run(&mut keys, &places.plan(Area::Data, path, &leaves, true));
            let at = normal(prefix) + &normal(path);
            let is_inside = |key: &str| {
                let is_own = prefix.is_empty() && key.starts_with(OWN);
                !is_own && (key == at || key.starts_with(&format!("{at}/")))
            };
            let mut wanted: BTreeMap<String, String> = before.into_iter().filter(|(key, _)| !is_inside(key)).collect();
            wanted.extend(leaves.into_iter().map(|(path, value)| (at.clone() + &path, value)));
            assert_eq!(keys, wanted, "prefix {prefix:?}, path {path:?}");
        }
    }

    #[test]
    fn any_number_of_values_is_one_transaction() {
        let op = RequestOp { request: Some(Request::RequestPut(PutRequest::default())) };
        /// The widest of each level, added up.
        fn width(txn: &TxnRequest) -> usize {
            let below = txn.success.iter().map(|op| match &op.request {
                Some(Request::RequestTxn(txn)) => width(txn),
                _ => 0,
            });
            txn.success.len() + below.max().unwrap_or(0)
        }
        fn leaves(txn: &TxnRequest) -> usize {
            let count = |op: &RequestOp| match &op.request {
                Some(Request::RequestTxn(txn)) => leaves(txn),
                _ => 1,
            };
            txn.success.iter().map(count).sum()
        }
        for number in [1, 128, 129, 300, 2000, 5377, 6000, 20_000, 74_088] {
            let txn = transaction(vec![op.clone(); number]).expect("fits");
            assert!(width(&txn) <= OPS_MAX && leaves(&txn) == number, "{number}: {}", width(&txn));
        }
        assert!(transaction(vec![op; FAN.pow(DEPTH_MAX) + 1]).is_err());
    }

    #[test]
    fn values_of_any_shape_become_texts_by_path() {
        let json = r#"{"a":{"b":[1,true,null]},"":"x","n":1e21,"f":0.5,"i":12345678901234567890}"#;
        let leaves = flatten(&serde_json::from_str(json).expect("JSON"));
        let leaves: Vec<(&str, &str)> = leaves.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let wanted = [
            ("/a/b/0", "1"),
            ("/a/b/1", "true"),
            ("/a/b/2", ""),
            ("/f", "0.5"),
            ("/i", "12345678901234567890"),
            ("/n", "1000000000000000000000"),
        ];
        assert_eq!(leaves, wanted);
        assert_eq!(flatten(&"text".into()).into_iter().collect::<Vec<_>>(), [(String::new(), "text".to_owned())]);
    }

    #[test]
    fn each_area_has_its_keys() {
        let places = Places::new("/", "g");
        assert_eq!(places.path(Area::Data, b"/a/b"), Some("/a/b"));
        assert_eq!(places.path(Area::Data, b"/_metad/rule/g/x"), None);
        assert_eq!(places.path(Area::Mapping, b"/_metad/mapping/g/10.0.0.1/n"), Some("/10.0.0.1/n"));
        assert_eq!(places.path(Area::Mapping, b"/_metad/mapping/gg/10.0.0.1/n"), None);
        assert_eq!(Places::new("users/u1/", "g").path(Area::Data, b"/users/u1/a"), Some("/a"));
        assert_eq!(Places::new("users/u1/", "g").path(Area::Data, b"/users/u10/a"), None);
    }
}
