//! The two passes over a pinned state: planning the file, and writing it.

use super::small::{self, Entries};
use plinth_bbolt::check::Checksum;
use plinth_bbolt::copy::Target;
use plinth_bbolt::schema::{BUCKETS, V2_BUCKETS};
use plinth_bbolt::{Layout, Plan, Sink, Writer};
use plinth_engine::error::StoreError;
use plinth_engine::trees::{TreeError, TreeId, View};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Transaction of the files written: the two before made their metas.
const TXID: u64 = 2;

/// A store could not be written as an etcd database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The state could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A record in it is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A small record in it is damaged.
    #[error("stored {what} does not decode")]
    Record { what: &'static str },
    /// The file could not be made.
    #[error(transparent)]
    File(#[from] plinth_bbolt::Error),
}

/// What goes into the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// All that a member has: the v2 store, if it is used, in buckets of its own.
    Whole,
    /// What an etcd has a use for.
    WithoutV2,
}

/// How far a pass has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// There is more to do.
    More,
    /// That was all.
    Done,
}

/// An export under way. Every call must see the same pinned state.
pub struct Export<K: Sink> {
    small: BTreeMap<&'static str, Entries>,
    names: Vec<&'static str>,
    place: Place,
    phase: Phase<K>,
}

enum Phase<K: Sink> {
    Planning(Plan),
    Planned(Layout),
    Writing(Summed<K>),
    Over,
}

/// Where a pass goes on: in this bucket, above this key.
#[derive(Default)]
struct Place {
    bucket: usize,
    is_open: bool,
    after: Vec<u8>,
}

/// A file being written, and what `snapshot status` will tell of it.
struct Summed<K: Sink> {
    writer: Writer<K>,
    sum: Checksum,
    is_history: bool,
    revision: i64,
}

impl<K: Sink> Target for Summed<K> {
    fn bucket(&mut self, name: &[u8]) -> Result<(), plinth_bbolt::Error> {
        self.sum.bucket(name);
        self.is_history = name == b"key";
        self.writer.bucket(name)
    }

    fn entry(&mut self, key: &[u8], value: &[u8]) -> Result<(), plinth_bbolt::Error> {
        self.sum.entry(key, value);
        if self.is_history {
            self.revision = key.first_chunk().map_or(self.revision, |main| i64::from_be_bytes(*main));
        }
        self.writer.entry(key, value)
    }
}

impl<K: Sink> Export<K> {
    /// Begins with the plan. `version` is the release whose schema the file has, as `3.7.0`.
    pub fn new(view: &impl View, version: &str, content: Content) -> Result<Self, ExportError> {
        let mut names = BUCKETS.to_vec();
        let mut has_v2 = false;
        view.walk(TreeId::V2, &[], &mut |_, _| {
            has_v2 = true;
            ControlFlow::Break(())
        })?;
        if has_v2 && content == Content::Whole {
            names.extend(V2_BUCKETS);
        }
        Ok(Export {
            names,
            small: small::translate(view, version)?,
            place: Place::default(),
            phase: Phase::Planning(Plan::new()),
        })
    }

    /// Length of the file in bytes, once [`Export::plan`] is done.
    pub fn file_bytes(&self) -> Option<u64> {
        match &self.phase {
            Phase::Planned(layout) => Some(layout.file_bytes()),
            _ => None,
        }
    }

    /// Plans about `entries` more entries.
    pub fn plan(&mut self, view: &impl View, entries: usize) -> Result<Progress, ExportError> {
        let Phase::Planning(plan) = &mut self.phase else { panic!("a plan is made once") };
        let progress = pass(&mut self.place, (&self.names, &self.small), view, entries, u64::MAX, plan)?;
        if progress == Progress::Done
            && let Phase::Planning(plan) = std::mem::replace(&mut self.phase, Phase::Over)
        {
            self.phase = Phase::Planned(plan.finish()?);
        }
        Ok(progress)
    }

