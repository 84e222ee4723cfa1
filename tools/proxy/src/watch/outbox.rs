//! What waits to be sent on a client's stream. Bounded in number and bytes; whoever reads too slowly loses the stream,
//! not the others their pace: nothing here waits, and clients of etcd take up their watches again where they were.

use bytes::Bytes;
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

/// Answers that wait on one stream.
const ANSWERS_MAX: usize = 1024;

/// Bytes that wait on one stream.
const BYTES_MAX: usize = 64 << 20;

struct Item {
    answer: Result<Bytes, Status>,
    /// Its share of the bytes, given back when it is sent.
    _share: Option<OwnedSemaphorePermit>,
}

/// The end that is written to.
pub struct Outbox {
    items: mpsc::Sender<Item>,
    bytes: Arc<Semaphore>,
    is_over: AtomicBool,
    full: Notify,
}

/// Both ends: what is sent, in order.
pub fn outbox() -> (Arc<Outbox>, impl Stream<Item = Result<Bytes, Status>> + Send + 'static) {
    let (items, waiting) = mpsc::channel(ANSWERS_MAX);
    let bytes = Arc::new(Semaphore::new(BYTES_MAX));
    let outbox = Outbox { items, bytes, is_over: AtomicBool::new(false), full: Notify::new() };
    (Arc::new(outbox), ReceiverStream::new(waiting).map(|item: Item| item.answer))
}

impl Outbox {
    /// Adds an answer. If there is no room, it is the last one that was not.
    pub fn push(&self, answer: &impl Message) {
        if self.is_over.load(Ordering::Relaxed) {
            return;
        }
        let answer = Bytes::from(answer.encode_to_vec());
        // One that is larger than all the room takes all of it.
        let share = u32::try_from(answer.len().clamp(1, BYTES_MAX)).unwrap_or(u32::MAX);
        let share = Arc::clone(&self.bytes).try_acquire_many_owned(share);
        let is_sent = match share {
            Ok(share) => self.items.try_send(Item { answer: Ok(answer), _share: Some(share) }).is_ok(),
            Err(_) => false,
        };
        if !is_sent {
            self.is_over.store(true, Ordering::Relaxed);
            self.full.notify_one();
        }
    }

    /// Returns when there was no room for an answer, or nobody reads any more.
    pub async fn failed(&self) -> Status {
        tokio::select! {
            () = self.full.notified() => Status::unavailable("answers were not read in time"),
            () = self.items.closed() => Status::cancelled("the client has left"),
        }
    }

    /// Ends the stream behind what waits.
    pub async fn end(&self, status: Status) {
        self.is_over.store(true, Ordering::Relaxed);
        // Who has left is not told.
        let _ = self.items.send(Item { answer: Err(status), _share: None }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_api::proto::etcdserverpb::WatchResponse;

    #[tokio::test]
    async fn who_does_not_read_loses_the_stream_and_nothing_before() {
        let (outbox, sent) = outbox();
        for watch_id in 0..ANSWERS_MAX as i64 + 5 {
            outbox.push(&WatchResponse { watch_id, ..WatchResponse::default() });
        }
        let status = outbox.failed().await;
        let ending = tokio::spawn(async move { outbox.end(status).await });
        let sent: Vec<_> = sent.collect().await;
        ending.await.expect("it ends");
        assert_eq!(sent.len(), ANSWERS_MAX + 1);
        assert!(sent[..ANSWERS_MAX].iter().all(Result::is_ok) && sent[ANSWERS_MAX].is_err());
    }

    #[tokio::test]
    async fn bytes_are_bounded_too() {
        let (outbox, sent) = outbox();
        let large = WatchResponse { cancel_reason: "x".repeat(BYTES_MAX / 2), ..WatchResponse::default() };
        outbox.push(&large);
        outbox.push(&large);
        assert_eq!(outbox.failed().await.code(), tonic::Code::Unavailable);
        drop(sent);
    }
}
