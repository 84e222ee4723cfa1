//! Service `v3lockpb.Lock`: a mutex whose waiting is done by the server.

use super::Request;
use super::internal_watch::Cancelled;
use super::kv::decode;
use super::session::{Session, created_at, delete, get, place, put, range_of};
use crate::answer::status;
use bytes::Bytes;
use plinth_api::proto::v3lockpb as pb;
use plinth_api::range::prefix_end;
use plinth_api::wire::field_bytes;
use plinth_engine::command::{Command, Op, Range, SortOrder, SortTarget, Txn};
use plinth_engine::store::range::RangeQuery;
use plinth_net::grpc::Status;
use plinth_net::rt;
use std::rc::Rc;

/// `Lock`.
pub fn lock(Request { home, caller, body, reply }: Request) {
    let Some((request, reply)) = decode::<pb::LockRequest>(body, reply) else { return };
    let cancelled = Rc::new(Cancelled::default());
    let told = cancelled.clone();
    reply.on_cancel(move || told.set());
    reply.park();
    let session = Session { home, caller };
    rt::spawn(async move {
        match acquire(&session, &request, &cancelled).await {
            Ok((revision, key)) => {
                let state = session.home.state();
                reply.send(|out| {
                    state.header.append(out, revision);
                    field_bytes(out, 2, &key);
                });
            }
            Err(error) => reply.fail(status::through_client(error)),
        }
    })
    .detach();
}

/// Waits for the turn of the caller's key; revision for the header, and the key.
async fn acquire(session: &Session, request: &pb::LockRequest, cancelled: &Cancelled) -> Result<(i64, Bytes), Status> {
    let lease = session.lease_or_new(request.lease).await?;
    let (folder, key) = place(&request.name, lease);
    let end = Bytes::from(prefix_end(&folder));
    let owner = Op::Range(Range {
        key: folder.clone(),
        range_end: end.clone(),
        limit: 1,
        sort_order: SortOrder::Ascend,
        sort_target: SortTarget::Create,
        ..Range::default()
    });
    let txn = Txn {
        compare: vec![created_at(&key, 0)],
        success: vec![put(&key, Bytes::new(), lease), owner.clone()],
        failure: vec![get(&key), owner],
    };
    let (revision, response) = session.commit(txn).await?;
    let mine = match response.succeeded {
        true => revision,
        false => range_of(&response, 0).first().map_or(revision, |pair| pair.create_revision),
    };
    if range_of(&response, 1).first().is_none_or(|owner| owner.create_revision == mine) {
        return Ok((revision, key));
    }
    if let Err(error) = session.wait_for_turn(&folder, mine, cancelled).await {
        let _ = session.propose(Command::DeleteRange(delete(&key))).await;
        return Err(error);
    }
    let (summary, own) = session.read(RangeQuery { key: &key, ..RangeQuery::default() }).await?;
    match own.is_empty() {
        true => Err(status::SESSION_EXPIRED),
        false => Ok((summary.revision, key)),
    }
}

/// `Unlock`.
pub fn unlock(Request { home, caller, body, reply }: Request) {
    let Some((request, reply)) = decode::<pb::UnlockRequest>(body, reply) else { return };
    if request.key.is_empty() {
        return reply.fail(status::through_client(status::EMPTY_KEY));
    }
    let session = Session { home, caller };
    rt::spawn(async move {
        match session.propose(Command::DeleteRange(delete(&request.key))).await {
            Ok(outcome) => {
                let state = session.home.state();
                reply.send(|out| state.header.append(out, outcome.revision));
            }
            Err(error) => reply.fail(status::through_client(error)),
        }
    })
    .detach();
}
