//! A watch that outlives its connection: when one breaks, it goes on elsewhere behind the last revision it has seen.

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::rpc::Stream;
use crate::rpc::is_broken;
use plinth_api::methods::WATCH;
use plinth_api::proto::etcdserverpb::watch_request::RequestUnion;
use plinth_api::proto::etcdserverpb::{WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tonic::{Code, Status};

/// Pause before a watch is opened again.
const PAUSE: Duration = Duration::from_millis(100);

/// A watch.
pub struct Watcher {
    cluster: Cluster,
    request: WatchCreateRequest,
    stream: Option<Stream<WatchRequest, WatchResponse>>,
    wishes: Option<mpsc::UnboundedReceiver<()>>,
}

/// What a watch has to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// Events, or how far the watch is.
    Answer(WatchResponse),
    /// The end, and why: the answer that says so, if the server gave one.
    End(WatchResponse, String),
}

impl Watcher {
    /// Nothing happens before [`Watcher::next`] is called.
    pub fn new(cluster: Cluster, request: WatchCreateRequest) -> Watcher {
        Watcher { cluster, request, stream: None, wishes: None }
    }

    /// From where wishes to learn the progress come.
    pub fn with_wishes(self, wishes: mpsc::UnboundedReceiver<()>) -> Watcher {
        Watcher { wishes: Some(wishes), ..self }
    }

    /// What there is to tell next. To be called again after an answer; nothing comes behind the end.
    pub async fn next(&mut self) -> Result<Seen, Failure> {
        loop {
            let answer = match self.step().await {
                Ok(Some(answer)) => answer,
                Ok(None) => {
                    self.stream = None;
                    self.cluster.leave();
                    sleep(PAUSE).await;
                    continue;
                }
                Err(failure) => {
                    let answer = WatchResponse { canceled: true, ..WatchResponse::default() };
                    return Ok(Seen::End(answer, failure.text));
                }
            };
            if answer.canceled || answer.compact_revision != 0 {
                let reason = reason(&answer);
                return Ok(Seen::End(WatchResponse { canceled: true, ..answer }, reason));
            }
            self.remember(&answer);
            if !answer.created {
                return Ok(Seen::Answer(answer));
            }
        }
    }

    /// One answer; nothing if the connection broke.
    async fn step(&mut self) -> Result<Option<WatchResponse>, Failure> {
        if self.stream.is_none() {
            let request = RequestUnion::CreateRequest(self.request.clone());
            let client = self.cluster.client().await?;
            match client.stream(&WATCH, WatchRequest { request_union: Some(request) }).await {
                Ok(stream) => self.stream = Some(stream),
                Err(status) => return broken(status),
            }
        }
        let Some(stream) = &mut self.stream else { return Ok(None) };
        loop {
            let wish = async {
                match &mut self.wishes {
                    Some(wishes) => wishes.recv().await,
                    None => None,
                }
            };
            tokio::select! {
                answer = stream.next() => return answer.map_or_else(broken, Ok),
                Some(()) = wish => {
                    let request = RequestUnion::ProgressRequest(WatchProgressRequest {});
                    stream.send(WatchRequest { request_union: Some(request) });
                }
            }
        }
    }

    /// Where to go on if the connection breaks.
    fn remember(&mut self, answer: &WatchResponse) {
        let header = answer.header.as_ref().map_or(0, |header| header.revision);
        let next = match answer.events.last().and_then(|event| event.kv.as_ref()) {
            Some(kv) => kv.mod_revision + 1,
            // A watch from the past is not yet where the header says.
            None if answer.created && self.request.start_revision != 0 => return,
            None => header + 1,
        };
        self.request.start_revision = self.request.start_revision.max(next);
    }
}

/// A watch goes on elsewhere, except where there is no leader: that is for the user to know.
fn broken(status: Status) -> Result<Option<WatchResponse>, Failure> {
    let passing = is_broken(&status) || status.code() == Code::Internal;
    if passing && status.message() != "etcdserver: no leader" { Ok(None) } else { Err(status.into()) }
}

/// Why the server ended the watch.
fn reason(answer: &WatchResponse) -> String {
    if answer.compact_revision != 0 {
        return "etcdserver: mvcc: required revision has been compacted".to_owned();
    }
    match answer.cancel_reason.as_str() {
        "" => "etcdserver: mvcc: required revision is a future revision".to_owned(),
        reason => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::{ANSWER_BYTES_MAX, Credentials, Options, REQUEST_BYTES_MAX};
    use crate::tls::Encryption;
    use plinth_api::proto::etcdserverpb::ResponseHeader;
    use plinth_api::proto::mvccpb::{Event, KeyValue};

    fn watcher(start_revision: i64) -> Watcher {
        let options = Options {
            dial_timeout: PAUSE,
            keepalive_time: PAUSE,
            keepalive_timeout: PAUSE,
            request_bytes_max: REQUEST_BYTES_MAX,
            answer_bytes_max: ANSWER_BYTES_MAX,
            credentials: Credentials::None,
            encryption: Encryption::default(),
        };
        let request = WatchCreateRequest { start_revision, ..WatchCreateRequest::default() };
        Watcher::new(Cluster::new(vec!["none".to_owned()], options), request)
    }

    fn answer(revision: i64, created: bool, events: &[i64]) -> WatchResponse {
        let event = |revision: &i64| Event {
            kv: Some(KeyValue { mod_revision: *revision, ..KeyValue::default() }),
            ..Event::default()
        };
        WatchResponse {
            header: Some(ResponseHeader { revision, ..ResponseHeader::default() }),
            created,
            events: events.iter().map(event).collect(),
            ..WatchResponse::default()
        }
    }

    #[test]
    fn goes_on_behind_what_it_has_seen() {
        let mut now = watcher(0);
        now.remember(&answer(7, true, &[]));
        assert_eq!(now.request.start_revision, 8, "a watch from now on loses nothing that comes after its creation");
        now.remember(&answer(9, false, &[8, 9]));
        assert_eq!(now.request.start_revision, 10);
        now.remember(&answer(20, false, &[]));
        assert_eq!(now.request.start_revision, 21, "progress: all up to there was delivered");

        let mut past = watcher(3);
        past.remember(&answer(20, true, &[]));
        assert_eq!(past.request.start_revision, 3, "nothing of the past has arrived yet");
        past.remember(&answer(20, false, &[3, 4]));
        assert_eq!(past.request.start_revision, 5);
    }

    #[test]
    fn what_breaks_passes_and_what_is_refused_stays() {
        assert_eq!(broken(Status::unavailable("gone")), Ok(None));
        assert!(broken(Status::unavailable("etcdserver: no leader")).is_err());
        assert!(broken(Status::permission_denied("no")).is_err());
    }
}
