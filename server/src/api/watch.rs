//! Service `Watch`: the hub's streams, connected to the transport.

use super::StreamRequest;
use crate::answer::status;
use crate::home::{Home, State, watching};
use bytes::Bytes;
use plinth_api::proto::etcdserverpb as pb;
use plinth_engine::watch::{StreamKey, WatchSpec};
use plinth_member::history;
use plinth_net::grpc::{StreamHandler, StreamReply};
use prost::Message;
use std::rc::Rc;

/// One watch stream.
pub struct WatchStream {
    home: Rc<Home>,
    key: StreamKey,
    reply: StreamReply,
}

impl WatchStream {
    /// Opens the stream.
    pub fn open(StreamRequest { home, reply, .. }: StreamRequest) -> Box<dyn StreamHandler> {
        let key = {
            let mut state = home.state_mut();
            let key = state.hub.open_stream();
            state.watch_replies.insert(key, reply.clone());
            key
        };
        Box::new(WatchStream { home, key, reply })
    }

    fn create(&self, request: &pb::WatchCreateRequest) {
        use pb::watch_create_request::FilterType;
        let has = |filter: FilterType| request.filters.contains(&(filter as i32));
        let spec = WatchSpec {
            key: &request.key,
            range_end: &request.range_end,
            start_revision: request.start_revision,
            progress_notify: request.progress_notify,
            no_put: has(FilterType::Noput),
            no_delete: has(FilterType::Nodelete),
            prev_kv: request.prev_kv,
            watch_id: request.watch_id,
            fragment: request.fragment,
        };
        let mut guard = self.home.state_mut();
        let State { member, hub, .. } = &mut *guard;
        history::watch(member, hub, self.key, &spec);
    }

    fn close(&self) {
        let mut state = self.home.state_mut();
        state.hub.close_stream(self.key);
        state.watch_replies.remove(&self.key);
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.close();
    }
}

impl StreamHandler for WatchStream {
    fn message(&mut self, body: Bytes) {
        use pb::watch_request::RequestUnion;
        let request = match pb::WatchRequest::decode(body) {
            Ok(request) => request,
            Err(error) => {
                self.close();
                return self.reply.finish(status::undecodable(&error));
            }
        };
        match request.request_union {
            None => return,
            Some(RequestUnion::CreateRequest(create)) => self.create(&create),
            Some(RequestUnion::CancelRequest(cancel)) => {
                self.home.state_mut().hub.cancel(self.key, cancel.watch_id);
            }
            Some(RequestUnion::ProgressRequest(_)) => self.home.state_mut().hub.progress_request(self.key),
        }
        watching::resume(&self.home, self.key);
    }

    fn half_close(&mut self) {}

    fn writable(&mut self) {
        self.home.state_mut().hub.postpone(self.key);
        self.home.background.notify();
    }

    fn closed(&mut self) {
        self.close();
    }
}
