//! The connection against the rules of RFC 9113, rule by rule. A script of frames goes in; what is looked at is what
//! the layer above hears and what the client would see.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::frame::{self, ErrorCode, FrameHeader, PREFACE, StreamId, flag, kind, setting};
use super::hpack::Constant;
use super::limits::{CONNECTION_WINDOW, CONTINUATIONS_MAX, HEADER_BLOCK_BYTES_MAX, PATIENT_STREAM_AGE, STREAM_WINDOW};
use super::{Config, Connection, Event, KeepaliveConfig, StreamKey, Trailers};

const NO_KEEPALIVE: KeepaliveConfig =
    KeepaliveConfig { min_time: Duration::ZERO, interval: Duration::ZERO, timeout: Duration::ZERO };

/// `:method: POST`, `:scheme: http`, `:path: /`.
const REQUEST: &[u8] = &[0x83, 0x86, 0x84];
const END: u8 = flag::END_STREAM;
const END_HEADERS: u8 = flag::END_HEADERS;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader { length: payload.len() as u32, kind, flags, stream: StreamId::from_wire(stream) };
    [&header.to_bytes(), payload].concat()
}

fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, flags, stream, block)
}

/// A request without a body.
fn get(stream: u32) -> Vec<u8> {
    headers(stream, END | END_HEADERS, REQUEST)
}

/// A request whose body follows.
fn post(stream: u32) -> Vec<u8> {
    headers(stream, END_HEADERS, REQUEST)
}

fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(kind::DATA, flags, stream, payload)
}

fn settings(entries: &[(u16, u32)]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put_settings(&mut out, entries);
    out
}

fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

fn reset(stream: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &ErrorCode::CANCEL.0.to_be_bytes())
}

fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0x00];
    for text in [name, value] {
        assert!(text.len() < 127);
        out.push(text.len() as u8);
        out.extend_from_slice(text.as_bytes());
    }
    out
}

fn request_with(name: &str, value: &str) -> Vec<u8> {
    [REQUEST, &literal(name, value)].concat()
}

/// A frame as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Seen {
    fn code(&self) -> ErrorCode {
        let at = if self.kind == kind::GOAWAY { 4 } else { 0 };
        ErrorCode(u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap()))
    }
}

/// A connection, its time, and what has happened on it.
struct Client {
    connection: Connection<()>,
    now: Instant,
    events: Vec<Event<()>>,
}

impl Client {
    fn new() -> Client {
        Client::with(Config { max_concurrent_streams: u32::MAX, keepalive: NO_KEEPALIVE })
    }

    fn with(config: Config) -> Client {
        let mut client = Client::silent(config);
        client.send(&[PREFACE.to_vec(), settings(&[])]);
        client.seen();
        client
    }

    /// A client that has not said anything.
    fn silent(config: Config) -> Client {
        let now = Instant::now();
        Client { connection: Connection::new(config, now), now, events: Vec::new() }
    }

    fn send(&mut self, frames: &[Vec<u8>]) {
        self.connection.receive(Bytes::from(frames.concat()), self.now);
        while let Some(event) = self.connection.poll_event(self.now) {
            self.events.push(event);
        }
    }

    /// All frames since the last call.
    fn seen(&mut self) -> Vec<Seen> {
        self.connection.flush();
        let output = self.connection.output();
        let mut slices = [std::io::IoSlice::new(&[]); 1000];
        let filled = output.fill(&mut slices);
        let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
        assert_eq!(bytes.len(), output.len());
        output.advance(bytes.len());
        let mut rest = bytes.as_slice();
        let mut seen = Vec::new();
        while let Some((header, tail)) = rest.split_first_chunk() {
            let header = FrameHeader::parse(header);
            let (payload, tail) = tail.split_at(header.length as usize);
            let (kind, flags, stream) = (header.kind, header.flags, header.stream.get());
            seen.push(Seen { kind, flags, stream, payload: payload.to_vec() });
            rest = tail;
        }
        assert!(rest.is_empty());
        seen
    }

    fn key(&self, stream: u32) -> StreamKey {
        let opened = self.events.iter().find_map(|event| match event {
            Event::Request { key, .. } if key.id.get() == stream => Some(*key),
            _ => None,
        });
        opened.expect("the stream was opened")
    }

    /// Body of a stream as far as it has arrived, and whether it has ended.
    fn body(&self, stream: u32) -> (Vec<u8>, bool) {
        let (mut body, mut ended) = (Vec::new(), false);
        for event in &self.events {
            match event {
                Event::Request { key, end, .. } if key.id.get() == stream => ended |= end,
                Event::Data { key, data, end } if key.id.get() == stream => {
                    body.extend_from_slice(data);
                    ended |= end;
                }
                _ => {}
            }
        }
        (body, ended)
    }

    /// Answers a request with a head, a body and trailers.
    fn answer(&mut self, stream: u32, body: &[u8]) {
        let key = self.key(stream);
        self.connection.send_head(key, |encoder, out| encoder.status(out, 200));
        self.connection.send_encoded(key, |out| {
            out.extend_from_slice(body);
            true
        });
        self.connection.send_trailers(key, Trailers { constants: &[Constant::GRPC_STATUS_OK], literals: vec![] });
    }
}

/// What becomes of a script.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    Stream(u32, ErrorCode),
    Connection(ErrorCode),
}

