//! The tree, and what commands do to it.
//!
//! Nodes are in one map by their whole path, so that what is below a directory lies together behind `path/`. Each has a
//! record of its own in the store, by a number that is never used again.
//!
//! Time: a deadline is compared with the time of a sync alone. That and the time that deadlines are counted from come from
//! the leader with the command; the tree's time is that of the latest sync, and never goes back. What is shown of times to
//! live is seen from the clock of whoever proposed the command.
//!
//! Before the first command the tree is not stored at all, and its index is what the cluster's own changes have made of
//! it; see [`Tree::begin`].

pub mod listing;

use crate::answer::Answer;
use crate::command::{ArchivedChange, ArchivedContent, ArchivedV2Command, V2Command};
use crate::error::{Code, V2Error};
use crate::event::{Action, Event};
use crate::history::History;
use crate::limits::EXPIRED_PER_SYNC;
use crate::node::{Node, View};
use crate::path;
use crate::record::{self, Place, STATE_KEY, State, Write};
use crate::stats::Stats;
use bytes::Bytes;
use listing::{Kept, Views};
use std::collections::BTreeMap;
use std::ops::Bound;

/// A time to live that ends before this does not end at all: etcd takes it for a mistake.
const DEADLINE_MIN: i64 = 946_684_800 * 1_000_000_000;

/// Nodes that are removed between two looks at what is left.
const CLEARED_AT_ONCE: usize = 64;

/// Bytes that a node takes besides path and value, about.
const NODE_BYTES: u64 = 160;

/// What of a command hangs on time, and how the answer is to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// As [`crate::command::V2Command::at`].
    pub at: i64,
    /// As [`crate::command::V2Command::shown_at`].
    pub shown_at: i64,
}

/// What a write leaves behind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leaves<'a> {
    pub value: &'a [u8],
    /// When it ends, by the time of [`Moment::at`]; 0 for never.
    pub expires: i64,
    /// Keep the value, extend the time, and tell nobody.
    pub refresh: bool,
}

impl<'a> From<&'a ArchivedContent> for Leaves<'a> {
    fn from(content: &'a ArchivedContent) -> Self {
        Leaves { value: &content.value, expires: content.expires.to_native(), refresh: content.refresh }
    }
}

/// What a key has to be before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Before<'a> {
    /// Its value; empty for any.
    pub value: &'a [u8],
    /// Its index; 0 for any.
    pub index: u64,
}

/// A node that comes from elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Adopted {
    /// Its path, with the namespace.
    pub path: Vec<u8>,
    /// As in [`Node`].
    pub created: u64,
    /// As in [`Node`].
    pub modified: u64,
    /// As in [`Node`].
    pub deadline: i64,
    /// As in [`Node`].
    pub value: Option<Bytes>,
}

/// How far a command has come that removes much.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// Nodes that a sync has ended.
    expired: usize,
}

type Done = Result<Event, V2Error>;

/// See the module.
#[derive(Debug)]
pub struct Tree {
    nodes: BTreeMap<Box<[u8]>, Node>,
    deadlines: BTreeMap<(i64, u64), Box<[u8]>>,
    state: State,
    history: History,
    stats: Stats,
    bytes: u64,
    writes: Vec<Write>,
    /// Of listings under way.
    listings: Vec<Kept>,
    next_listing: u64,
    /// Whether a command is half applied.
    is_unfinished: bool,
}

impl Default for Tree {
    fn default() -> Self {
        let mut tree = Tree {
            nodes: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            state: State { next_id: 1, ..State::default() },
            history: History::default(),
            stats: Stats::default(),
            bytes: 0,
            writes: Vec::new(),
            listings: Vec::new(),
            next_listing: 0,
            is_unfinished: false,
        };
        // These are always there, and not stored.
        for namespace in [path::CLUSTER, path::KEYS] {
            let node = Node { id: tree.next_id(), created: 0, modified: 0, deadline: 0, value: None };
            tree.keep(namespace.into(), node);
        }
        tree
    }
}

/// A record of the tree is damaged, or does not fit the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct DamagedTree(pub &'static str);

