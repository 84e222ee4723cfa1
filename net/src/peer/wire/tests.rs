//! The bytes as they are, and fuzzing by mutation: what arrives is what was sent, or it is refused.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn hex(bytes: &[u8]) -> String {
    let words = bytes.chunks(4).map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    words.collect::<Vec<_>>().join(" ")
}

/// These bytes must stay what they are for as long as members of this version are about.
#[test]
fn the_bytes_of_version_1() {
    let hello = Hello::new(0x1122_3344_5566_7788, 0x0a, 0x0b, Lane::Bulk);
    let magic_length_versions = "b7504c49 4e54480a 2c000100 01000100";
    let ids = "88776655 44332211 0a000000 00000000 0b000000 00000000";
    assert_eq!(hex(&hello.encode()[..40]), format!("{magic_length_versions} {ids}"));
    let accepted = Answer { member: 0x0b, verdict: Verdict::Accepted { version: 1 } };
    assert_eq!(hex(&accepted.encode()[..24]), "b7504c49 4e54410a 1c000000 01000000 0b000000 00000000");
    let refused = Answer { member: 0x0b, verdict: Verdict::Refused(Refusal::Removed) };
    assert_eq!(hex(&refused.encode()[..24]), "b7504c49 4e54410a 1c000400 00000000 0b000000 00000000");
    let head = FrameHead { kind: FrameKind::Request, code: 0x0203, id: 0x0405_0607 };
    let frame = Frame { head, payload: Bytes::from_static(b"body") };
    assert_eq!(hex(&frame.encode()[4..]), "04000000 02000302 07060504 626f6479");
    for (bytes, crc_at) in [(hello.encode(), 40), (accepted.encode(), 24)] {
        assert_eq!(u32_at(&bytes, crc_at), crc32fast::hash(&bytes[..crc_at]));
    }
    assert_eq!(u32_at(&frame.encode(), 0), crc32fast::hash(&frame.encode()[4..]));
}

