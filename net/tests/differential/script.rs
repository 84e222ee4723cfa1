//! Scripts of frames: hostile ones, with every field wrong now and then, which end soon; and those of a sound client,
//! which go on for long.

use proptest::prelude::*;

/// One frame.
#[derive(Clone, PartialEq, Eq)]
pub struct Op {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMES: [&str; 10] = [
            "DATA",
            "HEADERS",
            "PRIORITY",
            "RST_STREAM",
            "SETTINGS",
            "PUSH_PROMISE",
            "PING",
            "GOAWAY",
            "WINDOW_UPDATE",
            "CONTINUATION",
        ];
        let name = NAMES.get(self.kind as usize).copied().unwrap_or("UNKNOWN");
        write!(f, "{name} flags {:#04x} stream {} {}", self.flags, self.stream, self.payload.escape_ascii())
    }
}

impl Op {
    /// Whether this is a HEADERS frame whose priority is relative to its own stream.
    pub fn depends_on_itself(&self) -> bool {
        let at = if self.flags & PADDED != 0 { 1 } else { 0 };
        let dependency = self.payload.get(at..at + 4);
        self.kind == 1 && self.flags & PRIORITY != 0 && dependency == Some(self.stream.to_be_bytes().as_slice())
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = (self.payload.len() as u32).to_be_bytes()[1..].to_vec();
        out.extend_from_slice(&[self.kind, self.flags]);
        out.extend_from_slice(&self.stream.to_be_bytes());
        out.extend_from_slice(&self.payload);
        out
    }
}

fn op(kind: u8, flags: u8, stream: u32, payload: Vec<u8>) -> Op {
    Op { kind, flags, stream, payload }
}

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

fn stream() -> impl Strategy<Value = u32> {
    prop_oneof![8 => Just(1u32), 6 => Just(3), 4 => Just(5), 2 => Just(7), 1 => Just(0), 1 => Just(2)]
}

fn literal(first: u8, name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![first];
    for text in [name, value] {
        out.push(text.len() as u8);
        out.extend_from_slice(text.as_bytes());
    }
    out
}

/// One field of a header block.
fn field() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(literal(0x40, "token", "secret")),
        2 => Just(literal(0x00, "te", "trailers")),
        2 => Just(literal(0x10, "never", "indexed")),
        2 => (0u8..4).prop_map(|n| vec![0xbe + n]),
        2 => Just(literal(0x00, "content-length", "3")),
        1 => Just(literal(0x00, "content-length", "0")),
        1 => Just(literal(0x00, "content-length", "x")),
        1 => Just(literal(0x00, "te", "gzip")),
        1 => Just(literal(0x00, "Upper", "x")),
        1 => Just(literal(0x00, "connection", "close")),
        1 => Just(literal(0x00, ":status", "200")),
        1 => Just(literal(0x00, "line", "a\nb")),
        1 => Just(vec![0x82]),
        1 => Just(vec![0x20]),
        1 => Just(vec![0x3f, 0xe1, 0x1f]),
        1 => Just(vec![0x3f, 0xe2, 0x1f]),
        1 => Just(vec![0x80]),
        1 => Just(vec![0x40, 0x05, b'c', b'u', b't']),
    ]
}

/// A header block, of a request most of the time.
fn block() -> impl Strategy<Value = Vec<u8>> {
    let pseudo = prop_oneof![
        12 => Just(vec![0x83, 0x86, 0x84]),
        2 => Just([vec![0x83, 0x86], literal(0x40, ":path", "/other")].concat()),
        1 => Just(vec![0x83, 0x86]),
        1 => Just(vec![0x83, 0x84]),
        1 => Just(vec![0x86, 0x84]),
        3 => Just(vec![]),
    ];
    let fields = prop_oneof![
        3 => Just(Vec::new()),
        2 => prop::collection::vec(field(), 1..3).prop_map(|fields| fields.concat()),
    ];
    (pseudo, fields).prop_map(|(pseudo, fields)| [pseudo, fields].concat())
}

fn headers() -> impl Strategy<Value = Op> {
    let shape = prop_oneof![6 => Just(0u8), 1 => Just(PADDED), 1 => Just(PRIORITY), 1 => Just(PADDED | PRIORITY)];
    let end_headers = prop_oneof![8 => Just(END_HEADERS), 1 => Just(0)];
    (stream(), any::<bool>(), end_headers, shape, block(), 0u8..20, 0u8..10).prop_map(
        |(stream, end, end_headers, shape, block, padding, depends_on)| {
            let mut payload = Vec::new();
            if shape & PADDED != 0 {
                payload.push(padding);
            }
            if shape & PRIORITY != 0 {
                payload.extend_from_slice(&[0, 0, 0, depends_on, 7]);
            }
            payload.extend_from_slice(&block);
            if shape & PADDED != 0 {
                // Now and then less padding than announced.
                payload.resize(payload.len() + usize::from(padding.min(15)), 0);
            }
            op(1, shape | end_headers | if end { END_STREAM } else { 0 }, stream, payload)
        },
    )
}

