//! Service `Watch`: the hub's streams, connected to the transport.
//!
//! Whether the caller may read a range is looked up with each watch that is created, as etcd does: one that is there goes on
//! when the permission is taken away. While the token of a request waits to be known, the requests behind it do, too.

use super::StreamRequest;
use crate::answer::status;
use crate::caller::{Caller, User};
use crate::home::identity::Unidentified;
use crate::home::{Home, State, watching};
use bytes::Bytes;
use plinth_api::proto::etcdserverpb as pb;
use plinth_engine::watch::{StreamKey, WatchSpec};
use plinth_member::history;
use plinth_net::grpc::{Status, StreamHandler, StreamReply};
use plinth_net::rt;
use prost::Message;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// One watch stream.
pub struct WatchStream(Rc<Open>);

/// A stream that is open.
struct Open {
    home: Rc<Home>,
    caller: Caller,
    key: StreamKey,
    reply: StreamReply,
    /// Requests that wait until it is known who asks; none if it is.
    held: RefCell<Option<VecDeque<pb::WatchRequest>>>,
}

/// Requests that may wait.
const HELD_MAX: usize = 1024;

impl WatchStream {
    /// Opens the stream.
    pub fn open(StreamRequest { home, caller, reply }: StreamRequest) -> Box<dyn StreamHandler> {
        let key = {
            let mut state = home.state_mut();
            let key = state.hub.open_stream();
            state.watch_replies.insert(key, reply.clone());
            key
        };
        Box::new(WatchStream(Rc::new(Open { home, caller, key, reply, held: RefCell::default() })))
    }
}

impl Open {
    /// Whether the caller may watch what it asks for, the range as it was sent.
    fn may_watch(&self, user: Option<&User>, request: &pb::WatchCreateRequest) -> Result<(), Status> {
        let key: &[u8] = if request.key.is_empty() { b"\0" } else { &request.key };
        self.home.may(user, |auth, author| auth.may_range(author, key, &request.range_end)).map(|_| ())
    }

    /// Does what a request asks for; gives it back if it is not known yet who asks.
    fn act(self: &Rc<Self>, request: pb::WatchRequest) -> Option<pb::WatchRequest> {
        use pb::watch_request::RequestUnion;
        match &request.request_union {
            None => return None,
            Some(RequestUnion::CreateRequest(create)) => match self.home.identify(&self.caller) {
                Ok(user) => match self.may_watch(user.as_ref(), create) {
                    Ok(()) => self.create(create),
                    Err(refusal) => self.reject(&refusal),
                },
                Err(Unidentified::Refused(refusal)) => self.reject(&refusal),
                Err(Unidentified::After(_)) => return Some(request),
            },
            Some(RequestUnion::CancelRequest(cancel)) => {
                self.home.state_mut().hub.cancel(self.key, cancel.watch_id);
            }
            Some(RequestUnion::ProgressRequest(_)) => self.home.state_mut().hub.progress_request(self.key),
        }
        watching::resume(&self.home, self.key);
        None
    }

    /// Holds a request, and those behind it, until it is known who asks.
    fn hold(self: &Rc<Self>, request: pb::WatchRequest) {
        *self.held.borrow_mut() = Some(VecDeque::from([request]));
        let open = self.clone();
        rt::spawn(async move {
            // What came of it is asked for again.
            let _ = open.home.identified(&open.caller).await;
            loop {
                let next = open.held.borrow_mut().as_mut().and_then(VecDeque::pop_front);
                let Some(request) = next else { break };
                if open.act(request).is_some() {
                    open.reject(&status::INVALID_AUTH_TOKEN);
                    watching::resume(&open.home, open.key);
                }
            }
            *open.held.borrow_mut() = None;
        })
        .detach();
    }

    /// Refuses a create, in the words of etcd.
    fn reject(&self, refusal: &Status) {
        let reason = format!("rpc error: code = {:?} desc = {}", refusal.code, refusal.message);
        let state = &mut *self.home.state_mut();
        state.hub.reject(self.key, &reason, state.member.store().revision());
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
        self.0.close();
    }
}

impl StreamHandler for WatchStream {
    fn message(&mut self, body: Bytes) {
        let open = &self.0;
        let request = match pb::WatchRequest::decode(body) {
            Ok(request) => request,
            Err(error) => {
                open.close();
                return open.reply.finish(status::undecodable(&error));
            }
        };
        if let Some(held) = &mut *open.held.borrow_mut() {
            if held.len() < HELD_MAX {
                held.push_back(request);
            } else {
                open.reply.finish(status::TOO_MANY_REQUESTS);
            }
            return;
        }
        if let Some(request) = open.act(request) {
            open.hold(request);
        }
    }

    fn half_close(&mut self) {}

    fn writable(&mut self) {
        self.0.home.state_mut().hub.postpone(self.0.key);
        self.0.home.background.notify();
    }

    fn closed(&mut self) {
        self.0.close();
    }
}
