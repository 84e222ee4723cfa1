//! Messages no correct member sends: none makes a group panic. And bytes that are no messages: none makes a decoder panic.
//!
//! Raft trusts its members, so a lie can still do harm (elect two leaders, say). What is promised is that a broken member, or
//! a frame from another cluster, does not take this one down.

use std::collections::VecDeque;

use bytes::Bytes;
use plinth_raft::error::StepError;
use plinth_raft::{
    Change, ConfChange, ConfState, Entry, EntryId, EntryKind, Group, GroupConfig, GroupId, Member, MemberChange,
    MemberId, PeerBody, PeerMessage, RecoveredLog, SnapshotMeta, log,
};
use proptest::prelude::*;

fn small() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..12u64, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1), 1 => any::<u64>()]
}

fn entry_id() -> impl Strategy<Value = EntryId> {
    (small(), small()).prop_map(|(index, term)| EntryId { index, term })
}

fn conf() -> impl Strategy<Value = ConfState> {
    let ids = || prop::collection::vec(0..5u64, 0..4);
    let lists = (ids(), ids(), ids(), ids(), any::<bool>());
    prop_oneof![
        Just(ConfState::of_voters([MemberId(1), MemberId(2), MemberId(3)])),
        lists.prop_map(|(voters, learners, voters_outgoing, learners_next, auto_leave)| ConfState {
            voters,
            learners,
            voters_outgoing,
            learners_next,
            auto_leave,
        }),
    ]
}

