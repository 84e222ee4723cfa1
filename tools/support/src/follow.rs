//! A range of an etcd v3, followed: all of it first, then every change in order. Where history was compacted under the
//! watch's feet, all of it again.
//!
//! Invariant: what [`Follower::next`] has told, taken together, is the range as it was at one revision; changes of one
//! revision come together.

use plinth_api::methods::RANGE;
use plinth_api::proto::etcdserverpb::{RangeRequest, WatchCreateRequest};
use plinth_api::proto::mvccpb::event::EventType;
use plinth_api::range::prefix_end;
use plinth_ctl::cluster::Cluster;
use plinth_ctl::failure::Failure;
use plinth_ctl::watching::{Seen, Watcher};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Keys asked for at a time, so that an answer stays far below what a client takes.
const PAGE: i64 = 1000;

/// Pause before all is read again, so that a store that refuses is not asked without end.
const PAUSE: Duration = Duration::from_secs(1);

/// What there is to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// The whole range, at this revision. It replaces what was told before.
    All(i64, BTreeMap<Vec<u8>, Vec<u8>>),
    /// New values, and what is gone, up to this revision.
    Changes(i64, Vec<(Vec<u8>, Option<Vec<u8>>)>),
    /// Nothing is to be had at the moment, and why. It will be tried again.
    Lost(String),
}

/// Keys from one, to before another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub key: Vec<u8>,
    /// Empty: the key alone.
    pub end: Vec<u8>,
}

impl Span {
    /// All keys that begin so.
    pub fn prefix(prefix: &str) -> Span {
        let key = if prefix.is_empty() { vec![0] } else { prefix.as_bytes().to_vec() };
        Span { key, end: if prefix.is_empty() { vec![0] } else { prefix_end(prefix.as_bytes()) } }
    }
}

/// Follows one range.
pub struct Follower {
    cluster: Cluster,
    span: Span,
    watcher: Option<Watcher>,
    next_read: Instant,
}

impl Follower {
    /// Nothing is asked before [`Follower::next`].
    pub fn new(cluster: Cluster, span: Span) -> Follower {
        Follower { cluster, span, watcher: None, next_read: Instant::now() }
    }

    /// What is new. Waits as long as nothing is.
    pub async fn next(&mut self) -> Told {
        loop {
            let Some(watcher) = &mut self.watcher else {
                sleep_until(self.next_read).await;
                self.next_read = Instant::now() + PAUSE;
                return match read(&self.cluster, &self.span, 0).await {
                    Ok((revision, pairs)) => {
                        self.watcher = Some(self.watch_from(revision + 1));
                        Told::All(revision, pairs)
                    }
                    Err(failure) => self.lost(failure.text),
                };
            };
            let answer = match watcher.next().await {
                Ok(Seen::Answer(answer)) => answer,
                Ok(Seen::End(_, reason)) => return self.lost(reason),
                Err(failure) => return self.lost(failure.text),
            };
            let revision = answer.header.as_ref().map_or(0, |header| header.revision);
            let changes: Vec<_> = answer.events.into_iter().filter_map(change).collect();
            if !changes.is_empty() {
                return Told::Changes(revision, changes);
            }
        }
    }

    fn watch_from(&self, start_revision: i64) -> Watcher {
        let Span { key, end } = self.span.clone();
        let request = WatchCreateRequest {
            key: key.into(),
            range_end: end.into(),
            start_revision,
            ..WatchCreateRequest::default()
        };
        Watcher::new(self.cluster.clone(), request)
    }

    /// All is read anew, over a new connection: what was shown as a token may have ended.
    fn lost(&mut self, reason: String) -> Told {
        self.watcher = None;
        self.cluster.leave();
        Told::Lost(reason)
    }
}

fn change(event: plinth_api::proto::mvccpb::Event) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let is_put = event.r#type() == EventType::Put;
    let pair = event.kv?;
    Some((pair.key.to_vec(), is_put.then(|| pair.value.to_vec())))
}

/// Reads a range in pages, all at one revision: the one asked for, or with 0 that of the first page.
///
/// # Errors
/// If the store refuses.
pub async fn read(
    cluster: &Cluster,
    span: &Span,
    mut revision: i64,
) -> Result<(i64, BTreeMap<Vec<u8>, Vec<u8>>), Failure> {
    let (mut pairs, mut from) = (BTreeMap::new(), span.key.clone());
    loop {
        let request = RangeRequest {
            key: from.clone().into(),
            range_end: span.end.clone().into(),
            limit: PAGE,
            revision,
            ..RangeRequest::default()
        };
        let answer = cluster.call(&RANGE, request).await?;
        if revision == 0 {
            revision = answer.header.as_ref().map_or(0, |header| header.revision);
        }
        pairs.extend(answer.kvs.into_iter().map(|pair| (pair.key.to_vec(), pair.value.to_vec())));
        match pairs.last_key_value() {
            Some((last, _)) if answer.more => {
                from = last.clone();
                from.push(0);
            }
            _ => return Ok((revision, pairs)),
        }
    }
}
