//! The follower's side: which snapshot is copied, how far it is, and what is to be done next.
//!
//! The shell asks for [`Step`]s, carries each out, and says what came of it. What it says of a copy that another one has taken
//! the place of is ignored.
//!
//! Invariants: one copy at a time, of the newest announcement; one thing under way at a time; a piece is written whole or the
//! copy is dropped; consensus is offered only what is durable, opened, and of the entry that was announced.

use super::{GIVE_UP, read_context, write_pair};
use crate::log::Log;
use crate::member::Member;
use crate::planted::{Planted, is_planted};
use bytes::{Buf, Bytes};
use plinth_engine::lease::Millis;
use plinth_engine::trees::Trees;
use plinth_raft::{EntryId, MemberId, PeerBody, PeerMessage};
use plinth_wal::Disk;
use std::collections::VecDeque;

/// Without any piece for this long a copy is given up.
const SILENCE_MILLIS: u64 = 20_000;

/// Pause before a question is repeated.
const RETRY_MILLIS: u64 = 200;

/// After a copy that could not be written down none is begun for this long: the next would fare no better.
const REST_MILLIS: u64 = 3_000;

/// How long consensus may take to become ready for a snapshot.
const OFFER_MILLIS: u64 = 20_000;

/// How often it is looked whether it is.
const LOOK_MILLIS: u64 = 5;

/// Bytes written before it is waited until they are on the device, which the log's writes share.
const WRITE_BACK_BYTES: usize = 1 << 20;

/// Bytes in front of the parts of a piece, and in front of each part.
const PIECE_HEAD_BYTES: usize = 13;
const PART_HEAD_BYTES: usize = 12;

/// Why a copy was dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Another one takes its place.
    #[error("a newer snapshot was announced")]
    Superseded,
    /// The leader does not have it.
    #[error("the leader says: {0}")]
    Refused(String),
    /// The leader cannot be reached.
    #[error("the leader does not answer")]
    Silent,
    /// The leader sent nonsense.
    #[error("a piece is malformed")]
    Malformed,
    /// It could not be written or opened.
    #[error("{0}")]
    Io(String),
    /// It is not what was announced.
    #[error("the copy is of entry {found}, but entry {announced} was announced")]
    Wrong {
        /// The last entry that was announced.
        announced: u64,
        /// The last entry that it has.
        found: u64,
    },
    /// Consensus had something else to do.
    #[error("consensus did not become ready for it")]
    NotReady,
    /// Consensus has something newer.
    #[error("consensus has no use for it")]
    NotTaken,
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The leader refuses it.
    Refused(String),
    /// Question or answer were lost.
    Unanswered,
}

/// Parts of a file, checked.
#[derive(Clone, Debug)]
pub struct Piece {
    parts: Bytes,
}

impl Iterator for Piece {
    /// Where to write what.
    type Item = (u64, Bytes);

    fn next(&mut self) -> Option<(u64, Bytes)> {
        if self.parts.is_empty() {
            return None;
        }
        let offset = self.parts.get_u64_le();
        let length = self.parts.get_u32_le() as usize;
        Some((offset, self.parts.split_to(length)))
    }
}

/// What a piece says in front of its parts.
struct Head {
    next_page: u64,
    is_last: bool,
    /// KiB per second to go on at; 0: as fast as possible.
    pace: u64,
}

fn parse(mut piece: Bytes) -> Option<(Head, Piece)> {
    if piece.len() < PIECE_HEAD_BYTES {
        return None;
    }
    let (next_page, is_last, pace) = (piece.get_u64_le(), piece.get_u8() == 1, u64::from(piece.get_u32_le()));
    let mut at = 0;
    while at < piece.len() {
        let head = piece.get(at..at + PART_HEAD_BYTES)?;
        let length = u32::from_le_bytes(head[8..].try_into().expect("four bytes")) as usize;
        at += PART_HEAD_BYTES + length;
    }
    (at == piece.len()).then_some((Head { next_page, is_last, pace }, Piece { parts: piece }))
}

/// What is to be done next.
#[derive(Clone, Debug)]
pub enum Step {
    /// Make an empty file, and say [`Fetch::written`].
    Begin {
        number: u64,
        /// How large the file will be, about.
        bytes: u64,
    },
    /// Ask the leader for a piece, and say [`Fetch::answered`].
    Ask {
        number: u64,
        /// From which page on.
        page: u64,
        to: MemberId,
        question: Bytes,
    },
    /// Write these parts, durably if they are the last, and say [`Fetch::written`].
    Write {
        number: u64,
        piece: Piece,
        /// Get everything so far on its way to the device.
        writes_back: bool,
        /// Nothing follows: sync.
        is_last: bool,
    },
    /// Open the file, and say [`Fetch::opened`].
    Open { number: u64 },
    /// Offer what was opened to consensus at once, and say [`Fetch::offered`].
    Offer { number: u64, message: PeerMessage },
    /// Nothing before this moment.
    Wait {
        /// When to ask for the next step.
        until: Millis,
    },
    /// The copy is over: forget its file.
    Drop {
        number: u64,
        /// Who had it.
        from: MemberId,
        /// Its last entry.
        index: u64,
        why: FetchError,
    },
    /// Tell a leader that its snapshot is not copied. No answer is needed: it loses patience by itself.
    GiveUp {
        to: MemberId,
        /// What to send it, as a question.
        question: Bytes,
    },
}

