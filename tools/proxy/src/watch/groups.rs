//! Which watchers share an upstream watch. Pure: what is to be sent, opened and closed is returned.
//!
//! A group is one upstream watch of a range. Its `next` is the revision below which it has told all. A watcher joins a
//! group of its range that is not beyond the revision it starts at, and is told no event below that; one without a
//! start begins with what is to come, which every group of its range has. Two groups of a range become one as soon
//! as the one that lags has told all that the other one will not tell again.
//!
//! Invariants: a watcher is in exactly one group; a group has a watcher; a watcher is told each event of its range from its
//! start on once, in the order of revisions; `next` never goes back but when history was compacted under the group, whose
//! watchers that wanted it have been told so.

use bytes::Bytes;
use plinth_api::proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use plinth_api::proto::mvccpb::{Event, event::EventType};
use std::collections::{BTreeMap, BTreeSet};

/// Names a watcher of the process.
pub type WatcherId = u64;

/// Names an upstream watch.
pub type GroupId = u64;

/// What is watched, as upstream names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub key: Bytes,
    pub end: Bytes,
}

/// What a client asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub span: Span,
    /// Zero: what is to come.
    pub start: i64,
    /// By which the client knows it on its stream.
    pub watch_id: i64,
    pub prev_kv: bool,
    pub progress: bool,
    pub no_puts: bool,
    pub no_deletes: bool,
}

struct Watcher {
    wish: Wish,
    group: GroupId,
}

struct Group {
    span: Span,
    next: i64,
    /// Upstream has said that it watches.
    is_created: bool,
    watchers: BTreeSet<WatcherId>,
}

/// What is to be done outside, in this order.
#[derive(Debug, Default, PartialEq)]
pub struct Effects {
    pub deliver: Vec<(WatcherId, WatchResponse)>,
    /// Upstream watches to open, or to open again from another revision.
    pub open: Vec<GroupId>,
    pub close: Vec<GroupId>,
}

/// All of them.
#[derive(Default)]
pub struct Groups {
    groups: BTreeMap<GroupId, Group>,
    spans: BTreeMap<Span, BTreeSet<GroupId>>,
    watchers: BTreeMap<WatcherId, Watcher>,
    opened: GroupId,
    events_saved: u64,
}

impl Groups {
    /// Watchers, and the upstream watches that they cost.
    pub fn counts(&self) -> (usize, usize) {
        (self.watchers.len(), self.groups.len())
    }

    /// Answers that were told to more than one watcher, counted once for each but the first.
    pub fn events_saved(&self) -> u64 {
        self.events_saved
    }

    /// A new watcher. `now` is what its permission was just found out with: the present, as far as a server knows.
    pub fn add(&mut self, id: WatcherId, mut wish: Wish, now: &ResponseHeader) -> Effects {
        assert!(!self.watchers.contains_key(&id), "a watcher is added once");
        let mut effects = Effects::default();
        let mut best: Option<(i64, GroupId)> = None;
        for group in self.spans.get(&wish.span).into_iter().flatten() {
            let next = self.groups[group].next;
            if wish.start == 0 || next <= wish.start {
                best = best.max(Some((next, *group)));
            }
        }
        if wish.start == 0 {
            wish.start = best.map_or(0, |(next, _)| next).max(now.revision + 1);
        }
        let number = match best {
            Some((_, group)) => group,
            None => {
                effects.open.push(self.open(&wish));
                self.opened
            }
        };
        let group = self.groups.get_mut(&number).expect("found or opened just now");
        assert!(group.next <= wish.start, "the group has not told what the watcher wants");
        group.watchers.insert(id);
        if group.is_created {
            let header = ResponseHeader { revision: now.revision.max(group.next - 1), ..*now };
            effects.deliver.push((id, created(&wish, &header)));
        }
        self.watchers.insert(id, Watcher { wish, group: number });
        effects
    }

    fn open(&mut self, wish: &Wish) -> GroupId {
        self.opened += 1;
        let group = Group { span: wish.span.clone(), next: wish.start, is_created: false, watchers: BTreeSet::new() };
        self.spans.entry(wish.span.clone()).or_default().insert(self.opened);
        self.groups.insert(self.opened, group);
        self.opened
    }

