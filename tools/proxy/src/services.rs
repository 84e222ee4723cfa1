//! etcd's services: what is done with each call. What is not named here is passed on as it is.
//!
//! Locks and elections are passed on too, without the namespace, as etcd's proxy does.

use crate::codec::Raw;
use crate::kv;
use crate::proxy::Proxy;
use crate::upstream::Head;
use bytes::Bytes;
use hyper::body::Incoming;
use plinth_api::methods::{self, Kind};
use plinth_api::proto::etcdserverpb as pb;
use prost::Message;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Request, Response, Status, Streaming};
use tower::service_fn;

/// Largest request taken, as by etcd's proxy.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// The packages that are served: other services of a server are none of etcd's.
const PACKAGES: [&str; 3] = ["/etcdserverpb.", "/v3lockpb.", "/v3electionpb."];

/// Calls without a place of their own here that only read: they may be asked elsewhere as well.
const READS: [&str; 12] = [
    methods::LEASE_TIME_TO_LIVE.path,
    methods::LEASES.path,
    methods::MEMBER_LIST.path,
    methods::STATUS.path,
    methods::HASH.path,
    methods::HASH_KV.path,
    methods::AUTH_STATUS.path,
    methods::USER_GET.path,
    methods::USER_LIST.path,
    methods::ROLE_GET.path,
    methods::ROLE_LIST.path,
    methods::LEADER.path,
];

type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// Answers a call.
pub async fn serve(proxy: Arc<Proxy>, request: http::Request<Incoming>) -> Result<http::Response<Body>, Infallible> {
    let path = request.uri().path();
    let known = methods::ALL.iter().find(|(known, _)| *known == path);
    let Some(&(path, kind)) = known.filter(|(known, _)| PACKAGES.iter().any(|package| known.starts_with(package)))
    else {
        return Ok(unknown(path).into_http());
    };
    let mut grpc = Grpc::new(Raw).max_decoding_message_size(REQUEST_BYTES_MAX).max_encoding_message_size(usize::MAX);
    Ok(match kind {
        Kind::Unary => {
            let service = |request: Request<Bytes>| {
                let proxy = Arc::clone(&proxy);
                async move { unary(&proxy, path, request).await.map(Response::new) }
            };
            grpc.unary(service_fn(service), request).await
        }
        Kind::ServerStream => {
            let service = |request: Request<Bytes>| {
                let proxy = Arc::clone(&proxy);
                async move { server_stream(proxy, path, request).await.map(Response::new) }
            };
            grpc.server_streaming(service_fn(service), request).await
        }
        Kind::BidiStream => {
            let service = |request: Request<Streaming<Bytes>>| {
                let answers = duplex(&proxy, path, request);
                async move { Ok::<_, Status>(Response::new(answers)) }
            };
            grpc.streaming(service_fn(service), request).await
        }
    })
}

async fn unary(proxy: &Proxy, path: &'static str, request: Request<Bytes>) -> Result<Bytes, Status> {
    let head = Head::of(request.metadata());
    let body = request.into_inner();
    let is = |method: &str| method == path;
    match () {
        () if is(methods::RANGE.path) => kv::range(proxy, &head, body).await,
        () if is(methods::PUT.path) => kv::put(proxy, &head, body).await,
        () if is(methods::DELETE_RANGE.path) => kv::delete_range(proxy, &head, body).await,
        () if is(methods::TXN.path) => kv::txn(proxy, &head, body).await,
        () if is(methods::COMPACT.path) => kv::compact(proxy, &head, body).await,
        () if is(methods::LEASE_REVOKE.path) => revoke(proxy, &head, body).await,
        () if is(methods::LEASE_TIME_TO_LIVE.path) => time_to_live(proxy, &head, body).await,
        () if is(methods::MEMBER_LIST.path) => match proxy.members.list() {
            Some(list) => Ok(list.encode_to_vec().into()),
            None => pass(proxy, path, &head, body).await,
        },
        () => pass(proxy, path, &head, body).await,
    }
}

