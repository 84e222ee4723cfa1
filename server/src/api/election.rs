//! Service `v3electionpb.Election`: who leads is whose key under the election's name is oldest.

use super::internal_watch::Cancelled;
use super::kv::decode;
use super::session::{Session, created_at, delete, get, oldest, place, put, range_of};
use super::{Request, StreamRequest};
use crate::answer::status;
use crate::home::Home;
use bytes::Bytes;
use plinth_api::proto::{mvccpb, v3electionpb as pb};
use plinth_api::range::prefix_end;
use plinth_api::wire::field_message;
use plinth_engine::command::{Op, Txn};
use plinth_net::grpc::{Code, Status, StreamHandler, StreamReply, UnaryReply};
use plinth_net::rt;
use prost::Message;
use std::rc::Rc;

/// `Campaign`.
pub fn campaign(Request { home, caller, body, reply }: Request) {
    let Some((request, reply)) = decode::<pb::CampaignRequest>(body, reply) else { return };
    let cancelled = Rc::new(Cancelled::default());
    let told = cancelled.clone();
    reply.on_cancel(move || told.set());
    reply.park();
    let session = Session { home, caller };
    rt::spawn(async move {
        match run(&session, &request, &cancelled).await {
            Ok((revision, leader)) => {
                let state = session.home.state();
                reply.send(|out| {
                    state.header.append(out, revision);
                    field_message(out, 2, |out| leader.encode(out).expect("a vector grows"));
                });
            }
            Err(error) => reply.fail(status::through_client(error)),
        }
    })
    .detach();
}

async fn run(
    session: &Session,
    request: &pb::CampaignRequest,
    cancelled: &Cancelled,
) -> Result<(i64, pb::LeaderKey), Status> {
    let lease = session.lease_or_new(request.lease).await?;
    let (folder, key) = place(&request.name, lease);
    let txn = Txn {
        compare: vec![created_at(&key, 0)],
        success: vec![put(&key, request.value.clone(), lease)],
        failure: vec![get(&key)],
    };
    let (revision, response) = session.commit(txn).await?;
    let mut rev = revision;
    if !response.succeeded {
        let own = range_of(&response, 0).first().ok_or(status::ELECTION_NOT_LEADER)?;
        rev = own.create_revision;
        if own.value != request.value
            && let Err(error) = proclaim_value(session, &key, rev, request.value.clone(), lease).await
        {
            let _ = resign_key(session, &key, rev).await;
            return Err(error);
        }
    }
    if let Err(error) = session.wait_for_turn(&folder, rev, cancelled).await {
        let _ = resign_key(session, &key, rev).await;
        return Err(error);
    }
    Ok((revision, pb::LeaderKey { name: request.name.clone(), key, rev, lease }))
}

async fn proclaim_value(session: &Session, key: &Bytes, rev: i64, value: Bytes, lease: i64) -> Result<i64, Status> {
    let txn = Txn { compare: vec![created_at(key, rev)], success: vec![put(key, value, lease)], failure: Vec::new() };
    let (revision, response) = session.commit(txn).await?;
    if response.succeeded { Ok(revision) } else { Err(status::ELECTION_NOT_LEADER) }
}

async fn resign_key(session: &Session, key: &Bytes, rev: i64) -> Result<i64, Status> {
    let txn =
        Txn { compare: vec![created_at(key, rev)], success: vec![Op::DeleteRange(delete(key))], failure: Vec::new() };
    session.commit(txn).await.map(|(revision, _)| revision)
}

/// Answers with nothing but a header.
fn answer(home: &Home, reply: UnaryReply, result: Result<i64, Status>) {
    match result {
        Ok(revision) => {
            let state = home.state();
            reply.send(|out| state.header.append(out, revision));
        }
        Err(error) => reply.fail(status::through_client(error)),
    }
}

/// `Proclaim`.
pub fn proclaim(Request { home, caller, body, reply }: Request) {
    let Some((request, reply)) = decode::<pb::ProclaimRequest>(body, reply) else { return };
    let Some(leader) = request.leader else { return reply.fail(status::LEADER_FIELD_MISSING) };
    let session = Session { home, caller };
    rt::spawn(async move {
        let result = proclaim_value(&session, &leader.key, leader.rev, request.value, leader.lease).await;
        answer(&session.home, reply, result);
    })
    .detach();
}

