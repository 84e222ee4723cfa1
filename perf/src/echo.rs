//! The floor under every call: Plinth's own transport with handlers that do nothing. It answers reads and writes with
//! a fixed header and has neither log nor store, so what it costs is sockets, HTTP/2 and gRPC, and the generator's
//! share of the machine.

use crate::cli::EchoArgs;
use crate::scenario::Failure;
use bytes::Bytes;
use plinth_api::methods;
use plinth_api::proto::etcdserverpb::{PutResponse, RangeResponse, ResponseHeader, StatusResponse, TxnResponse};
use plinth_api::proto::mvccpb;
use plinth_net::grpc::{Call, Code, Method, MethodKind, Service, Status, StreamHandler, StreamReply, UnaryReply};
use plinth_net::rt;
use plinth_net::server::{ListenOptions, Listener, ServerOptions, Shutdown, serve};
use prost::Message;
use std::rc::Rc;

const METHODS: &[Method] = &[
    Method { path: methods::RANGE.path, kind: MethodKind::Unary },
    Method { path: methods::PUT.path, kind: MethodKind::Unary },
    Method { path: methods::TXN.path, kind: MethodKind::Unary },
    Method { path: methods::STATUS.path, kind: MethodKind::Unary },
];

/// One encoded answer per method.
struct Echo {
    answers: [Bytes; METHODS.len()],
}

impl Echo {
    /// A read is answered with a value of this size.
    fn new(value_bytes: usize) -> Echo {
        let header = ResponseHeader { cluster_id: u64::MAX, member_id: u64::MAX, revision: 1 << 20, raft_term: 2 };
        let header = Some(header);
        let value = crate::workload::value(value_bytes).into();
        let pair = mvccpb::KeyValue { key: crate::workload::key(0).into(), value, version: 1, ..Default::default() };
        let range = RangeResponse { header, kvs: vec![pair], count: 1, ..Default::default() };
        let put = PutResponse { header, ..Default::default() };
        let txn = TxnResponse { header, succeeded: true, ..Default::default() };
        let status = StatusResponse { header, version: "no server".to_owned(), leader: u64::MAX, ..Default::default() };
        let encoded = [range.encode_to_vec(), put.encode_to_vec(), txn.encode_to_vec(), status.encode_to_vec()];
        Echo { answers: encoded.map(Bytes::from) }
    }
}

impl Service for Echo {
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

/// `plinth-perf echo`: serves until the process is ended.
pub fn echo(arguments: &EchoArgs) -> Result<(), Failure> {
    let (address, value_bytes) = (arguments.listen, arguments.value_bytes);
    let reactor = rt::reactor("echo", None, move || async move {
        let listener = Listener::bind(address, ListenOptions::default())?;
        serve(listener, Rc::new(Echo::new(value_bytes)), ServerOptions::default(), Shutdown::new()).await;
        Ok::<(), std::io::Error>(())
    });
    reactor.map_err(|error| error.to_string())?.join().map_err(|error| error.to_string())??;
    Ok(())
}