impl Tree {
    /// A tree from its records, given in order of their keys.
    ///
    /// # Errors
    /// If they are not what a tree has written.
    pub fn load<'a>(
        nodes: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        events: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Tree, DamagedTree> {
        let mut tree = Tree::default();
        for (key, value) in nodes {
            tree.load_node(key, value)?;
        }
        for (key, value) in events {
            tree.load_event(key, value)?;
        }
        tree.check()?;
        Ok(tree)
    }

    /// A tree whose nodes come from elsewhere, parents before what is in them, after so many changes. None of those can be
    /// waited from.
    ///
    /// # Errors
    /// If the nodes do not fit together.
    pub fn adopt(index: u64, nodes: impl Iterator<Item = Adopted>) -> Result<Tree, DamagedTree> {
        let mut tree = Tree::default();
        for Adopted { path, created, modified, deadline, value } in nodes {
            if tree.nodes.contains_key(&path[..]) {
                return Err(DamagedTree("two nodes of one path"));
            }
            let node = Node { id: tree.next_id(), created, modified, deadline, value };
            tree.write_node(&path, &node);
            tree.keep(path.into(), node);
        }
        // The last of the changes stands for all of them.
        if let Some(before) = index.checked_sub(1) {
            tree.state.index = before;
            tree.note_own_change();
        }
        tree.check()?;
        Ok(tree)
    }

