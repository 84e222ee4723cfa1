//! Requests as HTTP/2 frames. The fields of a request head enter the dynamic table with their first use, so that every
//! further request of a method has a head of a few bytes, as with other gRPC clients.

use super::BODY_BYTES_MAX;
use crate::endpoint::Endpoint;
use crate::grpc::Method;
use plinth_net::h2::frame::{
    FRAME_BYTES_DEFAULT, PREFACE, StreamId, WINDOW_DEFAULT, WINDOW_MAX, begin_frame, end_frame, flag, kind,
    put_settings, put_window_update, setting,
};
use std::rc::Rc;

/// Index of the newest entry of HPACK's dynamic table.
const NEWEST: usize = 62;
/// Bytes waiting to be sent beyond which no further request is begun.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// The sending side of a connection.
pub struct Requests {
    out: Vec<u8>,
    /// How much of `out` has been sent.
    sent: usize,
    next_stream: u32,
    in_flight: usize,
    /// What the peer allows at once.
    streams_max: usize,
    /// What may be sent on the connection before the peer gives credit, and on a new stream.
    window: i64,
    stream_window: i64,
    frame_bytes_max: usize,
    endpoint: Endpoint,
    /// Paths in the dynamic table, with the number of entries there were when each was entered.
    paths: Vec<(Rc<Method>, usize)>,
    entries: usize,
}

impl Requests {
    /// Begins with the preface: as much window as there can be, and no push.
    pub fn new(address: Endpoint) -> Requests {
        let mut out = PREFACE.to_vec();
        let window = u32::try_from(WINDOW_MAX).expect("31 bits");
        put_settings(&mut out, &[(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, window)]);
        put_window_update(&mut out, StreamId::CONNECTION, window - WINDOW_DEFAULT.cast_unsigned());
        Requests {
            out,
            sent: 0,
            next_stream: 1,
            in_flight: 0,
            streams_max: usize::MAX,
            window: WINDOW_DEFAULT.into(),
            stream_window: WINDOW_DEFAULT.into(),
            frame_bytes_max: FRAME_BYTES_DEFAULT as usize,
            endpoint: address,
            paths: Vec::new(),
            entries: 0,
        }
    }

    /// Whether a further request may be begun.
    pub fn has_room(&self) -> bool {
        self.in_flight < self.streams_max && self.out.len() - self.sent < WAITING_BYTES_MAX
    }

    /// Whether the peer has given credit for a message of this size.
    pub fn fits(&self, framed: &[u8]) -> bool {
        framed.len() as i64 <= self.window
    }

    /// What waits to be sent.
    pub fn waiting(&self) -> &[u8] {
        &self.out[self.sent..]
    }

    /// Takes note that the first bytes of it have gone.
    pub fn taken(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
    }

    /// Appends a request; returns its stream.
    pub fn send(&mut self, method: &Rc<Method>, framed: &[u8]) -> u32 {
        assert!(framed.len() as i64 <= self.stream_window.min(BODY_BYTES_MAX as i64), "larger than a window");
        assert!(self.fits(framed), "asked before");
        let stream = StreamId::from_wire(self.next_stream);
        self.next_stream += 2;
        self.in_flight += 1;
        self.window -= framed.len() as i64;
        let at = begin_frame(&mut self.out, kind::HEADERS, flag::END_HEADERS, stream);
        self.head(method);
        end_frame(&mut self.out, at);
        let mut chunks = framed.chunks(self.frame_bytes_max).peekable();
        while let Some(chunk) = chunks.next() {
            let flags = if chunks.peek().is_none() { flag::END_STREAM } else { 0 };
            let at = begin_frame(&mut self.out, kind::DATA, flags, stream);
            self.out.extend_from_slice(chunk);
            end_frame(&mut self.out, at);
        }
        stream.get()
    }

    fn head(&mut self, method: &Rc<Method>) {
        // :method POST and both schemes are in the static table.
        self.out.extend_from_slice(&[0x83, if self.endpoint.tls.is_some() { 0x87 } else { 0x86 }]);
        let known = self.paths.iter().find(|(known, _)| Rc::ptr_eq(known, method)).map(|&(_, entry)| entry);
        match known {
            Some(entry) => self.indexed(entry),
            None => {
                self.literal(4, "", method.path());
                self.paths.push((method.clone(), self.entries));
            }
        }
        if self.paths.len() == 1 && known.is_none() {
            self.literal(1, "", &self.endpoint.to_string());
            self.literal(31, "", "application/grpc");
            self.literal(58, "", "plinth-perf");
            self.literal(0, "te", "trailers");
            if let Some(token) = self.endpoint.token {
                self.literal(0, "token", token);
            }
        } else {
            // Entered right behind the first path.
            (2..=5 + usize::from(self.endpoint.token.is_some())).for_each(|entry| self.indexed(entry));
        }
    }

