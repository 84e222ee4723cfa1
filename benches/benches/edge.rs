//! The edge of a request by itself, in memory: HTTP/2 and gRPC in both directions, and the API's messages.
//! `cargo bench -p plinth-benches --bench edge`.
#![allow(missing_docs, reason = "criterion's macros define undocumented functions")]

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use plinth_api::proto::etcdserverpb::{PutRequest, PutResponse, ResponseHeader};
use plinth_net::grpc::{
    Action, CallKey, CallLimits, Code, GrpcConnection, Method, MethodKind, MethodTable, Status, Tally, Timing,
};
use plinth_net::h2::frame::{PREFACE, StreamId, begin_frame, end_frame, flag, kind, put_settings, put_window_update};
use plinth_net::h2::{Config, KeepaliveConfig};
use plinth_net::transport::{Peer, PeerAddress};
use prost::Message;
use std::cell::Cell;
use std::hint::black_box;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Requests that arrive with one read, as ten streams of a busy client do.
const CALLS: u32 = 10;
/// More than an answer with its prefix has, and so little more that no run overflows the window.
const ANSWER_BYTES_MAX: u32 = 48;
const METHODS: &[Method] = &[Method { path: "/etcdserverpb.KV/Put", kind: MethodKind::Unary }];
/// `:method POST`, `:scheme http`, the path, `content-type`, `te`: literals that do not enter the dynamic table.
const FIELDS: [(&[u8], &str); 3] =
    [(&[0x04], "/etcdserverpb.KV/Put"), (&[0x0f, 0x10], "application/grpc"), (&[0x00, 2, b't', b'e'], "trailers")];

fn put_request() -> PutRequest {
    let key = b"/registry/pods/default/00000007".as_slice();
    PutRequest { key: Bytes::from_static(key), value: Bytes::from_static(&[b'v'; 256]), ..PutRequest::default() }
}

fn connection() -> GrpcConnection {
    let limits = CallLimits {
        max_recv_message_bytes: 2 << 20,
        max_in_flight_per_reactor: usize::MAX,
        overload: Status::new(Code::Unknown, "too many"),
        abandoned: Status::OK,
        in_flight_on_reactor: Rc::new(Cell::new(0)),
        http: None,
        tally: Arc::new(Tally::new(METHODS.len(), Timing::default())),
    };
    let keepalive =
        KeepaliveConfig { min_time: Duration::from_secs(5), interval: Duration::ZERO, timeout: Duration::ZERO };
    let config = Config { max_concurrent_streams: u32::MAX, keepalive };
    let peer = Peer::in_clear(PeerAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 1))));
    let methods = Rc::new(MethodTable::new(METHODS));
    GrpcConnection::new(config, Rc::new(limits), methods, Rc::new(peer), Instant::now())
}

/// A client that sends the same requests on ever new streams.
struct Client {
    next_stream: u32,
    head: Vec<u8>,
    framed: Vec<u8>,
}

impl Client {
    fn new(message: &impl Message) -> Client {
        let mut head = vec![0x83, 0x86];
        for (name, value) in FIELDS {
            head.extend_from_slice(name);
            head.push(u8::try_from(value.len()).expect("short"));
            head.extend_from_slice(value.as_bytes());
        }
        let mut framed = vec![0];
        framed.extend_from_slice(&u32::try_from(message.encoded_len()).expect("short").to_be_bytes());
        message.encode(&mut framed).expect("a vector grows");
        Client { next_stream: 1, head, framed }
    }

    fn preface() -> Bytes {
        let mut out = PREFACE.to_vec();
        put_settings(&mut out, &[]);
        out.into()
    }

    fn requests(&mut self) -> Bytes {
        let mut out = Vec::new();
        // Credit for the answers of the requests that follow, each with its prefix.
        put_window_update(&mut out, StreamId::CONNECTION, CALLS * ANSWER_BYTES_MAX);
        for _ in 0..CALLS {
            let stream = StreamId::from_wire(self.next_stream);
            // Stream numbers end with 31 bits; no run gets there.
            self.next_stream += 2;
            let at = begin_frame(&mut out, kind::HEADERS, flag::END_HEADERS, stream);
            out.extend_from_slice(&self.head);
            end_frame(&mut out, at);
            let at = begin_frame(&mut out, kind::DATA, flag::END_STREAM, stream);
            out.extend_from_slice(&self.framed);
            end_frame(&mut out, at);
        }
        out.into()
    }
}

/// Takes what was read and returns the calls.
fn receive(connection: &mut GrpcConnection, read: Bytes, calls: &mut Vec<CallKey>) {
    let now = Instant::now();
    connection.h2().receive(read, now);
    while let Some(action) = connection.next_action(now) {
        if let Action::Unary { key, body, .. } = action {
            black_box(body);
            calls.push(key);
        }
    }
}

/// Hands all output to a socket that takes everything.
fn write(connection: &mut GrpcConnection) -> usize {
    let mut total = 0;
    loop {
        let output = connection.h2().output();
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = output.fill(&mut slices);
        let count = slices[..filled].iter().map(|slice| black_box(slice).len()).sum();
        if count == 0 {
            return total;
        }
        output.advance(count);
        total += count;
    }
}

fn calls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("edge");
    group.throughput(Throughput::Elements(CALLS.into()));
    let (mut connection, mut client) = (connection(), Client::new(&put_request()));
    let mut keys = Vec::new();
    receive(&mut connection, Client::preface(), &mut keys);
    write(&mut connection);
    let header = ResponseHeader { cluster_id: u64::MAX, member_id: u64::MAX, revision: 1 << 20, raft_term: 2 };
    let answer = PutResponse { header: Some(header), ..PutResponse::default() }.encode_to_vec();
    assert!(answer.len() + 5 <= ANSWER_BYTES_MAX as usize, "credit is enough");
    group.bench_function("ten unary calls of one read", |bench| {
        bench.iter_batched(
            || client.requests(),
            |read| {
                receive(&mut connection, read, &mut keys);
                assert!(keys.len() == CALLS as usize, "every call arrives");
                for key in keys.drain(..) {
                    connection.message(key, &mut |out| out.extend_from_slice(&answer), true);
                }
                assert!(write(&mut connection) > 0, "every call is answered");
            },
            criterion::BatchSize::SmallInput,
        );
    });
}

fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("messages");
    let encoded = Bytes::from(put_request().encode_to_vec());
    group.bench_function("decode a PutRequest", |bench| {
        bench.iter(|| PutRequest::decode(black_box(encoded.clone())).expect("encoded above"));
    });
}

criterion_group!(edge, calls, messages);
criterion_main!(edge);