fn data() -> impl Strategy<Value = Op> {
    let padding = prop_oneof![4 => Just(None), 1 => (0u8..6).prop_map(Some)];
    (stream(), any::<bool>(), prop_oneof![Just(0usize), Just(1), Just(3), Just(40)], padding).prop_map(
        |(stream, end, length, padding)| {
            let end = if end { END_STREAM } else { 0 };
            match padding {
                None => op(0, end, stream, vec![b'd'; length]),
                Some(padding) => {
                    let mut payload = vec![padding];
                    payload.resize(1 + length + usize::from(padding.min(4)), b'd');
                    op(0, end | PADDED, stream, payload)
                }
            }
        },
    )
}

fn settings() -> impl Strategy<Value = Op> {
    let entry = prop_oneof![
        4 => prop_oneof![Just(0u32), Just(10), Just(50), Just(65_535), Just(1 << 20)].prop_map(|n| (4u16, n)),
        1 => Just((4, 1 << 31)),
        1 => prop_oneof![Just(16_384u32), Just(20_000), Just(100), Just(1 << 24)].prop_map(|n| (5, n)),
        1 => prop_oneof![Just(0u32), Just(1), Just(2)].prop_map(|n| (2, n)),
        1 => prop_oneof![Just(0u32), Just(100), Just(4096), Just(10_000)].prop_map(|n| (1, n)),
        1 => Just((0x99, 7)),
    ];
    let stream = prop_oneof![20 => Just(0u32), 1 => Just(1)];
    let cut = prop_oneof![20 => Just(0usize), 1 => Just(1)];
    (stream, prop::collection::vec(entry, 0..3), cut).prop_map(|(stream, entries, cut)| {
        let mut payload = Vec::new();
        for (id, value) in entries {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        payload.truncate(payload.len().saturating_sub(cut));
        op(4, 0, stream, payload)
    })
}

fn window_update() -> impl Strategy<Value = Op> {
    let increment = prop_oneof![4 => Just(1u32), 4 => Just(30), 2 => Just(1000), 1 => Just(0), 1 => Just(0x7fff_ffff)];
    let length = prop_oneof![30 => Just(4usize), 1 => Just(3)];
    (stream(), increment, length)
        .prop_map(|(stream, increment, length)| op(8, 0, stream, increment.to_be_bytes()[..length].to_vec()))
}

fn other() -> impl Strategy<Value = Op> {
    let length = || prop_oneof![12 => Just(0usize), 1 => Just(1)];
    prop_oneof![
        4 => (stream(), length()).prop_map(|(stream, cut)| op(3, 0, stream, vec![0, 0, 0, 8][cut..].to_vec())),
        2 => (stream(), 0u8..8, length())
            .prop_map(|(stream, on, cut)| op(2, 0, stream, vec![0, 0, 0, on, 7][cut..].to_vec())),
        2 => (prop_oneof![8 => Just(0u32), 1 => Just(1)], any::<bool>(), length()).prop_map(|(stream, ack, cut)| {
            op(6, if ack { ACK } else { 0 }, stream, vec![9; 8][cut..].to_vec())
        }),
        1 => length().prop_map(|cut| op(4, ACK, 0, vec![0; 6 * cut])),
        1 => (stream(), block(), any::<bool>())
            .prop_map(|(stream, block, end)| op(9, if end { END_HEADERS } else { 0 }, stream, block)),
        1 => Just(op(5, END_HEADERS, 1, vec![0, 0, 0, 2, 0x82])),
        1 => (stream(), any::<u8>()).prop_map(|(stream, flags)| op(0x42, flags, stream, vec![1, 2, 3])),
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![6 => headers(), 5 => data(), 2 => settings(), 3 => window_update(), 3 => other()]
}

/// Anything goes.
pub fn hostile() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(any_op(), 1..14)
}

/// What a sound client does next. `which` chooses among the streams there are.
#[derive(Clone, Debug)]
enum Step {
    Open { end: bool, fields: u8, split: bool },
    Data { which: usize, length: usize, padding: Option<u8>, end: bool },
    Trailers { which: usize },
    Reset { which: usize },
    Window { which: Option<usize>, increment: u32 },
    InitialWindow(u32),
    FrameBytes(u32),
    TableBytes(u32),
    Ping,
    Priority { which: usize },
    Wild(Op),
}

fn step() -> impl Strategy<Value = Step> {
    let which = || 0..8usize;
    prop_oneof![
        8 => (any::<bool>(), 0u8..4, prop::bool::weighted(0.2))
            .prop_map(|(end, fields, split)| Step::Open { end, fields, split }),
        8 => (which(), prop_oneof![Just(0usize), Just(1), Just(100), Just(3000)], prop::option::of(0u8..40), any::<bool>())
            .prop_map(|(which, length, padding, end)| Step::Data { which, length, padding, end }),
        2 => which().prop_map(|which| Step::Trailers { which }),
        2 => which().prop_map(|which| Step::Reset { which }),
        4 => (prop::option::of(which()), prop_oneof![Just(1u32), Just(30), Just(5000)])
            .prop_map(|(which, increment)| Step::Window { which, increment }),
        3 => prop_oneof![Just(0u32), Just(1), Just(60), Just(99), Just(65_535)].prop_map(Step::InitialWindow),
        1 => (16_384u32..40_000).prop_map(Step::FrameBytes),
        1 => prop_oneof![Just(0u32), Just(60), Just(200), Just(4096), Just(9999)].prop_map(Step::TableBytes),
        1 => Just(Step::Ping),
        1 => which().prop_map(|which| Step::Priority { which }),
        1 => any_op().prop_map(Step::Wild),
    ]
}

/// A client that keeps the rules, but for a wild frame now and then.
pub fn sound() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(step(), 1..40).prop_map(|steps| {
        let mut client = SoundClient::default();
        steps.into_iter().for_each(|step| client.take(step));
        client.ops
    })
}