    /// A field that was the `entry`-th to enter the dynamic table.
    fn indexed(&mut self, entry: usize) {
        let index = NEWEST + self.entries - entry;
        assert!(index < 127, "few methods are in use");
        self.out.push(0x80 | index as u8);
    }

    /// A field that enters the dynamic table; its name is that of a static entry, or spelled out.
    fn literal(&mut self, static_name: u8, name: &str, value: &str) {
        self.out.push(0x40 | static_name);
        for text in [name, value].into_iter().skip(usize::from(static_name != 0)) {
            self.length(text.len());
            self.out.extend_from_slice(text.as_bytes());
        }
        self.entries += 1;
    }

    /// The length of a text that is not compressed: seven bits, and if these are all ones, more (RFC 7541, 5.1).
    fn length(&mut self, length: usize) {
        if length < 127 {
            return self.out.push(length as u8);
        }
        self.out.push(127);
        let mut rest = length - 127;
        while rest >= 128 {
            self.out.push(0x80 | rest as u8);
            rest >>= 7;
        }
        self.out.push(rest as u8);
    }

    /// What the peer's settings say.
    pub fn settings(&mut self, window: Option<u32>, frame_bytes: Option<u32>, streams: Option<u32>) {
        self.stream_window = window.map_or(self.stream_window, i64::from);
        self.frame_bytes_max = frame_bytes.map_or(self.frame_bytes_max, |bytes| bytes as usize);
        self.streams_max = streams.map_or(self.streams_max, |streams| streams as usize);
    }

    /// Credit for the connection.
    pub fn credit(&mut self, bytes: u32) {
        self.window += i64::from(bytes);
    }

    /// A frame that answers one of the peer's.
    pub fn raw(&mut self, frame: &[u8]) {
        self.out.extend_from_slice(frame);
    }

    /// How many requests are still in flight.
    pub fn completed(&mut self, in_flight: usize) {
        self.in_flight = in_flight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_net::h2::frame::{FRAME_HEADER_BYTES, FrameHeader};
    use plinth_net::h2::hpack::Decoder;
    use std::net::SocketAddr;

    #[test]
    fn heads_decode_to_the_same_fields_every_time() {
        let long: &'static str = Box::leak("t".repeat(400).into_boxed_str());
        [None, Some("short"), Some(long)].into_iter().for_each(heads_decode);
    }

    fn heads_decode(token: Option<&'static str>) {
        let address = Endpoint { token, ..SocketAddr::from(([127, 0, 0, 1], 2379)).into() };
        let (put, range) = (Rc::new(Method::new(address, "/kv/Put")), Rc::new(Method::new(address, "/kv/Range")));
        let mut requests = Requests::new(address);
        requests.out.clear();
        for method in [&put, &range, &put, &range, &range] {
            requests.send(method, &[0; 40_000]);
            requests.window = WINDOW_MAX;
        }
        let mut decoder = Decoder::new(4096);
        let (mut at, mut heads, mut data) = (0, Vec::new(), 0);
        while at < requests.out.len() {
            let header = FrameHeader::parse(requests.out[at..][..FRAME_HEADER_BYTES].try_into().expect("nine bytes"));
            let payload = &requests.out[at + FRAME_HEADER_BYTES..][..header.length as usize];
            at += FRAME_HEADER_BYTES + payload.len();
            if header.kind == kind::DATA {
                data += payload.len();
                continue;
            }
            let mut fields = Vec::new();
            decoder.decode(payload, 4096, &mut fields).expect("decodes");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            heads.push(fields.iter().map(|field| (text(field.name()), text(field.value()))).collect::<Vec<_>>());
        }
        assert_eq!((heads.len(), data), (5, 200_000));
        for (head, path) in heads.iter().zip(["/kv/Put", "/kv/Range", "/kv/Put", "/kv/Range", "/kv/Range"]) {
            let expected = [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", path),
                (":authority", "127.0.0.1:2379"),
                ("content-type", "application/grpc"),
                ("user-agent", "plinth-perf"),
                ("te", "trailers"),
            ];
            let expected = expected.into_iter().chain(token.map(|token| ("token", token)));
            let expected: Vec<_> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            assert_eq!(head, &expected);
        }
    }
}
