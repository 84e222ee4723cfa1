//! Mistakes planted in the core itself: a rule that was left out, a count that does not fit. Each is caught where it
//! happens, by an assertion that names it.

use bytes::Bytes;

use super::log::{Flight, Log};
use super::reads::{ReadRounds, Waiter};
use super::tracker::Progress;
use super::{Core, mix};
use crate::conf::ConfState;
use crate::config::{GroupConfig, WindowBounds};
use crate::log::RecoveredLog;
use crate::message::{PeerBody, SnapshotMeta};
use crate::types::{Entry, EntryId, EntryKind, HardState, MemberId, Role};
use plinth_wal::GroupId;

const OWN: MemberId = MemberId(1);
const OTHER: MemberId = MemberId(2);

fn core() -> Core {
    let conf = ConfState::of_voters([OWN, OTHER, MemberId(3)]);
    Core::new(GroupConfig { conf, ..GroupConfig::new(GroupId(0), OWN, 1) }, RecoveredLog::empty())
}

fn candidate() -> Core {
    let mut core = core();
    core.turn(Role::Candidate, 1, None);
    core
}

fn log() -> Log {
    let mut log = Log::new(RecoveredLog::empty(), WindowBounds { entries: 100, bytes: 8 << 20 });
    (1..=3).for_each(|index| {
        log.append(Entry { index, term: 1, kind: EntryKind::Normal, data: Bytes::from_static(b"x") })
    });
    log
}

fn flight(number: u64, last: u64) -> Flight {
    Flight { number, hard_state: HardState::default(), snapshot: None, last, since: 0 }
}

#[test]
#[should_panic(expected = "a term never goes back")]
fn a_term_that_is_forgotten() {
    candidate().turn(Role::Follower, 0, None);
}

#[test]
#[should_panic(expected = "only who was elected leads")]
fn leadership_without_an_election() {
    core().turn(Role::Leader, 1, Some(OWN));
}

#[test]
#[should_panic(expected = "who leads follows itself, and nobody else does")]
fn a_leader_that_follows_another() {
    candidate().turn(Role::Leader, 1, Some(OTHER));
}

#[test]
#[should_panic(expected = "who asks for votes has given its own")]
fn a_vote_that_is_asked_for_and_not_given() {
    let mut core = candidate();
    core.ask_for_votes(false, false);
}

#[test]
#[should_panic(expected = "what a member says to itself is lost")]
fn a_message_to_oneself() {
    core().say(OWN, PeerBody::TimeoutNow);
}

#[test]
#[should_panic(expected = "quorums before and behind a change share a voter")]
fn a_change_of_two_voters_in_one_step() {
    // The configuration is 1, 2, 3.
    core().change_conf(ConfState::of_voters([OWN, MemberId(4), MemberId(5)]));
}

#[test]
#[should_panic(expected = "what may still be replaced is not applied")]
fn an_entry_that_is_handed_out_before_it_is_committed() {
    log().release();
}

#[test]
#[should_panic(expected = "a store does not run ahead of its log")]
fn an_entry_that_is_handed_out_before_it_is_durable() {
    let mut log = log();
    log.commit_to(3);
    log.release();
}

#[test]
#[should_panic(expected = "a flush promises what was handed out, and no more")]
fn a_flush_that_promises_what_it_does_not_carry() {
    let mut log = log();
    log.depart(flight(1, 3));
}

#[test]
#[should_panic(expected = "readies are numbered in order")]
fn flushes_out_of_order() {
    let mut log = log();
    log.submit(&mut Vec::new());
    log.depart(flight(2, 3));
    log.depart(flight(1, 3));
}

#[test]
#[should_panic(expected = "a leader appends at the end")]
fn an_entry_behind_a_gap() {
    log().append(Entry { index: 5, term: 1, kind: EntryKind::Normal, data: Bytes::new() });
}

#[test]
#[should_panic(expected = "a snapshot does not go back")]
fn a_snapshot_of_less_than_is_committed() {
    let mut log = log();
    log.commit_to(3);
    log.restore(SnapshotMeta {
        id: EntryId { index: 2, term: 1 },
        conf: ConfState::of_voters([OWN]),
        context: Bytes::new(),
    });
}

#[test]
#[should_panic(expected = "a round that runs is not given up for the next")]
fn a_round_of_reads_on_top_of_another() {
    let mut rounds = ReadRounds::new(mix(1, 1));
    rounds.add(Waiter::Local(1));
    rounds.begin(None);
    rounds.add(Waiter::Local(2));
    rounds.begin(None);
}

#[test]
#[should_panic(expected = "appends are sent in order")]
fn an_append_that_is_sent_twice() {
    let mut progress = Progress::added(3);
    progress.replicate();
    progress.inflight.push(3, 1);
    progress.inflight.push(3, 1);
}