fn fate(seen: &[Seen]) -> Fate {
    let goaway = seen.iter().find(|frame| frame.kind == kind::GOAWAY);
    let rst = seen.iter().find(|frame| frame.kind == kind::RST_STREAM);
    match (goaway, rst) {
        (Some(frame), _) => Fate::Connection(frame.code()),
        (None, Some(frame)) => Fate::Stream(frame.stream, frame.code()),
        (None, None) => Fate::Fine,
    }
}

/// Runs every script twice: in one piece, and byte by byte.
fn check(cases: &[(&str, Vec<Vec<u8>>, Fate)]) {
    for (name, frames, expected) in cases {
        let mut whole = Client::new();
        whole.send(frames);
        assert_eq!(fate(&whole.seen()), *expected, "{name}");
        let closed = matches!(expected, Fate::Connection(_));
        assert_eq!(whole.connection.is_closed(), closed, "{name}");

        let mut bytewise = Client::new();
        let mut seen = Vec::new();
        for byte in frames.concat() {
            bytewise.send(&[vec![byte]]);
            seen.extend(bytewise.seen());
        }
        assert_eq!(fate(&seen), *expected, "{name}, byte by byte");
        assert_eq!(whole.events.len(), bytewise.events.len(), "{name}: same events");
    }
}

use Fate::{Connection as Dies, Fine, Stream as Resets};

const PROTOCOL: ErrorCode = ErrorCode::PROTOCOL_ERROR;
const SIZE: ErrorCode = ErrorCode::FRAME_SIZE_ERROR;
const FLOW: ErrorCode = ErrorCode::FLOW_CONTROL_ERROR;
const CLOSED: ErrorCode = ErrorCode::STREAM_CLOSED;
const CALM: ErrorCode = ErrorCode::ENHANCE_YOUR_CALM;

#[test]
fn our_side_begins_with_settings() {
    let mut client = Client::silent(Config { max_concurrent_streams: 7, keepalive: NO_KEEPALIVE });
    let seen = client.seen();
    assert_eq!(seen[0].kind, kind::SETTINGS);
    let entries: Vec<&[u8]> = seen[0].payload.chunks(6).collect();
    assert!(entries.contains(&[0, 3, 0, 0, 0, 7].as_slice()), "MAX_CONCURRENT_STREAMS");
    assert!(entries.contains(&[[0, 4].as_slice(), &STREAM_WINDOW.to_be_bytes()].concat().as_slice()));
    assert_eq!(seen[1].kind, kind::WINDOW_UPDATE);
    assert_eq!(seen[1].payload, (CONNECTION_WINDOW - 65_535).to_be_bytes());
}

#[test]
fn section_3_4_the_preface() {
    let config = Config { max_concurrent_streams: u32::MAX, keepalive: NO_KEEPALIVE };
    for step in 1..=40 {
        let mut client = Client::silent(config);
        let bytes = [PREFACE.as_slice(), &settings(&[]), &get(1)].concat();
        for piece in bytes.chunks(step) {
            client.send(&[piece.to_vec()]);
        }
        assert!(client.body(1).1, "pieces of {step}");
    }
    for (name, first) in [
        ("not the preface", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec()),
        ("no settings behind it", [PREFACE.to_vec(), get(1)].concat()),
        ("an acknowledgement behind it", [PREFACE.to_vec(), frame(kind::SETTINGS, 1, 0, &[])].concat()),
    ] {
        let mut client = Client::silent(config);
        client.send(&[first]);
        assert_eq!(fate(&client.seen()), Dies(PROTOCOL), "{name}");
    }
}

#[test]
fn section_4_frames() {
    let large = vec![0; 16_385];
    check(&[
        ("4.1 unknown types are ignored", vec![frame(0xf0, 0xff, 9, b"what"), get(1)], Fine),
        ("4.1 unknown flags are ignored", vec![headers(1, END | END_HEADERS | 0xd2 & !0x28, REQUEST)], Fine),
        ("4.2 a frame of full size", vec![post(1), data(1, END, &large[..16_384])], Fine),
        ("4.2 a frame too large", vec![post(1), data(1, END, &large)], Dies(SIZE)),
        ("4.2 settings too large", vec![frame(kind::SETTINGS, 0, 0, &large)], Dies(SIZE)),
        ("4.3 a block that cannot be decoded", vec![headers(1, END | END_HEADERS, &[0x80])], {
            Dies(ErrorCode::COMPRESSION_ERROR)
        }),
        ("4.3 a block interrupted by another stream", vec![headers(1, END, REQUEST), get(3)], Dies(PROTOCOL)),
        ("4.3 a block interrupted by an unknown frame", vec![headers(1, END, REQUEST), frame(0xf0, 0, 0, &[])], {
            Dies(PROTOCOL)
        }),
    ]);
}

