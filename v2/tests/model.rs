//! Random commands against a model that is as simple as can be, and what follows from the invariants: the same commands
//! make the same tree, what was stored is the tree, and a stream misses nothing.

use bytes::Bytes;
use plinth_random::Random;
use plinth_v2::command::{ArchivedV2Command, Content};
use plinth_v2::hub::Interest;
use plinth_v2::tree::{Before, Leaves, Moment, Run};
use plinth_v2::{Action, Change, Code, Event, Hub, Tree, V2Command, V2Error, Watched, path, record};
use std::collections::BTreeMap;

const SECOND: i64 = 1_000_000_000;
const BEGIN: i64 = 1_800_000_000 * SECOND;

/// A node by its path: value or directory, deadline, created, modified.
#[derive(Clone, Debug, PartialEq)]
struct Plain(Option<Vec<u8>>, i64, u64, u64);

#[derive(Default)]
struct Model {
    nodes: BTreeMap<Vec<u8>, Plain>,
    index: u64,
}

impl Model {
    fn is_dir(&self, path: &[u8]) -> bool {
        path == path::KEYS || self.nodes.get(path).is_some_and(|node| node.0.is_none())
    }

    fn is_there(&self, path: &[u8]) -> bool {
        path == path::KEYS || self.nodes.contains_key(path)
    }

    /// The first on the way to `path` that is no directory, or is not there.
    fn obstacle(&self, path: &[u8]) -> Option<(Code, Vec<u8>)> {
        let before = path::prefixes(path).take_while(|prefix| prefix.len() < path.len());
        for prefix in before {
            if !self.is_there(prefix) {
                return Some((Code::KeyNotFound, prefix.to_vec()));
            }
            if !self.is_dir(prefix) {
                return Some((Code::NotDir, prefix.to_vec()));
            }
        }
        (!self.is_there(path)).then(|| (Code::KeyNotFound, path.to_vec()))
    }

    fn write(
        &mut self,
        path: &[u8],
        value: Option<&[u8]>,
        deadline: i64,
        replace: bool,
    ) -> Result<(), (Code, Vec<u8>)> {
        match self.obstacle(path) {
            Some((Code::NotDir, at)) => return Err((Code::NotDir, at)),
            Some(_) => {}
            None if path == path::KEYS => return Err((Code::RootReadOnly, b"/".to_vec())),
            None if !replace => return Err((Code::NodeExist, path.to_vec())),
            None if self.is_dir(path) => return Err((Code::NotFile, path.to_vec())),
            None => {}
        }
        self.index += 1;
        for prefix in path::prefixes(path).skip(1) {
            let new = Plain(None, 0, self.index, self.index);
            self.nodes.entry(prefix.to_vec()).or_insert(new);
        }
        self.nodes.insert(path.to_vec(), Plain(value.map(<[u8]>::to_vec), deadline, self.index, self.index));
        Ok(())
    }

    fn remove(&mut self, path: &[u8]) {
        self.index += 1;
        self.nodes.retain(|other, _| other != path && !path::is_below(other, path));
    }
}

fn some_path(random: &mut Random) -> Vec<u8> {
    const NAMES: [&str; 6] = ["a", "b", "a-", "_h", "c", "a!"];
    let mut path = path::KEYS.to_vec();
    for _ in 0..random.below(4) {
        path.push(b'/');
        path.extend_from_slice(NAMES[random.below(6) as usize].as_bytes());
    }
    path
}