/// `Resign`.
pub fn resign(Request { home, caller, body, reply }: Request) {
    let Some((request, reply)) = decode::<pb::ResignRequest>(body, reply) else { return };
    let Some(leader) = request.leader else { return reply.fail(status::LEADER_FIELD_MISSING) };
    let session = Session { home, caller };
    rt::spawn(async move {
        let result = resign_key(&session, &leader.key, leader.rev).await;
        answer(&session.home, reply, result);
    })
    .detach();
}

/// `Leader`.
pub fn leader(Request { home, caller, body, reply }: Request) {
    let Some((request, reply)) = decode::<pb::LeaderRequest>(body, reply) else { return };
    let session = Session { home, caller };
    rt::spawn(async move {
        let (folder, _) = place(&request.name, 0);
        let end = Bytes::from(prefix_end(&folder));
        match session.read(oldest(&folder, &end)).await {
            Err(error) => reply.fail(status::through_client(error)),
            Ok((_, pairs)) if pairs.is_empty() => reply.fail(status::ELECTION_NO_LEADER),
            Ok((summary, pairs)) => reply.send(|out| append_leader(&session.home, out, summary.revision, &pairs[0])),
        }
    })
    .detach();
}

fn append_leader(home: &Home, out: &mut Vec<u8>, revision: i64, pair: &mvccpb::KeyValue) {
    home.state().header.append(out, revision);
    field_message(out, 2, |out| pair.encode(out).expect("a vector grows"));
}

/// `Observe`: the current leader, then every new value and every new leader.
pub struct Observe {
    session: Rc<Session>,
    reply: StreamReply,
    cancelled: Rc<Cancelled>,
    request: Option<pb::LeaderRequest>,
}

impl Observe {
    /// Waits for the request.
    pub fn open(StreamRequest { home, caller, reply }: StreamRequest) -> Box<dyn StreamHandler> {
        let session = Rc::new(Session { home, caller });
        Box::new(Observe { session, reply, cancelled: Rc::default(), request: None })
    }
}

impl StreamHandler for Observe {
    fn message(&mut self, body: Bytes) {
        match pb::LeaderRequest::decode(body) {
            Ok(request) => self.request = Some(request),
            Err(error) => self.reply.finish(status::undecodable(&error)),
        }
    }

    fn half_close(&mut self) {
        let Some(request) = self.request.take() else { return };
        let (session, reply, cancelled) = (self.session.clone(), self.reply.clone(), self.cancelled.clone());
        rt::spawn(async move {
            let status = match observe(&session, &request.name, &reply, &cancelled).await {
                Ok(()) => Status::OK,
                Err(error) if error.code == Code::Ok => error,
                Err(error) => status::through_client(error),
            };
            reply.finish(status);
        })
        .detach();
    }

    fn writable(&mut self) {}

    fn closed(&mut self) {
        self.cancelled.set();
    }
}

async fn observe(session: &Session, name: &[u8], reply: &StreamReply, cancelled: &Cancelled) -> Result<(), Status> {
    let home = &session.home;
    let (folder, _) = place(name, 0);
    let end = Bytes::from(prefix_end(&folder));
    loop {
        let (summary, mut pairs) = session.read(oldest(&folder, &end)).await?;
        let mut revision = summary.revision;
        if pairs.is_empty() {
            let watch = session.watch(&folder, &end, revision + 1).await?;
            while pairs.is_empty() {
                let Some(response) = watch.next(cancelled).await else { return Ok(()) };
                let puts = response.events.into_iter().filter(|event| event.r#type == 0);
                pairs = puts.filter_map(|event| event.kv).take(1).collect();
            }
            revision = pairs[0].mod_revision;
        }
        let leader = &pairs[0];
        reply.send(|out| append_leader(home, out, revision, leader));
        let watch = session.watch(&leader.key, &[], revision + 1).await?;
        let mut led = true;
        while led {
            let Some(response) = watch.next(cancelled).await else { return Ok(()) };
            let at = response.header.as_ref().map_or(0, |header| header.revision);
            for event in response.events {
                match event.kv {
                    Some(pair) if event.r#type == 0 => reply.send(|out| append_leader(home, out, at, &pair)),
                    _ => led = false,
                }
                if !led {
                    break;
                }
            }
        }
    }
}