#[test]
fn section_5_1_stream_states() {
    check(&[
        ("idle: DATA", vec![data(1, 0, b"x")], Dies(PROTOCOL)),
        ("idle: RST_STREAM", vec![reset(1)], Dies(PROTOCOL)),
        ("idle: WINDOW_UPDATE", vec![window_update(1, 1)], Dies(PROTOCOL)),
        ("idle: CONTINUATION", vec![frame(kind::CONTINUATION, END_HEADERS, 1, REQUEST)], Dies(PROTOCOL)),
        ("idle: PRIORITY is fine", vec![frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 9]), get(1)], Fine),
        ("half-closed: DATA", vec![get(1), data(1, 0, b"x")], Resets(1, CLOSED)),
        ("half-closed: HEADERS", vec![get(1), get(1)], Resets(1, CLOSED)),
        ("half-closed: WINDOW_UPDATE is fine", vec![get(1), window_update(1, 1)], Fine),
        ("half-closed: PRIORITY is fine", vec![get(1), frame(kind::PRIORITY, 0, 1, &[0; 5])], Fine),
        ("half-closed: RST_STREAM is fine", vec![get(1), reset(1)], Fine),
        ("reset by the client: DATA", vec![post(1), reset(1), data(1, 0, b"x")], Resets(1, CLOSED)),
        ("reset by the client: HEADERS", vec![post(1), reset(1), get(1)], Dies(CLOSED)),
        ("reset by the client: WINDOW_UPDATE is late", vec![post(1), reset(1), window_update(1, 1)], Fine),
        ("reset by the client: RST_STREAM is late", vec![post(1), reset(1), reset(1)], Fine),
        ("5.1.1 an even identifier", vec![get(2)], Dies(PROTOCOL)),
        ("5.1.1 stream zero", vec![get(0)], Dies(PROTOCOL)),
        ("5.1.1 an identifier below the last", vec![get(5), get(3)], Dies(PROTOCOL)),
        ("5.1.1 identifiers may be left out", vec![get(1), get(99)], Fine),
    ]);
}

#[test]
fn section_5_1_after_our_answer_or_reset() {
    let mut client = Client::new();
    client.send(&[get(1), post(3), headers(5, END_HEADERS, &request_with("Upper", "x"))]);
    client.answer(1, b"");
    client.answer(3, b"");
    let seen = client.seen();
    let rst: Vec<_> = seen.iter().filter(|frame| frame.kind == kind::RST_STREAM).collect();
    assert_eq!((rst[0].stream, rst[0].code()), (5, PROTOCOL));
    assert_eq!((rst[1].stream, rst[1].code()), (3, ErrorCode::NO_ERROR), "we need no more of it");
    client.send(&[data(3, 0, b"late"), headers(3, END | END_HEADERS, &literal("a", "b")), data(5, END, b"late")]);
    assert_eq!(fate(&client.seen()), Fine, "what crosses our reset is ignored");
    client.send(&[data(1, 0, b"wrong")]);
    assert_eq!(fate(&client.seen()), Resets(1, CLOSED));
}

#[test]
fn section_5_1_2_concurrency() {
    let mut client = Client::with(Config { max_concurrent_streams: 2, keepalive: NO_KEEPALIVE });
    client.send(&[post(1), post(3), post(5)]);
    assert_eq!(fate(&client.seen()), Resets(5, ErrorCode::REFUSED_STREAM));
    client.send(&[data(1, END, b"")]);
    client.answer(1, b"");
    client.send(&[post(7)]);
    assert!(client.seen().iter().all(|frame| frame.kind != kind::RST_STREAM));
    assert_eq!(client.connection.stream_count(), 2);
}

#[test]
fn section_6_1_data() {
    check(&[
        ("on stream zero", vec![data(0, END, b"x")], Dies(PROTOCOL)),
        ("padding fills the frame", vec![post(1), data(1, END | flag::PADDED, &[3, 0, 0, 0])], Fine),
        ("padding exceeds the frame", vec![post(1), data(1, END | flag::PADDED, &[4, 0, 0, 0])], Dies(PROTOCOL)),
        ("padded but empty", vec![post(1), data(1, END | flag::PADDED, &[])], Dies(SIZE)),
    ]);
    let mut client = Client::new();
    client.send(&[post(1), data(1, flag::PADDED, b"\x02ab\0\0"), data(1, 0, b"c"), data(1, END, b"")]);
    assert_eq!(client.body(1), (b"abc".to_vec(), true));
}

#[test]
fn section_6_2_headers() {
    let padded = [&[2], REQUEST, &[0, 0]].concat();
    let prioritized = [&[0, 0, 0, 9, 1], REQUEST].concat();
    let both = [&[1, 0, 0, 0, 9, 1], REQUEST, &[0]].concat();
    let itself = [&[0, 0, 0, 1, 1], REQUEST].concat();
    let flags = END | END_HEADERS;
    check(&[
        ("padded", vec![headers(1, flags | flag::PADDED, &padded)], Fine),
        ("with priority", vec![headers(1, flags | flag::PRIORITY, &prioritized)], Fine),
        ("padded and with priority", vec![headers(1, flags | flag::PADDED | flag::PRIORITY, &both)], Fine),
        ("padding exceeds the frame", vec![headers(1, flags | flag::PADDED, &[9, 0x82])], Dies(PROTOCOL)),
        (
            "padding exceeds what is behind the priority",
            vec![headers(1, flags | 0x28, &[3, 0, 0, 0, 9, 1, 0x83, 0])],
            { Dies(PROTOCOL) },
        ),
        ("too short for its padding's length", vec![headers(1, flags | flag::PADDED, &[])], Dies(SIZE)),
        ("too short for its priority", vec![headers(1, flags | flag::PRIORITY, &[0, 0, 0])], Dies(SIZE)),
        ("depends on itself", vec![headers(1, flags | flag::PRIORITY, &itself)], Resets(1, PROTOCOL)),
    ]);
}