    /// Begins to write what was planned to `sink`.
    pub fn begin(&mut self, sink: K) -> Result<(), ExportError> {
        let Phase::Planned(layout) = self.phase else { panic!("a file is planned before it is written") };
        self.place = Place::default();
        self.phase = Phase::Writing(Summed {
            writer: Writer::new(sink, layout, TXID)?,
            sum: Checksum::default(),
            is_history: false,
            revision: 1,
        });
        Ok(())
    }

    /// Where the bytes go, between two steps.
    pub fn sink_mut(&mut self) -> &mut K {
        let Phase::Writing(target) = &mut self.phase else { panic!("there is a sink while the file is written") };
        target.writer.sink_mut()
    }

    /// Writes about `bytes` more bytes of entries, in at most `entries` entries.
    pub fn write(&mut self, view: &impl View, entries: usize, bytes: u64) -> Result<Progress, ExportError> {
        let Phase::Writing(target) = &mut self.phase else { panic!("writing has begun") };
        pass(&mut self.place, (&self.names, &self.small), view, entries, bytes, target)
    }

    /// Checksum of what was written so far, and its newest revision, as `snapshot status` tells them of a whole file.
    pub fn written(&self) -> (u32, i64) {
        let Phase::Writing(target) = &self.phase else { panic!("writing has begun") };
        (target.sum.get(), target.revision)
    }

    /// Writes what is left when [`Export::write`] is done; the sink.
    pub fn finish(self) -> Result<K, ExportError> {
        let Phase::Writing(target) = self.phase else { panic!("writing has begun") };
        Ok(target.writer.finish()?)
    }
}

/// The tree that is copied as a bucket, if it is one of those.
fn tree_of(bucket: &str) -> Option<TreeId> {
    match bucket {
        "key" => Some(TreeId::Rev),
        "lease" => Some(TreeId::Lease),
        _ if bucket == V2_BUCKETS[0] => Some(TreeId::V2),
        _ if bucket == V2_BUCKETS[1] => Some(TreeId::V2Events),
        _ => None,
    }
}

/// Goes on with a pass until a budget is used up.
fn pass(
    place: &mut Place,
    (names, small): (&[&'static str], &BTreeMap<&'static str, Entries>),
    view: &impl View,
    mut entries: usize,
    mut bytes: u64,
    target: &mut impl Target,
) -> Result<Progress, ExportError> {
    while let Some(&name) = names.get(place.bucket) {
        if !std::mem::replace(&mut place.is_open, true) {
            target.bucket(name.as_bytes())?;
            place.after.clear();
        }
        match tree_of(name) {
            None => small[name].iter().try_for_each(|(key, value)| target.entry(key, value))?,
            Some(tree) => {
                if copy(&mut place.after, tree, view, &mut entries, &mut bytes, target)? == Progress::More {
                    return Ok(Progress::More);
                }
            }
        }
        *place = Place { bucket: place.bucket + 1, ..Place::default() };
    }
    Ok(Progress::Done)
}

/// Copies entries of a tree above `after` until a budget is used up.
fn copy(
    after: &mut Vec<u8>,
    tree: TreeId,
    view: &impl View,
    entries: &mut usize,
    bytes: &mut u64,
    target: &mut impl Target,
) -> Result<Progress, ExportError> {
    let mut from = after.clone();
    if !from.is_empty() {
        // The least key above it.
        from.push(0);
    }
    let mut failed = None;
    let mut progress = Progress::Done;
    view.walk(tree, &from, &mut |key, value| {
        if *entries == 0 || *bytes == 0 {
            progress = Progress::More;
            return ControlFlow::Break(());
        }
        *entries -= 1;
        *bytes = bytes.saturating_sub((key.len() + value.len()) as u64);
        if let Err(error) = target.entry(key, value) {
            failed = Some(error);
            return ControlFlow::Break(());
        }
        after.clear();
        after.extend_from_slice(key);
        ControlFlow::Continue(())
    })?;
    failed.map_or(Ok(progress), |error| Err(error.into()))
}
