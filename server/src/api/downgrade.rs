//! `Downgrade` of service `Maintenance`: whether the cluster may go back to the release of etcd before, and that it does.

use super::Request;
use super::kv::decode;
use crate::answer::status;
use crate::home::Home;
use plinth_api::proto::etcdserverpb as pb;
use plinth_api::proto::etcdserverpb::downgrade_request::DowngradeAction;
use plinth_api::wire::field_bytes;
use plinth_engine::author::Author;
use plinth_engine::command::{Command, Downgrade};
use plinth_member::downgrade::{Refused, Release, validate};
use plinth_net::grpc::Status;
use plinth_net::rt;
use std::rc::Rc;

/// `Downgrade`. The answer tells the cluster's version as it was when the request came.
pub fn downgrade(Request { home, caller, body, reply }: Request) {
    let Some((request, reply)) = decode::<pb::DowngradeRequest>(body, reply) else { return };
    rt::spawn(async move {
        match act(&home, caller.author(), &request).await {
            Ok(version) => {
                let state = home.state();
                reply.send(|out| {
                    state.header.append(out, state.member.store().revision());
                    field_bytes(out, 2, version.minor().as_bytes());
                });
            }
            Err(status) => reply.fail(status),
        }
    })
    .detach();
}

async fn act(home: &Rc<Home>, author: Option<Author<'_>>, request: &pb::DowngradeRequest) -> Result<Release, Status> {
    let action = DowngradeAction::try_from(request.action).map_err(|_| status::UNKNOWN_METHOD)?;
    home.barrier().await?;
    let (cluster, underway) = (home.cluster_version(), home.downgrade_target());
    match action {
        DowngradeAction::Validate => validated(&request.version, cluster, underway).map(drop)?,
        DowngradeAction::Enable => {
            let wanted = validated(&request.version, cluster, underway)?;
            let job = Downgrade { enabled: true, target_version: wanted.to_string() };
            home.propose_for(author, Command::SetDowngrade(job)).await?;
            tracing::info!(target_version = %wanted, "the cluster says that it is of an older release of etcd");
        }
        DowngradeAction::Cancel if underway.is_none() => {
            tracing::warn!(error = "etcdserver: no inflight downgrade job", "failed to cancel downgrade");
        }
        DowngradeAction::Cancel => {
            let job = Downgrade { enabled: false, target_version: String::new() };
            home.propose_for(author, Command::SetDowngrade(job)).await?;
        }
    }
    Ok(cluster)
}

fn validated(text: &str, cluster: Release, underway: Option<Release>) -> Result<Release, Status> {
    validate(text, cluster, underway).map_err(|refused| {
        let status = match refused {
            Refused::Format => status::DOWNGRADE_FORMAT,
            Refused::Target => status::DOWNGRADE_TARGET,
            Refused::InProgress => status::DOWNGRADE_IN_PROGRESS,
        };
        tracing::warn!(error = %status.message, "reject downgrade request");
        status
    })
}