#[test]
fn section_6_3_to_6_8_control_frames() {
    let goaway = |stream, payload: &[u8]| frame(kind::GOAWAY, 0, stream, payload);
    check(&[
        ("6.3 PRIORITY of the connection", vec![frame(kind::PRIORITY, 0, 0, &[0; 5])], Dies(PROTOCOL)),
        ("6.3 PRIORITY of four bytes", vec![get(1), frame(kind::PRIORITY, 0, 1, &[0; 4])], Resets(1, SIZE)),
        ("6.3 PRIORITY on itself", vec![get(1), frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 1, 0])], Resets(1, PROTOCOL)),
        ("6.4 RST_STREAM of the connection", vec![reset(0)], Dies(PROTOCOL)),
        ("6.4 RST_STREAM of three bytes", vec![get(1), frame(kind::RST_STREAM, 0, 1, &[0; 3])], Dies(SIZE)),
        ("6.5 SETTINGS of a stream", vec![frame(kind::SETTINGS, 0, 1, &[])], Dies(PROTOCOL)),
        ("6.5 SETTINGS of five bytes", vec![frame(kind::SETTINGS, 0, 0, &[0; 5])], Dies(SIZE)),
        ("6.5 acknowledgement with payload", vec![frame(kind::SETTINGS, 1, 0, &[0; 6])], Dies(SIZE)),
        ("6.5.2 ENABLE_PUSH of 2", vec![settings(&[(setting::ENABLE_PUSH, 2)])], Dies(PROTOCOL)),
        ("6.5.2 a window too large", vec![settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)])], Dies(FLOW)),
        ("6.5.2 frames too small", vec![settings(&[(setting::MAX_FRAME_SIZE, 16_383)])], Dies(PROTOCOL)),
        ("6.5.2 frames too large", vec![settings(&[(setting::MAX_FRAME_SIZE, 1 << 24)])], Dies(PROTOCOL)),
        ("6.5.2 unknown settings are ignored", vec![settings(&[(0xff, 1)])], Fine),
        ("6.6 PUSH_PROMISE", vec![get(1), frame(kind::PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])], Dies(PROTOCOL)),
        ("6.7 PING of a stream", vec![frame(kind::PING, 0, 1, &[0; 8])], Dies(PROTOCOL)),
        ("6.7 PING of seven bytes", vec![frame(kind::PING, 0, 0, &[0; 7])], Dies(SIZE)),
        ("6.7 an answer to no ping", vec![frame(kind::PING, 1, 0, &[9; 8])], Fine),
        ("6.8 GOAWAY of a stream", vec![goaway(1, &[0; 8])], Dies(PROTOCOL)),
        ("6.8 GOAWAY of seven bytes", vec![goaway(0, &[0; 7])], Dies(SIZE)),
        ("6.8 GOAWAY is no end", vec![goaway(0, &[0; 8]), get(1)], Fine),
        ("6.9 of three bytes", vec![frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3])], Dies(SIZE)),
        ("6.9 of nothing", vec![window_update(0, 0)], Dies(PROTOCOL)),
        ("6.9 of nothing on a stream", vec![get(1), window_update(1, 0)], Resets(1, PROTOCOL)),
        ("6.9 the reserved bit is ignored", vec![window_update(0, (1 << 31) | 1)], Fine),
        ("6.9.1 overflow", vec![window_update(0, (1 << 31) - 1)], Dies(FLOW)),
        ("6.9.1 overflow of a stream", vec![get(1), window_update(1, (1 << 31) - 1)], Resets(1, FLOW)),
    ]);
}

#[test]
fn section_6_5_3_settings_are_acknowledged_and_6_7_pings_answered() {
    let mut client = Client::new();
    client.send(&[settings(&[(setting::MAX_FRAME_SIZE, 20_000)]), frame(kind::PING, 0, 0, b"12345678")]);
    let seen = client.seen();
    assert_eq!(seen[0], Seen { kind: kind::SETTINGS, flags: flag::ACK, stream: 0, payload: vec![] });
    assert_eq!(seen[1], Seen { kind: kind::PING, flags: flag::ACK, stream: 0, payload: b"12345678".to_vec() });
    assert_eq!(seen.len(), 2);
}

#[test]
fn section_6_9_what_we_grant() {
    let mut client = Client::new();
    client.send(&[post(1)]);
    let full = vec![0; 16_384];
    let mut granted = (0u64, 0u64);
    let rounds = 400;
    for _ in 0..rounds {
        client.send(&[data(1, 0, &full)]);
        for frame in client.seen() {
            assert_eq!(frame.kind, kind::WINDOW_UPDATE);
            let increment = u64::from(u32::from_be_bytes(frame.payload.try_into().unwrap()));
            if frame.stream == 0 { granted.0 += increment } else { granted.1 += increment }
        }
    }
    let sent = 16_384 * rounds;
    assert!(granted.0 <= sent && sent - granted.0 < CONNECTION_WINDOW as u64 / 2);
    assert!(granted.1 <= sent && sent - granted.1 < STREAM_WINDOW as u64 / 2);
}

