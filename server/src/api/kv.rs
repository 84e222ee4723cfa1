//! Service `KV`: puts, deletes, transactions and compactions are replicated, ranges and reading transactions wait for
//! a linearizable moment unless the client asked for a serializable one.

use super::nested::{self, NestedError};
use super::{Request, StreamRequest, convert};
use crate::answer::refusal::op_status;
use crate::answer::status;
use crate::caller::Caller;
use crate::home::reading::{self, Read};
use crate::home::scrub;
use crate::home::waiter::Waiter;
use crate::home::{Home, RequestLimits};
use crate::metrics::Op;
use bytes::Bytes;
use plinth_api::methods;
use plinth_api::proto::etcdserverpb as pb;
use plinth_api::wire::field_message;
use plinth_engine::budget::Budget;
use plinth_engine::command::{Command, Range};
use plinth_engine::store::range::{RangeQuery, Step};
use plinth_net::grpc::{Status, StreamHandler, StreamReply, UnaryReply};
use plinth_net::rt;
use plinth_net::turn;
use prost::Message;
use std::cell::RefCell;
use std::rc::Rc;

/// First chunk of a `RangeStream`, in keys.
const STREAM_KEYS_FIRST: usize = 10;

/// A `RangeStream` waits while this many bytes are queued in its connection.
const STREAM_QUEUE_BYTES: usize = 4 << 20;

/// Decodes a request or answers that it cannot be.
pub(super) fn decode<M: Message + Default>(body: Bytes, reply: UnaryReply) -> Option<(M, UnaryReply)> {
    match M::decode(body) {
        Ok(message) => Some((message, reply)),
        Err(error) => {
            reply.fail(status::undecodable(&error));
            None
        }
    }
}

/// `Put`.
pub fn put(Request { home, caller, body, reply }: Request) {
    let size = body.len();
    let Some((request, reply)) = decode::<pb::PutRequest>(body, reply) else { return };
    let put = convert::put(request);
    if let Err(error) = put.check() {
        return reply.fail(op_status(error));
    }
    if size > home.profile.limits.request_bytes_max {
        return reply.fail(status::REQUEST_TOO_LARGE);
    }
    if !home.has_room(put.cost()) {
        return reply.fail(status::NO_SPACE);
    }
    home.submit_for(caller.author(), |out| put.encode_into(out), Waiter::Reply(reply, home.asked(Op::Put)));
}

/// `DeleteRange`.
pub fn delete_range(Request { home, caller, body, reply }: Request) {
    let size = body.len();
    let Some((request, reply)) = decode::<pb::DeleteRangeRequest>(body, reply) else { return };
    let delete = convert::delete_range(request);
    if let Err(error) = delete.check() {
        return reply.fail(op_status(error));
    }
    if size > home.profile.limits.request_bytes_max {
        return reply.fail(status::REQUEST_TOO_LARGE);
    }
    home.submit_for(caller.author(), |out| delete.encode_into(out), Waiter::Reply(reply, home.asked(Op::DeleteRange)));
}

/// What a write has wrong in itself, whoever sends it; nothing of other methods.
pub(super) fn fault(path: &str, body: Bytes, limits: &RequestLimits) -> Option<Status> {
    let checked = if path == methods::PUT.path {
        convert::put(pb::PutRequest::decode(body).ok()?).check()
    } else if path == methods::DELETE_RANGE.path {
        convert::delete_range(pb::DeleteRangeRequest::decode(body).ok()?).check()
    } else if path == methods::TXN.path {
        match decode_txn(body, limits) {
            Ok(request) => convert::txn(request).check(limits.txn_ops_max),
            Err(fault) => return Some(fault),
        }
    } else {
        return None;
    };
    checked.err().map(op_status)
}

fn decode_txn(body: Bytes, limits: &RequestLimits) -> Result<pb::TxnRequest, Status> {
    // Each level takes an operation; one that is empty may stand below the last of them.
    nested::decode_txn(body, limits.txn_ops_max.saturating_add(1)).map_err(|error| match error {
        NestedError::TooDeep => status::TOO_MANY_OPS,
        NestedError::Malformed(error) => status::undecodable(&error),
    })
}

/// `Txn`.
pub fn txn(Request { home, caller, body, reply }: Request) {
    let size = body.len();
    let limits = &home.profile.limits;
    let request = match decode_txn(body, limits) {
        Ok(request) => request,
        Err(fault) => return reply.fail(fault),
    };
    let serializable = is_serializable(&request);
    let txn = convert::txn(request);
    if let Err(error) = txn.check(limits.txn_ops_max) {
        return reply.fail(op_status(error));
    }
    if txn.is_read_only() {
        let mut what = Vec::new();
        txn.encode_into(&mut what);
        let read = Read { what, caller };
        return match serializable {
            true => reading::answer_read_txn(&home, read, reply),
            false if home.follows() => reply.fail(status::FOLLOWING),
            false => home.read(Waiter::ReadTxn(Box::new(read), reply, home.reactor.moment())),
        };
    }
    if size > home.profile.limits.request_bytes_max {
        return reply.fail(status::REQUEST_TOO_LARGE);
    }
    if !home.has_room(txn.cost()) {
        return reply.fail(status::NO_SPACE);
    }
    home.submit_for(caller.author(), |out| txn.encode_into(out), Waiter::Reply(reply, home.asked(Op::Txn)));
}

/// Whether every range at the top level may be read locally; a transaction without operations may.
fn is_serializable(request: &pb::TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|op| !matches!(&op.request, Some(pb::request_op::Request::RequestRange(range)) if !range.serializable))
}

