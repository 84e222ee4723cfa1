//! Streams of keep-alives: those of clients, and the proxy's own, one for all leases. Renewing asks for no permission, so
//! that it does not matter whose it is.

use super::renewals::{Asked, Renewals};
use crate::upstream::{Duplex, Head, Upstream};
use bytes::Bytes;
use plinth_api::methods::LEASE_KEEP_ALIVE;
use plinth_api::proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use prost::Message;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// Answers that wait on a client's stream. One that does not read misses those beyond.
const ANSWERS_MAX: usize = 1024;

/// Leases that wait to be renewed.
const REQUESTS_MAX: usize = 1024;

/// Pause before the stream is opened again.
const PAUSE: Duration = Duration::from_millis(100);

type Answers = mpsc::Sender<Result<Bytes, Status>>;

/// All keep-alives.
pub struct Keeper {
    upstream: Arc<Upstream>,
    renewals: Mutex<Renewals<Answers>>,
    send: mpsc::Sender<i64>,
}

impl Keeper {
    /// Nothing is opened before the first keep-alive.
    pub fn new(upstream: Arc<Upstream>) -> Arc<Keeper> {
        let (send, to_send) = mpsc::channel(REQUESTS_MAX);
        let keeper = Arc::new(Keeper { upstream, renewals: Mutex::default(), send });
        tokio::spawn(Arc::clone(&keeper).carry(to_send));
        keeper
    }

    fn renewals(&self) -> MutexGuard<'_, Renewals<Answers>> {
        self.renewals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lease was revoked, or may have been.
    pub fn forget(&self, id: i64) {
        self.renewals().forget(id);
    }

    /// Serves a client's stream: what is sent on it.
    pub fn serve(
        self: &Arc<Keeper>,
        requests: Streaming<Bytes>,
    ) -> impl Stream<Item = Result<Bytes, Status>> + Send + 'static {
        let (answers, sent) = mpsc::channel(ANSWERS_MAX);
        tokio::spawn(Arc::clone(self).converse(requests, answers));
        ReceiverStream::new(sent)
    }

    async fn converse(self: Arc<Keeper>, mut requests: Streaming<Bytes>, answers: Answers) {
        loop {
            let request = tokio::select! {
                request = requests.message() => request,
                () = answers.closed() => return,
            };
            // Who is through with asking still gets what is under way.
            let Ok(Some(request)) = request else { return };
            let Ok(LeaseKeepAliveRequest { id }) = LeaseKeepAliveRequest::decode(request) else {
                let _ = answers.try_send(Err(Status::internal("grpc: error unmarshalling request")));
                return;
            };
            let asked = self.renewals().ask(Instant::now(), id, answers.clone());
            let is_told = match asked {
                Asked::Send => self.send.send(id).await.is_ok(),
                Asked::Joined => true,
                Asked::Answer(answer) => answers.try_send(Ok(answer.encode_to_vec().into())).is_ok(),
                Asked::Full => {
                    let _ = answers.try_send(Err(Status::resource_exhausted("too many keep-alives wait")));
                    false
                }
            };
            if !is_told {
                return;
            }
        }
    }

    /// Sends renewals as long as the proxy runs, over as many connections as it takes.
    async fn carry(self: Arc<Keeper>, mut to_send: mpsc::Receiver<i64>) {
        while let Some(first) = to_send.recv().await {
            let mut ids = self.renewals().under_way();
            if !ids.contains(&first) {
                ids.push(first);
            }
            let first = ids.into_iter().map(request).collect();
            match self.upstream.duplex(LEASE_KEEP_ALIVE.path, &Head::default().with_leader(), first).await {
                Ok(stream) => self.exchange(stream, &mut to_send).await,
                Err(status) => self.give_up(&status),
            }
        }
    }

    /// Over one stream, until it ends.
    async fn exchange(&self, mut stream: Duplex, to_send: &mut mpsc::Receiver<i64>) {
        loop {
            let answer = tokio::select! {
                answer = stream.answers.message() => answer,
                id = to_send.recv() => {
                    let Some(id) = id else { return };
                    // A stream that has ended says so by its answers.
                    let _ = stream.requests.send(request(id)).await;
                    continue;
                }
            };
            match answer.map(|answer| answer.map(LeaseKeepAliveResponse::decode)) {
                Ok(Some(Ok(answer))) => self.deliver(answer),
                Ok(Some(Err(_)) | None) => break,
                Err(status) if status.code() == Code::Unavailable || std::error::Error::source(&status).is_some() => {
                    break;
                }
                Err(status) => return self.give_up(&status),
            }
        }
        tokio::time::sleep(PAUSE).await;
        self.again();
    }

    /// What was under way on a stream that ended is sent on the next one.
    fn again(&self) {
        if let Some(id) = self.renewals().under_way().first() {
            // If it is full, others wait there, and do as well.
            let _ = self.send.try_send(*id);
        }
    }

    fn deliver(&self, answer: LeaseKeepAliveResponse) {
        let waiting = self.renewals().answered(Instant::now(), answer);
        let answer = Bytes::from(answer.encode_to_vec());
        for who in waiting {
            // One that has left, or does not read, misses it.
            let _ = who.try_send(Ok(answer.clone()));
        }
    }

    fn give_up(&self, status: &Status) {
        for who in self.renewals().give_up() {
            let _ = who.try_send(Err(status.clone()));
        }
    }
}

fn request(id: i64) -> Bytes {
    LeaseKeepAliveRequest { id }.encode_to_vec().into()
}
