//! Service `Maintenance`: status, alarms, hashes, defragmentation, moving leadership. Snapshots are
//! in `snapshot`, going back by a release is in `downgrade`.

use super::Request;
use super::kv::decode;
use crate::answer::status;
use crate::cluster::{corruption, handover};
use crate::config::version;
use crate::fail_point;
use crate::home::Home;
use crate::home::space::shrink;
use crate::home::waiter::Waiter;
use crate::metrics::Op;
use plinth_api::proto::etcdserverpb as pb;
use plinth_api::wire::{field_bytes, field_message, field_varint};
use plinth_engine::auth::Auth;
use plinth_engine::budget::WorkBudget;
use plinth_engine::command::{Alarm, AlarmAction, AlarmKind, Command};
use plinth_engine::store::hash::HashKv;
use plinth_engine::trees::Trees;
use plinth_net::grpc::{Code, Status};
use plinth_net::rt;
use plinth_net::turn;
use plinth_raft::MemberId;
use std::rc::Rc;
use std::time::Instant;

/// `Alarm`.
pub fn alarm(Request { home, caller, body, reply }: Request) {
    let Some((request, reply)) = decode::<pb::AlarmRequest>(body, reply) else { return };
    let action = match request.action {
        1 => AlarmAction::Activate,
        2 => AlarmAction::Deactivate,
        _ => AlarmAction::Get,
    };
    if action != AlarmAction::Get
        && let Err(refusal) = home.may(caller.user.as_ref(), Auth::may_administer)
    {
        return reply.fail(refusal);
    }
    let kind = AlarmKind::from_wire(request.alarm).unwrap_or(AlarmKind::None);
    let alarm = Alarm { action, member: request.member_id, kind };
    home.submit_for(
        caller.author(),
        |out| Command::Alarm(alarm).encode_into(out),
        Waiter::Reply(reply, home.asked(Op::Alarm)),
    );
}

/// `MoveLeader`: served by the leader only.
pub fn move_leader(Request { home, body, reply, .. }: Request) {
    let Some((request, reply)) = decode::<pb::MoveLeaderRequest>(body, reply) else { return };
    rt::spawn(async move {
        match handover::transfer(&home, MemberId(request.target_id), home.profile.request_timeout).await {
            Ok(()) => {
                let state = home.state();
                reply.send(|out| state.header.append(out, 0));
            }
            Err(status) => reply.fail(status),
        }
    })
    .detach();
}

/// Texts for `StatusResponse.errors`.
fn errors(home: &Home) -> Vec<String> {
    let state = home.state();
    let mut errors = Vec::new();
    if state.member.group().leader().is_none() {
        errors.push(status::NO_LEADER.message.into_owned());
    }
    if home.follows() {
        let report = home.standby.report();
        let behind = report.source_revision.saturating_sub(state.member.store().revision()).max(0);
        errors.push(format!("standby of cluster {:x}, {behind} revisions behind", report.source_cluster));
    }
    for (kind, member) in state.member.store().alarms().list(AlarmKind::None) {
        errors.push(format!("memberID:{member} alarm:{} ", alarm_name(kind)));
    }
    errors
}

/// An alarm's name in the API.
pub fn alarm_name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::None => "NONE",
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    }
}

/// `Status`: local, never linearized.
pub fn status(Request { home, reply, .. }: Request) {
    let errors = errors(&home);
    let (version, underway) = (home.cluster_version(), home.downgrade_target());
    let state = home.state();
    let (member, store) = (&state.member, state.member.store());
    reply.send(|out| {
        state.header.append(out, store.revision());
        field_bytes(out, 2, version::ETCD_VERSION.as_bytes());
        field_varint(out, 3, store.trees().size_bytes());
        field_varint(out, 4, member.group().leader().map_or(0, |leader| leader.0));
        field_varint(out, 5, member.group().commit());
        field_varint(out, 6, member.group().term());
        field_varint(out, 7, member.group().applied());
        for error in &errors {
            field_bytes(out, 8, error.as_bytes());
        }
        field_varint(out, 9, store.trees().in_use_bytes());
        field_varint(out, 10, u64::from(home.is_learner()));
        field_bytes(out, 11, version.to_string().as_bytes());
        field_varint(out, 12, home.profile.quota_bytes as u64);
        field_message(out, 13, |out| {
            if let Some(target) = underway {
                field_varint(out, 1, 1);
                field_bytes(out, 2, target.to_string().as_bytes());
            }
        });
    });
}

