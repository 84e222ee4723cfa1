//! Puts keys in place before a run, many per transaction, so that a million of them take seconds.

use crate::endpoint::Endpoint;
use crate::grpc::{self, CallError, Connection, Keep, Method};
use crate::workload::{key, value};
use bytes::Bytes;
use plinth_api::methods;
use plinth_api::proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op};
use std::cell::Cell;
use std::ops::Range;
use tokio::task::{JoinSet, LocalSet};

/// Puts per transaction; servers allow 128.
const PUTS_PER_TXN: u64 = 100;
/// Transactions in flight.
const IN_FLIGHT: usize = 16;

/// Puts the keys of these numbers, with values of this size.
pub fn fill(address: Endpoint, keys: Range<u64>, value_bytes: usize) -> Result<(), CallError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let next = std::rc::Rc::new(Cell::new(keys.start));
        let value: Bytes = value(value_bytes).into();
        let mut tasks = JoinSet::new();
        for _ in 0..IN_FLIGHT {
            tasks.spawn_local(fill_part(address, next.clone(), keys.end, value.clone()));
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("filling does not panic")?;
        }
        Ok(())
    })
}

async fn fill_part(address: Endpoint, next: std::rc::Rc<Cell<u64>>, end: u64, value: Bytes) -> Result<(), CallError> {
    let connection = Connection::open(address).await?;
    let mut sender = connection.sender();
    let method = Method::new(address, methods::TXN.path);
    loop {
        let first = next.get();
        let behind = end.min(first + PUTS_PER_TXN);
        if first >= end {
            return Ok(());
        }
        next.set(behind);
        let put = |number| {
            let put = PutRequest { key: key(number).into(), value: value.clone(), ..Default::default() };
            RequestOp { request: Some(request_op::Request::RequestPut(put)) }
        };
        let txn = TxnRequest { success: (first..behind).map(put).collect(), ..Default::default() };
        grpc::unary(&mut sender, &method, grpc::frame(&txn), Keep::Nothing).await?;
    }
}