async fn pass(proxy: &Proxy, path: &'static str, head: &Head, body: Bytes) -> Result<Bytes, Status> {
    proxy.upstream.unary(path, READS.contains(&path), head, body).await
}

/// The keys of the lease are gone, and nobody is told that it lives.
async fn revoke(proxy: &Proxy, head: &Head, body: Bytes) -> Result<Bytes, Status> {
    let request: pb::LeaseRevokeRequest = kv::read(body.clone())?;
    let answer = pass(proxy, methods::LEASE_REVOKE.path, head, body).await;
    proxy.keeper.forget(request.id);
    answer
}

async fn time_to_live(proxy: &Proxy, head: &Head, body: Bytes) -> Result<Bytes, Status> {
    let answer = pass(proxy, methods::LEASE_TIME_TO_LIVE.path, head, body).await?;
    if proxy.namespace.is_all() {
        return Ok(answer);
    }
    let answer = pb::LeaseTimeToLiveResponse::decode(answer);
    let mut answer = answer.map_err(|error| Status::internal(error.to_string()))?;
    proxy.namespace.leave_keys(&mut answer.keys);
    Ok(answer.encode_to_vec().into())
}

async fn server_stream(proxy: Arc<Proxy>, path: &'static str, request: Request<Bytes>) -> Result<Answers, Status> {
    let head = Head::of(request.metadata());
    let mut body = request.into_inner();
    if path != methods::RANGE_STREAM.path || proxy.namespace.is_all() {
        return Ok(Box::pin(proxy.upstream.server_stream(path, &head, body).await?));
    }
    let mut range: pb::RangeRequest = kv::read(body)?;
    proxy.namespace.enter_named(&mut range.key, &mut range.range_end)?;
    body = range.encode_to_vec().into();
    let answers = proxy.upstream.server_stream(path, &head, body).await?;
    Ok(Box::pin(answers.map(move |answer| {
        let decoded = pb::RangeStreamResponse::decode(answer?);
        let mut answer = decoded.map_err(|error| Status::internal(error.to_string()))?;
        let pairs = answer.range_response.iter_mut().flat_map(|range| &mut range.kvs);
        proxy.namespace.leave_pairs(pairs);
        Ok(answer.encode_to_vec().into())
    })))
}

fn duplex(proxy: &Proxy, path: &'static str, request: Request<Streaming<Bytes>>) -> Answers {
    let head = Head::of(request.metadata());
    let requests = request.into_inner();
    if path == methods::WATCH.path {
        return Box::pin(proxy.hub.serve(head, requests));
    }
    assert_eq!(path, methods::LEASE_KEEP_ALIVE.path, "etcd's API has two calls of this kind");
    Box::pin(proxy.keeper.serve(requests))
}

/// What servers of gRPC say about a call that they do not know.
fn unknown(path: &str) -> Status {
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.rsplit_once('/')) else {
        return Status::unimplemented(format!("malformed method name: {path:?}"));
    };
    let is_known = PACKAGES.iter().any(|package| path.starts_with(package))
        && methods::ALL
            .iter()
            .any(|(known, _)| known.rsplit_once('/').is_some_and(|(known, _)| known[1..] == *service));
    match is_known {
        true => Status::unimplemented(format!("unknown method {method} for service {service}")),
        false => Status::unimplemented(format!("unknown service {service}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_served_is_said_so() {
        for (path, text) in [
            ("/etcdserverpb.KV/Fly", "unknown method Fly for service etcdserverpb.KV"),
            ("/grpc.health.v1.Health/Check", "unknown service grpc.health.v1.Health"),
            ("/x", "malformed method name: \"/x\""),
            ("", "malformed method name: \"\""),
        ] {
            assert_eq!(unknown(path).message(), text);
        }
    }
}