/// A random command on both; the results must agree. What the tree answered.
fn step(random: &mut Random, tree: &mut Tree, model: &mut Model, now: i64) -> Result<Event, V2Error> {
    let path = some_path(random);
    let value = [b'v', b'0' + random.below(3) as u8];
    let expires = if random.below(4) == 0 { now + random.below(20) as i64 * SECOND } else { 0 };
    let (leaves, moment) = (Leaves { value: &value, expires, refresh: false }, Moment { at: now, shown_at: now });
    let (before, node) = (Before { value: &value, index: 0 }, model.nodes.get(&path).cloned());
    let kept = |model: &mut Model| {
        model.index += 1;
        let node = node.clone().expect("it was found");
        let (changed, index) = (node.0.is_some(), model.index);
        let new = Plain(node.0.map(|_| value.to_vec()), expires, node.2, if changed { index } else { node.3 });
        model.nodes.insert(path.clone(), new);
        Ok(())
    };
    let (result, expected) = match random.below(8) {
        0 => (tree.set(&path, false, leaves, moment), model.write(&path, Some(&value), expires, true)),
        1 => (tree.set(&path, true, leaves, moment), model.write(&path, None, expires, true)),
        2 => (tree.create(&path, false, false, leaves, moment), model.write(&path, Some(&value), expires, false)),
        3 => {
            let name = format!("{:020}", model.index + 1);
            let whole = [&path, &b"/"[..], name.as_bytes()].concat();
            let expected = model.write(&whole, Some(&value), expires, false);
            (tree.create(&path, false, true, leaves, moment), expected)
        }
        4 if path == path::KEYS => return Err(tree.update(&path, leaves, moment).expect_err("the root")),
        4 => {
            let empty = Leaves { value: b"", ..leaves };
            let is_dir = model.is_dir(&path);
            let result = tree.update(&path, if is_dir { empty } else { leaves }, moment);
            (result, model.obstacle(&path).map_or_else(|| kept(model), Err))
        }
        5 => {
            let result = tree.compare_and_swap(&path, before, leaves, moment);
            if path == path::KEYS {
                return Err(result.expect_err("the root"));
            }
            let expected = match (model.obstacle(&path), &node) {
                (Some(obstacle), _) => Err(obstacle),
                (None, Some(Plain(Some(old), ..))) if *old == value => kept(model),
                (None, Some(Plain(Some(old), ..))) => {
                    Err((Code::TestFailed, [b"[", &value[..], b" != ", old, b"]"].concat()))
                }
                (None, _) => Err((Code::NotFile, path.clone())),
            };
            (result, expected)
        }
        _ => {
            let recursive = random.below(3) == 0;
            let result = tree.delete(&path, true, recursive, moment);
            if path == path::KEYS {
                return Err(result.expect_err("the root"));
            }
            let has_children = model.nodes.keys().any(|other| path::is_below(other, &path));
            let expected = match model.obstacle(&path) {
                Some(obstacle) => Err(obstacle),
                None if has_children && !recursive => Err((Code::DirNotEmpty, path.clone())),
                None => {
                    model.remove(&path);
                    Ok(())
                }
            };
            (result, expected)
        }
    };
    let found = result.as_ref().map(|_| ()).map_err(|error| (error.code, error.cause.clone()));
    assert_eq!(found, expected);
    if let Err(error) = &result {
        assert_eq!(error.index, model.index);
    }
    result
}

fn expire(tree: &mut Tree, model: &mut Model, now: i64) {
    let mut due: Vec<_> = model.nodes.iter().filter(|(_, node)| node.1 != 0 && node.1 <= now).collect();
    due.sort_by_key(|(_, node)| node.1);
    let due: Vec<Vec<u8>> = due.into_iter().map(|(path, _)| path.clone()).collect();
    for path in due {
        if model.nodes.contains_key(&path) {
            model.remove(&path);
        }
    }
    tree.sync(now);
}

fn agree(tree: &Tree, model: &Model) {
    assert_eq!(tree.index(), model.index);
    let found: BTreeMap<Vec<u8>, Plain> = tree
        .nodes()
        .filter(|(path, _)| path::split(path).0 != b"")
        .map(|(path, node)| {
            let value = node.value.as_ref().map(|value| value.to_vec());
            (path.to_vec(), Plain(value, node.deadline, node.created, node.modified))
        })
        .collect();
    assert_eq!(found, model.nodes);
    let listed = tree.peek(path::KEYS, true, 0).expect("the root").node;
    let mut count = 0;
    let mut waiting = vec![listed];
    while let Some(view) = waiting.pop() {
        assert!(view.nodes.is_sorted_by(|a, b| a.key < b.key), "{view:?}");
        count += view.nodes.len();
        waiting.extend(view.nodes);
    }
    let is_seen = |path: &[u8]| !path::hides(path::KEYS, path);
    assert_eq!(count, model.nodes.keys().filter(|path| is_seen(path)).count());
}