#[test]
fn section_6_9_what_we_grant_also_counts_padding_and_closed_streams() {
    let mut client = Client::new();
    client.send(&[post(1)]);
    client.connection.reset(client.key(1), ErrorCode::CANCEL);
    client.seen();
    let padded = [&[255], vec![0; 16_383].as_slice()].concat();
    let mut granted = 0;
    for _ in 0..CONNECTION_WINDOW / 16_384 {
        client.send(&[data(1, flag::PADDED, &padded)]);
        granted += client.seen().iter().filter(|frame| frame.kind == kind::WINDOW_UPDATE).count();
    }
    assert_eq!(granted, 2);
    assert!(!client.connection.is_closed());
}

#[test]
fn section_6_9_1_a_client_that_sends_too_much() {
    let mut client = Client::new();
    client.send(&[post(1)]);
    // Nothing is granted for the stream once it has ended, so the last frame must fit what is left.
    let full = vec![0; 16_384];
    client.connection.recv_window = 20_000;
    client.send(&[data(1, 0, &full), data(1, 0, &full)]);
    assert_eq!(fate(&client.seen()), Dies(FLOW));

    let mut client = Client::new();
    client.send(&[post(1)]);
    let key = client.key(1);
    client.connection.streams.get_mut(key).unwrap().recv_window = 20_000;
    client.send(&[data(1, 0, &full), data(1, 0, &full)]);
    assert_eq!(fate(&client.seen()), Resets(1, FLOW));
    assert!(matches!(client.events.last(), Some(Event::Reset { .. })));
}

fn body_bytes(seen: &[Seen], stream: u32) -> usize {
    seen.iter()
        .filter(|frame| frame.kind == kind::DATA && frame.stream == stream)
        .map(|frame| frame.payload.len())
        .sum()
}

fn has_ended(seen: &[Seen], stream: u32) -> bool {
    seen.iter().any(|frame| frame.stream == stream && frame.kind == kind::HEADERS && frame.flags & END != 0)
}

#[test]
fn section_6_9_2_windows_bound_what_we_send() {
    let mut client = Client::new();
    client.send(&[settings(&[(setting::INITIAL_WINDOW_SIZE, 10)]), get(1)]);
    client.answer(1, &[7; 100]);
    let seen = client.seen();
    assert_eq!((body_bytes(&seen, 1), has_ended(&seen, 1)), (10, false));
    client.send(&[window_update(1, 5)]);
    assert_eq!(body_bytes(&client.seen(), 1), 5);

    // The window shrinks below what is used: it becomes negative, and has to be made up for.
    client.send(&[settings(&[(setting::INITIAL_WINDOW_SIZE, 0)])]);
    client.send(&[window_update(1, 9)]);
    assert_eq!(body_bytes(&client.seen(), 1), 0, "the window is -1");
    client.send(&[window_update(1, 1)]);
    assert_eq!(body_bytes(&client.seen(), 1), 0, "the window is 0");
    client.send(&[window_update(1, 1)]);
    assert_eq!(body_bytes(&client.seen(), 1), 1);
    client.send(&[settings(&[(setting::INITIAL_WINDOW_SIZE, 1000)])]);
    let seen = client.seen();
    assert_eq!((body_bytes(&seen, 1), has_ended(&seen, 1)), (84, true), "the rest, then the trailers");
}

#[test]
fn section_6_9_2_a_change_that_overflows_a_window() {
    let mut client = Client::new();
    client.send(&[get(1), window_update(1, (1 << 31) - 1 - 65_535)]);
    client.send(&[settings(&[(setting::INITIAL_WINDOW_SIZE, 65_536)])]);
    assert_eq!(fate(&client.seen()), Dies(FLOW));
}

#[test]
fn section_6_9_the_connection_window_is_shared_fairly() {
    let mut client = Client::new();
    client.send(&[settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]), get(1), get(3)]);
    for stream in [1, 3] {
        client.answer(stream, &[7; 100_000]);
    }
    let seen = client.seen();
    let (first, second) = (body_bytes(&seen, 1), body_bytes(&seen, 3));
    assert_eq!(first + second, 65_535, "no more than the connection's window");
    assert!(first.abs_diff(second) <= 16_384, "{first} and {second}");
    client.send(&[window_update(0, 1 << 20)]);
    let seen = client.seen();
    assert_eq!((body_bytes(&seen, 1), body_bytes(&seen, 3)), (100_000 - first, 100_000 - second));
    assert!(has_ended(&seen, 1) && has_ended(&seen, 3));
}

#[test]
fn section_4_2_our_frames_respect_the_clients_size() {
    for size in [16_384, 20_000] {
        let mut client = Client::new();
        client.send(&[
            settings(&[(setting::MAX_FRAME_SIZE, size), (setting::INITIAL_WINDOW_SIZE, 1 << 20)]),
            window_update(0, 1 << 20),
            get(1),
        ]);
        client.answer(1, &[7; 50_000]);
        let seen = client.seen();
        let largest = seen.iter().map(|frame| frame.payload.len()).max().unwrap();
        assert_eq!(largest, size as usize);
        assert_eq!(body_bytes(&seen, 1), 50_000);
    }
}

