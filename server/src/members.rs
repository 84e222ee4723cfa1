//! The members of the cluster, as clients see them.

use crate::home::HomeStore;
use plinth_member::records;
use plinth_net::proto::etcdserverpb as pb;

/// All members, by id.
pub fn list(store: &HomeStore) -> Vec<pb::Member> {
    let members = records::list(store).unwrap_or_else(|error| {
        tracing::error!(%error, "the list of members cannot be read");
        Vec::new()
    });
    let public = members.into_iter().map(|member| pb::Member {
        id: member.id.0,
        name: member.name,
        peer_ur_ls: member.peer_urls,
        client_ur_ls: member.client_urls,
        is_learner: member.is_learner,
    });
    public.collect()
}
