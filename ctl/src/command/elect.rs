//! `elect`: campaigns in an election and leads until a signal comes, or tells who leads.

use crate::cluster::Cluster;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::queue;
use crate::session::Session;
use crate::signals;
use crate::watching::{Seen, Watcher};
use plinth_api::proto::etcdserverpb::{RangeResponse, WatchCreateRequest, WatchResponse};
use plinth_api::proto::mvccpb::event::EventType;
use plinth_api::range::prefix_end;

/// Seconds a leader may be silent.
const TTL: i64 = 60;

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Tell who leads
    #[arg(short, long)]
    listen: bool,
    /// election [proposal]
    #[arg(value_name = "ELECTION [PROPOSAL]")]
    args: Vec<String>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    match (args.args.as_slice(), args.listen) {
        ([_], false) => Err(Failure::arguments("no proposal argument but -l not set")),
        ([_, _], true) => Err(Failure::arguments("proposal given but -l is set")),
        ([election], true) => {
            let mut signal = signals::end()?;
            tokio::select! {
                lost = observe(context, election) => lost,
                () = signal.recv() => Ok(()),
            }
        }
        ([election, proposal], false) => campaign(context, election, proposal).await,
        _ => Err(Failure::arguments("elect takes one election name argument and an optional proposal argument")),
    }
}

async fn campaign(context: &Context, election: &str, proposal: &str) -> Result<(), Failure> {
    let cluster = context.cluster();
    let mut signal = signals::end()?;
    let mut session = tokio::select! {
        session = Session::open(&cluster, TTL) => session?,
        () = signal.recv() => return Err(Failure::new(Exit::Error, "context canceled")),
    };
    let elected = async {
        let place = queue::enter(&cluster, election, session.lease, proposal).await?;
        place.wait(&cluster).await?;
        place.read(&cluster).await
    };
    let elected = tokio::select! {
        elected = elected => elected,
        () = signal.recv() => Err(Failure::new(Exit::Error, "context canceled")),
    };
    let done = match elected.and_then(|pair| context.print(&pair)) {
        Ok(()) => tokio::select! {
            () = signal.recv() => Ok(()),
            () = session.lost() => Err(Failure::new(Exit::Error, "elect: session expired")),
        },
        failed => failed,
    };
    let closed = context.limited(session.close()).await;
    done.and(closed)
}

/// Prints each leader, and each value it proclaims, until the election cannot be observed any more.
async fn observe(context: &Context, election: &str) -> Result<(), Failure> {
    let (cluster, prefix) = (context.cluster(), format!("{election}/"));
    loop {
        let Some(leader) = leader(&cluster, &prefix).await? else { return Err(lost()) };
        context.print(&leader)?;
        let revision = leader.header.as_ref().map_or(0, |header| header.revision);
        let Some(kv) = leader.kvs.into_iter().next() else { return Err(lost()) };
        let request = WatchCreateRequest { key: kv.key, start_revision: revision + 1, ..WatchCreateRequest::default() };
        let mut watcher = Watcher::new(cluster.clone(), request);
        'led: loop {
            let Seen::Answer(WatchResponse { header, events, .. }) = watcher.next().await? else { return Err(lost()) };
            for event in events {
                if event.r#type() == EventType::Delete {
                    break 'led;
                }
                let kvs = event.kv.into_iter().collect();
                context.print(&RangeResponse { header, kvs, ..RangeResponse::default() })?;
            }
        }
    }
}

fn lost() -> Failure {
    Failure::new(Exit::Error, "elect: observer lost")
}

/// Who leads, or will be the first to.
async fn leader(cluster: &Cluster, prefix: &str) -> Result<Option<RangeResponse>, Failure> {
    let found = queue::first(cluster, prefix).await?;
    if !found.kvs.is_empty() {
        let (header, kvs) = (found.header, found.kvs);
        return Ok(Some(RangeResponse { header, kvs, ..RangeResponse::default() }));
    }
    let request = WatchCreateRequest {
        key: prefix.to_owned().into(),
        range_end: prefix_end(prefix.as_bytes()).into(),
        start_revision: found.header.map_or(0, |header| header.revision),
        ..WatchCreateRequest::default()
    };
    let mut watcher = Watcher::new(cluster.clone(), request);
    while let Seen::Answer(answer) = watcher.next().await? {
        let put = answer.events.into_iter().find(|event| event.r#type() == EventType::Put);
        if let (Some(mut header), Some(kv)) = (answer.header, put.and_then(|event| event.kv)) {
            header.revision = kv.mod_revision;
            return Ok(Some(RangeResponse { header: Some(header), kvs: vec![kv], ..RangeResponse::default() }));
        }
    }
    Ok(None)
}