#[derive(Clone, Debug)]
enum Stage {
    /// There is no file yet.
    New,
    /// The next piece may be asked for from then on.
    Next(Millis),
    /// A question is on its way since then.
    Asked(Millis),
    /// A piece waits to be written.
    Arrived { piece: Piece, is_last: bool, then: Millis },
    /// Something is being written; the next piece may be asked for from then on, unless it was the last.
    Writing { is_last: bool, then: Millis },
    /// It is to be opened.
    Whole,
    /// It is being opened.
    Opening,
    /// It waits for consensus since then.
    Ready(Millis),
    /// It is being offered.
    Offering,
}

#[derive(Debug)]
struct Copy {
    message: PeerMessage,
    id: EntryId,
    number: u64,
    bytes: u64,
    page: u64,
    stage: Stage,
    /// When the last piece came, or it began.
    heard: Millis,
    unwritten: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Fetch {
    current: Option<Copy>,
    /// What is left to do of earlier copies.
    rests: VecDeque<Step>,
    /// None is begun before.
    rests_until: Option<Millis>,
}

impl Fetch {
    /// Whether there is nothing to do before the next announcement.
    pub fn is_idle(&self) -> bool {
        self.current.is_none() && self.rests.is_empty()
    }

    /// The leader has a snapshot for this member. The bytes of its file, if a copy of it begins.
    pub fn announced<D: Disk, T: Trees, W>(
        &mut self,
        member: &Member<T, W>,
        log: &Log<D>,
        message: PeerMessage,
        now: Millis,
    ) -> Option<u64> {
        let PeerBody::Snapshot(meta) = &message.body else { return None };
        let (number, bytes) = read_context(&meta.context)?;
        let (id, from) = (meta.id, message.from);
        if message.term < member.group().term() || self.is_current(from, number) {
            return None;
        }
        if id.index <= member.group().commit() {
            self.rests.push_back(Step::GiveUp { to: from, question: write_pair(number, GIVE_UP) });
            return None;
        }
        // Without room it could not be written down: it will be told again.
        if !member.has_space(log) || self.rests_until.is_some_and(|until| now < until) {
            return None;
        }
        self.end(FetchError::Superseded);
        let stage = Stage::New;
        assert!(self.current.is_none(), "one copy at a time");
        self.current = Some(Copy { message, id, number, bytes, page: 0, stage, heard: now, unwritten: 0 });
        Some(bytes)
    }

    /// What is to be done next, if anything; `may_install`: whether the data is not being written just now.
    pub fn step<T: Trees, W>(&mut self, member: &Member<T, W>, may_install: bool, now: Millis) -> Option<Step> {
        if let Some(rest) = self.rests.pop_front() {
            return Some(rest);
        }
        let copy = self.current.as_mut()?;
        let (number, from) = (copy.number, copy.message.from);
        let wait = |millis: u64| Step::Wait { until: Millis(now.0 + millis) };
        let stage = std::mem::replace(&mut copy.stage, Stage::Offering);
        let (stage, step) = match stage {
            Stage::New => (Stage::Writing { is_last: false, then: now }, Step::Begin { number, bytes: copy.bytes }),
            Stage::Next(at) if at > now => (Stage::Next(at), Step::Wait { until: at }),
            Stage::Next(_) => {
                let question = write_pair(number, copy.page);
                (Stage::Asked(now), Step::Ask { number, page: copy.page, to: from, question })
            }
            Stage::Arrived { piece, is_last, then } => {
                let writes_back = copy.unwritten >= WRITE_BACK_BYTES;
                copy.unwritten = if writes_back { 0 } else { copy.unwritten };
                (Stage::Writing { is_last, then }, Step::Write { number, piece, writes_back, is_last })
            }
            Stage::Whole => (Stage::Opening, Step::Open { number }),
            Stage::Ready(_) if may_install && member.may_install(copy.message.term) => {
                (Stage::Offering, Step::Offer { number, message: copy.message.clone() })
            }
            Stage::Ready(since) if now.0 < since.0 + OFFER_MILLIS => (Stage::Ready(since), wait(LOOK_MILLIS)),
            Stage::Ready(_) => {
                self.give_up(FetchError::NotReady);
                return self.rests.pop_front();
            }
            // The shell will say what has come of it.
            under_way => {
                copy.stage = under_way;
                return None;
            }
        };
        copy.stage = stage;
        Some(step)
    }