#[derive(Default)]
struct SoundClient {
    ops: Vec<Op>,
    /// Every stream that was opened, and whether the client may still send on it.
    streams: Vec<(u32, bool)>,
    /// Fields in the dynamic table.
    indexed: bool,
}

impl SoundClient {
    fn sendable(&self, which: usize) -> Option<usize> {
        let open: Vec<usize> = (0..self.streams.len()).filter(|place| self.streams[*place].1).collect();
        open.get(which % open.len().max(1)).copied()
    }

    fn any_stream(&self, which: usize) -> Option<u32> {
        self.streams.get(which % self.streams.len().max(1)).map(|stream| stream.0)
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Open { end, fields, split } => self.open(end, fields, split),
            Step::Data { which, length, padding, end } => {
                let Some(place) = self.sendable(which) else { return };
                let mut payload: Vec<u8> = padding.into_iter().collect();
                payload.extend((0..length).map(|n| n as u8));
                payload.resize(payload.len() + usize::from(padding.unwrap_or(0)), 0);
                let flags = if end { END_STREAM } else { 0 } | if padding.is_some() { PADDED } else { 0 };
                self.streams[place].1 = !end;
                self.ops.push(op(0, flags, self.streams[place].0, payload));
            }
            Step::Trailers { which } => {
                let Some(place) = self.sendable(which) else { return };
                self.streams[place].1 = false;
                let block = literal(0x40, "trailer", "x");
                self.indexed = false;
                self.ops.push(op(1, END_HEADERS | END_STREAM, self.streams[place].0, block));
            }
            Step::Reset { which } => {
                let Some(place) = self.sendable(which) else { return };
                self.streams[place].1 = false;
                self.ops.push(op(3, 0, self.streams[place].0, vec![0, 0, 0, 8]));
            }
            Step::Window { which, increment } => {
                let stream = which.and_then(|which| self.any_stream(which)).unwrap_or(0);
                self.ops.push(op(8, 0, stream, increment.to_be_bytes().to_vec()));
            }
            Step::InitialWindow(bytes) => self.setting(4, bytes),
            Step::FrameBytes(bytes) => self.setting(5, bytes),
            Step::TableBytes(bytes) => self.setting(1, bytes),
            Step::Ping => self.ops.push(op(6, 0, 0, vec![7; 8])),
            Step::Priority { which } => {
                let Some(stream) = self.any_stream(which) else { return };
                self.ops.push(op(2, 0, stream, vec![0, 0, 0, 0, 16]));
            }
            Step::Wild(op) => self.ops.push(op),
        }
    }

    fn setting(&mut self, id: u16, value: u32) {
        self.ops.push(op(4, 0, 0, [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()));
    }

    fn open(&mut self, end: bool, fields: u8, split: bool) {
        let stream = 2 * self.streams.len() as u32 + 1;
        let mut block = vec![0x83, 0x86, 0x84];
        match fields {
            0 => {}
            1 => block.extend(literal(0x00, "te", "trailers")),
            2 if self.indexed => block.push(0xbe),
            _ => {
                block.extend(literal(0x40, "token", "secret"));
                self.indexed = true;
            }
        }
        let end_flag = if end { END_STREAM } else { 0 };
        if split {
            let rest = block.split_off(2);
            self.ops.push(op(1, end_flag, stream, block));
            self.ops.push(op(9, END_HEADERS, stream, rest));
        } else {
            self.ops.push(op(1, end_flag | END_HEADERS, stream, block));
        }
        self.streams.push((stream, !end));
    }
}
