//! The floor under every call: Plinth's own transport with handlers that do nothing. It answers reads and writes with
//! a fixed header and has neither log nor store, so what it costs is sockets, HTTP/2 and gRPC, and the generator's
//! share of the machine. `plinth-perf compare` starts it beside the servers it measures.
//!
//! `cargo run --release -p plinth-net --example floor -- 127.0.0.1:50051 --value-bytes 256`

use bytes::Bytes;
use plinth_api::methods;
use plinth_api::proto::etcdserverpb::{PutResponse, RangeResponse, ResponseHeader, StatusResponse, TxnResponse};
use plinth_api::proto::mvccpb;
use plinth_net::grpc::{Call, Code, Method, MethodKind, Service, Status, StreamHandler, StreamReply, UnaryReply};
use plinth_net::rt;
use plinth_net::server::{ListenOptions, Listener, ServerOptions, Shutdown, serve};
use prost::Message;
use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;

const METHODS: &[Method] = &[
    Method { path: methods::RANGE.path, kind: MethodKind::Unary },
    Method { path: methods::PUT.path, kind: MethodKind::Unary },
    Method { path: methods::TXN.path, kind: MethodKind::Unary },
    Method { path: methods::STATUS.path, kind: MethodKind::Unary },
];

/// One encoded answer per method.
struct Floor {
    answers: [Bytes; METHODS.len()],
}

impl Floor {
    /// A read is answered with a value of this size.
    fn new(value_bytes: usize) -> Floor {
        let header = ResponseHeader { cluster_id: u64::MAX, member_id: u64::MAX, revision: 1 << 20, raft_term: 2 };
        let header = Some(header);
        let value = vec![b'x'; value_bytes].into();
        let pair = mvccpb::KeyValue { key: "key".into(), value, version: 1, ..Default::default() };
        let range = RangeResponse { header, kvs: vec![pair], count: 1, ..Default::default() };
        let put = PutResponse { header, ..Default::default() };
        let txn = TxnResponse { header, succeeded: true, ..Default::default() };
        let status = StatusResponse { header, version: "no server".to_owned(), leader: u64::MAX, ..Default::default() };
        let encoded = [range.encode_to_vec(), put.encode_to_vec(), txn.encode_to_vec(), status.encode_to_vec()];
        Floor { answers: encoded.map(Bytes::from) }
    }
}

impl Service for Floor {
    fn methods(&self) -> &'static [Method] {
        METHODS
    }

    fn unary(&self, method: usize, _call: &Call, body: Bytes, reply: UnaryReply) {
        drop(body);
        reply.send(|out| out.extend_from_slice(&self.answers[method]));
    }

    fn stream(&self, _method: usize, _call: &Call, reply: StreamReply) -> Box<dyn StreamHandler> {
        reply.finish(Status::new(Code::Unimplemented, "there are no streams here"));
        Box::new(Deaf)
    }
}

/// A stream that ended before it began.
struct Deaf;

impl StreamHandler for Deaf {
    fn message(&mut self, _body: Bytes) {}
    fn half_close(&mut self) {}
    fn writable(&mut self) {}
    fn closed(&mut self) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, flag, value_bytes] = &arguments[..] else {
        return Err("usage: floor ADDRESS --value-bytes N".into());
    };
    assert_eq!(flag, "--value-bytes");
    let (address, value_bytes): (SocketAddr, usize) = (address.parse()?, value_bytes.parse()?);
    let reactor = rt::reactor("floor", None, rt::RING_ENTRIES, move || async move {
        let listener = Listener::bind(address, ListenOptions::default())?;
        serve(listener, Rc::new(Floor::new(value_bytes)), ServerOptions::default(), Shutdown::new()).await;
        Ok::<(), std::io::Error>(())
    })?;
    reactor.join()??;
    Ok(())
}
