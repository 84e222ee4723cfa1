//! The bytes between machines: what is sent arrives, and what is not a parcel makes nothing panic.

use bytes::Bytes;
use plinth_raft::error::MessageError;
use plinth_raft::groups::{Asleep, Groups, Parcel, Sign};
use plinth_raft::{
    ConfState, Entry, EntryId, EntryKind, Group, GroupConfig, GroupId, MemberId, PeerBody, PeerMessage, RecoveredLog,
    SnapshotMeta,
};
use proptest::prelude::*;

const FROM: MemberId = MemberId(1);
const TO: MemberId = MemberId(2);

fn id() -> impl Strategy<Value = EntryId> {
    (any::<u64>(), any::<u64>()).prop_map(|(index, term)| EntryId { index, term })
}

fn body() -> impl Strategy<Value = PeerBody> {
    let round = || prop::option::of(any::<u64>());
    let conf = Just(ConfState::of_voters([MemberId(1), MemberId(2)]));
    let context = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        Just(PeerBody::Propose),
        (id(), any::<u64>()).prop_map(|(prev, commit)| PeerBody::Append { prev, commit }),
        (any::<u64>(), any::<u64>(), prop::option::of(id()), any::<u64>()).prop_map(
            |(index, commit, reject, request_snapshot)| PeerBody::AppendResponse {
                index,
                commit,
                reject,
                request_snapshot
            }
        ),
        (any::<bool>(), any::<bool>(), id(), id()).prop_map(|(pre, transfer, last, commit)| PeerBody::Vote {
            pre,
            transfer,
            last,
            commit
        }),
        (any::<bool>(), any::<bool>(), id()).prop_map(|(pre, reject, commit)| PeerBody::VoteResponse {
            pre,
            reject,
            commit
        }),
        (id(), conf, context)
            .prop_map(|(id, conf, context)| { PeerBody::Snapshot(SnapshotMeta { id, conf, context: context.into() }) }),
        (any::<u64>(), round()).prop_map(|(commit, round)| PeerBody::Heartbeat { commit, round }),
        (any::<u64>(), round()).prop_map(|(commit, round)| PeerBody::HeartbeatResponse { commit, round }),
        Just(PeerBody::TimeoutNow),
        any::<u64>().prop_map(|round| PeerBody::ReadIndex { round }),
        (any::<u64>(), any::<u64>()).prop_map(|(round, index)| PeerBody::ReadIndexResponse { round, index }),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![Just(EntryKind::Normal), Just(EntryKind::ConfChange)];
    (id(), kind, prop::collection::vec(any::<u8>(), 0..30)).prop_map(|(id, kind, data)| Entry {
        index: id.index,
        term: id.term,
        kind,
        data: data.into(),
    })
}

fn message() -> impl Strategy<Value = PeerMessage> {
    let entries = prop::collection::vec(entry(), 0..4);
    (any::<u32>(), any::<u64>(), body(), entries).prop_map(|(group, term, body, mut entries)| {
        if !matches!(body, PeerBody::Propose | PeerBody::Append { .. }) {
            entries.clear();
        }
        PeerMessage { group: GroupId(group), from: FROM, to: TO, term, body, entries }
    })
}

fn parcel() -> impl Strategy<Value = Parcel> {
    let sign = (1..u64::MAX, any::<u64>(), any::<u32>()).prop_map(|(life, hears, leads)| Sign { life, hears, leads });
    let asleep = (any::<u32>(), any::<u64>(), any::<u64>());
    let asleep = asleep.prop_map(|(group, term, commit)| Asleep { group: GroupId(group), term, commit });
    let lists = (prop::collection::vec(asleep, 0..4), prop::collection::vec(message(), 0..6));
    (prop::option::of(sign), lists).prop_map(|(sign, (asleep, messages))| Parcel {
        from: FROM,
        to: TO,
        sign,
        asleep,
        messages,
    })
}

fn encoded(parcel: &Parcel) -> Vec<u8> {
    let mut out = Vec::new();
    parcel.encode(&mut out);
    out
}