    /// The leader has answered a question, or will not.
    pub fn answered(&mut self, number: u64, page: u64, answer: Result<Bytes, Lost>, now: Millis) {
        let Some(copy) = self.copy(number) else { return };
        let Stage::Asked(since) = copy.stage else { return };
        if copy.page != page {
            return;
        }
        match answer.map(parse) {
            Ok(Some((head, piece))) => {
                let bytes = piece.parts.len() as u64;
                let millis = (bytes * 1000).checked_div(head.pace << 10).unwrap_or(0);
                (copy.page, copy.heard) = (head.next_page, now);
                copy.unwritten += bytes as usize;
                copy.stage = Stage::Arrived { piece, is_last: head.is_last, then: Millis(since.0 + millis) };
            }
            Ok(None) => self.give_up(FetchError::Malformed),
            Err(Lost::Refused(why)) => self.end(FetchError::Refused(why)),
            Err(Lost::Unanswered) if now.0 >= copy.heard.0 + SILENCE_MILLIS => self.give_up(FetchError::Silent),
            Err(Lost::Unanswered) => copy.stage = Stage::Next(Millis(now.0 + RETRY_MILLIS)),
        }
    }

    /// What was to be written is, or cannot be.
    pub fn written(&mut self, number: u64, result: Result<(), String>, now: Millis) {
        let Some(copy) = self.copy(number) else { return };
        let Stage::Writing { is_last, then } = copy.stage else { return };
        match result {
            Ok(()) => copy.stage = if is_last { Stage::Whole } else { Stage::Next(then) },
            Err(error) => {
                self.rests_until = Some(Millis(now.0 + REST_MILLIS));
                self.end(FetchError::Io(error));
            }
        }
    }

    /// The file holds the state after this entry, or cannot be opened.
    pub fn opened(&mut self, number: u64, result: Result<EntryId, String>, now: Millis) {
        let Some(copy) = self.copy(number) else { return };
        let Stage::Opening = copy.stage else { return };
        match result {
            Ok(id) if id == copy.id || is_planted(Planted::SnapshotMislabelled) => copy.stage = Stage::Ready(now),
            Ok(id) => {
                let wrong = FetchError::Wrong { announced: copy.id.index, found: id.index };
                self.give_up(wrong);
            }
            Err(error) => self.give_up(FetchError::Io(error)),
        }
    }

    /// Consensus has taken the snapshot, whose file is in its place, or not.
    pub fn offered(&mut self, number: u64, is_taken: bool) {
        match is_taken {
            true => self.current.take_if(|copy| copy.number == number).map_or((), |_| ()),
            false if self.copy(number).is_some() => self.give_up(FetchError::NotTaken),
            false => {}
        }
    }

    /// Which copy is under way, of whom, and its last entry.
    pub fn current(&self) -> Option<(u64, MemberId, u64)> {
        self.current.as_ref().map(|copy| (copy.number, copy.message.from, copy.id.index))
    }

    fn copy(&mut self, number: u64) -> Option<&mut Copy> {
        self.current.as_mut().filter(|copy| copy.number == number)
    }

    fn is_current(&self, from: MemberId, number: u64) -> bool {
        self.current.as_ref().is_some_and(|copy| copy.message.from == from && copy.number == number)
    }

    /// Drops the copy, if there is one.
    fn end(&mut self, why: FetchError) {
        if let Some(copy) = self.current.take() {
            let Copy { number, id, message, .. } = copy;
            self.rests.push_back(Step::Drop { number, from: message.from, index: id.index, why });
        }
    }

    /// Drops the copy, and says so to the leader.
    fn give_up(&mut self, why: FetchError) {
        if let Some((number, to, _)) = self.current() {
            self.end(why);
            self.rests.push_back(Step::GiveUp { to, question: write_pair(number, GIVE_UP) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut, BytesMut};

    #[test]
    fn pieces_are_read_whole_or_not_at_all() {
        let mut piece = BytesMut::new();
        piece.put_u64_le(7);
        piece.put_u8(1);
        piece.put_u32_le(5);
        for (offset, bytes) in [(0_u64, &b"abc"[..]), (9, b""), (20, b"de")] {
            piece.put_u64_le(offset);
            piece.put_u32_le(bytes.len() as u32);
            piece.put_slice(bytes);
        }
        let piece = piece.freeze();
        let (head, parts) = parse(piece.clone()).expect("well formed");
        assert_eq!((head.next_page, head.is_last, head.pace), (7, true, 5));
        let parts: Vec<(u64, Bytes)> = parts.collect();
        assert_eq!(parts, [(0, Bytes::from("abc")), (9, Bytes::new()), (20, Bytes::from("de"))]);
        let ends = [13, 13 + 15, 13 + 27, piece.len()];
        for cut in 0..piece.len() {
            assert_eq!(parse(piece.slice(..cut)).is_some(), ends.contains(&cut), "{cut}");
        }
    }
}