    /// A watcher leaves. Of one that is gone already, nothing happens.
    pub fn remove(&mut self, id: WatcherId) -> Effects {
        let mut effects = Effects::default();
        let Some(watcher) = self.watchers.remove(&id) else { return effects };
        let group = self.groups.get_mut(&watcher.group).expect("a watcher has a group");
        assert!(group.watchers.remove(&id), "the group knows its watcher");
        if group.watchers.is_empty() {
            self.close(watcher.group, &mut effects);
        }
        effects
    }

    fn close(&mut self, number: GroupId, effects: &mut Effects) {
        let group = self.groups.remove(&number).expect("only a group that is there is closed");
        assert!(group.watchers.is_empty(), "no watcher loses its group");
        let of_span = self.spans.get_mut(&group.span).expect("a group has a span");
        assert!(of_span.remove(&number), "the span knows its group");
        if of_span.is_empty() {
            self.spans.remove(&group.span);
        }
        effects.close.push(number);
    }

    /// What upstream is to be asked for, now or after a connection broke. Nothing if the group is gone.
    pub fn request(&self, number: GroupId) -> Option<WatchCreateRequest> {
        let group = self.groups.get(&number)?;
        Some(WatchCreateRequest {
            key: group.span.key.clone(),
            range_end: group.span.end.clone(),
            start_revision: group.next,
            // Some watcher may want it, now or later.
            prev_kv: true,
            progress_notify: true,
            ..WatchCreateRequest::default()
        })
    }

    /// A watcher of the group, whose rights the upstream watch has.
    pub fn one_of(&self, number: GroupId) -> Option<WatcherId> {
        self.groups.get(&number)?.watchers.first().copied()
    }

    /// Upstream has answered.
    pub fn answered(&mut self, number: GroupId, answer: WatchResponse) -> Effects {
        let mut effects = Effects::default();
        if !self.groups.contains_key(&number) {
            return effects;
        }
        let header = answer.header.unwrap_or_default();
        match () {
            () if answer.canceled && answer.compact_revision > 0 => self.compacted(number, &answer, &mut effects),
            () if answer.canceled => self.refused(number, &answer, &mut effects),
            () if answer.created => self.created(number, &header, &mut effects),
            () if answer.events.is_empty() => self.progressed(number, &header, &mut effects),
            () => self.happened(number, &header, &answer.events, &mut effects),
        }
        self.merge(number, &mut effects);
        effects
    }

    fn created(&mut self, number: GroupId, header: &ResponseHeader, effects: &mut Effects) {
        let group = self.groups.get_mut(&number).expect("it is there");
        if !std::mem::replace(&mut group.is_created, true) {
            for id in &group.watchers {
                effects.deliver.push((*id, created(&self.watchers[id].wish, header)));
            }
        }
    }

    /// History that some want is gone. The others go on.
    fn compacted(&mut self, number: GroupId, answer: &WatchResponse, effects: &mut Effects) {
        let group = self.groups.get_mut(&number).expect("it is there");
        let next = group.next;
        let wants = |id: &WatcherId| self.watchers[id].wish.start.max(next);
        let (late, rest): (BTreeSet<_>, BTreeSet<_>) =
            group.watchers.iter().copied().partition(|id| wants(id) < answer.compact_revision);
        // Upstream would not take the same request again.
        let rest = if late.is_empty() { BTreeSet::new() } else { rest };
        let first = rest.iter().map(wants).min();
        let gone: Vec<_> = group.watchers.difference(&rest).copied().collect();
        group.watchers = rest;
        for id in gone {
            self.end(id, answer, false, effects);
        }
        match first {
            Some(first) => {
                self.groups.get_mut(&number).expect("it has watchers").next = first;
                effects.open.push(number);
            }
            None => self.close(number, effects),
        }
    }

    /// Upstream does not watch, or no longer: neither do those who share it.
    fn refused(&mut self, number: GroupId, answer: &WatchResponse, effects: &mut Effects) {
        let group = self.groups.get_mut(&number).expect("it is there");
        let is_first = !group.is_created;
        for id in std::mem::take(&mut group.watchers) {
            self.end(id, answer, is_first, effects);
        }
        self.close(number, effects);
    }

