//! Streams of watches: those of clients, and the proxy's own, one for each group.

use super::groups::{Effects, GroupId, Groups, Span, WatcherId, Wish};
use super::outbox::{Outbox, outbox};
use crate::namespace::Namespace;
use crate::upstream::{Head, Upstream};
use bytes::Bytes;
use plinth_api::methods::{RANGE, WATCH};
use plinth_api::proto::etcdserverpb::watch_create_request::FilterType;
use plinth_api::proto::etcdserverpb::watch_request::RequestUnion;
use plinth_api::proto::etcdserverpb::{
    RangeRequest, RangeResponse, ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse,
};
use prost::Message;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Status, Streaming};

/// Watchers of the process.
const WATCHERS_MAX: usize = 200_000;

/// Upstream watches of the process. Each is a stream.
const GROUPS_MAX: usize = 20_000;

/// Pause before a watch that broke is opened again.
const PAUSE: Duration = Duration::from_millis(100);

/// How streams end that may be opened again.
const PASSING: [Code; 4] = [Code::Unavailable, Code::Unknown, Code::Internal, Code::Cancelled];

/// What a watch that was not made has for a number.
const NO_WATCH: i64 = -1;

/// All watches.
pub struct Hub {
    upstream: Arc<Upstream>,
    namespace: Namespace,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    groups: Groups,
    clients: BTreeMap<WatcherId, Client>,
    tasks: BTreeMap<GroupId, AbortHandle>,
    last: WatcherId,
}

/// Whose watcher it is.
struct Client {
    outbox: Arc<Outbox>,
    head: Head,
}