#[test]
fn section_6_10_continuation() {
    let piece = |end| frame(kind::CONTINUATION, if end { END_HEADERS } else { 0 }, 1, &REQUEST[1..2]);
    check(&[
        ("none begun", vec![get(1), piece(true)], Dies(PROTOCOL)),
        ("of another stream", vec![headers(3, END, &[0x83]), piece(true)], Dies(PROTOCOL)),
        ("of stream zero", vec![headers(1, END, &[0x83]), frame(kind::CONTINUATION, 4, 0, &[])], Dies(PROTOCOL)),
        ("behind the end", vec![headers(1, END, &[0x83, 0x84]), piece(true), piece(true)], Dies(PROTOCOL)),
    ]);
    let mut client = Client::new();
    let rest = |flags, block: &[u8]| frame(kind::CONTINUATION, flags, 1, block);
    client.send(&[headers(1, END, &[]), rest(0, &REQUEST[..1]), rest(0, &[]), rest(END_HEADERS, &REQUEST[1..])]);
    assert!(client.body(1).1);
}

#[test]
fn section_6_10_long_blocks_are_split() {
    let mut client = Client::new();
    client.send(&[get(1)]);
    let key = client.key(1);
    let text = "x".repeat(40_000);
    client.connection.send_head_only(key, |encoder, out| encoder.literal(out, b"grpc-message", text.as_bytes()));
    let seen = client.seen();
    let shape: Vec<_> = seen.iter().map(|frame| (frame.kind, frame.flags)).collect();
    assert_eq!(shape, [(kind::HEADERS, END), (kind::CONTINUATION, 0), (kind::CONTINUATION, END_HEADERS)]);
    assert!(seen.iter().map(|frame| frame.payload.len()).sum::<usize>() > 40_000);
}

#[test]
fn section_8_malformed_requests_lose_their_stream() {
    let flags = END | END_HEADERS;
    let block = |block: &[u8]| vec![headers(1, flags, block)];
    let length = |text: &str, payload: &[u8]| {
        vec![headers(1, END_HEADERS, &request_with("content-length", text)), data(1, END, payload)]
    };
    let trailers = |flags, block: &[u8]| vec![post(1), headers(1, flags, block)];
    let reset = || Resets(1, PROTOCOL);
    check(&[
        ("8.2.1 capital letters", block(&request_with("Token", "x")), reset()),
        ("8.2.1 a blank before the value", block(&request_with("token", " x")), reset()),
        ("8.2.1 a line end in the value", block(&request_with("token", "a\nb")), reset()),
        ("8.2.2 a connection field", block(&request_with("connection", "x")), reset()),
        ("8.2.2 te: trailers", block(&request_with("te", "trailers")), Fine),
        ("8.2.2 te: gzip", block(&request_with("te", "gzip")), reset()),
        ("8.3 an unknown pseudo-header", block(&request_with(":other", "x")), reset()),
        ("8.3 a response pseudo-header", block(&request_with(":status", "200")), reset()),
        ("8.3 a pseudo-header behind a field", block(&[&REQUEST[..2], &literal("a", "b"), &[0x84]].concat()), reset()),
        ("8.3.1 no method", block(&[0x86, 0x84]), reset()),
        ("8.3.1 no scheme", block(&[0x83, 0x84]), reset()),
        ("8.3.1 no path", block(&[0x83, 0x86]), reset()),
        ("8.3.1 an empty path", block(&[&[0x83, 0x86], literal(":path", "").as_slice()].concat()), reset()),
        ("8.3.1 two methods", block(&[0x83, 0x83, 0x86, 0x84]), reset()),
        ("8.1.1 the length is right", length("3", b"abc"), Fine),
        ("8.1.1 the length is too large", length("4", b"abc"), reset()),
        ("8.1.1 the length is too small", length("2", b"abc"), reset()),
        ("8.1.1 a length without a body", block(&request_with("content-length", "1")), reset()),
        ("8.1 trailers", trailers(flags, &literal("a", "b")), Fine),
        ("8.1 trailers without an end", trailers(END_HEADERS, &literal("a", "b")), reset()),
        ("8.1 a pseudo-header in trailers", trailers(flags, &[0x84]), reset()),
        (
            "8.1 trailers before the whole length",
            vec![headers(1, END_HEADERS, &request_with("content-length", "9")), headers(1, flags, &literal("a", "b"))],
            reset(),
        ),
    ]);
    let mut client = Client::new();
    client.send(&[post(1), data(1, 0, b"x"), headers(1, flags, &literal("a", "b"))]);
    assert_eq!(client.body(1), (b"x".to_vec(), true));
}

#[test]
fn a_malformed_request_leaves_the_table_in_step() {
    let mut client = Client::new();
    // The malformed request inserts a field that the next one refers to.
    let insert = [0x40, 1, b'a', 1, b'b'];
    client.send(&[
        headers(1, END | END_HEADERS, &[&insert, REQUEST].concat()),
        headers(3, END | END_HEADERS, &[REQUEST, &[0xbe]].concat()),
    ]);
    assert_eq!(fate(&client.seen()), Resets(1, PROTOCOL));
    let Some(Event::Request { head, .. }) = client.events.last() else { panic!("the second is fine") };
    assert_eq!(head.get(b"a"), Some(b"b".as_slice()));
}