    /// Takes a record of the nodes.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn load_node(&mut self, key: &[u8], value: &[u8]) -> Result<(), DamagedTree> {
        if key == STATE_KEY {
            self.state = State::decode(value).ok_or(DamagedTree("the state of the tree"))?;
            return Ok(());
        }
        let id = key.try_into().map(u64::from_be_bytes).map_err(|_| DamagedTree("the id of a node"))?;
        let (path, node) = record::decode_node(id, value).ok_or(DamagedTree("a node"))?;
        if self.nodes.contains_key(&path) {
            return Err(DamagedTree("two nodes of one path"));
        }
        self.keep(path, node);
        Ok(())
    }

    /// Takes the next record of the history.
    ///
    /// # Errors
    /// If it is damaged, or another one is missing.
    pub fn load_event(&mut self, key: &[u8], value: &[u8]) -> Result<(), DamagedTree> {
        let event = record::decode_event(value).ok_or(DamagedTree("an event"))?;
        if key != event.index().to_be_bytes() {
            return Err(DamagedTree("an event in the place of another"));
        }
        let last = self.history.last_index();
        if last != 0 && event.index() != last + 1 {
            return Err(DamagedTree("an event is missing"));
        }
        // What exceeds the bounds goes with the next change: here nothing may be written.
        let (events_max, bytes_max) = (usize::MAX, usize::MAX);
        self.history.set_bounds(events_max, bytes_max);
        self.history.push(event, |_| {});
        Ok(())
    }

    /// Whether what was loaded fits together.
    ///
    /// # Errors
    /// If it does not.
    pub fn check(&self) -> Result<(), DamagedTree> {
        if self.history.last_index() > self.state.index {
            return Err(DamagedTree("an event above the index"));
        }
        for (path, node) in &self.nodes {
            let parent = path::split(path).0;
            let is_orphan = !parent.is_empty() && self.nodes.get(parent).is_none_or(|parent| !parent.is_dir());
            if is_orphan || node.id >= self.state.next_id {
                return Err(DamagedTree("a node without a parent, or beyond the last one"));
            }
        }
        Ok(())
    }

    /// Bounds of the history, which are this member's own.
    pub fn set_history_bounds(&mut self, events_max: usize, bytes_max: usize) {
        self.history.set_bounds(events_max, bytes_max);
    }

    /// Whether a command was ever applied.
    pub fn has_begun(&self) -> bool {
        self.state.index > 0
    }

    /// The first command comes: so many changes of the cluster's own were before it, and count.
    pub fn begin(&mut self, own_changes: u64) {
        assert!(!self.has_begun(), "a tree begins once");
        for _ in 0..own_changes.max(1) {
            self.note_own_change();
        }
    }

    /// The cluster has changed: a member, its name or addresses, or the version. It counts as a change that nobody sees.
    pub fn note_own_change(&mut self) {
        let index = self.state.index + 1;
        let key = Bytes::from_static(b"/0/members");
        let node = View { key, modified: index, created: index, ..View::default() };
        self.changed(Event { action: Action::Set, node, prev: None, refresh: true });
        self.write_state();
    }

    /// Changes so far.
    pub fn index(&self) -> u64 {
        self.state.index
    }

    /// The cluster's time, as far as commands have told it.
    pub fn time(&self) -> i64 {
        self.state.time
    }

    /// The last changes.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Counts of this member.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Bytes of all nodes, about.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When the next node is to end.
    pub fn next_deadline(&self) -> Option<i64> {
        self.deadlines.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// Whether there is a node of this path.
    pub fn contains(&self, path: &[u8]) -> bool {
        self.nodes.contains_key(path)
    }

    /// All nodes, by path.
    pub fn nodes(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        self.nodes.iter().map(|(path, node)| (&**path, node))
    }

    /// What has to be stored since the last call.
    pub fn take_writes(&mut self) -> std::vec::Drain<'_, Write> {
        self.writes.drain(..)
    }

    /// Goes on applying a command until it is done or has removed so many nodes; whether it is done. Its [`Answer`] is
    /// appended then, for whoever waits for it. To be called with the same command and its run until it is done, and with no other one
    /// before; what is seen of the tree meanwhile is half of it ([`Tree::is_unfinished`]).
    pub fn apply_some(
        &mut self,
        command: &ArchivedV2Command,
        run: &mut Run,
        nodes: &mut usize,
        out: Option<&mut Vec<u8>>,
    ) -> bool {
        let is_done = match &command.change {
            ArchivedChange::Delete { path, recursive: true, .. } => self.clear_some(path, nodes),
            ArchivedChange::Sync => self.expire_some(command.at.to_native(), run, nodes),
            _ => true,
        };
        self.is_unfinished = !is_done;
        match (is_done, &command.change) {
            (false, _) => {}
            (true, ArchivedChange::Sync) => self.write_state(),
            (true, _) => self.apply(command, out),
        }
        is_done
    }

    /// Whether a command is half applied: what it has removed so far is nobody's business yet.
    pub fn is_unfinished(&self) -> bool {
        self.is_unfinished
    }

    /// Applies a command that nobody waits for, of somebody else's log.
    pub fn follow(&mut self, command: &V2Command) {
        let bytes = rkyv::to_bytes::<rkyv::rancor::Failure>(command).expect("memory does not fail");
        let archived = rkyv::access::<ArchivedV2Command, rkyv::rancor::Failure>(&bytes);
        self.apply(archived.expect("written just now"), None);
    }

    /// Applies a command at once, and appends its [`Answer`] for whoever waits for it.
    pub fn apply(&mut self, command: &ArchivedV2Command, out: Option<&mut Vec<u8>>) {
        let moment = Moment { at: command.at.to_native(), shown_at: command.shown_at.to_native() };
        let result = match &command.change {
            ArchivedChange::Set { path, dir, content } => self.set(path, *dir, content.into(), moment),
            ArchivedChange::Create { path, dir, in_order, content } => {
                self.create(path, *dir, *in_order, content.into(), moment)
            }
            ArchivedChange::Update { path, content } => self.update(path, content.into(), moment),
            ArchivedChange::CompareAndSwap { path, prev_value, prev_index, content } => {
                let before = Before { value: prev_value, index: prev_index.to_native() };
                self.compare_and_swap(path, before, content.into(), moment)
            }
            ArchivedChange::Delete { path, dir, recursive } => self.delete(path, *dir, *recursive, moment),
            ArchivedChange::CompareAndDelete { path, prev_value, prev_index } => {
                let before = Before { value: prev_value, index: prev_index.to_native() };
                self.compare_and_delete(path, before, moment)
            }
            ArchivedChange::Sync => {
                self.sync(moment.at);
                return;
            }
        };
        if let Some(out) = out {
            Answer::of(&result, self.state.index, command.brief).encode_into(out);
        }
    }

    /// Reads a node, and what is below it if it is a directory: its children, or all.
    ///
    /// # Errors
    /// If it is not there.
    pub fn get(&mut self, path: &[u8], recursive: bool, now: i64) -> Done {
        let read = self.peek(path, recursive, now);
        self.count_get(recursive, read.is_ok());
        read
    }

    fn count_get(&mut self, recursive: bool, is_done: bool) {
        self.stats.gets.count(is_done);
        if recursive {
            self.stats.recursive_gets.count(is_done);
        }
    }

    /// As [`Tree::get`], without counting.
    ///
    /// # Errors
    /// If it is not there.
    pub fn peek(&self, path: &[u8], recursive: bool, now: i64) -> Done {
        let mut views = Views::default();
        self.walk_some(&mut self.listing(path, recursive, now), usize::MAX, &mut views)?;
        let node = views.top.expect("an unbounded step is the last");
        Ok(Event { action: Action::Get, node, prev: None, refresh: false })
    }

    fn find(&self, path: &[u8]) -> Result<&Node, V2Error> {
        if let Some(node) = self.nodes.get(path) {
            return Ok(node);
        }
        let refuse = |code, at: &[u8]| Err(V2Error::new(code, at, self.state.index));
        for prefix in path::prefixes(path) {
            match self.nodes.get(prefix) {
                None => return refuse(Code::KeyNotFound, prefix),
                Some(node) if !node.is_dir() => return refuse(Code::NotDir, prefix),
                Some(_) => {}
            }
        }
        refuse(Code::KeyNotFound, path)
    }

    fn read_only(&self, path: &[u8]) -> Result<(), V2Error> {
        match path {
            b"/" | path::KEYS | path::CLUSTER => Err(V2Error::new(Code::RootReadOnly, *b"/", self.state.index)),
            _ => Ok(()),
        }
    }

    /// The deadline of what a command leaves behind: what lay between its time and its end lies behind the tree's time.
    fn deadline(&self, expires: i64, moment: Moment) -> i64 {
        if expires == 0 {
            return 0;
        }
        let time = self.state.time.max(moment.at);
        expires.wrapping_add(time.wrapping_sub(moment.at))
    }

    /// Makes a key or a directory, or replaces a key.
    ///
    /// # Errors
    /// If a directory is there, a key is on the way, or it is the root. A refresh: if it is not there.
    pub fn set(&mut self, path: &[u8], dir: bool, leaves: Leaves<'_>, moment: Moment) -> Done {
        let done = self.try_set(path, dir, leaves, moment);
        self.stats.sets.count(done.is_ok());
        done
    }

    fn try_set(&mut self, path: &[u8], dir: bool, leaves: Leaves<'_>, moment: Moment) -> Done {
        let before = match self.find(path) {
            Ok(node) => Some(node.clone()),
            Err(error) if error.code == Code::KeyNotFound && !leaves.refresh => None,
            Err(error) => return Err(error),
        };
        let prev = before.as_ref().map(|node| View::of(path, node, moment.shown_at));
        let kept = before.and_then(|node| node.value);
        let value = if leaves.refresh { kept.unwrap_or_default() } else { Bytes::copy_from_slice(leaves.value) };
        let deadline = self.deadline(leaves.expires, moment);
        let node = self.make(path, (!dir).then_some(value), true, deadline, moment)?;
        Ok(self.changed(Event { action: Action::Set, node, prev, refresh: leaves.refresh }))
    }

    /// Makes what is not there; `in_order`: under a name of its own in that directory.
    ///
    /// # Errors
    /// If it is there, a key is on the way, or it is the root.
    pub fn create(&mut self, path: &[u8], dir: bool, in_order: bool, leaves: Leaves<'_>, moment: Moment) -> Done {
        let done = self.try_create(path, dir, in_order, leaves, moment);
        self.stats.creates.count(done.is_ok());
        done
    }

    fn try_create(&mut self, path: &[u8], dir: bool, in_order: bool, leaves: Leaves<'_>, moment: Moment) -> Done {
        let named;
        let path = match in_order {
            true => {
                named = path::join(path, format!("{:020}", self.state.index + 1).as_bytes());
                &named
            }
            false => path,
        };
        let deadline = self.deadline(leaves.expires, moment);
        let value = (!dir).then(|| Bytes::copy_from_slice(leaves.value));
        let node = self.make(path, value, false, deadline, moment)?;
        Ok(self.changed(Event { action: Action::Create, node, prev: None, refresh: false }))
    }

    /// Puts a new node in its place, and directories on the way to it.
    fn make(
        &mut self,
        path: &[u8],
        value: Option<Bytes>,
        replace: bool,
        deadline: i64,
        moment: Moment,
    ) -> Result<View, V2Error> {
        self.read_only(path)?;
        let index = self.state.index;
        let deadline = if deadline < DEADLINE_MIN { 0 } else { deadline };
        let (parent, _) = path::split(path);
        let missing: Vec<&[u8]> = path::prefixes(parent).filter(|prefix| !self.nodes.contains_key(*prefix)).collect();
        let on_the_way =
            path::prefixes(parent).find(|prefix| self.nodes.get(*prefix).is_some_and(|node| !node.is_dir()));
        if let Some(file) = on_the_way {
            // As etcd counts it.
            self.stats.sets.count(false);
            return Err(V2Error::new(Code::NotDir, file, index));
        }
        match self.nodes.get(path) {
            Some(_) if !replace => return Err(V2Error::new(Code::NodeExist, path, index)),
            Some(node) if node.is_dir() => return Err(V2Error::new(Code::NotFile, path, index)),
            Some(_) => self.remove_node(path),
            None => {}
        }
        for directory in missing {
            self.add(directory, None, 0);
        }
        self.add(path, value, deadline);
        Ok(View::of(path, &self.nodes[path], moment.shown_at))
    }

    fn add(&mut self, path: &[u8], value: Option<Bytes>, deadline: i64) {
        let index = self.state.index + 1;
        let node = Node { id: self.next_id(), created: index, modified: index, deadline, value };
        self.write_node(path, &node);
        self.keep(path.into(), node);
    }

    /// Changes the value and the time to live of a key, the time to live of a directory.
    ///
    /// # Errors
    /// If it is not there, is the root, or a directory that is to have a value.
    pub fn update(&mut self, path: &[u8], leaves: Leaves<'_>, moment: Moment) -> Done {
        // As etcd counts it: a root or a directory counts as done.
        let done = self.try_update(path, leaves, moment);
        let refused = done.as_ref().is_err_and(|error| !matches!(error.code, Code::RootReadOnly | Code::NotFile));
        self.stats.updates.count(!refused);
        done
    }

    fn try_update(&mut self, path: &[u8], leaves: Leaves<'_>, moment: Moment) -> Done {
        self.read_only(path)?;
        let node = self.find(path)?.clone();
        if node.is_dir() && !leaves.value.is_empty() {
            return Err(V2Error::new(Code::NotFile, path, self.state.index));
        }
        let deadline = self.deadline(leaves.expires, moment);
        let view = self.rewrite(path, &node, leaves, deadline, moment);
        let prev = Some(View::of(path, &node, moment.shown_at));
        Ok(self.changed(Event { action: Action::Update, node: view, prev, refresh: leaves.refresh }))
    }

    /// Changes a key that is as it was.
    ///
    /// # Errors
    /// If it is not, is not there, or is no key.
    pub fn compare_and_swap(&mut self, path: &[u8], before: Before<'_>, leaves: Leaves<'_>, moment: Moment) -> Done {
        let done = self.try_compare_and_swap(path, before, leaves, moment);
        // As etcd counts it: the root counts as done.
        let refused = done.as_ref().is_err_and(|error| error.code != Code::RootReadOnly);
        self.stats.swaps.count(!refused);
        done
    }

    fn try_compare_and_swap(&mut self, path: &[u8], before: Before<'_>, leaves: Leaves<'_>, moment: Moment) -> Done {
        self.read_only(path)?;
        let node = self.compared(path, before)?.clone();
        let deadline = self.deadline(leaves.expires, moment);
        let view = self.rewrite(path, &node, leaves, deadline, moment);
        let prev = Some(View::of(path, &node, moment.shown_at));
        Ok(self.changed(Event { action: Action::CompareAndSwap, node: view, prev, refresh: leaves.refresh }))
    }

    /// The key of this path, if it is as it was.
    fn compared(&self, path: &[u8], before: Before<'_>) -> Result<&Node, V2Error> {
        let node = self.find(path)?;
        let index = self.state.index;
        let Some(value) = &node.value else { return Err(V2Error::new(Code::NotFile, path, index)) };
        let same_value = before.value.is_empty() || before.value == value;
        let same_index = before.index == 0 || before.index == node.modified;
        if same_value && same_index {
            return Ok(node);
        }
        let values = [b"[", before.value, b" != ", value, b"]"].concat();
        let indices = format!("[{} != {}]", before.index, node.modified).into_bytes();
        let cause = match (same_value, same_index) {
            (true, _) => indices,
            (_, true) => values,
            _ => [&values[..], b" ", &indices].concat(),
        };
        Err(V2Error::new(Code::TestFailed, cause, index))
    }

    /// Gives a node another value and another deadline. Of a directory only the deadline changes, and so not its index.
    fn rewrite(&mut self, path: &[u8], node: &Node, leaves: Leaves<'_>, deadline: i64, moment: Moment) -> View {
        let index = self.state.index + 1;
        let mut new = Node { deadline, ..node.clone() };
        if !node.is_dir() {
            new.modified = index;
            if !leaves.refresh {
                new.value = Some(Bytes::copy_from_slice(leaves.value));
            }
        }
        self.forget(path);
        self.write_node(path, &new);
        let view = View { modified: index, ..View::of(path, &new, moment.shown_at) };
        self.keep(path.into(), new);
        view
    }

    /// Removes a key; an empty directory with `dir`; a directory with all that is in it with `recursive`.
    ///
    /// # Errors
    /// If it is not there, or may not be removed so.
    pub fn delete(&mut self, path: &[u8], dir: bool, recursive: bool, moment: Moment) -> Done {
        let done = self.try_delete(path, dir, recursive, moment);
        // As etcd counts it: the root counts as done.
        let refused = done.as_ref().is_err_and(|error| error.code != Code::RootReadOnly);
        self.stats.deletes.count(!refused);
        done
    }

    fn try_delete(&mut self, path: &[u8], dir: bool, recursive: bool, moment: Moment) -> Done {
        self.read_only(path)?;
        let node = self.find(path)?;
        let is_dir = node.is_dir();
        if is_dir && !dir && !recursive {
            return Err(V2Error::new(Code::NotFile, path, self.state.index));
        }
        if is_dir && !recursive && self.below(path).next().is_some() {
            return Err(V2Error::new(Code::DirNotEmpty, path, self.state.index));
        }
        Ok(self.end(path, Action::Delete, moment.shown_at))
    }

    /// Removes a key that is as it was.
    ///
    /// # Errors
    /// If it is not, is not there, or is no key.
    pub fn compare_and_delete(&mut self, path: &[u8], before: Before<'_>, moment: Moment) -> Done {
        let compared = self.compared(path, before).map(|_| ());
        // As etcd counts it: only a key that is not there counts as failed.
        let refused = compared.as_ref().is_err_and(|error| matches!(error.code, Code::KeyNotFound | Code::NotDir));
        self.stats.compared_deletes.count(!refused);
        compared?;
        Ok(self.end(path, Action::CompareAndDelete, moment.shown_at))
    }

    /// The leader's time is at least this: ends what is due, as much as one command may.
    pub fn sync(&mut self, at: i64) {
        let is_done = self.expire_some(at, &mut Run::default(), &mut { usize::MAX });
        assert!(is_done, "an unbounded step is the last");
        self.write_state();
    }

    /// Ends what is due by a time until that is done, or so many nodes were removed; whether it is done.
    fn expire_some(&mut self, at: i64, run: &mut Run, nodes: &mut usize) -> bool {
        self.state.time = self.state.time.max(at);
        let time = self.state.time;
        while run.expired < EXPIRED_PER_SYNC {
            let Some(entry) = self.deadlines.first_entry().filter(|entry| entry.key().0 <= time) else { break };
            let path = entry.get().clone();
            if !self.clear_some(&path, nodes) || *nodes == 0 {
                return false;
            }
            *nodes -= 1;
            self.end(&path, Action::Expire, time);
            self.stats.expired += 1;
            run.expired += 1;
        }
        true
    }

    /// Removes what is below a directory, the deepest first, until it is empty or so many nodes were removed; whether it
    /// is empty. What is no directory, or may not be removed, is none of its business.
    fn clear_some(&mut self, path: &[u8], nodes: &mut usize) -> bool {
        if self.read_only(path).is_err() || !self.nodes.get(path).is_some_and(Node::is_dir) {
            return true;
        }
        loop {
            let most = (*nodes).min(CLEARED_AT_ONCE);
            let paths: Vec<Box<[u8]>> = self.below(path).rev().take(most).map(|(path, _)| path.clone()).collect();
            if paths.is_empty() {
                return self.below(path).next().is_none();
            }
            *nodes -= paths.len();
            // In the opposite order of their paths, so that none is left without its parent.
            paths.iter().for_each(|below| self.remove_node(below));
        }
    }

    /// Removes a node that is there, and all below it.
    fn end(&mut self, path: &[u8], action: Action, now: i64) -> Event {
        let node = self.nodes[path].clone();
        let is_empty = self.clear_some(path, &mut { usize::MAX });
        assert!(is_empty, "an unbounded step is the last");
        self.remove_node(path);
        let prev = View::of(path, &node, now);
        let index = self.state.index + 1;
        let gone = View {
            key: prev.key.clone(),
            dir: node.is_dir(),
            modified: index,
            created: node.created,
            ..View::default()
        };
        self.changed(Event { action, node: gone, prev: Some(prev), refresh: false })
    }

    fn below(&self, path: &[u8]) -> impl DoubleEndedIterator<Item = (&Box<[u8]>, &Node)> {
        let (from, end) = ([path, b"/"].concat(), [path, b"0"].concat());
        self.nodes.range::<[u8], _>((Bound::Included(&from[..]), Bound::Excluded(&end[..])))
    }

    /// Counts a change, and remembers it.
    fn changed(&mut self, event: Event) -> Event {
        self.state.index += 1;
        assert!(event.index() == self.state.index, "a change has the index that it makes");
        let key = event.index().to_be_bytes();
        let Tree { history, writes, .. } = self;
        writes.push(Write { place: Place::Events, key, value: Some(record::encode_event(&event)) });
        history.push(event.clone(), |old| {
            writes.push(Write { place: Place::Events, key: old.to_be_bytes(), value: None });
        });
        self.write_state();
        event
    }

    fn next_id(&mut self) -> u64 {
        let id = self.state.next_id;
        self.state.next_id += 1;
        id
    }

    fn keep(&mut self, path: Box<[u8]>, node: Node) {
        if node.deadline != 0 {
            self.deadlines.insert((node.deadline, node.id), path.clone());
        }
        self.bytes += weight(&path, &node);
        self.listings.iter_mut().for_each(|before| before.note(&path, None));
        let before = self.nodes.insert(path, node);
        assert!(before.is_none(), "what is replaced is forgotten before");
    }

    fn forget(&mut self, path: &[u8]) -> Node {
        let node = self.nodes.remove(path).expect("it was found before");
        self.listings.iter_mut().for_each(|before| before.note(path, Some(&node)));
        self.bytes = self.bytes.checked_sub(weight(path, &node)).expect("it was counted");
        if node.deadline != 0 {
            let place = self.deadlines.remove(&(node.deadline, node.id));
            assert!(place.is_some(), "what has a deadline has a place in their order");
        }
        node
    }

    fn remove_node(&mut self, path: &[u8]) {
        let node = self.forget(path);
        self.writes.push(Write { place: Place::Nodes, key: node.id.to_be_bytes(), value: None });
    }

    fn write_node(&mut self, path: &[u8], node: &Node) {
        let value = Some(record::encode_node(path, node));
        self.writes.push(Write { place: Place::Nodes, key: node.id.to_be_bytes(), value });
    }

    fn write_state(&mut self) {
        self.writes.push(Write { place: Place::Nodes, key: STATE_KEY, value: Some(self.state.encode()) });
    }
}

fn weight(path: &[u8], node: &Node) -> u64 {
    (path.len() + node.value.as_ref().map_or(0, Bytes::len)) as u64 + NODE_BYTES
}
