//! A node and what is below it, read in steps: a listing may be as large as the tree.
//!
//! The tree goes on to change between the steps. How the nodes were that have changed is kept for each listing under way
//! ([`Kept`]), so that it shows one moment, that of its first step.
//!
//! Invariants: a listing that needs more than one step has a [`Kept`] in the tree until it has ended; that has a bound, and
//! a listing that reaches it fails.

use super::Tree;
use crate::error::{Code, V2Error};
use crate::limits::{LISTING_CHANGES_MAX, LISTINGS_MAX};
use crate::node::{Node, View};
use crate::path;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Nodes as they were when a listing began, of those that have changed since; nothing for one that was not there.
#[derive(Debug)]
pub(super) struct Kept {
    id: u64,
    path: Box<[u8]>,
    was: BTreeMap<Box<[u8]>, Option<Node>>,
    is_full: bool,
}

impl Kept {
    /// The node of this path is about to change.
    pub(super) fn note(&mut self, path: &[u8], node: Option<&Node>) {
        if self.is_full || !path::is_below(path, &self.path) || self.was.contains_key(path) {
            return;
        }
        if self.was.len() < LISTING_CHANGES_MAX {
            self.was.insert(path.into(), node.cloned());
        } else {
            self.is_full = true;
            self.was = BTreeMap::new();
        }
    }
}

/// What a listing is written to: each node is opened before those in it, and closed behind them.
pub(super) trait Sink {
    /// `is_first`: of those in its directory.
    fn open(&mut self, view: &View, is_first: bool);
    fn close(&mut self, view: View, has_nodes: bool);
}

/// A directory that is open.
#[derive(Debug)]
struct Frame {
    view: View,
    /// The least path that may be in it and was not looked at.
    from: Vec<u8>,
    has_nodes: bool,
}

/// A read under way. Whoever drops it before it is done has to [give it up](Tree::give_up).
#[derive(Debug)]
pub struct Listing {
    /// The index of the moment that is shown.
    pub index: u64,
    path: Box<[u8]>,
    recursive: bool,
    now: i64,
    has_begun: bool,
    frames: Vec<Frame>,
    kept: Option<u64>,
}

impl Tree {
    /// Begins to read a node, and what is below it if it is a directory: its children, or all. It is counted as a read.
    ///
    /// # Errors
    /// If it is not there.
    pub fn list(&mut self, path: &[u8], recursive: bool, now: i64) -> Result<Listing, V2Error> {
        let found = self.find(path).map(|_| ());
        self.count_get(recursive, found.is_ok());
        found.map(|()| self.listing(path, recursive, now))
    }

    pub(super) fn listing(&self, path: &[u8], recursive: bool, now: i64) -> Listing {
        let (index, now) = (self.index(), now.max(self.time()));
        Listing { index, path: path.into(), recursive, now, has_begun: false, frames: Vec::new(), kept: None }
    }

    /// Appends the JSON of `nodes` more nodes, at most; whether that was all.
    ///
    /// # Errors
    /// If too many are under way, or too much has changed meanwhile. It is over then.
    pub fn list_some(&mut self, listing: &mut Listing, nodes: usize, out: &mut Vec<u8>) -> Result<bool, V2Error> {
        if !listing.has_begun {
            out.extend_from_slice(b"{\"action\":\"get\",\"node\":");
        }
        if !self.walk(listing, nodes, &mut Json(out))? {
            return Ok(false);
        }
        out.extend_from_slice(b"}\n");
        self.give_up(listing);
        Ok(true)
    }

    fn walk(&mut self, listing: &mut Listing, nodes: usize, sink: &mut impl Sink) -> Result<bool, V2Error> {
        if listing.kept.is_none() && listing.has_begun {
            return Err(listing.refused("a listing that was given up"));
        }
        let is_done = self.walk_some(listing, nodes, sink)?;
        if !is_done && listing.kept.is_none() {
            // Nothing has changed since it began: no step is over yet.
            if self.listings.len() == LISTINGS_MAX {
                return Err(listing.refused("too many long listings at a time"));
            }
            let id = self.next_listing;
            self.next_listing += 1;
            let before = Kept { id, path: listing.path.clone(), was: BTreeMap::new(), is_full: false };
            self.listings.push(before);
            listing.kept = Some(id);
        }
        Ok(is_done)
    }