#[test]
fn section_10_5_1_too_many_fields() {
    let mut client = Client::new();
    // 100 bytes in the table, and one byte for each time they are referred to.
    let block = [REQUEST, &[0x40, 1, b'a', 67], &[b'x'; 67], &[0xbe; 1000]].concat();
    client.send(&[headers(1, END | END_HEADERS, &block)]);
    assert_eq!(fate(&client.seen()), Resets(1, SIZE));
    client.send(&[headers(3, END | END_HEADERS, &[REQUEST, &[0xbe]].concat())]);
    assert_eq!(fate(&client.seen()), Fine);
}

/// Sends the same frames again and again until the connection dies, at most so often.
fn repeat_until_dead(mut client: Client, times: usize, frames: impl Fn(u32) -> Vec<Vec<u8>>) -> Option<usize> {
    for n in 0..times {
        client.send(&frames(2 * n as u32 + 1));
        let seen = client.seen();
        if client.connection.is_closed() {
            assert_eq!(fate(&seen), Dies(CALM));
            return Some(n + 1);
        }
    }
    None
}

#[test]
fn floods_run_into_their_budgets() {
    let empty = |_| vec![data(1, 0, b"")];
    let mut open = Client::new();
    open.send(&[post(1)]);
    assert_eq!(repeat_until_dead(open, 20_000, empty), Some(10_001), "empty DATA");
    assert_eq!(repeat_until_dead(Client::new(), 20_000, |_| vec![frame(kind::PRIORITY, 0, 9, &[0; 5])]), Some(10_001));
    assert_eq!(repeat_until_dead(Client::new(), 20_000, |_| vec![frame(0xee, 0, 0, &[])]), Some(10_001), "unknown");
    // The client's first SETTINGS counts.
    assert_eq!(repeat_until_dead(Client::new(), 1000, |_| vec![settings(&[])]), Some(100));
    assert_eq!(repeat_until_dead(Client::new(), 2000, |n| vec![get(n), reset(n)]), Some(1001), "rapid reset");
    let malformed = |n| vec![headers(n, END | END_HEADERS, &[0x84])];
    assert_eq!(repeat_until_dead(Client::new(), 2000, malformed), Some(1001), "provoked resets");
    let mut begun = Client::new();
    begun.send(&[headers(1, 0, REQUEST)]);
    let continuation = |_| vec![frame(kind::CONTINUATION, 0, 1, &[])];
    assert_eq!(repeat_until_dead(begun, 100, continuation), Some(CONTINUATIONS_MAX as usize + 1));
    let mut begun = Client::new();
    begun.send(&[headers(1, 0, REQUEST)]);
    let long = |_| vec![frame(kind::CONTINUATION, 0, 1, &[0; 16_000])];
    assert_eq!(repeat_until_dead(begun, 100, long), Some(HEADER_BLOCK_BYTES_MAX / 16_000 + 1));
}

#[test]
fn answered_streams_pay_for_resets() {
    let mut client = Client::new();
    for n in 0..5000 {
        let (answered, abandoned) = (4 * n + 1, 4 * n + 3);
        client.send(&[get(answered), get(abandoned), reset(abandoned)]);
        client.answer(answered, b"x");
        client.send(&[window_update(0, 1)]);
        client.seen();
        client.events.clear();
    }
    assert!(!client.connection.is_closed());
}

#[test]
fn a_client_that_cancels_what_it_was_served_is_no_flood() {
    let mut client = Client::new();
    let streams: Vec<u32> = (0..5000).map(|n| 2 * n + 1).collect();
    for &stream in &streams {
        client.send(&[post(stream)]);
        let key = client.key(stream);
        client.connection.send_head(key, |encoder, out| encoder.status(out, 200));
        client.seen();
        client.events.clear();
    }
    let resets: Vec<Vec<u8>> = streams.iter().map(|&stream| reset(stream)).collect();
    client.send(&resets);
    assert!(!client.connection.is_closed(), "all at once");
    let resets = client.events.iter().filter(|event| matches!(event, Event::Reset { .. })).count();
    assert_eq!(resets, streams.len());
}

#[test]
fn an_answer_that_nobody_can_have_seen_does_not_pay_for_a_reset() {
    let mut client = Client::new();
    let abandoned = (0..2000).position(|n| {
        let stream = 2 * n + 1;
        client.send(&[post(stream)]);
        let key = client.key(stream);
        client.connection.send_head(key, |encoder, out| encoder.status(out, 200));
        client.events.clear();
        client.send(&[reset(stream)]);
        client.seen();
        client.connection.is_closed()
    });
    assert_eq!(abandoned, Some(1000));
}

#[test]
fn a_client_that_gives_up_after_a_long_wait_is_no_flood() {
    let mut client = Client::new();
    let streams: Vec<u32> = (0..2000).map(|n| 2 * n + 1).collect();
    client.send(&streams.iter().map(|&stream| get(stream)).collect::<Vec<_>>());
    client.now += PATIENT_STREAM_AGE;
    client.send(&streams.iter().map(|&stream| reset(stream)).collect::<Vec<_>>());
    assert!(!client.connection.is_closed());
}

#[test]
fn late_frames_of_answered_streams_are_no_flood() {
    let mut client = Client::new();
    for n in 0..30_000 {
        let stream = 2 * n + 1;
        client.send(&[post(stream)]);
        client.connection.reset(client.key(stream), ErrorCode::NO_ERROR);
        client.send(&[data(stream, END, b"x"), reset(stream)]);
        client.seen();
        client.events.clear();
    }
    assert!(!client.connection.is_closed());
}

