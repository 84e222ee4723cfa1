//! Service `Migration`, which is not etcd's: a standby of another cluster, and the cut-over.

use super::Request;
use crate::answer::status;
use crate::home::Home;
use crate::home::standby::Wish;
use plinth_api::proto::plinthpb::MigrationStatus;
use plinth_net::rt;
use prost::Message;
use std::rc::Rc;
use std::time::Duration;

/// How often it is looked whether a wish is settled.
const LOOK: Duration = Duration::from_millis(20);

/// `Status`.
pub fn status(Request { home, reply, .. }: Request) {
    reply.send(|out| out.extend_from_slice(&told(&home).encode_to_vec()));
}

/// `CutOver`.
pub fn cut_over(request: Request) {
    wish(request, Wish::CutOver);
}

/// `Abort`.
pub fn abort(request: Request) {
    wish(request, Wish::Abort);
}

fn wish(Request { home, reply, .. }: Request, wish: Wish) {
    if !home.follows() {
        return reply.fail(status::FOLLOWS_NOBODY);
    }
    let Some(number) = home.standby.wish(wish) else { return reply.fail(status::TOO_MANY_REQUESTS) };
    rt::spawn(async move {
        while home.standby.report().settled < number {
            if home.is_stopping() {
                return reply.fail(status::STOPPED);
            }
            rt::sleep(LOOK).await;
        }
        reply.send(|out| out.extend_from_slice(&told(&home).encode_to_vec()));
    })
    .detach();
}

fn told(home: &Rc<Home>) -> MigrationStatus {
    let report = home.standby.report();
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    MigrationStatus {
        phase: report.phase.as_str().to_owned(),
        source: report.source.clone(),
        source_cluster_id: report.source_cluster,
        revision: home.state().member.store().revision(),
        source_revision: report.source_revision,
        lag_millis: millis(report.lag),
        compared_revision: report.compared,
        paused_millis: millis(report.paused),
        problem: report.problem.clone(),
    }
}