/// `HashKV`, computed in steps.
pub fn hash_kv(Request { home, body, reply, .. }: Request) {
    let Some((request, reply)) = decode::<pb::HashKvRequest>(body, reply) else { return };
    rt::spawn(async move {
        let start = Instant::now();
        // A compaction up to revision 0 leaves a hash as well. etcd then takes the question for the present state for one
        // about that; so clients are answered; members ask each other otherwise.
        let is_kept = |hash: &&HashKv| hash.revision == request.revision;
        let kept = home.state().member.store().compaction_hashes().iter().find(is_kept).copied();
        let hash = match kept {
            Some(hash) => Ok(hash),
            None => corruption::hash(&home, request.revision).await.map(|hashed| hashed.hash),
        };
        match hash {
            Ok(hash) => {
                home.reactor.metrics.hash_kv_duration.record_duration(start.elapsed());
                let state = home.state();
                reply.send(|out| {
                    state.header.append(out, state.member.store().revision());
                    field_varint(out, 2, u64::from(hash.hash));
                    field_varint(out, 3, hash.compact_revision as u64);
                    field_varint(out, 4, hash.revision as u64);
                });
            }
            Err(status) => reply.fail(status),
        }
    })
    .detach();
}

/// `Hash`, computed in steps.
pub fn hash(Request { home, reply, .. }: Request) {
    rt::spawn(async move {
        let start = Instant::now();
        let mut cursor = plinth_engine::store::hash::DbHashCursor::default();
        loop {
            let step = home.state().member.store().hash_db_step(&mut cursor, WorkBudget::STEP);
            match step {
                Ok(None) => turn::pass().await,
                Ok(Some(hash)) => {
                    home.reactor.metrics.hash_duration.record_duration(start.elapsed());
                    let state = home.state();
                    return reply.send(|out| {
                        state.header.append(out, state.member.store().revision());
                        field_varint(out, 2, u64::from(hash));
                    });
                }
                Err(error) => return reply.fail(status::broken(&error)),
            }
        }
    })
    .detach();
}

/// `Defragment`: gives free space at the end of the file back, online. Nobody else is stopped meanwhile.
pub fn defragment(Request { home, reply, .. }: Request) {
    fail_point!("defragOpenFileError", |text: String| reply.fail(Status::new(Code::Unknown, text)));
    rt::spawn(async move {
        let start = Instant::now();
        let before = home.state().member.store().trees().size_bytes();
        home.reactor.metrics.defrag_inflight.add(1);
        fail_point!("defragBeforeCopy");
        let result = shrink(&home).await;
        fail_point!("defragBeforeRename");
        home.reactor.metrics.defrag_inflight.add(-1);
        let after = home.state().member.store().trees().size_bytes();
        home.reactor.metrics.backend_defrag.record_duration(start.elapsed());
        match result {
            Ok(()) => {
                tracing::info!(before, after, took = ?start.elapsed(), "finished defragmenting");
                reply.send(|_| {});
            }
            Err(error) => reply.fail(Status::new(Code::Unknown, error.to_string())),
        }
    })
    .detach();
}

/// At start: gives free space back if there is as much of it as the operator has said.
pub async fn shrink_at_start(home: Rc<Home>, megabytes: u64) {
    let sizes = |home: &Home| {
        let state = home.state();
        let trees = state.member.store().trees();
        (trees.size_bytes(), trees.size_bytes() - trees.in_use_bytes())
    };
    let (before, free) = sizes(&home);
    if free >> 20 < megabytes {
        tracing::info!(free, megabytes, "skipped defragmentation at start");
        return;
    }
    match shrink(&home).await {
        Ok(()) => tracing::info!(before, after = sizes(&home).0, "finished defragmenting at start"),
        Err(error) => tracing::error!(%error, "failed to defragment at start"),
    }
}