#[test]
fn an_opening_may_be_longer_than_we_know() {
    let mut bytes = Hello::new(1, 2, 3, Lane::Urgent).encode();
    bytes.truncate(HELLO_BYTES - CRC_BYTES);
    bytes.extend_from_slice(b"what a later version adds");
    let length = bytes.len() + CRC_BYTES;
    bytes[8..10].copy_from_slice(&(length as u16).to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes.extend_from_slice(b"frames");
    assert!(Hello::decode_with(&bytes).unwrap().unwrap().0.1 == Told::default());
    let (hello, taken) = Hello::decode(&bytes).unwrap().unwrap();
    assert_eq!((hello, taken), (Hello::new(1, 2, 3, Lane::Urgent), length));
    bytes[8..10].copy_from_slice(&(OPENING_BYTES_MAX as u16 + 1).to_le_bytes());
    assert_eq!(Hello::decode(&bytes), Err(WireError::OpeningLength(OPENING_BYTES_MAX + 1)));
}

#[test]
fn a_hello_says_where_its_sender_listens() {
    let hello = Hello::new(1, 2, 3, Lane::Urgent);
    let addresses = ["http://a:2380", "https://[::1]:1"].map(String::from);
    let bytes = hello.encode_with(&addresses, 0);
    assert_eq!(Hello::decode(&bytes), Ok(Some((hello, bytes.len()))), "who does not know of addresses skips them");
    let told = Told { addresses: addresses.to_vec(), reads: 0 };
    assert_eq!(Hello::decode_with(&bytes), Ok(Some(((hello, told), bytes.len()))));
    assert_eq!(hex(&bytes[40..44]), "010d0068", "a kind, a length, and the address");
    assert_eq!(Hello::decode_with(&hello.encode()), Ok(Some(((hello, Told::default()), HELLO_BYTES))));
    let bytes = hello.encode_with(&[], 0x0304);
    assert_eq!(hex(&bytes[40..45]), "02020004 03", "a kind, a length, and the number");
    let many: Vec<String> = (0..100).map(|number| format!("http://{number:060}")).collect();
    let bytes = hello.encode_with(&many, 16);
    let ((_, told), length) = Hello::decode_with(&bytes).unwrap().unwrap();
    assert!(length <= OPENING_BYTES_MAX && !told.addresses.is_empty());
    assert_eq!((&told.addresses[..], told.reads), (&many[..told.addresses.len()], 16));
}

#[test]
fn what_has_another_meaning_is_refused_early() {
    let refused = |bytes: &[u8]| Hello::decode(bytes).unwrap_err();
    assert_eq!(refused(b"G"), WireError::Magic);
    assert_eq!(refused(&ANSWER_MAGIC), WireError::Magic);
    assert_eq!(refused(&[&HELLO_MAGIC[..], &[43, 0]].concat()), WireError::OpeningLength(43));
    let mut unknown_lane = Hello::new(1, 2, 3, Lane::Urgent).encode();
    unknown_lane[14] = 3;
    let fields = HELLO_BYTES - CRC_BYTES;
    let crc = crc32fast::hash(&unknown_lane[..fields]);
    unknown_lane[fields..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(refused(&unknown_lane), WireError::Lane(3));
}

#[test]
fn versions_that_both_speak() {
    let common = |version_lowest, version_highest| {
        Hello { version_lowest, version_highest, ..Hello::new(1, 2, 3, Lane::Urgent) }.common_version()
    };
    assert_eq!(common(VERSION_LOWEST, VERSION_HIGHEST), Some(VERSION_HIGHEST));
    assert_eq!(common(0, u16::MAX), Some(VERSION_HIGHEST));
    assert_eq!(common(VERSION_HIGHEST + 1, u16::MAX), None);
    assert_eq!(common(0, VERSION_LOWEST - 1), None);
    assert_eq!(common(u16::MAX, 0), None);
}

/// A frame with its checksum made right, whatever else is wrong.
fn with_crc(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn frames_that_no_version_sends_are_refused() {
    let frame = |kind: u8, zero: u8, code: u8, id: u8, payload: &[u8]| {
        let mut bytes = vec![0, 0, 0, 0, payload.len() as u8, 0, 0, 0, kind, zero, code, 0, id, 0, 0, 0];
        bytes.extend_from_slice(payload);
        let mut decoder = FrameDecoder::new(100);
        decoder.receive(with_crc(bytes).into());
        decoder.next_frame().map(|frame| frame.is_some())
    };
    assert_eq!(frame(1, 0, 0, 0, b"x"), Ok(true));
    assert_eq!(frame(2, 0, 1, 1, b"x"), Ok(true));
    for kind in [0, 7, 255] {
        assert_eq!(frame(kind, 0, 0, 0, b""), Err(WireError::Kind(kind)));
    }
    let malformed = Err(WireError::Malformed("frame"));
    assert_eq!(frame(1, 1, 0, 0, b"x"), malformed, "the zero");
    assert_eq!(frame(1, 0, 1, 0, b"x"), malformed, "a message with a code");
    assert_eq!(frame(1, 0, 0, 1, b"x"), malformed, "a message with an id");
    assert_eq!(frame(3, 0, 1, 1, b"x"), malformed, "a response with a code");
    assert_eq!(frame(4, 0, 1, 1, b"x"), malformed, "a failure with a payload");
    assert_eq!(frame(5, 0, 0, 1, b"x"), malformed, "a ping with a payload");
}

#[test]
fn a_length_alone_costs_no_memory() {
    let max = 1 << 30;
    let mut decoder = FrameDecoder::new(max);
    let mut head = vec![0; HEAD_BYTES];
    head[4..8].copy_from_slice(&(max as u32).to_le_bytes());
    decoder.receive(head.clone().into());
    assert_eq!(decoder.next_frame(), Ok(None));
    assert!(decoder.held_bytes() <= 64 << 10);
    for _ in 0..100 {
        decoder.receive(vec![0; 10_000].into());
        assert_eq!(decoder.next_frame(), Ok(None));
    }
    assert!(decoder.held_bytes() <= 2 << 20, "{}", decoder.held_bytes());
    head[4..8].copy_from_slice(&(max as u32 + 1).to_le_bytes());
    let mut decoder = FrameDecoder::new(max);
    decoder.receive(head.into());
    let error = WireError::TooLarge { length: max + 1, max };
    assert_eq!(decoder.next_frame(), Err(error.clone()));
    decoder.receive(Bytes::from_static(b"more"));
    assert_eq!(decoder.next_frame(), Err(error), "an error is final");
}

fn lanes() -> impl Strategy<Value = Lane> {
    prop::sample::select(Lane::ALL.to_vec())
}

fn hellos() -> impl Strategy<Value = Hello> {
    (any::<(u16, u16, u64, u64, u64)>(), lanes()).prop_map(|((lowest, highest, cluster, from, to), lane)| Hello {
        version_lowest: lowest,
        version_highest: highest,
        ..Hello::new(cluster, from, to, lane)
    })
}

fn answers() -> impl Strategy<Value = Answer> {
    let verdict = prop_oneof![
        any::<u16>().prop_map(|version| Verdict::Accepted { version }),
        (1..=u16::MAX).prop_map(|code| Verdict::Refused(Refusal::from_code(code))),
    ];
    (any::<u64>(), verdict).prop_map(|(member, verdict)| Answer { member, verdict })
}

fn frames() -> impl Strategy<Value = Frame> {
    let payload = prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 200..2000)];
    (1..=6_u8, any::<(u16, u32)>(), payload).prop_map(|(kind, (code, id), payload)| match kind {
        1 => frame(FrameKind::Message, 0, 0, payload),
        2 => frame(FrameKind::Request, code, id, payload),
        3 => frame(FrameKind::Response, 0, id, payload),
        4 => frame(FrameKind::Failure, code, id, Vec::new()),
        5 => frame(FrameKind::Ping, 0, id, Vec::new()),
        _ => frame(FrameKind::Pong, 0, id, Vec::new()),
    })
}

fn frame(kind: FrameKind, code: u16, id: u32, payload: Vec<u8>) -> Frame {
    Frame { head: FrameHead { kind, code, id }, payload: payload.into() }
}

/// What a connection makes of `bytes` that arrive in pieces of `piece` bytes.
fn feed(bytes: &[u8], piece: usize) -> (Vec<Frame>, Result<(), WireError>) {
    let mut decoder = FrameDecoder::new(10_000);
    let mut frames = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.receive(Bytes::copy_from_slice(piece));
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, Ok(()))
}

