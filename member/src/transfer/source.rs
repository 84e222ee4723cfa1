//! The leader's side: what is pinned for whom, and the pieces of it.
//!
//! The pace is gentle, so that the log's own writes do not wait behind those of the copy, here or there. While nobody writes it
//! is a brisk one; and when the log is about to outrun what consensus keeps for the follower, speed is everything: an outdated
//! copy is worth nothing.
//!
//! Invariants: one snapshot for each follower at most; a pin is given back when nobody copies from it any more, when nobody
//! has for [`SILENCE_MILLIS`], or when this member does not lead any more; a follower that waits and does not ask is told again
//! within [`AGAIN_MILLIS`].

use super::{GIVE_UP, write_pair};
use crate::member::{META_CONF_STATE, Member};
use crate::planted::{Planted, is_planted};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use plinth_engine::lease::Millis;
use plinth_engine::pagefile::{PageFile, PageStore, Pin, SnapshotCursor};
use plinth_engine::store::{self, Store, meta};
use plinth_engine::trees::{TreeError, TreeId};
use plinth_raft::{ConfState, EntryId, MemberId, PeerState, SnapshotMeta};
use std::collections::BTreeMap;

/// A follower that asks for nothing this long is given up.
const SILENCE_MILLIS: u64 = 30_000;

/// A follower that waits, and asks for nothing this long, is told again: it may have gone down, or have heard nothing.
const AGAIN_MILLIS: u64 = 800;

/// The pace of a copy that has time beside those who write, in KiB per second.
const GENTLE_KIB: u32 = 32 << 10;

/// The pace of a copy while nobody writes: what is left is for those who read.
const BRISK_KIB: u32 = 128 << 10;

/// From here on a copy has no time, in percent of what consensus keeps of the log.
const URGENT_PERCENT: usize = 50;

/// A state that followers copy.
struct Offered {
    number: u64,
    meta: SnapshotMeta,
    pin: Pin,
    cursor: SnapshotCursor,
    copying: BTreeMap<MemberId, Copying>,
}

/// How far a follower is.
struct Copying {
    /// When it last asked.
    asked: Millis,
    /// When it was last told of the snapshot.
    told: Millis,
    /// Where the log ended then.
    last_index: u64,
    /// It was sent the last piece.
    has_all: bool,
}

/// What has become of a follower's copy, for counts and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It has all pieces.
    Sent,
    /// It has given up.
    GivenUp,
    /// It was told again.
    ToldAgain,
    /// It has been silent for too long.
    Silent,
}

/// Why there is no piece.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is not a question.
    #[error("a malformed question for a piece of a snapshot")]
    Malformed,
    /// There is no such snapshot for this follower any more.
    #[error("there is no such snapshot any more")]
    Gone,
    /// The data file cannot be read.
    #[error(transparent)]
    Data(#[from] TreeError),
}

/// See the module.
pub struct Source {
    offered: Vec<Offered>,
    last_number: u64,
    /// Bytes of a piece, more or less.
    piece_bytes: usize,
}

impl Source {
    /// One that sends pieces of about so many bytes.
    pub fn new(piece_bytes: usize) -> Source {
        Source { offered: Vec::new(), last_number: 0, piece_bytes }
    }

    /// Pins the last complete state for a follower, and has consensus announce it, or say that there is none. Its last entry.
    pub fn offer<S: PageStore, W>(
        &mut self,
        member: &mut Member<PageFile<S>, W>,
        to: MemberId,
        now: Millis,
    ) -> Result<EntryId, String> {
        self.release(member, to);
        let pin = member.store_mut().trees_mut().pin();
        let described = describe(member.store(), &pin).and_then(|described| {
            let cursor = member.store().trees().snapshot_start(&pin).map_err(|error| error.to_string())?;
            Ok((described, cursor))
        });
        let ((id, conf), cursor) = match described {
            Ok(described) => described,
            Err(error) => {
                member.store_mut().trees_mut().unpin(pin);
                member.report_snapshot(to, false);
                return Err(error);
            }
        };
        // Told apart from those of other lives and other members.
        self.last_number = (self.last_number + 1).max(now.0 << 20 | id.index & 0xf_ffff);
        let number = self.last_number;
        assert!(self.offered.iter().all(|offered| offered.number < number), "a follower could copy two states as one");
        let context = write_pair(number, member.store().trees().snapshot_bytes(&pin));
        let meta = SnapshotMeta { id, conf, context };
        let last_index = member.group().last_index();
        let copying = BTreeMap::from([(to, Copying { asked: now, told: now, last_index, has_all: false })]);
        self.offered.push(Offered { number, meta: meta.clone(), pin, cursor, copying });
        member.provide_snapshot(to, meta);
        Ok(id)
    }

    /// Answers a question for a piece, or takes notice that a copy is given up.
    pub fn answer<S: PageStore, W>(
        &mut self,
        member: &mut Member<PageFile<S>, W>,
        from: MemberId,
        mut question: &[u8],
        now: Millis,
    ) -> Result<(Bytes, Option<News>), Refused> {
        if question.len() != 16 {
            return Err(Refused::Malformed);
        }
        let (number, page) = (question.get_u64_le(), question.get_u64_le());
        let known = self.offered.iter_mut().find(|offered| offered.number == number);
        let Some(offered) = known.filter(|offered| offered.copying.contains_key(&from)) else {
            return Err(Refused::Gone);
        };
        if page == GIVE_UP {
            self.release(member, from);
            member.report_snapshot(from, false);
            return Ok((Bytes::new(), Some(News::GivenUp)));
        }
        let last_index = member.group().last_index();
        let is_quiet = offered.copying.get(&from).is_some_and(|copying| copying.last_index == last_index);
        let pace_kib = pace_kib(member.group().snapshot_urgency_percent(), is_quiet);
        let (piece, is_last) = cut(member.store(), offered, page, pace_kib, self.piece_bytes)?;
        let copying = Copying { asked: now, told: now, last_index, has_all: is_last };
        offered.copying.insert(from, copying);
        Ok((piece, is_last.then_some(News::Sent)))
    }

