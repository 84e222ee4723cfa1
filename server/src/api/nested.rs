//! Reads transactions, which may hold transactions.
//!
//! prost stops at a hundred messages inside each other, so at fifty transactions. etcd goes on for as long as its bound
//! of operations allows: each level takes at least one of them. So the nesting is walked here, with a bound of our own,
//! and prost reads what does not nest.

use bytes::{Buf, Bytes};
use plinth_api::proto::etcdserverpb as pb;
use prost::encoding::{DecodeContext, WireType, bytes as bytes_field, decode_key, skip_field};
use prost::{DecodeError, Message};

/// Transactions inside each other. Reading, checking, encoding and applying them takes stack for each: about 3 KiB
/// where it is dearest, of the 2 MiB of a reactor.
pub const DEPTH_MAX: usize = 200;

/// Why a transaction cannot be read.
#[derive(Debug, PartialEq)]
pub enum NestedError {
    /// It is none.
    Malformed(DecodeError),
    /// Deeper than may be.
    TooDeep,
}

impl From<DecodeError> for NestedError {
    fn from(error: DecodeError) -> NestedError {
        NestedError::Malformed(error)
    }
}

/// Reads a request with at most so many transactions inside each other.
pub fn decode_txn(body: Bytes, depth_max: usize) -> Result<pb::TxnRequest, NestedError> {
    let mut txn = pb::TxnRequest::default();
    merge_txn(&mut txn, body, depth_max.min(DEPTH_MAX))?;
    Ok(txn)
}

fn merge_txn(txn: &mut pb::TxnRequest, body: Bytes, depth: usize) -> Result<(), NestedError> {
    if depth == 0 {
        return Err(NestedError::TooDeep);
    }
    for_each_message(body, 3, |tag, field| {
        match tag {
            1 => txn.compare.push(pb::Compare::decode(field)?),
            2 => txn.success.push(decode_op(field, depth)?),
            3 => txn.failure.push(decode_op(field, depth)?),
            _ => {}
        }
        Ok(())
    })
}

fn decode_op(body: Bytes, depth: usize) -> Result<pb::RequestOp, NestedError> {
    use pb::request_op::Request;
    let mut op = pb::RequestOp::default();
    for_each_message(body, 4, |tag, field| {
        // A field that comes again is merged into what was there, if that is of its kind.
        op.request = Some(match (tag, op.request.take()) {
            (1, Some(Request::RequestRange(mut range))) => Request::RequestRange(merged(&mut range, field)?),
            (1, _) => Request::RequestRange(pb::RangeRequest::decode(field)?),
            (2, Some(Request::RequestPut(mut put))) => Request::RequestPut(merged(&mut put, field)?),
            (2, _) => Request::RequestPut(pb::PutRequest::decode(field)?),
            (3, Some(Request::RequestDeleteRange(mut range))) => {
                Request::RequestDeleteRange(merged(&mut range, field)?)
            }
            (3, _) => Request::RequestDeleteRange(pb::DeleteRangeRequest::decode(field)?),
            (4, before) => {
                let mut txn = match before {
                    Some(Request::RequestTxn(txn)) => txn,
                    _ => pb::TxnRequest::default(),
                };
                merge_txn(&mut txn, field, depth - 1)?;
                Request::RequestTxn(txn)
            }
            (_, before) => {
                op.request = before;
                return Ok(());
            }
        });
        Ok(())
    })?;
    Ok(op)
}

fn merged<M: Message + Default>(message: &mut M, field: Bytes) -> Result<M, DecodeError> {
    message.merge(field)?;
    Ok(std::mem::take(message))
}

/// Calls `act` for each field that holds bytes, and skips others. Those up to `tag_max` must hold bytes.
fn for_each_message(
    mut body: Bytes,
    tag_max: u32,
    mut act: impl FnMut(u32, Bytes) -> Result<(), NestedError>,
) -> Result<(), NestedError> {
    while body.has_remaining() {
        let (tag, wire_type) = decode_key(&mut body)?;
        if wire_type != WireType::LengthDelimited && tag > tag_max {
            skip_field(wire_type, tag, &mut body, DecodeContext::default())?;
            continue;
        }
        let mut field = Bytes::new();
        bytes_field::merge(wire_type, &mut field, &mut body, DecodeContext::default())?;
        act(tag, field)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pb::request_op::Request;

    fn nested(depth: usize) -> pb::TxnRequest {
        let put = pb::PutRequest { key: "k".into(), ..pb::PutRequest::default() };
        let mut txn = pb::TxnRequest::default();
        txn.success.push(pb::RequestOp { request: Some(Request::RequestPut(put)) });
        for _ in 1..depth {
            let compare = pb::Compare { key: "k".into(), ..pb::Compare::default() };
            let range = pb::RangeRequest { key: "r".into(), limit: 7, ..pb::RangeRequest::default() };
            let inner = pb::RequestOp { request: Some(Request::RequestTxn(txn)) };
            txn = pb::TxnRequest {
                compare: vec![compare],
                success: vec![inner, pb::RequestOp::default()],
                failure: vec![pb::RequestOp { request: Some(Request::RequestRange(range)) }],
            };
        }
        txn
    }

    #[test]
    fn what_prost_reads_is_read_alike() {
        for depth in [1, 2, 3, 40] {
            let body = Bytes::from(nested(depth).encode_to_vec());
            let read = decode_txn(body.clone(), 1000).expect("a transaction");
            assert_eq!(read, pb::TxnRequest::decode(body).expect("within prost's bound"));
        }
    }

    #[test]
    fn depth_is_bounded_by_the_caller_and_by_the_stack() {
        let deep = |depth| Bytes::from(nested(depth).encode_to_vec());
        assert_eq!(decode_txn(deep(128), 128).expect("as deep as may be"), nested(128));
        assert_eq!(decode_txn(deep(129), 128), Err(NestedError::TooDeep));
        assert!(decode_txn(deep(DEPTH_MAX), usize::MAX).is_ok());
        assert_eq!(decode_txn(deep(DEPTH_MAX + 1), usize::MAX), Err(NestedError::TooDeep));
    }

    #[test]
    fn a_field_that_comes_again_is_merged() {
        let one = |request| pb::RequestOp { request: Some(request) }.encode_to_vec();
        let key = one(Request::RequestPut(pb::PutRequest { key: "k".into(), ..pb::PutRequest::default() }));
        let value = one(Request::RequestPut(pb::PutRequest { value: "v".into(), ..pb::PutRequest::default() }));
        let range = one(Request::RequestRange(pb::RangeRequest::default()));
        let inner = one(Request::RequestTxn(nested(1)));
        for parts in [[&key, &value], [&range, &key], [&key, &inner], [&inner, &inner]] {
            let op = Bytes::from(parts.map(|part| part.as_slice()).concat());
            assert_eq!(decode_op(op.clone(), 9), Ok(pb::RequestOp::decode(op).expect("an operation")));
        }
    }

    #[test]
    fn garbage_is_refused_or_skipped_as_prost_does() {
        for body in [&[0x0a, 5, 1][..], &[0xff; 11], &[0x12, 3, 0x22, 1, 0x0f], &[0x08, 1], &[0x22, 1, 0], &[0x0b]] {
            let body = Bytes::copy_from_slice(body);
            let expected = pb::TxnRequest::decode(body.clone()).is_ok();
            assert_eq!(decode_txn(body.clone(), 9).is_ok(), expected, "{body:?}");
        }
    }
}