impl Hub {
    /// Without a watcher.
    pub fn new(upstream: Arc<Upstream>, namespace: Namespace) -> Arc<Hub> {
        Arc::new(Hub { upstream, namespace, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watchers and upstream watches now, and answers that were told to more than one watcher.
    pub fn figures(&self) -> (usize, usize, u64) {
        let state = self.state();
        let (watchers, groups) = state.groups.counts();
        (watchers, groups, state.groups.events_saved())
    }

    /// Serves a client's stream: what is sent on it.
    pub fn serve(
        self: &Arc<Hub>,
        head: Head,
        requests: Streaming<Bytes>,
    ) -> impl Stream<Item = Result<Bytes, Status>> + Send + 'static {
        let (outbox, sent) = outbox();
        tokio::spawn(Arc::clone(self).converse(head, requests, outbox));
        sent
    }

    async fn converse(self: Arc<Hub>, head: Head, mut requests: Streaming<Bytes>, outbox: Arc<Outbox>) {
        let mut own = Own { hub: Arc::clone(&self), watchers: BTreeMap::new(), last: NO_WATCH };
        let listening = async {
            loop {
                let request = match requests.message().await {
                    Ok(Some(request)) => request,
                    Ok(None) => return Status::cancelled("context canceled"),
                    Err(status) => return status,
                };
                let Ok(request) = WatchRequest::decode(request) else {
                    return Status::internal("grpc: error unmarshalling request");
                };
                let done = match request.request_union {
                    Some(RequestUnion::CreateRequest(create)) => own.create(&head, &outbox, create).await,
                    Some(RequestUnion::CancelRequest(cancel)) => {
                        own.cancel(&outbox, cancel.watch_id);
                        Ok(())
                    }
                    // As etcd's proxy: progress on request is not offered, and nobody is told so.
                    Some(RequestUnion::ProgressRequest(_)) | None => Ok(()),
                };
                if let Err(status) = done {
                    return status;
                }
            }
        };
        let status = tokio::select! {
            status = listening => status,
            status = outbox.failed() => status,
        };
        drop(own);
        outbox.end(status).await;
    }

    /// Returns when a watch of the key has been made, or refused.
    pub async fn probe(self: &Arc<Hub>, key: Bytes) {
        let (outbox, mut sent) = outbox();
        let mut own = Own { hub: Arc::clone(self), watchers: BTreeMap::new(), last: NO_WATCH };
        let request = WatchCreateRequest { key, ..WatchCreateRequest::default() };
        while own.create(&Head::default(), &outbox, request.clone()).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
        let _ = sent.next().await;
    }

    /// Asks whether the client may read the range, which also tells the present revision.
    async fn permission(&self, head: &Head, span: &Span) -> Result<ResponseHeader, Status> {
        let request = RangeRequest {
            key: span.key.clone(),
            range_end: span.end.clone(),
            limit: 1,
            serializable: true,
            count_only: true,
            ..RangeRequest::default()
        };
        let answer = self.upstream.unary(RANGE.path, true, head, request.encode_to_vec().into()).await?;
        let answer = RangeResponse::decode(answer).map_err(|error| Status::internal(error.to_string()))?;
        Ok(answer.header.unwrap_or_default())
    }

    fn add(self: &Arc<Hub>, client: Client, wish: Wish, now: &ResponseHeader) -> WatcherId {
        let mut state = self.state();
        state.last += 1;
        let id = state.last;
        state.clients.insert(id, client);
        let effects = state.groups.add(id, wish, now);
        self.apply(&mut state, effects);
        id
    }

    fn remove(self: &Arc<Hub>, id: WatcherId) {
        let mut state = self.state();
        state.clients.remove(&id);
        let effects = state.groups.remove(id);
        self.apply(&mut state, effects);
    }

    /// Under the lock, so that each client is told in the order in which things were decided.
    fn apply(self: &Arc<Hub>, state: &mut State, effects: Effects) {
        for (id, answer) in &effects.deliver {
            if let Some(client) = state.clients.get(id) {
                client.outbox.push(answer);
            }
            if answer.canceled {
                state.clients.remove(id);
            }
        }
        for group in effects.open {
            let task = tokio::spawn(Arc::clone(self).follow(group)).abort_handle();
            if let Some(before) = state.tasks.insert(group, task) {
                before.abort();
            }
        }
        for group in effects.close {
            if let Some(task) = state.tasks.remove(&group) {
                task.abort();
            }
        }
    }

    /// Keeps the watch of a group, over as many connections as it takes.
    async fn follow(self: Arc<Hub>, group: GroupId) {
        while let Some((head, request)) = self.request(group) {
            match self.watch(group, &head, request).await {
                // The stream ended, or upstream is not to be had: again, elsewhere.
                Ok(()) => {}
                Err(status) if PASSING.contains(&status.code()) => {}
                Err(status) => {
                    let cancel_reason = status.message().to_owned();
                    let refusal = WatchResponse { canceled: true, cancel_reason, ..WatchResponse::default() };
                    return self.tell(group, refusal);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn request(&self, group: GroupId) -> Option<(Head, Bytes)> {
        let state = self.state();
        let create = state.groups.request(group)?;
        let head = state.groups.one_of(group).and_then(|id| state.clients.get(&id)).map(|client| client.head.clone());
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        Some((head.unwrap_or_default().with_leader(), request.encode_to_vec().into()))
    }

    async fn watch(self: &Arc<Hub>, group: GroupId, head: &Head, request: Bytes) -> Result<(), Status> {
        let mut stream = self.upstream.duplex(WATCH.path, head, vec![request]).await?;
        while let Some(answer) = stream.answers.message().await? {
            let mut answer = WatchResponse::decode(answer).map_err(|error| Status::internal(error.to_string()))?;
            self.namespace.leave_events(&mut answer.events);
            let is_end = answer.canceled;
            self.tell(group, answer);
            if is_end {
                return Ok(());
            }
        }
        Ok(())
    }

    fn tell(self: &Arc<Hub>, group: GroupId, answer: WatchResponse) {
        let mut state = self.state();
        let effects = state.groups.answered(group, answer);
        self.apply(&mut state, effects);
    }
}

/// The watchers of one client's stream. They end with it.
struct Own {
    hub: Arc<Hub>,
    watchers: BTreeMap<i64, WatcherId>,
    /// The last number that was given to one.
    last: i64,
}

impl Own {
    /// # Errors
    /// What ends the whole stream: nobody can say whether the client may watch.
    async fn create(&mut self, head: &Head, outbox: &Arc<Outbox>, request: WatchCreateRequest) -> Result<(), Status> {
        let refuse = |reason: &str| {
            outbox.push(&WatchResponse {
                header: Some(ResponseHeader::default()),
                watch_id: NO_WATCH,
                created: true,
                canceled: true,
                cancel_reason: reason.to_owned(),
                ..WatchResponse::default()
            });
            Ok(())
        };
        if request.start_revision < 0 {
            return refuse("etcdserver: mvcc: required revision has been compacted");
        }
        let key = if request.key.is_empty() { Bytes::from_static(&[0]) } else { request.key.clone() };
        let is_valid = request.range_end.is_empty() || request.range_end > key || request.range_end[..] == [0];
        if !is_valid {
            return refuse("");
        }
        if request.watch_id > 0 && self.watchers.contains_key(&request.watch_id) {
            return refuse("mvcc: duplicate watch ID provided on the WatchStream");
        }
        let (watchers, groups, _) = self.hub.figures();
        if watchers >= WATCHERS_MAX || groups >= GROUPS_MAX {
            return refuse("too many watches");
        }
        let mut span = Span { key, end: request.range_end.clone() };
        self.hub.namespace.enter(&mut span.key, &mut span.end);
        let now = match self.hub.permission(head, &span).await {
            Ok(now) => now,
            Err(status) if status.code() == Code::Unavailable => return Err(status),
            Err(status) => return refuse(status.message()),
        };
        let watch_id = self.number(request.watch_id);
        let filters = |kind| request.filters().any(|filter| filter == kind);
        let wish = Wish {
            span,
            start: request.start_revision,
            watch_id,
            prev_kv: request.prev_kv,
            progress: request.progress_notify,
            no_puts: filters(FilterType::Noput),
            no_deletes: filters(FilterType::Nodelete),
        };
        let client = Client { outbox: Arc::clone(outbox), head: head.clone() };
        self.watchers.insert(watch_id, self.hub.add(client, wish, &now));
        Ok(())
    }

    /// The client's number, or the next that is free.
    fn number(&mut self, asked: i64) -> i64 {
        if asked > 0 {
            return asked;
        }
        loop {
            self.last += 1;
            if !self.watchers.contains_key(&self.last) {
                return self.last;
            }
        }
    }

    fn cancel(&mut self, outbox: &Outbox, watch_id: i64) {
        if let Some(id) = self.watchers.remove(&watch_id) {
            self.hub.remove(id);
            let header = Some(ResponseHeader::default());
            outbox.push(&WatchResponse { header, watch_id, canceled: true, ..WatchResponse::default() });
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.watchers.values().for_each(|id| self.hub.remove(*id));
    }
}