/// A listing in steps, while everything changes: it shows the moment at which it began.
#[test]
fn a_listing_shows_one_moment() {
    for seed in 0..200 {
        let mut random = Random::new(2000 + seed);
        let (mut tree, mut model) = (Tree::default(), Model { index: 3, ..Model::default() });
        tree.begin(3);
        let mut change = |random: &mut Random, tree: &mut Tree, times: u64| {
            for _ in 0..times {
                let _ = step(random, tree, &mut model, BEGIN);
            }
        };
        change(&mut random, &mut tree, 60);
        let recursive = random.below(4) > 0;
        let mut expected = Vec::new();
        tree.peek(path::KEYS, recursive, BEGIN).expect("the root").write_json(&mut expected, false);
        let mut listing = tree.list(path::KEYS, recursive, BEGIN).expect("the root");
        let mut found = Vec::new();
        while !tree.list_some(&mut listing, random.below(3) as usize + 1, &mut found).expect("it goes on") {
            let times = random.below(20);
            change(&mut random, &mut tree, times);
        }
        assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(&expected), "seed {seed}");
    }
}

/// Commands in steps leave the same tree, the same history and the same records as those at once.
#[test]
fn steps_change_nothing() {
    let apply = |tree: &mut Tree, change: Change, at: i64, nodes: usize, out: &mut Vec<u8>| {
        let command = V2Command { at, shown_at: at, brief: false, change };
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&command).expect("encoded");
        let command = rkyv::access::<ArchivedV2Command, rkyv::rancor::Error>(&bytes).expect("a command");
        let mut run = Run::default();
        let mut steps = 1;
        while !tree.apply_some(command, &mut run, &mut { nodes }, Some(out)) {
            assert!(tree.is_unfinished());
            tree.check().expect("whole between two steps, too");
            steps += 1;
        }
        assert!(!tree.is_unfinished());
        steps
    };
    let mut ends = Vec::new();
    for nodes in [usize::MAX, 1000, 7, 1] {
        let (mut tree, mut answers, mut steps) = (Tree::default(), Vec::new(), 0);
        tree.begin(3);
        for number in 0..400 {
            // A directory in three ends, some of them with what would end by itself within.
            let expires = if number % 3 == 0 { BEGIN + number * SECOND } else { 0 };
            let content = || Content { expires, ..Content::default() };
            let directory = Bytes::from(format!("/1/{}", number % 20));
            let key = Bytes::from(format!("/1/{}/{number}", number % 20));
            if number < 20 {
                let change = Change::Set { path: directory, dir: true, content: content() };
                apply(&mut tree, change, BEGIN, nodes, &mut answers);
            }
            apply(&mut tree, Change::Set { path: key, dir: false, content: content() }, BEGIN, nodes, &mut answers);
        }
        let delete = |path: &'static [u8]| {
            let path = Bytes::from_static(path);
            Change::Delete { path, dir: false, recursive: true }
        };
        for path in [&b"/1/1"[..], b"/1/none", b"/1", b"/1/2/2"] {
            steps += apply(&mut tree, delete(path), BEGIN, nodes, &mut answers);
        }
        steps += apply(&mut tree, Change::Sync, BEGIN + 60 * SECOND, nodes, &mut answers);
        let mut records = BTreeMap::new();
        for write in tree.take_writes() {
            records.insert((write.place == record::Place::Events, write.key), write.value);
        }
        assert_eq!(steps > 5, nodes < 1000, "{steps} steps of {nodes} nodes");
        let nodes: Vec<_> = tree.nodes().map(|(path, node)| (path.to_vec(), node.clone())).collect();
        let events: Vec<_> = tree.history().from(0).cloned().collect();
        ends.push((nodes, events, answers, records));
    }
    assert!(ends.iter().all(|end| *end == ends[0]));
    assert!((200..300).contains(&ends[0].0.len()), "{}", ends[0].0.len());
}