    fn end(&mut self, id: WatcherId, answer: &WatchResponse, created: bool, effects: &mut Effects) {
        let watcher = self.watchers.remove(&id).expect("a group knows its watchers");
        let told = WatchResponse { watch_id: watcher.wish.watch_id, created, events: Vec::new(), ..answer.clone() };
        effects.deliver.push((id, told));
    }

    fn progressed(&mut self, number: GroupId, header: &ResponseHeader, effects: &mut Effects) {
        let group = self.groups.get_mut(&number).expect("it is there");
        group.next = group.next.max(header.revision + 1);
        for id in &group.watchers {
            let wish = &self.watchers[id].wish;
            if wish.progress {
                effects.deliver.push((*id, told(wish, header, Vec::new())));
            }
        }
    }

    fn happened(&mut self, number: GroupId, header: &ResponseHeader, events: &[Event], effects: &mut Effects) {
        let group = self.groups.get_mut(&number).expect("it is there");
        for id in &group.watchers {
            let wish = &self.watchers[id].wish;
            let wanted: Vec<Event> = events.iter().filter_map(|event| wanted(wish, group.next, event)).collect();
            if !wanted.is_empty() {
                effects.deliver.push((*id, told(wish, header, wanted)));
            }
        }
        self.events_saved += group.watchers.len() as u64 - 1;
        group.next = events.iter().map(revision).max().map_or(group.next, |last| group.next.max(last + 1));
    }

    /// Lets the watchers of a group go on with another one that lags behind it, or is as far.
    fn merge(&mut self, number: GroupId, effects: &mut Effects) {
        let Some(group) = self.groups.get(&number).filter(|group| group.is_created) else { return };
        let others = self.spans[&group.span].iter().filter(|other| **other != number);
        let fitting = others.filter(|other| {
            let other = &self.groups[other];
            other.is_created && other.next <= group.next
        });
        let Some(into) = fitting.max_by_key(|other| self.groups[other].next).copied() else { return };
        let group = self.groups.get_mut(&number).expect("it is there");
        let (next, watchers) = (group.next, std::mem::take(&mut group.watchers));
        for id in &watchers {
            let watcher = self.watchers.get_mut(id).expect("a group knows its watchers");
            watcher.wish.start = watcher.wish.start.max(next);
            watcher.group = into;
        }
        self.groups.get_mut(&into).expect("it is there").watchers.extend(watchers);
        self.close(number, effects);
    }
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |pair| pair.mod_revision)
}

/// The event as a watcher wants it, if it does. Below `next` all have been told.
fn wanted(wish: &Wish, next: i64, event: &Event) -> Option<Event> {
    let is_filtered = match event.r#type() {
        EventType::Put => wish.no_puts,
        EventType::Delete => wish.no_deletes,
    };
    if is_filtered || revision(event) < wish.start.max(next) {
        return None;
    }
    let prev_kv = event.prev_kv.clone().filter(|_| wish.prev_kv);
    Some(Event { prev_kv, ..event.clone() })
}

fn told(wish: &Wish, header: &ResponseHeader, events: Vec<Event>) -> WatchResponse {
    WatchResponse { header: Some(*header), watch_id: wish.watch_id, events, ..WatchResponse::default() }
}

