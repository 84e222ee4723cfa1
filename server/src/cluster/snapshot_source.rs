//! The leader's side of a snapshot: a pinned state of the data file, which followers copy piece by piece.
//!
//! A follower that is too far behind is told which state there is for it and asks for its pieces, as fast as it can
//! take them: so nothing is pushed, and an interrupted copy goes on where it stopped. Pieces are cut in the background
//! queue and so never hold up requests. The log goes on meanwhile, and consensus keeps what follows the pinned state.
//!
//! Layouts (little endian): the announcement's context is `u64 id, u64 bytes`; a question is `u64 id, u64 page`, where
//! page `u64::MAX` says that the copy is given up; a piece is `u64 next page, u8 whether it was the last, u32 KiB per
//! second to copy at (0: as fast as possible)`, and then any number of `u64 offset, u32 length, bytes`.
//!
//! The pace is gentle, so that the log's own writes do not wait behind those of the copy, here or there; but when the
//! log is about to outrun what consensus keeps for the follower, speed is everything: an outdated copy is worth nothing.
//!
//! Invariants: a pin is given back when nobody copies from it any more, or nobody has for `SILENCE`.

use super::Link;
use crate::answer::status;
use crate::home::{Home, HomeStore};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use plinth_engine::pagefile::{Pin, SnapshotCursor};
use plinth_engine::store::meta;
use plinth_engine::trees::{TreeError, TreeId};
use plinth_member::META_CONF_STATE;
use plinth_net::grpc::{Code, Status};
use plinth_net::rt;
use plinth_raft::{ConfState, EntryId, MemberId, SnapshotMeta};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A follower that asks for nothing this long is given up.
const SILENCE: Duration = Duration::from_secs(30);

/// The pace of a copy that has time, in KiB per second.
const GENTLE_KIB: u32 = 32 << 10;

/// From here on a copy has no time, in percent of what consensus keeps of the log.
const URGENT_PERCENT: usize = 50;

/// Bytes of a piece, more or less: some hundred microseconds of work.
const PIECE_BYTES: usize = 256 << 10;

/// In place of a page: the copy is given up.
pub const GIVE_UP: u64 = u64::MAX;

/// A state that followers copy.
struct Pinned {
    id: u64,
    meta: SnapshotMeta,
    pin: Pin,
    cursor: SnapshotCursor,
    /// Who copies, and when they last asked.
    copying: BTreeMap<MemberId, Instant>,
}

/// All snapshots that are being copied: one for each follower at most.
#[derive(Default)]
pub struct Source {
    pinned: RefCell<Vec<Pinned>>,
    wanted: RefCell<Vec<MemberId>>,
    is_pinning: Cell<bool>,
}

/// What the announcement of a snapshot says about its bytes: which it is, and how large its file will be.
pub fn read_context(mut context: &[u8]) -> Option<(u64, u64)> {
    (context.len() == 16).then(|| (context.get_u64_le(), context.get_u64_le()))
}

/// Consensus wants a snapshot for this follower.
pub fn provide(home: &Rc<Home>, link: &Rc<Link>, to: MemberId) {
    link.source.wanted.borrow_mut().push(to);
    if !link.source.is_pinning.replace(true) {
        rt::spawn(pin_for_all(home.clone(), link.clone())).detach();
    }
}

/// Pins states until everybody who waits has one.
async fn pin_for_all(home: Rc<Home>, link: Rc<Link>) {
    loop {
        if link.source.wanted.borrow().is_empty() || home.is_stopping() {
            link.source.is_pinning.set(false);
            return;
        }
        // So that it holds all that was applied until now.
        home.flushed().await;
        for to in std::mem::take(&mut *link.source.wanted.borrow_mut()) {
            match link.source.pin(&home, to) {
                Ok(meta) => {
                    tracing::info!(peer = %to, index = meta.id.index, term = meta.id.term, "sending snapshot");
                    home.state_mut().member.provide_snapshot(to, meta);
                }
                Err(error) => {
                    tracing::error!(peer = %to, %error, "cannot make a snapshot");
                    home.state_mut().member.report_snapshot(to, false);
                }
            }
        }
        home.pump.notify();
    }
}

/// Reads the entry and the configuration that a pinned state ends with.
fn describe(store: &HomeStore, pin: &Pin) -> Result<(EntryId, ConfState), String> {
    let text = |error: TreeError| error.to_string();
    let trees = store.trees();
    let applied = trees.pinned_get(pin, TreeId::Meta, meta::APPLIED).map_err(text)?;
    let id = applied.and_then(plinth_engine::store::EntryId::decode);
    let id = id.ok_or("the data file does not say what is applied")?;
    let conf = trees.pinned_get(pin, TreeId::Meta, META_CONF_STATE).map_err(text)?;
    let conf = conf.ok_or("the data file does not hold the configuration")?;
    let conf = ConfState::decode(conf).map_err(|error| error.to_string())?;
    Ok((EntryId { index: id.index, term: id.term }, conf))
}