    /// Writes so many nodes to a sink, or what is left; whether that was all.
    pub(super) fn walk_some(&self, listing: &mut Listing, nodes: usize, sink: &mut impl Sink) -> Result<bool, V2Error> {
        let before = match listing.kept {
            None => None,
            Some(id) => match self.listings.iter().find(|before| before.id == id) {
                Some(before) if !before.is_full => Some(before),
                _ => return Err(listing.refused("too much has changed during a listing")),
            },
        };
        let mut left = nodes;
        if !std::mem::replace(&mut listing.has_begun, true) {
            let view = View::of(&listing.path, self.find(&listing.path)?, listing.now);
            sink.open(&view, true);
            listing.enter(view, true, sink);
        }
        while let Some(frame) = listing.frames.last_mut() {
            if left == 0 {
                return Ok(false);
            }
            left -= 1;
            match self.next_in(frame, before, listing.now, &mut left) {
                Found::Node(view) => {
                    sink.open(&view, !std::mem::replace(&mut frame.has_nodes, true));
                    let recursive = listing.recursive;
                    listing.enter(view, recursive, sink);
                }
                Found::Nothing => {
                    let Frame { view, has_nodes, .. } = listing.frames.pop().expect("it was looked at");
                    sink.close(view, has_nodes);
                }
                Found::Later => {}
            }
        }
        Ok(true)
    }

    /// The next node in an open directory, as it was when the listing began.
    fn next_in(&self, frame: &mut Frame, before: Option<&Kept>, now: i64, left: &mut usize) -> Found {
        let directory = &frame.view.key;
        let end = [directory, &b"0"[..]].concat();
        loop {
            let range = (Bound::Included(&frame.from[..]), Bound::Excluded(&end[..]));
            let here = self.nodes.range::<[u8], _>(range).next().map(|(path, node)| (path, Some(node)));
            let was = before.and_then(|before| before.was.range::<[u8], _>(range).next());
            let was = was.map(|(path, node)| (path, node.as_ref()));
            let Some((path, node)) = was.into_iter().chain(here).min_by(|(a, _), (b, _)| a.cmp(b)) else {
                return Found::Nothing;
            };
            // Behind a child lie siblings (names may have bytes before `/`), and what is below it, which is passed over.
            let name = &path[directory.len() + 1..];
            let nested = name.iter().position(|byte| *byte == b'/');
            let seen = nested.map_or(path.len(), |at| directory.len() + 1 + at);
            frame.from.clear();
            frame.from.extend_from_slice(&path[..seen]);
            frame.from.push(if nested.is_some() { b'0' } else { 0 });
            if let Some(node) = node.filter(|_| nested.is_none() && !path::is_hidden(path)) {
                return Found::Node(View::of(path, node, now));
            }
            match left.checked_sub(1) {
                Some(less) => *left = less,
                None => return Found::Later,
            }
        }
    }

    /// Nobody reads it any longer.
    pub fn give_up(&mut self, listing: &mut Listing) {
        if let Some(id) = listing.kept.take() {
            self.listings.retain(|before| before.id != id);
        }
    }
}

enum Found {
    Node(View),
    /// There are no more.
    Nothing,
    /// The step is over before one was found.
    Later,
}

impl Listing {
    /// A node was opened: what is in it comes next, if that is asked for.
    fn enter(&mut self, view: View, shows_nodes: bool, sink: &mut impl Sink) {
        if view.dir && shows_nodes {
            let from = [&view.key, &b"/"[..]].concat();
            self.frames.push(Frame { view, from, has_nodes: false });
        } else {
            sink.close(view, false);
        }
    }

    fn refused(&self, why: &str) -> V2Error {
        V2Error::new(Code::RaftInternal, why, self.index)
    }
}

/// JSON, as it is written.
struct Json<'a>(&'a mut Vec<u8>);

impl Sink for Json<'_> {
    fn open(&mut self, view: &View, is_first: bool) {
        let Json(out) = self;
        match (is_first, out.last()) {
            // The node that was asked for.
            (_, Some(b':')) => {}
            (true, _) => View::begin_nodes(out),
            (false, _) => out.push(b','),
        }
        view.write_json_head(out);
    }

    fn close(&mut self, view: View, has_nodes: bool) {
        let Json(out) = self;
        if has_nodes {
            out.push(b']');
        }
        view.write_json_tail(out);
    }
}

/// All of it in memory.
#[derive(Default)]
pub(super) struct Views {
    open: Vec<Vec<View>>,
    pub(super) top: Option<View>,
}

impl Sink for Views {
    fn open(&mut self, _view: &View, _is_first: bool) {
        self.open.push(Vec::new());
    }

    fn close(&mut self, view: View, _has_nodes: bool) {
        let nodes = self.open.pop().expect("it was opened");
        let view = View { nodes, ..view };
        match self.open.last_mut() {
            Some(siblings) => siblings.push(view),
            None => self.top = Some(view),
        }
    }
}