/// A machine that takes parcels from anybody.
fn receiver() -> Groups {
    let mut groups = Groups::new(TO, 7, 10, 1);
    for id in 0..3 {
        let mut config = GroupConfig::new(GroupId(id), TO, 1);
        config.conf = ConfState::of_voters([FROM, TO]);
        groups.add(GroupId(id), Group::new(config, RecoveredLog::empty()).expect("a group"));
    }
    groups
}

proptest! {
    #[test]
    fn what_is_sent_arrives(parcel in parcel()) {
        let frame = Bytes::from(encoded(&parcel));
        prop_assert_eq!(Parcel::decode(&frame), Ok(parcel.clone()));
        // With a head and bytes apart, as it is written to a connection.
        let mut head = Vec::new();
        parcel.encode_head(&mut head);
        parcel.entries().for_each(|entry| head.extend_from_slice(&entry.data));
        prop_assert_eq!(head, frame);
    }

    #[test]
    fn no_part_of_a_parcel_passes_for_one(parcel in parcel(), cut in any::<prop::sample::Index>()) {
        let frame = encoded(&parcel);
        let short = Bytes::copy_from_slice(&frame[..cut.index(frame.len())]);
        prop_assert!(Parcel::decode(&short).is_err());
        let mut long = frame;
        long.push(0);
        let is_trailing = matches!(Parcel::decode(&long.into()), Err(MessageError::Trailing { .. }));
        prop_assert!(is_trailing);
    }

    #[test]
    fn no_bytes_make_a_machine_panic(
        parcel in parcel(), harm in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut frame = encoded(&parcel);
        for (at, byte) in harm {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        let mut groups = receiver();
        if let Ok(decoded) = groups.decode(&frame.into()) {
            groups.receive(decoded, |_, _| {});
            while groups.ready().is_some() {}
        }
    }

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let decoded = Parcel::decode(&bytes.into());
        prop_assert!(decoded.is_err() || decoded.is_ok_and(|parcel| parcel.messages.is_empty()));
    }
}

#[test]
fn counts_that_the_frame_does_not_hold_take_no_memory() {
    let parcel = Parcel { from: FROM, to: TO, sign: None, asleep: Vec::new(), messages: Vec::new() };
    for at in [24, 28] {
        let mut frame = encoded(&parcel);
        frame[at..at + 4].copy_from_slice(&(60_000_u32).to_le_bytes());
        assert!(matches!(Parcel::decode(&frame.into()), Err(MessageError::Truncated { .. })));
        let mut frame = encoded(&parcel);
        frame[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(Parcel::decode(&frame.into()), Err(MessageError::TooLarge { .. })));
    }
}

#[test]
fn another_version_is_refused_by_its_number() {
    let parcel = Parcel { from: FROM, to: TO, sign: None, asleep: Vec::new(), messages: Vec::new() };
    let mut frame = encoded(&parcel);
    frame[0] = 2;
    assert_eq!(Parcel::decode(&frame.into()), Err(MessageError::Version { found: 2 }));
}

/// What waits for a machine that takes nothing is bounded, and large rounds go in several parcels.
#[test]
fn what_waits_for_a_machine_is_bounded() {
    let mut groups = receiver();
    let data = Bytes::from(vec![7; 1 << 20]);
    let entry = |index| Entry { index, term: 1, kind: EntryKind::Normal, data: data.clone() };
    let append = |index| PeerMessage {
        group: GroupId(0),
        from: TO,
        to: FROM,
        term: 1,
        body: PeerBody::Append { prev: EntryId { index, term: 1 }, commit: 0 },
        entries: vec![entry(index + 1)],
    };
    (0..1000).for_each(|index| groups.send(append(index)));
    let mut bytes = 0;
    while let Some(parcel) = groups.parcel() {
        let size: usize = parcel.entries().map(|entry| entry.data.len()).sum();
        assert!(size <= 4 << 20);
        bytes += size;
        groups.recycle_parcel(parcel);
    }
    assert!((60 << 20..=64 << 20).contains(&bytes), "{bytes}");
    assert!(groups.parcel().is_none_or(|parcel| parcel.messages.is_empty()));
}