/// `Compact`.
pub fn compact(Request { home, caller, body, reply }: Request) {
    let Some((request, reply)) = decode::<pb::CompactionRequest>(body, reply) else { return };
    let command = Command::Compact { revision: request.revision };
    let waiter = match request.physical {
        true => Waiter::Physical(reply),
        false => Waiter::Reply(reply, home.asked(Op::Compaction)),
    };
    home.submit_for(caller.author(), |out| command.encode_into(out), waiter);
}

/// `Range`.
pub fn range(Request { home, caller, body, reply }: Request) {
    let Some((request, reply)) = decode::<pb::RangeRequest>(body, reply) else { return };
    let serializable = request.serializable;
    let range = convert::range(request);
    if let Err(error) = range.check() {
        return reply.fail(op_status(error));
    }
    let read = Read { what: range, caller };
    match serializable {
        true => reading::answer_range(&home, read, reply),
        false if home.follows() => reply.fail(status::FOLLOWING),
        false => home.read(Waiter::Range(Box::new(read), reply, home.reactor.moment())),
    }
}

/// `RangeStream`: a range in chunks, at one revision.
pub struct RangeStream {
    home: Rc<Home>,
    reply: StreamReply,
    caller: Caller,
    request: RefCell<Option<Range>>,
    serializable: bool,
}

impl RangeStream {
    /// Waits for the request.
    pub fn open(StreamRequest { home, caller, reply }: StreamRequest) -> Box<dyn StreamHandler> {
        Box::new(RangeStream { home, caller, reply, request: RefCell::new(None), serializable: false })
    }
}

impl StreamHandler for RangeStream {
    fn message(&mut self, body: Bytes) {
        let request = match pb::RangeRequest::decode(body) {
            Ok(request) => request,
            Err(error) => return self.reply.finish(status::undecodable(&error)),
        };
        self.serializable = request.serializable;
        let range = convert::range(request);
        match check_stream(&range) {
            Err(refusal) => self.reply.finish(refusal),
            Ok(()) => *self.request.borrow_mut() = Some(range),
        }
    }

    fn half_close(&mut self) {
        let Some(range) = self.request.borrow_mut().take() else { return };
        let read = Read { what: range, caller: self.caller.clone() };
        let (home, reply, serializable) = (self.home.clone(), self.reply.clone(), self.serializable);
        rt::spawn(async move {
            let status = match stream_range(&home, &read, serializable, &reply).await {
                Ok(()) => Status::OK,
                Err(status) => status,
            };
            reply.finish(status);
        })
        .detach();
    }

    fn writable(&mut self) {}

    fn closed(&mut self) {}
}

fn check_stream(range: &Range) -> Result<(), Status> {
    use plinth_engine::command::{SortOrder, SortTarget};
    range.check().map_err(op_status)?;
    let is_usual = range.sort_order == SortOrder::None
        || (range.sort_target == SortTarget::Key && range.sort_order == SortOrder::Ascend);
    if !is_usual {
        return Err(status::STREAM_SORT);
    }
    let filters =
        [range.min_mod_revision, range.max_mod_revision, range.min_create_revision, range.max_create_revision];
    if filters.iter().any(|bound| *bound != 0) {
        return Err(status::STREAM_FILTER);
    }
    Ok(())
}

async fn stream_range(
    home: &Rc<Home>,
    read: &Read<Range>,
    serializable: bool,
    reply: &StreamReply,
) -> Result<(), Status> {
    if !serializable {
        if home.follows() {
            return Err(status::FOLLOWING);
        }
        home.barrier().await?;
    }
    let user = home.identified(&read.caller).await?;
    let (key, range_end) = (&read.what.key, &read.what.range_end);
    let stamp = home.may(user.as_ref(), |auth, author| auth.may_range(author, key, range_end))?;
    let chunk_bytes = home.profile.limits.request_bytes_max;
    let mut keys = STREAM_KEYS_FIRST;
    let mut cursor = {
        let state = home.state();
        state.member.store().range_start(&RangeQuery::from(&read.what)).map_err(op_status)?
    };
    loop {
        while reply.queued_bytes() > STREAM_QUEUE_BYTES {
            if reply.is_closed() {
                return Ok(());
            }
            rt::sleep(std::time::Duration::from_millis(1)).await;
        }
        if reply.is_closed() || home.is_stopping() {
            return Err(status::STOPPED);
        }
        crate::fail_point!("beforeRangeStreamChunk");
        let mut pairs = Vec::new();
        let budget = Budget { pairs: keys, bytes: 4 * chunk_bytes, visits: Budget::STEP.visits };
        let step = home.state().member.store().range_step(&mut cursor, budget, &mut pairs);
        let step = step.map_err(|error| scrub::read_failed(home, error))?;
        match step {
            Step::More if pairs.is_empty() => {}
            Step::More => reply.send(|out| field_message(out, 1, |out| out.extend_from_slice(&pairs))),
            Step::Done(summary) => {
                home.is_current(stamp)?;
                let state = home.state();
                reply.send(|out| {
                    field_message(out, 1, |out| {
                        state.header.append(out, summary.revision);
                        out.extend_from_slice(&pairs);
                        summary.append_fields(out);
                    })
                });
                return Ok(());
            }
        }
        if pairs.len() * 2 < chunk_bytes {
            keys = (keys * 2).min(Budget::STEP.pairs);
        } else if pairs.len() > 2 * chunk_bytes {
            keys = (keys / 2).max(1);
        }
        turn::pass().await;
    }
}