impl Source {
    /// Pins the last flushed state for a follower.
    fn pin(&self, home: &Home, to: MemberId) -> Result<SnapshotMeta, String> {
        self.release(home, to);
        let mut state = home.state_mut();
        let store = state.member.store_mut();
        let pin = store.trees_mut().pin();
        let store = state.member.store();
        let described = describe(store, &pin).and_then(|described| {
            let cursor = store.trees().snapshot_start(&pin).map_err(|error| error.to_string())?;
            Ok((described, cursor))
        });
        let ((id, conf), cursor) = match described {
            Ok(described) => described,
            Err(error) => {
                state.member.store_mut().trees_mut().unpin(pin);
                return Err(error);
            }
        };
        let mut context = BytesMut::new();
        let number = home.clock.now().0 << 20 | id.index & 0xf_ffff;
        context.put_u64_le(number);
        context.put_u64_le(store.trees().snapshot_bytes(&pin));
        let meta = SnapshotMeta { id, conf, context: context.freeze() };
        let copying = BTreeMap::from([(to, Instant::now())]);
        self.pinned.borrow_mut().push(Pinned { id: number, meta: meta.clone(), pin, cursor, copying });
        Ok(meta)
    }

    /// A follower does not copy any more.
    fn release(&self, home: &Home, to: MemberId) {
        let mut pinned = self.pinned.borrow_mut();
        pinned.iter_mut().for_each(|pinned| {
            pinned.copying.remove(&to);
        });
        for free in pinned.extract_if(.., |pinned| pinned.copying.is_empty()) {
            home.state_mut().member.store_mut().trees_mut().unpin(free.pin);
        }
    }

    /// The data was replaced by a snapshot from somebody else: the pins are void.
    pub fn clear(&self) {
        self.pinned.borrow_mut().clear();
    }

    /// Gives up those that have been silent for too long.
    pub fn expire(&self, home: &Home, link: &Link) {
        let silent: Vec<MemberId> = {
            let pinned = self.pinned.borrow();
            let silent = pinned.iter().flat_map(|pinned| &pinned.copying);
            silent.filter(|(_, asked)| asked.elapsed() > SILENCE).map(|(to, _)| *to).collect()
        };
        for to in silent {
            link.count(to, |counts| counts.snapshots_failed += 1);
            tracing::warn!(peer = %to, "gave up sending snapshot: the peer has stopped copying it");
            self.release(home, to);
            home.state_mut().member.report_snapshot(to, false);
            home.pump.notify();
        }
    }

    /// Answers a question for a piece.
    pub fn piece(&self, home: &Home, link: &Link, from: MemberId, mut question: &[u8]) -> Result<Bytes, Status> {
        if question.len() != 16 {
            return Err(status::UNKNOWN_QUESTION);
        }
        let (id, page) = (question.get_u64_le(), question.get_u64_le());
        let mut pinned = self.pinned.borrow_mut();
        let known = pinned.iter_mut().find(|pinned| pinned.id == id && pinned.copying.contains_key(&from));
        let Some(known) = known else { return Err(status::SNAPSHOT_GONE) };
        if page == GIVE_UP {
            drop(pinned);
            link.count(from, |counts| counts.snapshots_failed += 1);
            self.release(home, from);
            home.state_mut().member.report_snapshot(from, false);
            home.pump.notify();
            return Ok(Bytes::new());
        }
        known.copying.insert(from, Instant::now());
        let (piece, is_last) =
            cut(home, known, page).map_err(|error| Status::new(Code::DataLoss, error.to_string()))?;
        if is_last {
            link.count(from, |counts| counts.snapshots_sent += 1);
            tracing::info!(peer = %from, index = known.meta.id.index, "sent snapshot");
        }
        Ok(piece)
    }
}

fn cut(home: &Home, pinned: &mut Pinned, page: u64) -> Result<(Bytes, bool), TreeError> {
    let state = home.state();
    pinned.cursor.seek(page as usize);
    let mut piece = BytesMut::with_capacity(PIECE_BYTES + (PIECE_BYTES >> 3));
    piece.put_u64_le(0);
    piece.put_u8(0);
    let is_urgent = state.member.group().snapshot_urgency_percent() >= URGENT_PERCENT;
    piece.put_u32_le(if is_urgent { 0 } else { GENTLE_KIB });
    let trees = state.member.store().trees();
    let more = trees.snapshot_step(&pinned.pin, &mut pinned.cursor, PIECE_BYTES, &mut |offset, bytes| {
        piece.put_u64_le(offset);
        piece.put_u32_le(bytes.len() as u32);
        piece.put_slice(bytes);
    })?;
    piece[..8].copy_from_slice(&(pinned.cursor.position() as u64).to_le_bytes());
    piece[8] = u8::from(!more);
    Ok((piece.freeze(), !more))
}
