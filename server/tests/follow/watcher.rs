//! A client that watches all keys and goes on elsewhere behind the last revision that it has seen, as etcd's do.

use super::common::PATIENCE;
use super::common::client::{Client, Stream};
use super::{Side, connect};
use plinth_api::methods::WATCH;
use plinth_api::proto::etcdserverpb as pb;
use plinth_api::proto::etcdserverpb::watch_request::RequestUnion;
use tokio::time::timeout;

/// Revision, key, whether it was deleted.
pub type Seen = (i64, Vec<u8>, bool);

/// See the module.
pub struct Watcher {
    stream: Stream<pb::WatchRequest, pb::WatchResponse>,
    seen: Vec<Seen>,
    first: i64,
}

async fn open(client: &mut Client, from: i64) -> Stream<pb::WatchRequest, pb::WatchResponse> {
    let create = pb::WatchCreateRequest {
        key: b"\0".as_slice().into(),
        range_end: b"\0".as_slice().into(),
        start_revision: from,
        ..Default::default()
    };
    let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    client.stream(&WATCH, request).await.expect("a watch")
}

impl Watcher {
    /// Watches from a revision on, or from now on; if that is given up, from where history begins.
    pub async fn start(side: &Side, from: i64) -> Watcher {
        let mut client = connect(side).await;
        let mut stream = open(&mut client, from).await;
        let mut created = next(&mut stream).await;
        assert!(created.created);
        if from == 1 {
            let canceled = next(&mut stream).await;
            stream = open(&mut client, canceled.compact_revision).await;
            created = next(&mut stream).await;
        }
        let first = if from == 0 { created.header.expect("a header").revision + 1 } else { from };
        Watcher { stream, seen: Vec::new(), first }
    }

    /// The revision from which it saw everything.
    pub fn first_revision(&self) -> i64 {
        self.first
    }

    /// Goes on with another side, when this one has nothing more to tell.
    pub async fn go_on_with(&mut self, side: &Side) {
        while let Ok(Ok(Some(answer))) = timeout(std::time::Duration::from_millis(500), self.stream.message()).await {
            self.take(answer);
        }
        let from = self.seen.last().map_or(self.first, |(revision, ..)| revision + 1);
        self.stream = open(&mut connect(side).await, from).await;
        assert!(next(&mut self.stream).await.created);
    }

    /// Watches until a key is seen.
    pub async fn wait_for(&mut self, key: &str) {
        while self.seen.last().is_none_or(|(_, seen, _)| seen != key.as_bytes()) {
            let answer = next(&mut self.stream).await;
            self.take(answer);
        }
    }

    fn take(&mut self, answer: pb::WatchResponse) {
        assert!(!answer.canceled, "{answer:?}");
        for event in answer.events {
            let is_delete = event.r#type == 1;
            let kv = event.kv.expect("a pair");
            self.seen.push((kv.mod_revision, kv.key.to_vec(), is_delete));
        }
    }

    /// All that was seen.
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }
}

async fn next(stream: &mut Stream<pb::WatchRequest, pb::WatchResponse>) -> pb::WatchResponse {
    timeout(PATIENCE, stream.message()).await.expect("in time").expect("no error").expect("an answer")
}