    /// Tells those again that have been silent, gives those up that have been for too long, and forgets who is done. To be
    /// called some times a second.
    pub fn look_after<S: PageStore, W>(
        &mut self,
        member: &mut Member<PageFile<S>, W>,
        now: Millis,
    ) -> Vec<(MemberId, News)> {
        if self.offered.is_empty() {
            return Vec::new();
        }
        let (leads, status) = (member.is_leader(), member.group().status());
        let waits = |to: MemberId| status.peers.iter().any(|p| p.member == to && p.state == PeerState::Snapshot);
        let (mut over, mut news) = (Vec::new(), Vec::new());
        for offered in &mut self.offered {
            for (&to, copying) in &mut offered.copying {
                let (asked, told) = (now.0.saturating_sub(copying.asked.0), now.0.saturating_sub(copying.told.0));
                if !leads || copying.has_all && !waits(to) {
                    over.push(to);
                } else if asked > SILENCE_MILLIS {
                    over.push(to);
                    news.push((to, News::Silent));
                } else if waits(to) && asked.min(told) > AGAIN_MILLIS && !is_planted(Planted::SnapshotsToldOnce) {
                    copying.told = now;
                    member.announce_snapshot_again(to, offered.meta.clone());
                    news.push((to, News::ToldAgain));
                }
            }
        }
        over.into_iter().for_each(|to| self.release(member, to));
        for (to, _) in news.iter().filter(|(_, news)| *news == News::Silent) {
            member.report_snapshot(*to, false);
        }
        news
    }

    /// The data was replaced by a snapshot from somebody else: the pins are void.
    pub fn clear(&mut self) {
        self.offered.clear();
    }

    /// How many are offered.
    pub fn len(&self) -> usize {
        self.offered.len()
    }

    /// Whether none is offered.
    pub fn is_empty(&self) -> bool {
        self.offered.is_empty()
    }

    /// A follower does not copy any more.
    fn release<S: PageStore, W>(&mut self, member: &mut Member<PageFile<S>, W>, to: MemberId) {
        for offered in &mut self.offered {
            offered.copying.remove(&to);
        }
        for free in self.offered.extract_if(.., |offered| offered.copying.is_empty()) {
            member.store_mut().trees_mut().unpin(free.pin);
        }
    }
}

/// Reads the entry and the configuration that a pinned state ends with.
fn describe<S: PageStore>(store: &Store<PageFile<S>>, pin: &Pin) -> Result<(EntryId, ConfState), String> {
    let text = |error: TreeError| error.to_string();
    let trees = store.trees();
    let applied = trees.pinned_get(pin, TreeId::Meta, meta::APPLIED).map_err(text)?;
    let id = applied.and_then(store::EntryId::decode).ok_or("the data file does not say what is applied")?;
    let id = if is_planted(Planted::SnapshotMislabelled) { store.applied() } else { id };
    let conf = trees.pinned_get(pin, TreeId::Meta, META_CONF_STATE).map_err(text)?;
    let conf = conf.ok_or("the data file does not hold the configuration")?;
    let conf = ConfState::decode(conf).map_err(|error| error.to_string())?;
    Ok((EntryId { index: id.index, term: id.term }, conf))
}

/// How fast a copy goes on: KiB per second, 0 for as fast as it can. `is_quiet`: nobody has written since its last piece.
fn pace_kib(urgency_percent: usize, is_quiet: bool) -> u32 {
    match urgency_percent {
        URGENT_PERCENT.. => 0,
        _ if is_quiet => BRISK_KIB,
        _ => GENTLE_KIB,
    }
}

/// The piece that begins with a page, and whether it is the last one.
fn cut<S: PageStore>(
    store: &Store<PageFile<S>>,
    offered: &mut Offered,
    page: u64,
    pace_kib: u32,
    bytes: usize,
) -> Result<(Bytes, bool), TreeError> {
    offered.cursor.seek(usize::try_from(page).unwrap_or(usize::MAX));
    let begin = offered.cursor.position();
    let mut piece = BytesMut::with_capacity(bytes + (bytes >> 3));
    piece.put_u64_le(0);
    piece.put_u8(0);
    piece.put_u32_le(pace_kib);
    let more = store.trees().snapshot_step(&offered.pin, &mut offered.cursor, bytes, &mut |offset, bytes| {
        piece.put_u64_le(offset);
        piece.put_u32_le(bytes.len() as u32);
        piece.put_slice(bytes);
    })?;
    assert!(offered.cursor.position() >= begin, "a copy goes forward, or it never ends");
    piece[..8].copy_from_slice(&(offered.cursor.position() as u64).to_le_bytes());
    piece[8] = u8::from(!more);
    Ok((piece.freeze(), !more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_gentle_beside_writes_alone() {
        assert_eq!(pace_kib(0, true), BRISK_KIB);
        assert_eq!(pace_kib(URGENT_PERCENT - 1, false), GENTLE_KIB);
        assert_eq!((pace_kib(URGENT_PERCENT, true), pace_kib(100, false)), (0, 0));
    }
}