#[test]
fn the_tree_does_what_the_model_does() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let (mut tree, mut model, mut now) = (Tree::default(), Model { index: 3, ..Model::default() }, BEGIN);
        let mut records = BTreeMap::new();
        tree.begin(3);
        for _ in 0..300 {
            now += random.below(2) as i64 * SECOND;
            let _ = step(&mut random, &mut tree, &mut model, now);
            if random.below(10) == 0 {
                expire(&mut tree, &mut model, now);
            }
            for write in tree.take_writes() {
                let place = (write.place == record::Place::Events, write.key);
                match write.value {
                    Some(value) => drop(records.insert(place, value)),
                    None => drop(records.remove(&place)),
                }
            }
        }
        agree(&tree, &model);
        let of = |events: bool| {
            let some = records.iter().filter(move |((is_event, _), _)| *is_event == events);
            some.map(|((_, key), value)| (&key[..], &value[..]))
        };
        let again = Tree::load(of(false), of(true)).expect("it was stored");
        agree(&again, &model);
        assert_eq!(again.time(), tree.time());
    }
}

/// Watchers of all kinds, asked at random times, so that some fall behind and catch up. What each gets is what a look at
/// every event says that it should.
#[test]
fn streams_miss_nothing() {
    struct Stream {
        id: plinth_v2::WatchId,
        path: Vec<u8>,
        recursive: bool,
        expected: Vec<u64>,
        got: Vec<u64>,
    }
    for seed in 0..20 {
        let mut random = Random::new(1000 + seed);
        let (mut tree, mut model) = (Tree::default(), Model { index: 3, ..Model::default() });
        tree.begin(3);
        let mut hub = Hub::new(tree.index());
        let mut streams: Vec<Stream> = Vec::new();
        for round in 0..4000 {
            if streams.len() < 12 && random.below(50) == 0 {
                let (path, recursive) = (some_path(&mut random), random.below(2) == 0);
                let interest = Interest { path: &path, recursive, stream: true, since: 0 };
                let id = hub.watch(interest, tree.contains(&path), tree.history()).expect("watched");
                streams.push(Stream { id, path, recursive, expected: Vec::new(), got: Vec::new() });
            }
            let there: Vec<bool> = streams.iter().map(|stream| tree.contains(&stream.path)).collect();
            if let Ok(event) = step(&mut random, &mut tree, &mut model, BEGIN)
                && event.action != Action::Get
            {
                for (stream, was_there) in streams.iter_mut().zip(there) {
                    if event.is_told(&stream.path, stream.recursive, was_there) {
                        stream.expected.push(event.index());
                    }
                }
            }
            hub.publish(tree.history(), tree.index());
            drop(tree.take_writes());
            for stream in &mut streams {
                // The first one is never asked before the end.
                let asks = stream.id != first(&hub) && random.below(40) == 0;
                if asks || round == 3999 {
                    take(&mut hub, &tree, stream.id, &mut stream.got);
                }
            }
        }
        for (at, stream) in streams.iter().enumerate() {
            if at == 0 {
                // What it read on in the history may hold more: it is told of what ends above it in any case.
                assert!(stream.expected.iter().all(|index| stream.got.contains(index)));
                assert!(stream.got.is_sorted());
            } else {
                assert_eq!(stream.got, stream.expected, "seed {seed}, {}", String::from_utf8_lossy(&stream.path));
            }
        }
    }

    fn first(_: &Hub) -> plinth_v2::WatchId {
        // Ids are given out in order, from 0 on.
        let mut hub = Hub::default();
        let history = plinth_v2::history::History::default();
        let interest = Interest { path: b"/1", recursive: false, stream: true, since: 0 };
        hub.watch(interest, true, &history).expect("watched")
    }

    fn take(hub: &mut Hub, tree: &Tree, id: plinth_v2::WatchId, got: &mut Vec<u64>) {
        loop {
            match hub.next(id, tree.history()) {
                Watched::Event(event) => got.push(event.index()),
                Watched::Pending => return,
                Watched::Ended => panic!("a stream does not end"),
            }
        }
    }
}