#[test]
fn pings_are_limited_as_grpc_has_it() {
    let keepalive = KeepaliveConfig { min_time: Duration::from_secs(5), ..NO_KEEPALIVE };
    let config = Config { max_concurrent_streams: u32::MAX, keepalive };
    let ping = |_| vec![frame(kind::PING, 0, 0, &[0; 8])];
    assert_eq!(repeat_until_dead(Client::with(config), 10, ping), Some(4));
    let mut client = Client::with(config);
    client.send(&[get(1)]);
    for _ in 0..3 {
        client.send(&ping(0));
    }
    client.answer(1, b"");
    for _ in 0..3 {
        client.send(&ping(0));
    }
    assert!(!client.connection.is_closed(), "an answer in between forgives");
    client.send(&ping(0));
    let seen = client.seen();
    let goaway = seen.iter().find(|frame| frame.kind == kind::GOAWAY).unwrap();
    assert_eq!(&goaway.payload[8..], b"too_many_pings");
}

#[test]
fn a_silent_client_is_pinged_and_dropped() {
    let keepalive =
        KeepaliveConfig { interval: Duration::from_secs(7200), timeout: Duration::from_secs(20), ..NO_KEEPALIVE };
    let mut client = Client::with(Config { max_concurrent_streams: u32::MAX, keepalive });
    let due = client.connection.deadline().unwrap();
    assert_eq!(due, client.now + Duration::from_secs(7200));
    assert!(client.connection.on_timeout(due));
    let seen = client.seen();
    assert_eq!((seen[0].kind, seen[0].flags), (kind::PING, 0));
    client.now = due;
    client.send(&[frame(kind::PING, flag::ACK, 0, &seen[0].payload)]);
    assert!(client.connection.on_timeout(due + Duration::from_secs(20)));
    let due = client.connection.deadline().unwrap();
    assert!(client.connection.on_timeout(due));
    assert!(!client.connection.on_timeout(due + Duration::from_secs(20)), "the second ping is not answered");
}

#[test]
fn section_6_8_a_graceful_end() {
    let mut client = Client::new();
    client.send(&[get(1)]);
    client.connection.start_drain();
    let seen = client.seen();
    assert_eq!((seen[0].kind, seen[0].code()), (kind::GOAWAY, ErrorCode::NO_ERROR));
    assert_eq!(&seen[0].payload[..4], &[0x7f, 0xff, 0xff, 0xff]);
    assert_eq!(seen[1].kind, kind::PING);
    // A request that was on its way is still served.
    client.send(&[get(3), frame(kind::PING, flag::ACK, 0, &seen[1].payload)]);
    let seen = client.seen();
    assert_eq!((seen[0].kind, &seen[0].payload[..4]), (kind::GOAWAY, [0, 0, 0, 3].as_slice()));
    // One behind that is not: the client knows that it has to send it elsewhere.
    client.send(&[get(5)]);
    assert_eq!(fate(&client.seen()), Fine);
    assert_eq!(client.connection.stream_count(), 2);
    assert!(!client.connection.is_drained());
    client.answer(1, b"x");
    client.answer(3, b"y");
    assert!(client.connection.is_drained());
    let seen = client.seen();
    assert!(has_ended(&seen, 1) && has_ended(&seen, 3));
}

#[test]
fn nothing_is_sent_on_streams_that_are_gone() {
    let mut client = Client::new();
    client.send(&[get(1), reset(1), get(3)]);
    client.seen();
    client.answer(1, b"late");
    assert_eq!(client.seen(), []);
    client.answer(3, b"x");
    client.answer(3, b"again");
    assert_eq!(body_bytes(&client.seen(), 3), 1);
}

#[test]
fn a_large_body_is_not_copied_and_a_full_queue_reports_when_it_has_drained() {
    let mut client = Client::new();
    client.send(&[settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]), window_update(0, 1 << 20), get(1)]);
    let key = client.key(1);
    let body = Bytes::from(vec![7; 500_000]);
    client.connection.send_head(key, |encoder, out| encoder.status(out, 200));
    client.connection.send_bytes(key, body.clone());
    assert_eq!(client.connection.queued_bytes(key), 500_000);
    client.connection.flush();
    let mut slices = [std::io::IoSlice::new(&[]); 4];
    client.connection.output().fill(&mut slices);
    assert!(body.as_ptr_range().contains(&slices[1].as_ptr()), "the second slice lies in the body itself");
    assert_eq!(client.connection.poll_drained(), None);
    let mut total = 0;
    while client.connection.queued_bytes(key) > 0 {
        total += body_bytes(&client.seen(), 1);
    }
    assert_eq!(total + body_bytes(&client.seen(), 1), 500_000);
    assert_eq!(client.connection.poll_drained(), Some(key));
    assert_eq!(client.connection.poll_drained(), None);
}

#[test]
fn an_encoder_may_take_its_message_back() {
    let mut client = Client::new();
    client.send(&[get(1)]);
    let key = client.key(1);
    client.connection.send_encoded(key, |out| {
        out.extend_from_slice(b"never mind");
        false
    });
    assert!(!client.seen().iter().any(|frame| frame.stream == 1));
}