fn created(wish: &Wish, header: &ResponseHeader) -> WatchResponse {
    WatchResponse { created: true, ..told(wish, header, Vec::new()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_api::proto::mvccpb::KeyValue;
    use plinth_random::Random;

    fn header(revision: i64) -> ResponseHeader {
        ResponseHeader { revision, ..ResponseHeader::default() }
    }

    fn wish(key: &'static str, start: i64, watch_id: i64) -> Wish {
        let span = Span { key: key.into(), end: Bytes::new() };
        Wish { span, start, watch_id, prev_kv: false, progress: false, no_puts: false, no_deletes: false }
    }

    fn event(mod_revision: i64) -> Event {
        let pair = || Some(KeyValue { key: "k".into(), mod_revision, ..KeyValue::default() });
        Event { r#type: EventType::Put as i32, kv: pair(), prev_kv: pair() }
    }

    fn happened(revisions: &[i64]) -> WatchResponse {
        let events: Vec<Event> = revisions.iter().copied().map(event).collect();
        WatchResponse { header: Some(header(*revisions.last().expect("some"))), events, ..WatchResponse::default() }
    }

    fn created_at(revision: i64) -> WatchResponse {
        WatchResponse { header: Some(header(revision)), created: true, ..WatchResponse::default() }
    }

    /// Who was told which revisions.
    fn told(effects: &Effects) -> Vec<(WatcherId, Vec<i64>)> {
        effects.deliver.iter().map(|(id, answer)| (*id, answer.events.iter().map(revision).collect())).collect()
    }

    #[test]
    fn two_hundred_watchers_of_the_present_cost_one() {
        let mut groups = Groups::default();
        let first = groups.add(0, wish("k", 0, 0), &header(5));
        assert_eq!((first.open, first.deliver.len()), (vec![1], 0));
        for id in 1..100 {
            assert_eq!(groups.add(id, wish("k", 0, 0), &header(5)), Effects::default(), "before it is created");
        }
        assert_eq!(groups.answered(1, created_at(5)).deliver.len(), 100);
        for id in 100..200 {
            let effects = groups.add(id, wish("k", 0, 3), &header(5));
            let answer = &effects.deliver[0].1;
            assert!(effects.open.is_empty() && answer.created && answer.watch_id == 3);
        }
        assert_eq!(groups.counts(), (200, 1));
        assert_eq!(groups.answered(1, happened(&[6])).deliver.len(), 200);
        assert_eq!(groups.events_saved(), 199);
    }

    #[test]
    fn a_group_that_is_beyond_a_start_is_not_joined_until_the_other_one_catches_up() {
        let mut groups = Groups::default();
        groups.add(1, wish("k", 0, 0), &header(9));
        groups.answered(1, created_at(9));
        let past = groups.add(2, wish("k", 3, 0), &header(9));
        assert_eq!(past.open, [2]);
        assert!(groups.answered(2, created_at(9)).close.is_empty(), "it has not told all");
        assert_eq!(told(&groups.answered(2, happened(&[3, 7]))), [(2, vec![3, 7])]);
        // The one that lags takes over the one that is ahead.
        let effects = groups.answered(1, happened(&[10]));
        assert_eq!((told(&effects), effects.close), (vec![(1, vec![10])], vec![1]));
        assert_eq!(told(&groups.answered(2, happened(&[9]))), [(2, vec![9])]);
        assert_eq!(told(&groups.answered(2, happened(&[10, 11, 12]))), [(1, vec![11, 12]), (2, vec![10, 11, 12])]);
        assert_eq!(groups.counts(), (2, 1));
    }

    #[test]
    fn what_is_not_wanted_is_not_told() {
        let mut groups = Groups::default();
        groups.add(1, Wish { no_puts: true, ..wish("k", 0, 0) }, &header(1));
        groups.add(2, Wish { prev_kv: true, progress: true, ..wish("k", 0, 0) }, &header(1));
        groups.add(3, wish("k", 4, 0), &header(1));
        groups.answered(1, created_at(1));
        let effects = groups.answered(1, happened(&[2, 3]));
        assert_eq!(told(&effects), [(2, vec![2, 3])]);
        assert!(effects.deliver[0].1.events[0].prev_kv.is_some());
        let progress = WatchResponse { header: Some(header(3)), ..WatchResponse::default() };
        assert_eq!(told(&groups.answered(1, progress)), [(2, vec![])]);
        let effects = groups.answered(1, happened(&[4]));
        assert_eq!(told(&effects), [(2, vec![4]), (3, vec![4])]);
        assert!(effects.deliver[1].1.events[0].prev_kv.is_none());
        assert_eq!(groups.request(1).expect("it is there").start_revision, 5);
    }

    #[test]
    fn the_last_one_out_ends_it() {
        let mut groups = Groups::default();
        groups.add(1, wish("k", 0, 0), &header(1));
        groups.add(2, wish("k", 0, 1), &header(1));
        groups.add(3, wish("other", 0, 2), &header(1));
        assert_eq!(groups.counts(), (3, 2));
        assert_eq!(groups.remove(1), Effects::default());
        assert_eq!(groups.remove(2).close, [1]);
        assert_eq!(groups.remove(2), Effects::default());
        assert!(groups.request(1).is_none() && groups.answered(1, created_at(1)) == Effects::default());
        assert_eq!(groups.counts(), (1, 1));
    }

    #[test]
    fn compaction_ends_those_that_want_the_past() {
        let mut groups = Groups::default();
        groups.add(1, wish("k", 3, 0), &header(1));
        groups.add(2, wish("k", 9, 0), &header(1));
        groups.answered(1, created_at(1));
        let gone = WatchResponse { canceled: true, compact_revision: 7, ..WatchResponse::default() };
        let effects = groups.answered(1, gone.clone());
        assert_eq!((effects.deliver.len(), effects.deliver[0].0, &effects.open[..]), (1, 1, &[1][..]));
        assert!(effects.deliver[0].1.canceled && effects.deliver[0].1.compact_revision == 7);
        assert_eq!(groups.request(1).expect("one is left").start_revision, 9);
        let effects = groups.answered(1, WatchResponse { compact_revision: 10, ..gone });
        assert_eq!((effects.deliver.len(), effects.close), (1, vec![1]));
        assert_eq!(groups.counts(), (0, 0));
    }

    #[test]
    fn a_refusal_ends_all() {
        let mut groups = Groups::default();
        groups.add(1, wish("k", 0, 4), &header(1));
        groups.add(2, wish("k", 0, 5), &header(1));
        let reason = || "etcdserver: permission denied".to_owned();
        let refusal =
            WatchResponse { created: true, canceled: true, cancel_reason: reason(), ..WatchResponse::default() };
        let effects = groups.answered(1, refusal);
        let ids: Vec<i64> = effects.deliver.iter().map(|(_, answer)| answer.watch_id).collect();
        assert_eq!((ids, effects.close), (vec![4, 5], vec![1]));
        assert!(effects.deliver.iter().all(|(_, answer)| answer.created && answer.cancel_reason == reason()));
    }

    /// Many watchers come and go while upstream watches tell one history, each at its own pace and with broken connections:
    /// everyone is told each revision from its start on, once, in order.
    #[test]
    fn everybody_is_told_everything_once() {
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let mut groups = Groups::default();
            let mut wanted: BTreeMap<WatcherId, i64> = BTreeMap::new();
            let mut upstream: BTreeMap<GroupId, Option<i64>> = BTreeMap::new();
            let (mut revision, mut id) = (5_i64, 0);
            for _ in 0..120 {
                let mut effects = Effects::default();
                match random.below(8) {
                    0 | 1 => revision += 1,
                    2 => {
                        id += 1;
                        let start = if random.below(2) == 0 { 0 } else { 1 + random.below(revision as u64 + 2) as i64 };
                        let lag = random.below(3) as i64;
                        effects = groups.add(id, wish("k", start, 0), &header(revision - lag));
                        wanted.insert(id, groups.watchers[&id].wish.start);
                    }
                    3 if id > 0 => {
                        let gone = 1 + random.below(id);
                        wanted.remove(&gone);
                        effects = groups.remove(gone);
                    }
                    number => {
                        let chosen = random.below(upstream.len().max(1) as u64) as usize;
                        let Some((group, at)) = upstream.iter_mut().nth(chosen) else { continue };
                        let group = *group;
                        match at {
                            _ if number == 4 => *at = None,
                            None => {
                                *at = groups.request(group).map(|request| request.start_revision);
                                effects = groups.answered(group, created_at(revision));
                            }
                            Some(at) if *at <= revision => {
                                let last = (*at + random.below(3) as i64).min(revision);
                                let told: Vec<i64> = (*at..=last).collect();
                                *at = last + 1;
                                effects = groups.answered(group, happened(&told));
                            }
                            Some(_) => {}
                        }
                    }
                }
                for (watcher, answer) in &effects.deliver {
                    for event in &answer.events {
                        let next = wanted.get_mut(watcher).expect("only watchers that are there are told");
                        assert_eq!(super::revision(event), *next, "seed {seed}, watcher {watcher}");
                        *next += 1;
                    }
                }
                upstream.retain(|group, _| !effects.close.contains(group));
                upstream.extend(effects.open.iter().map(|group| (*group, None)));
                assert_eq!(groups.counts(), (wanted.len(), upstream.len()), "seed {seed}");
            }
        }
    }
}
