//! The watch streams of one server, and what they have delivered.
//!
//! Besides the streams under test each server has one that watches everything from the beginning. It says which
//! events exist, and so which each other watcher must have got; a server is judged by its own history first, and
//! the histories of the two servers are compared with each other.

use super::client::{Client, Failure, Outgoing};
use super::generate::STREAMS;
use plinth_api::proto::etcdserverpb::*;
use plinth_api::proto::mvccpb::Event;
use plinth_api::proto::mvccpb::event::EventType;
use std::collections::{BTreeMap, VecDeque};
use tokio::sync::mpsc;

const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// What the watchers of one stream have received.
pub struct WatchStream {
    outgoing: Outgoing,
    incoming: mpsc::UnboundedReceiver<Result<WatchResponse, Failure>>,
    /// Watchers that were created and not canceled.
    pub watchers: BTreeMap<i64, Watcher>,
    /// Messages that say something other than events, in their order.
    pub control: Vec<WatchResponse>,
    /// How many of `control` have been compared.
    pub compared: usize,
    /// Revisions of stream-wide progress answers since the last request for one.
    pub progress: Vec<i64>,
    /// Whether progress requests are answered. etcd counts a watcher that was canceled by a compaction as not in
    /// sync for ever after, so that the stream never again gets a progress answer; such streams are not asked. Nor are
    /// those with a watcher that starts in the future: releases before 3.7 answer below its start, 3.7 and this server
    /// do not answer until the store has reached it.
    pub tells_progress: bool,
    /// Creations asked for and not yet confirmed.
    pending: VecDeque<WatchCreateRequest>,
}

/// A live watcher.
pub struct Watcher {
    /// As asked for.
    pub request: WatchCreateRequest,
    /// The first revision it may deliver.
    pub start: i64,
    /// The events it delivered.
    pub events: Vec<Event>,
    /// Whether it began in the past, where the server may have dropped the versions before an event.
    pub catches_up: bool,
    /// Whether the last message said that more of the same revision follows.
    fragments: bool,
    /// How much of the history has been compared with how many of the events.
    verified: (usize, usize),
}

impl WatchStream {
    fn open(client: &Client) -> WatchStream {
        let (outgoing, incoming) = client.open(WATCH);
        let (watchers, control, progress) = (BTreeMap::new(), Vec::new(), Vec::new());
        WatchStream {
            outgoing,
            incoming,
            watchers,
            control,
            compared: 0,
            progress,
            tells_progress: true,
            pending: VecDeque::new(),
        }
    }

    /// Sends a request.
    pub fn send(&mut self, request: watch_request::RequestUnion) {
        if let watch_request::RequestUnion::CreateRequest(create) = &request {
            self.pending.push_back(create.clone());
        }
        self.outgoing.send(&WatchRequest { request_union: Some(request) });
    }

    /// Notes a watcher whose creation has been confirmed.
    fn add(&mut self, request: WatchCreateRequest, created: &WatchResponse) {
        let current = created.header.as_ref().map_or(0, |header| header.revision);
        let past = request.start_revision > 0 && request.start_revision <= current;
        self.tells_progress &= request.start_revision <= current;
        let start = if request.start_revision == 0 { current + 1 } else { request.start_revision };
        let (events, verified) = (Vec::new(), (0, 0));
        let watcher = Watcher { request, start, events, catches_up: past, fragments: false, verified };
        self.watchers.insert(created.watch_id, watcher);
    }

    /// Takes in what has arrived.
    fn pump(&mut self, plant: &mut dyn FnMut(&mut Vec<WatchResponse>)) -> Result<(), String> {
        let mut messages = Vec::new();
        while let Ok(message) = self.incoming.try_recv() {
            messages.push(message.map_err(|failure| format!("a watch stream failed: {failure:?}"))?);
        }
        plant(&mut messages);
        messages.into_iter().try_for_each(|message| self.take(message))
    }

    fn take(&mut self, message: WatchResponse) -> Result<(), String> {
        if message.created || message.canceled {
            if message.created {
                let request = self.pending.pop_front().ok_or("a watcher was created that nobody asked for")?;
                if !message.canceled {
                    self.add(request, &message);
                }
            }
            if message.canceled {
                self.tells_progress &= message.compact_revision == 0;
                self.watchers.remove(&message.watch_id);
            }
            self.control.push(message);
            return Ok(());
        }
        let revision = message.header.as_ref().map_or(0, |header| header.revision);
        if message.watch_id == -1 {
            self.progress.push(revision);
            return Ok(());
        }
        let id = message.watch_id;
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return Err(format!("a message for watcher {id}, which is not there: {message:?}"));
        };
        watcher.check(&message, revision).map_err(|what| format!("watcher {id}: {what}: {message:?}"))?;
        watcher.fragments = message.fragment;
        watcher.events.extend(message.events);
        Ok(())
    }
}

