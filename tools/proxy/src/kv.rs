//! Keys and values: into the namespace and out of it, past the cache.
//!
//! What was written is removed from the cache before the write and after it: reads in between may have seen either.

use crate::cache::{Found, Span};
use crate::namespace::empty_key;
use crate::proxy::Proxy;
use crate::upstream::Head;
use bytes::Bytes;
use plinth_api::methods::{COMPACT, DELETE_RANGE, Method, PUT, RANGE, TXN};
use plinth_api::proto::etcdserverpb as pb;
use plinth_api::proto::etcdserverpb::request_op::Request;
use prost::Message;
use tonic::Status;

/// Reads a message that a client sent.
///
/// # Errors
/// If it is none.
pub fn read<M: Message + Default>(body: Bytes) -> Result<M, Status> {
    M::decode(body).map_err(|error| Status::internal(format!("grpc: error unmarshalling request: {error}")))
}

/// `Range`
pub async fn range(proxy: &Proxy, head: &Head, body: Bytes) -> Result<Bytes, Status> {
    let request: pb::RangeRequest = read(body)?;
    if request.key.is_empty() {
        return Err(empty_key());
    }
    if request.serializable {
        match proxy.cache().get(head.token(), &request) {
            Found::Answer(answer) => return Ok(answer),
            Found::Compacted => {
                return Err(Status::out_of_range("etcdserver: mvcc: required revision has been compacted"));
            }
            Found::Nothing => {}
        }
    }
    let ticket = proxy.cache().begin();
    let mut inner = request.clone();
    proxy.namespace.enter(&mut inner.key, &mut inner.range_end);
    let answer = ask(proxy, &RANGE, head, &inner, |answer| proxy.namespace.leave_pairs(&mut answer.kvs)).await?;
    proxy.cache().insert(ticket, head.token(), &request, answer.clone());
    Ok(answer)
}

/// `Put`
pub async fn put(proxy: &Proxy, head: &Head, body: Bytes) -> Result<Bytes, Status> {
    let mut request: pb::PutRequest = read(body)?;
    let written = vec![Span { key: request.key.clone(), end: Bytes::new() }];
    proxy.namespace.enter_named(&mut request.key, &mut Bytes::new())?;
    let ask = ask(proxy, &PUT, head, &request, |answer| proxy.namespace.leave_pairs(&mut answer.prev_kv));
    writing(proxy, written, ask).await
}

/// `DeleteRange`
pub async fn delete_range(proxy: &Proxy, head: &Head, body: Bytes) -> Result<Bytes, Status> {
    let mut request: pb::DeleteRangeRequest = read(body)?;
    let written = vec![Span { key: request.key.clone(), end: request.range_end.clone() }];
    proxy.namespace.enter_named(&mut request.key, &mut request.range_end)?;
    let ask = ask(proxy, &DELETE_RANGE, head, &request, |answer| proxy.namespace.leave_pairs(&mut answer.prev_kvs));
    writing(proxy, written, ask).await
}

/// `Txn`
pub async fn txn(proxy: &Proxy, head: &Head, body: Bytes) -> Result<Bytes, Status> {
    let mut request: pb::TxnRequest = read(body)?;
    let mut written = Vec::new();
    touched(&request, &mut written);
    if !proxy.namespace.is_all() {
        proxy.namespace.enter_txn(&mut request)?;
    }
    let ask = ask(proxy, &TXN, head, &request, |answer| proxy.namespace.leave_txn(answer));
    writing(proxy, written, ask).await
}

/// `Compact`
pub async fn compact(proxy: &Proxy, head: &Head, body: Bytes) -> Result<Bytes, Status> {
    let request: pb::CompactionRequest = read(body.clone())?;
    let answer = proxy.upstream.unary(COMPACT.path, COMPACT.read, head, body).await?;
    proxy.cache().compact(request.revision);
    Ok(answer)
}

/// What a transaction may write; and what it compares, for whoever finds that it knew something old reads it again.
fn touched(txn: &pb::TxnRequest, found: &mut Vec<Span>) {
    let compared = txn.compare.iter().map(|compare| (&compare.key, compare.range_end.clone()));
    found.extend(compared.map(|(key, end)| Span { key: key.clone(), end }));
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(Request::RequestPut(put)) => found.push(Span { key: put.key.clone(), end: Bytes::new() }),
            Some(Request::RequestDeleteRange(delete)) => {
                found.push(Span { key: delete.key.clone(), end: delete.range_end.clone() });
            }
            Some(Request::RequestTxn(inner)) => touched(inner, found),
            Some(Request::RequestRange(_)) | None => {}
        }
    }
}

async fn writing(
    proxy: &Proxy,
    written: Vec<Span>,
    ask: impl Future<Output = Result<Bytes, Status>>,
) -> Result<Bytes, Status> {
    // Also when the client leaves before there is an answer.
    struct After<'a>(&'a Proxy, Vec<Span>);
    impl Drop for After<'_> {
        fn drop(&mut self) {
            invalidate(self.0, &self.1);
        }
    }
    invalidate(proxy, &written);
    let after = After(proxy, written);
    let answer = ask.await;
    drop(after);
    answer
}

fn invalidate(proxy: &Proxy, written: &[Span]) {
    let mut cache = proxy.cache();
    written.iter().for_each(|span| cache.invalidate(span.clone()));
}

/// One call. What it answers leaves the namespace, if there is one; else it is passed on as it is.
async fn ask<Q: Message, A: Message + Default>(
    proxy: &Proxy,
    method: &Method<Q, A>,
    head: &Head,
    request: &Q,
    leave: impl FnOnce(&mut A),
) -> Result<Bytes, Status> {
    let answer = proxy.upstream.unary(method.path, method.read, head, request.encode_to_vec().into()).await?;
    if proxy.namespace.is_all() {
        return Ok(answer);
    }
    let mut answer = A::decode(answer).map_err(|error| Status::internal(error.to_string()))?;
    leave(&mut answer);
    Ok(answer.encode_to_vec().into())
}