fn change(bytes: &mut [u8], at: prop::sample::Index, by: u8) -> usize {
    let at = at.index(bytes.len());
    bytes[at] ^= by;
    at
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn openings_say_what_was_said(hello in hellos(), answer in answers(), rest in vec(any::<u8>(), 0..20)) {
        let (mut bytes, length) = (hello.encode(), HELLO_BYTES);
        bytes.extend_from_slice(&rest);
        prop_assert_eq!(Hello::decode(&bytes), Ok(Some((hello, length))));
        (0..length).for_each(|cut| assert_eq!(Hello::decode(&bytes[..cut]), Ok(None)));
        let mut bytes = answer.encode();
        bytes.extend_from_slice(&rest);
        prop_assert_eq!(Answer::decode(&bytes), Ok(Some((answer, ANSWER_BYTES))));
        (0..ANSWER_BYTES).for_each(|cut| assert_eq!(Answer::decode(&bytes[..cut]), Ok(None)));
    }

    /// A changed byte is never overheard; it may only make the opening wait for more.
    #[test]
    fn openings_that_were_changed_are_refused(
        hello in hellos(),
        answer in answers(),
        at in any::<prop::sample::Index>(),
        by in 1..=u8::MAX,
    ) {
        let mut bytes = hello.encode();
        change(&mut bytes, at, by);
        prop_assert!(!matches!(Hello::decode(&bytes), Ok(Some(_))));
        bytes.resize(2 * OPENING_BYTES_MAX, 0);
        prop_assert!(Hello::decode(&bytes).is_err());
        let mut bytes = answer.encode();
        change(&mut bytes, at, by);
        bytes.resize(2 * OPENING_BYTES_MAX, 0);
        prop_assert!(Answer::decode(&bytes).is_err());
    }

    /// How bytes are cut into reads changes nothing.
    #[test]
    fn frames_say_what_was_said(sent in vec(frames(), 0..6), piece in 1..3000_usize) {
        let bytes: Vec<u8> = sent.iter().flat_map(Frame::encode).collect();
        prop_assert_eq!(feed(&bytes, piece), (sent, Ok(())));
    }

    /// Nothing from the changed frame on is believed, and all before it is.
    #[test]
    fn frames_that_were_changed_are_refused(
        sent in vec(frames(), 1..6),
        piece in 1..3000_usize,
        at in any::<prop::sample::Index>(),
        by in 1..=u8::MAX,
    ) {
        let mut bytes: Vec<u8> = sent.iter().flat_map(Frame::encode).collect();
        let at = change(&mut bytes, at, by);
        let ends = sent.iter().scan(0, |end, frame| {
            *end += frame.encode().len();
            Some(*end)
        });
        let whole = ends.take_while(|end| *end <= at).count();
        let (got, _) = feed(&bytes, piece);
        prop_assert_eq!(&got[..], &sent[..whole]);
        // With enough behind it, the damage is always found.
        bytes.resize(bytes.len() + 20_000, 0);
        let (got, result) = feed(&bytes, piece);
        prop_assert_eq!(&got[..], &sent[..whole]);
        prop_assert!(result.is_err());
    }

    #[test]
    fn any_bytes_are_harmless(bytes in vec(any::<u8>(), 0..3000), piece in 1..500_usize) {
        let _ = (Hello::decode(&bytes), Answer::decode(&bytes));
        let whole = feed(&bytes, bytes.len().max(1));
        prop_assert_eq!(feed(&bytes, piece), whole);
    }
}