impl Watcher {
    /// What must hold of any message, whatever the other server does.
    fn check(&self, message: &WatchResponse, revision: i64) -> Result<(), &'static str> {
        let modified = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let Some(first) = message.events.first() else {
            return if self.request.progress_notify { Ok(()) } else { Err("no events") };
        };
        if message.events.windows(2).any(|pair| modified(&pair[0]) > modified(&pair[1])) {
            return Err("events out of order");
        }
        if message.events.iter().any(|event| modified(event) > revision) {
            return Err("the header's revision is behind an event");
        }
        match self.events.last() {
            Some(last) if modified(last) > modified(first) => Err("revisions went back"),
            Some(last) if modified(last) == modified(first) && !self.fragments => Err("a revision in two messages"),
            _ => Ok(()),
        }
    }

    fn wants(&self, event: &Event) -> bool {
        let Some(kv) = &event.kv else { return true };
        let request = &self.request;
        // An empty key is turned into a zero byte.
        let key: &[u8] = if request.key.is_empty() { b"\0" } else { &request.key };
        let inside = match &request.range_end[..] {
            b"" => kv.key == key,
            b"\0" => &kv.key[..] >= key,
            end => &kv.key[..] >= key && &kv.key[..] < end,
        };
        let dropped = request.filters.iter().any(|&filter| {
            let noput = watch_create_request::FilterType::Noput as i32;
            (filter == noput) == (event.r#type == EventType::Put as i32)
        });
        inside && !dropped && kv.mod_revision >= self.start
    }

    /// The first difference between what came and what the history says had to come; `None` if there is none.
    pub fn difference(&mut self, history: &[Event]) -> Option<String> {
        let (mut at, mut matched) = self.verified;
        while let Some(event) = history.get(at) {
            if self.wants(event) {
                let prev_kv = if self.request.prev_kv { event.prev_kv.clone() } else { None };
                let wanted = Event { prev_kv, ..event.clone() };
                match self.events.get(matched) {
                    Some(got) if self.same(&wanted, got) => matched += 1,
                    got => return Some(format!("event {matched} is {got:?}, expected {wanted:?}")),
                }
            }
            at += 1;
            self.verified = (at, matched);
        }
        self.events.get(matched).map(|extra| format!("event {matched} should not be there: {extra:?}"))
    }

    fn same(&self, wanted: &Event, got: &Event) -> bool {
        if self.catches_up && got.prev_kv.is_none() {
            return Event { prev_kv: None, ..wanted.clone() } == *got;
        }
        wanted == got
    }
}

/// All streams of one server.
pub struct Streams {
    everything: WatchStream,
    under_test: [Option<WatchStream>; STREAMS],
    client: Client,
}

impl Streams {
    /// Opens the stream that watches everything and waits until it does.
    pub async fn open(client: &Client) -> Result<Streams, String> {
        let mut everything = WatchStream::open(client);
        let all = bytes::Bytes::from_static(b"\0");
        let request = WatchCreateRequest { key: all.clone(), range_end: all, prev_kv: true, ..Default::default() };
        everything.send(watch_request::RequestUnion::CreateRequest(request));
        match everything.incoming.recv().await {
            Some(Ok(created)) if created.created && !created.canceled => everything.take(created)?,
            other => return Err(format!("a watch on everything was answered with {other:?}")),
        }
        everything.control.clear();
        Ok(Streams { everything, under_test: Default::default(), client: client.clone() })
    }

    /// All events of this server since it started.
    pub fn history(&self) -> &[Event] {
        self.everything.watchers.values().next().map_or(&[], |watcher| &watcher.events)
    }

    /// The newest revision seen in the history.
    pub fn newest(&self) -> i64 {
        self.history().last().and_then(|event| event.kv.as_ref()).map_or(1, |kv| kv.mod_revision)
    }

    /// A stream under test, opened if it is not.
    pub fn stream(&mut self, index: usize) -> &mut WatchStream {
        let client = &self.client;
        self.under_test[index].get_or_insert_with(|| WatchStream::open(client))
    }

    /// The streams under test that are open.
    pub fn open_ones(&mut self) -> impl Iterator<Item = (usize, &mut WatchStream)> {
        self.under_test.iter_mut().enumerate().filter_map(|(index, stream)| Some((index, stream.as_mut()?)))
    }

    /// Ends a stream from the client's side.
    pub fn close(&mut self, index: usize) {
        self.under_test[index] = None;
    }

    /// Takes in what has arrived everywhere. `plant` may tamper with what the streams under test received.
    pub fn pump(&mut self, plant: &mut dyn FnMut(&mut Vec<WatchResponse>)) -> Result<(), String> {
        self.everything.pump(&mut |_| {})?;
        if !self.everything.control.is_empty() {
            return Err(format!("the watch on everything was canceled: {:?}", self.everything.control));
        }
        self.under_test.iter_mut().flatten().try_for_each(|stream| stream.pump(plant))
    }

    /// The first watcher whose events are not what the history says.
    pub fn difference(&mut self) -> Option<String> {
        let history = self.everything.watchers.values().next().map_or(&[][..], |watcher| &watcher.events);
        for (index, stream) in self.under_test.iter_mut().enumerate() {
            for (id, watcher) in stream.iter_mut().flat_map(|stream| &mut stream.watchers) {
                if let Some(what) = watcher.difference(history) {
                    return Some(format!("stream {index}, watcher {id} ({:?}): {what}", watcher.request));
                }
            }
        }
        None
    }
}
