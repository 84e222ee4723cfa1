//! The bytes of everything that is stored or sent, against `testdata/formats.golden`. A change here is a change of format:
//! it needs a new schema version and a way to read the old one. `UPDATE=1` writes the file.

use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use plinth_raft::batch::BatchBuilder;
use plinth_raft::groups::{Asleep, Parcel, Sign};
use plinth_raft::log::{encode_hard_state, encode_snapshot_mark, entry_header};
use plinth_raft::{
    Change, ConfChange, ConfChangeKind, ConfState, Entry, EntryId, EntryKind, GroupId, HardState, Member, MemberChange,
    MemberId, PeerBody, PeerMessage, SnapshotMeta, Transition,
};

const ID: EntryId = EntryId { index: 0x0102_0304_0506_0708, term: 0x1112_1314_1516_1718 };

fn conf() -> ConfState {
    ConfState {
        voters: vec![1, 2],
        learners: vec![3],
        voters_outgoing: vec![1, 4],
        learners_next: vec![4],
        auto_leave: true,
    }
}

fn member() -> Member {
    Member {
        id: MemberId(0x8e9e_05c5_2164_694d),
        name: "default".to_owned(),
        peer_urls: vec!["http://localhost:2380".to_owned()],
        client_urls: vec!["http://localhost:2379".to_owned(), "http://10.0.0.1:2379".to_owned()],
        is_learner: true,
    }
}

fn message(body: PeerBody) -> Vec<u8> {
    let entry = |index, kind, data| Entry { index, term: 5, kind, data: Bytes::from_static(data) };
    let entries = match body {
        PeerBody::Append { .. } | PeerBody::Propose => {
            vec![entry(8, EntryKind::Normal, b"first"), entry(9, EntryKind::ConfChange, b"second")]
        }
        _ => Vec::new(),
    };
    PeerMessage { group: GroupId(7), from: MemberId(1), to: MemberId(2), term: 5, body, entries }.encode()
}

fn conf_change() -> Vec<u8> {
    let changes = vec![Change::AddVoter(5), Change::AddLearner(6), Change::Remove(1)];
    let kind = ConfChangeKind::Members { changes, transition: Transition::JointExplicit };
    ConfChange { kind, context: Bytes::from_static(b"context") }.encode().to_vec()
}

fn all() -> Vec<(&'static str, Vec<u8>)> {
    let mut batch = BatchBuilder::new();
    batch.push(b"put");
    let normal = Entry { index: ID.index, term: ID.term, kind: EntryKind::Normal, data: Bytes::new() };
    let hard_state = HardState { term: 1, vote: Some(MemberId(2)), commit: 3 };
    let snapshot = SnapshotMeta { id: ID, conf: conf(), context: Bytes::from_static(b"context") };
    let response = PeerBody::AppendResponse { index: 7, commit: 6, reject: Some(ID), request_snapshot: 5 };
    vec![
        ("batch", batch.finish(MemberId(1), 2).to_vec()),
        ("entry record", entry_header(&normal).to_vec()),
        ("hard state record", encode_hard_state(&hard_state).to_vec()),
        ("snapshot mark record", encode_snapshot_mark(ID).to_vec()),
        ("configuration", conf().encode().to_vec()),
        ("configuration change", conf_change()),
        ("configuration change of records", ConfChange::records_only(Bytes::from_static(b"c")).encode().to_vec()),
        ("configuration change to leave", ConfChange::leave_joint().encode().to_vec()),
        ("member", member().encode().to_vec()),
        ("member added", MemberChange::Add(member()).encode().to_vec()),
        ("member promoted", MemberChange::Promote(MemberId(1)).encode().to_vec()),
        ("member removed", MemberChange::Remove(MemberId(1)).encode().to_vec()),
        ("member moved", MemberChange::UpdatePeerUrls(MemberId(1), member().peer_urls).encode().to_vec()),
        ("propose", message(PeerBody::Propose)),
        ("append", message(PeerBody::Append { prev: EntryId { index: 7, term: 4 }, commit: 6 })),
        ("append response", message(response)),
        ("vote", message(PeerBody::Vote { pre: true, transfer: false, last: ID, commit: ID })),
        ("vote response", message(PeerBody::VoteResponse { pre: false, reject: true, commit: ID })),
        ("snapshot", message(PeerBody::Snapshot(snapshot))),
        ("heartbeat", message(PeerBody::Heartbeat { commit: 6, round: Some(9) })),
        ("heartbeat response", message(PeerBody::HeartbeatResponse { commit: 6, round: None })),
        ("timeout now", message(PeerBody::TimeoutNow)),
        ("read index", message(PeerBody::ReadIndex { round: 9 })),
        ("read index response", message(PeerBody::ReadIndexResponse { round: 9, index: 6 })),
        ("parcel", parcel()),
    ]
}