fn body() -> impl Strategy<Value = PeerBody> {
    let round = || prop::option::of(small());
    prop_oneof![
        1 => Just(PeerBody::Propose),
        4 => (entry_id(), small()).prop_map(|(prev, commit)| PeerBody::Append { prev, commit }),
        4 => (small(), small(), prop::option::of(entry_id()), small()).prop_map(
            |(index, commit, reject, request_snapshot)| PeerBody::AppendResponse {
                index,
                commit,
                reject,
                request_snapshot
            }
        ),
        3 => (any::<bool>(), any::<bool>(), entry_id(), entry_id())
            .prop_map(|(pre, transfer, last, commit)| PeerBody::Vote { pre, transfer, last, commit }),
        4 => (any::<bool>(), any::<bool>(), entry_id())
            .prop_map(|(pre, reject, commit)| PeerBody::VoteResponse { pre, reject, commit }),
        1 => (entry_id(), conf())
            .prop_map(|(id, conf)| PeerBody::Snapshot(SnapshotMeta { id, conf, context: Bytes::new() })),
        2 => (small(), round()).prop_map(|(commit, round)| PeerBody::Heartbeat { commit, round }),
        2 => (small(), round()).prop_map(|(commit, round)| PeerBody::HeartbeatResponse { commit, round }),
        2 => Just(PeerBody::TimeoutNow),
        1 => small().prop_map(|round| PeerBody::ReadIndex { round }),
        1 => (small(), small()).prop_map(|(round, index)| PeerBody::ReadIndexResponse { round, index }),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let change = prop_oneof![
        Just(ConfChange::one(Change::AddVoter(3), Bytes::new()).encode()),
        Just(ConfChange::one(Change::Remove(1), Bytes::new()).encode()),
        Just(Bytes::new()),
        Just(Bytes::from_static(b"nonsense")),
    ];
    let normal = prop_oneof![Just(Bytes::new()), Just(Bytes::from_static(b"command"))];
    prop_oneof![
        4 => (entry_id(), normal).prop_map(|(id, data)| (id, EntryKind::Normal, data)),
        1 => (entry_id(), change).prop_map(|(id, data)| (id, EntryKind::ConfChange, data)),
    ]
    .prop_map(|(id, kind, data)| Entry { index: id.index, term: id.term, kind, data })
}

/// Entries, often in the order a leader sends them.
fn entries() -> impl Strategy<Value = (bool, Vec<Entry>)> {
    (prop::bool::weighted(0.8), prop::collection::vec(entry(), 0..4))
}

fn message() -> impl Strategy<Value = PeerMessage> {
    (body(), entries(), small(), 0..5u64).prop_map(|(body, (tidy, mut entries), term, from)| {
        if tidy && let PeerBody::Append { prev, .. } = &body {
            for (entry, i) in entries.iter_mut().zip(1..) {
                entry.index = prev.index.wrapping_add(i);
                entry.term = term;
            }
        } else if tidy && body != PeerBody::Propose {
            entries.clear();
        }
        PeerMessage { group: GroupId(0), from: MemberId(from), to: MemberId(1), term, body, entries }
    })
}

#[derive(Clone, Debug)]
enum Act {
    Step(PeerMessage),
    Tick(usize),
    Campaign,
    Propose,
    Read,
    Ready,
    Flush,
    Apply,
    Transfer(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        10 => message().prop_map(Act::Step),
        1 => (1..25usize).prop_map(Act::Tick),
        1 => Just(Act::Campaign),
        1 => Just(Act::Propose),
        1 => Just(Act::Read),
        5 => Just(Act::Ready),
        4 => Just(Act::Flush),
        4 => Just(Act::Apply),
        1 => (0..5u64).prop_map(Act::Transfer),
    ]
}

/// A member with just enough of a shell.
struct Victim {
    group: Group,
    flushes: VecDeque<u64>,
    committed: VecDeque<Entry>,
}

impl Victim {
    fn new(voters: u64) -> Victim {
        let mut config = GroupConfig::new(GroupId(0), MemberId(1), 1);
        config.conf = ConfState::of_voters((1..=voters).map(MemberId));
        let group = Group::new(config, RecoveredLog::empty()).expect("a group");
        Victim { group, flushes: VecDeque::new(), committed: VecDeque::new() }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Step(message) => {
                if let Err(StepError::LogLost { commit, last, .. }) = self.group.step(message) {
                    assert!(commit > last);
                }
            }
            Act::Tick(times) => (0..times).for_each(|_| self.group.tick()),
            Act::Campaign => self.group.campaign(),
            Act::Propose => drop(self.group.propose(Bytes::from_static(b"own"))),
            Act::Read => self.group.read_index(1),
            Act::Ready => {
                if let Some(ready) = self.group.ready() {
                    if ready.snapshot.is_some() {
                        self.committed.clear();
                    }
                    for message in ready.messages.iter().chain(&ready.persisted_messages) {
                        let frame = Bytes::from(message.encode());
                        assert_eq!(PeerMessage::decode(&frame).as_ref(), Ok(message));
                    }
                    self.committed.extend(ready.committed);
                    self.flushes.push_back(ready.number);
                }
            }
            Act::Flush => {
                if let Some(number) = self.flushes.pop_front() {
                    self.group.on_persisted(number);
                }
            }
            Act::Apply => {
                if let Some(entry) = self.committed.pop_front() {
                    if entry.kind == EntryKind::ConfChange {
                        let _ = self.group.apply_conf_change(&entry);
                    }
                    self.group.on_applied(entry.index);
                }
            }
            Act::Transfer(target) => drop(self.group.transfer_leader(MemberId(target))),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_message_makes_a_group_panic(voters in 1..4u64, acts in prop::collection::vec(act(), 1..120)) {
        let mut victim = Victim::new(voters);
        for act in acts {
            victim.act(act);
        }
    }

    #[test]
    fn every_message_survives_the_wire(message in message()) {
        let frame = Bytes::from(message.encode());
        prop_assert_eq!(PeerMessage::decode(&frame), Ok(message.clone()));
        let mut head = vec![1, 2, 3];
        message.encode_head(&mut head);
        prop_assert_eq!(&head[3..], &frame[..frame.len() - message.entry_bytes()]);
    }

    #[test]
    fn damaged_frames_are_refused_or_mean_something(message in message(), at: prop::sample::Index, bit in 0..8u8) {
        let mut frame = message.encode();
        let at = at.index(frame.len());
        frame[at] ^= 1 << bit;
        // Entry bytes are not checked here; anything in the head is either refused or a well-formed message.
        if let Ok(decoded) = PeerMessage::decode(&Bytes::from(frame)) {
            prop_assert_eq!(decoded.entry_bytes(), message.entry_bytes());
        }
        let whole = message.encode();
        for cut in [1, 7, whole.len() / 2, whole.len() - 1] {
            prop_assert!(PeerMessage::decode(&Bytes::copy_from_slice(&whole[..cut])).is_err());
        }
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), versioned: bool) {
        let mut bytes = bytes;
        if versioned && bytes.len() >= 2 {
            bytes[..2].copy_from_slice(&1u16.to_le_bytes());
        }
        let frame = Bytes::from(bytes.clone());
        let _ = PeerMessage::decode(&frame);
        let _ = ConfChange::decode(&bytes);
        let _ = ConfState::decode(&bytes);
        let _ = Member::decode(&bytes);
        let _ = MemberChange::decode(&bytes);
        let _ = log::decode_entry(log::LOG_SCHEMA, &bytes);
        let _ = log::decode_hard_state(log::LOG_SCHEMA, &bytes);
        let _ = log::decode_snapshot_mark(log::LOG_SCHEMA, &bytes);
    }
}
