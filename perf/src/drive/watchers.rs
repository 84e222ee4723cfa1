//! Watch streams of a run. Events are looked at only as far as needed: which watcher, which revision, when sent.
//!
//! Each watcher's revisions must rise; a repeated or reordered event is an error of the server and is counted
//! as one.

use super::Record;
use crate::endpoint::Endpoint;
use crate::grpc::{self, CallError, Connection, Method, Stream};
use crate::workload::{Kind, PREFIX, STAMP_BYTES, Spec, key, stamp_time};
use plinth_api::methods;
use plinth_api::proto::etcdserverpb::{WatchCreateRequest, WatchRequest, watch_request};
use plinth_api::range::prefix_end;
use plinth_api::wire::{self, Value};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// A stream with its watchers, all created.
pub struct WatchStream {
    // Held so that the connection stays open.
    _connection: Connection,
    stream: Stream,
    /// Last seen revision by watch id.
    last: Vec<i64>,
}

impl WatchStream {
    /// Opens stream `number` of the run and creates its share of the watchers.
    pub async fn open(address: Endpoint, spec: &Spec, number: usize) -> Result<WatchStream, CallError> {
        let connection = Connection::open(address).await?;
        let method = Method::new(address, methods::WATCH.path);
        let mut stream: Option<Stream> = None;
        let mut watchers = 0;
        for watcher in (number..spec.watchers).step_by(spec.watch_connections) {
            let framed = create_request(spec, watcher as u64);
            match &mut stream {
                Some(open) => open.send(framed)?,
                none => *none = Some(Stream::open(&mut connection.sender(), &method, framed).await?),
            }
            watchers += 1;
        }
        let mut stream = stream.ok_or(CallError::Malformed("more watch connections than watchers"))?;
        for _ in 0..watchers {
            let answer = stream.next().await?.ok_or(CallError::Malformed("watch stream ended"))?;
            let (created, canceled) = (wire::integer_field(&answer, 3), wire::integer_field(&answer, 4));
            if created == 0 || canceled != 0 {
                return Err(CallError::Malformed("a watcher was not created"));
            }
        }
        Ok(WatchStream { _connection: connection, stream, last: vec![0; watchers] })
    }

    /// Takes events until the stream or the run ends.
    pub async fn follow(mut self, record: Rc<Record>) {
        loop {
            match self.stream.next().await {
                Ok(Some(answer)) => {
                    if let Err(error) = self.take(&answer, &record) {
                        record.errors.borrow_mut().add(error.to_string());
                    }
                }
                Ok(None) => return record.errors.borrow_mut().add("a watch stream ended".to_owned()),
                Err(error) => return record.errors.borrow_mut().add(format!("watch: {error}")),
            }
        }
    }

    fn take(&mut self, answer: &[u8], record: &Record) -> Result<(), CallError> {
        let id = usize::try_from(wire::integer_field(answer, 2)).map_err(|_| CallError::Malformed("a watch id"))?;
        let last = self.last.get_mut(id).ok_or(CallError::Malformed("an unknown watch id"))?;
        let now = Instant::now();
        let mut events = 0;
        let mut track = record.events.borrow_mut();
        for (number, value) in wire::fields(answer) {
            let (11, Value::Bytes(event)) = (number, value) else { continue };
            let kv = wire::bytes_field(event, 2).ok_or(CallError::Malformed("an event without a key"))?;
            let revision = wire::integer_field(kv, 3);
            if revision <= *last {
                return Err(CallError::Malformed("an event came twice or out of order"));
            }
            *last = revision;
            events += 1;
            if let Some(stamp) = wire::bytes_field(kv, 5).and_then(|value| value.first_chunk::<STAMP_BYTES>()) {
                track.record(&record.window, stamp_time(u64::from_le_bytes(*stamp)), now);
            }
        }
        record.shared.events.fetch_add(events, Ordering::Relaxed);
        Ok(())
    }
}

fn create_request(spec: &Spec, watcher: u64) -> bytes::Bytes {
    let (key, range_end) = match spec.kind {
        Kind::WatchKeys => (key(watcher), Vec::new()),
        _ => (PREFIX.as_bytes().to_vec(), prefix_end(PREFIX.as_bytes())),
    };
    let create = WatchCreateRequest { key: key.into(), range_end: range_end.into(), ..Default::default() };
    grpc::frame(&WatchRequest { request_union: Some(watch_request::RequestUnion::CreateRequest(create)) })
}