/// Every kind of message once.
fn parcel() -> Vec<u8> {
    let data = Bytes::from_static(b"entry");
    let entry = Entry { index: 8, term: 5, kind: EntryKind::Normal, data };
    let snapshot = SnapshotMeta { id: ID, conf: conf(), context: Bytes::from_static(b"context") };
    let bodies = [
        PeerBody::Propose,
        PeerBody::Append { prev: EntryId { index: 7, term: 4 }, commit: 6 },
        PeerBody::AppendResponse { index: 7, commit: 6, reject: Some(ID), request_snapshot: 5 },
        PeerBody::Vote { pre: true, transfer: false, last: ID, commit: ID },
        PeerBody::VoteResponse { pre: false, reject: true, commit: ID },
        PeerBody::Snapshot(snapshot),
        PeerBody::Heartbeat { commit: 6, round: Some(9) },
        PeerBody::HeartbeatResponse { commit: 6, round: None },
        PeerBody::TimeoutNow,
        PeerBody::ReadIndex { round: 9 },
        PeerBody::ReadIndexResponse { round: 9, index: 6 },
    ];
    let message = |body: PeerBody| {
        let entries = match body {
            PeerBody::Append { .. } | PeerBody::Propose => vec![entry.clone()],
            _ => Vec::new(),
        };
        PeerMessage { group: GroupId(7), from: MemberId(1), to: MemberId(2), term: 5, body, entries }
    };
    let parcel = Parcel {
        from: MemberId(1),
        to: MemberId(2),
        sign: Some(Sign { life: 3, hears: 4, leads: 5 }),
        asleep: vec![Asleep { group: GroupId(9), term: 5, commit: 6 }],
        messages: bodies.into_iter().map(message).collect(),
    };
    let mut out = Vec::new();
    parcel.encode(&mut out);
    out
}

#[test]
fn formats_are_what_they_were() {
    let mut found = String::new();
    for (name, bytes) in all() {
        let _ = writeln!(found, "{name}, {} bytes", bytes.len());
        for line in bytes.chunks(32) {
            let words: Vec<String> =
                line.chunks(4).map(|word| word.iter().map(|b| format!("{b:02x}")).collect()).collect();
            let _ = writeln!(found, "  {}", words.join(" "));
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/formats.golden");
    if std::env::var("UPDATE").is_ok() {
        std::fs::write(&path, &found).expect("the golden file can be written");
    }
    let expected = std::fs::read_to_string(&path).expect("the golden file");
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected, "a format changed");
    }
    assert_eq!(found.len(), expected.len(), "a format came or went");
}

#[test]
fn what_is_written_is_read() {
    assert_eq!(ConfState::decode(&conf().encode()), Ok(conf()));
    let change = conf_change();
    assert_eq!(ConfChange::decode(&change).map(|change| change.encode().to_vec()), Ok(change));
    assert_eq!(ConfChange::decode(b""), Ok(ConfChange::leave_joint()));
    for change in [
        MemberChange::Add(member()),
        MemberChange::Promote(MemberId(1)),
        MemberChange::Remove(MemberId(1)),
        MemberChange::UpdatePeerUrls(MemberId(1), member().peer_urls),
    ] {
        assert_eq!(MemberChange::decode(&change.encode()), Ok(change));
    }
}

#[test]
fn configurations_that_break_the_rules_are_refused() {
    type Case = (&'static str, fn(&mut ConfState));
    let broken: [Case; 9] = [
        ("no voter", |conf| conf.voters.clear()),
        ("unsorted", |conf| conf.voters = vec![2, 1]),
        ("a voter twice", |conf| conf.voters = vec![1, 1]),
        ("member zero", |conf| conf.learners = vec![0]),
        ("a learner that votes", |conf| conf.learners = vec![1]),
        ("a learner that voted", |conf| conf.learners = vec![4]),
        ("a next learner that stays a voter", |conf| conf.learners_next = vec![1]),
        ("a next learner out of nowhere", |conf| conf.learners_next = vec![9]),
        ("nothing to leave", |conf| {
            conf.voters_outgoing.clear();
            conf.learners_next.clear();
        }),
    ];
    assert_eq!(conf().verify(), Ok(()));
    for (name, break_it) in broken {
        let mut conf = conf();
        break_it(&mut conf);
        assert!(conf.verify().is_err(), "{name}");
        assert!(ConfState::decode(&conf.encode()).is_err(), "{name}");
    }
}
