//! What a member without data does first. Ids are derived as etcd derives them, so that all members of a new cluster
//! arrive at the same ones from the same flags, and a joining member finds its own in the cluster's list.

use super::fetch::{self, ClusterView};
use crate::config::{ClusterState, Config, Url};
use bytes::Bytes;
use plinth_member::recover::Identity;
use plinth_net::transport::Connector;
use plinth_raft::{Member, MemberChange, MemberId};
use std::collections::BTreeMap;

/// How a member without data begins.
#[derive(Debug)]
pub enum Plan {
    /// It founds a cluster with the others that `initial-cluster` names.
    Found {
        /// Who it is.
        identity: Identity,
        /// All members.
        members: Vec<Member>,
    },
    /// It joins a cluster that knows it already.
    Join {
        /// Who it is.
        identity: Identity,
        /// All members, as the cluster lists them.
        members: Vec<Member>,
    },
}

/// Why a member without data cannot begin. Where etcd has words for it, they are etcd's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The flag does not parse, or lacks this member.
    #[error("{0}")]
    Flags(String),
    /// The cluster that is to be founded has this member already: its data was lost.
    #[error(
        "member {0} has already been bootstrapped; its data directory was lost or replaced: remove it from the \
         cluster and add it again"
    )]
    Bootstrapped(MemberId),
    /// Nobody answers.
    #[error(
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs ({0})"
    )]
    Unreachable(String),
    /// The flags and the cluster disagree.
    #[error("error validating peerURLs {members}: {why}")]
    Mismatch {
        /// The cluster's members.
        members: String,
        /// Where they differ.
        why: String,
    },
}

/// Decides from the flags, asking the other members where that is needed.
pub async fn plan(config: &Config, connector: &Connector) -> Result<Plan, PlanError> {
    let named = config.cluster.initial_members().map_err(PlanError::Flags)?;
    let others = named.iter().filter(|(name, _)| **name != config.name).flat_map(|(_, urls)| urls);
    let others: Vec<Url> = others.cloned().collect();
    match config.cluster.state {
        ClusterState::New => {
            let plan = found(&config.name, &named, &config.cluster.token)?;
            if let (Plan::Found { identity, .. }, true) = (&plan, named.len() > 1)
                && let Ok(view) = fetch::cluster_view(connector, &others).await
            {
                refuse_if_known(identity.member, &view)?;
            }
            Ok(plan)
        }
        ClusterState::Existing => {
            let view = fetch::cluster_view(connector, &others).await.map_err(PlanError::Unreachable)?;
            join(&config.name, &named, view)
        }
    }
}

/// This member and all founders of the cluster that the flags describe.
pub(crate) fn founders(config: &Config) -> Result<(Identity, Vec<Member>), PlanError> {
    let named = config.cluster.initial_members().map_err(PlanError::Flags)?;
    match found(&config.name, &named, &config.cluster.token)? {
        Plan::Found { identity, members } | Plan::Join { identity, members } => Ok((identity, members)),
    }
}

fn found(name: &str, named: &BTreeMap<String, Vec<Url>>, token: &str) -> Result<Plan, PlanError> {
    let members: Vec<Member> = named
        .iter()
        .map(|(name, urls)| {
            let peer_urls = texts(urls);
            let id = plinth_raft::member_id(&peer_urls, token, None);
            Member { id, name: name.clone(), peer_urls, ..Member::default() }
        })
        .collect();
    let own = members.iter().find(|member| member.name == name).map(|member| member.id);
    let member = own.ok_or_else(|| {
        PlanError::Flags(format!("couldn't find local name {name:?} in the initial cluster configuration"))
    })?;
    let cluster = plinth_raft::cluster_id(members.iter().map(|member| member.id)).0;
    Ok(Plan::Found { identity: Identity { member, cluster }, members })
}

/// A member that published itself has run before, with data that is gone now.
fn refuse_if_known(own: MemberId, view: &ClusterView) -> Result<(), PlanError> {
    match view.members.iter().any(|member| member.id == own && !member.client_urls.is_empty()) {
        true => Err(PlanError::Bootstrapped(own)),
        false => Ok(()),
    }
}

fn join(name: &str, named: &BTreeMap<String, Vec<Url>>, view: ClusterView) -> Result<Plan, PlanError> {
    let mismatch = |why: String| {
        let listed = view.members.iter().map(|member| format!("{}={}", member.id, member.peer_urls.join(",")));
        PlanError::Mismatch { members: format!("[{}]", listed.collect::<Vec<_>>().join(" ")), why }
    };
    if view.members.len() != named.len() {
        return Err(mismatch("member count is unequal".into()));
    }
    let mut own = None;
    for (flag_name, urls) in named {
        let urls = texts(urls);
        let known = view.members.iter().find(|member| same(&member.peer_urls, &urls));
        let known = known.ok_or_else(|| mismatch(format!("unmatched member while checking PeerURLs ({urls:?})")))?;
        if flag_name == name {
            own = Some(known);
        }
    }
    let own = own.ok_or_else(|| {
        PlanError::Flags(format!("couldn't find local name {name:?} in the initial cluster configuration"))
    })?;
    let member = own.id;
    refuse_if_known(member, &view)?;
    Ok(Plan::Join { identity: Identity { member, cluster: view.cluster }, members: view.members })
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(|url| url.as_str().to_string()).collect()
}

fn same(left: &[String], right: &[String]) -> bool {
    let sorted = |urls: &[String]| {
        let mut urls = urls.to_vec();
        urls.sort();
        urls
    };
    sorted(left) == sorted(right)
}

/// What each founder's first log entry says.
pub fn contexts(members: &[Member]) -> Vec<(MemberId, Bytes)> {
    members.iter().map(|member| (member.id, MemberChange::Add(member.clone()).encode())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<Url>> {
        let url = |text: &str| vec![Url::parse(text).expect("a URL")];
        pairs.iter().map(|(name, text)| ((*name).to_string(), url(text))).collect()
    }

    fn known(id: u64, url: &str, started: bool) -> Member {
        let client_urls = if started { vec!["http://c:1".to_string()] } else { Vec::new() };
        Member { id: MemberId(id), peer_urls: vec![url.into()], client_urls, ..Member::default() }
    }

    #[test]
    fn founders_agree_on_all_ids() {
        let named = named(&[("a", "http://a:1"), ("b", "http://b:1"), ("c", "http://c:1")]);
        let plans = ["a", "b", "c"].map(|name| found(name, &named, "token").expect("a plan"));
        let of = |plan: &Plan| match plan {
            Plan::Found { identity, members } => (*identity, members.clone()),
            Plan::Join { .. } => panic!("founders do not join"),
        };
        let [a, b, c] = plans.each_ref().map(of);
        assert_eq!((a.0.cluster, &a.1), (b.0.cluster, &b.1));
        assert_eq!((a.0.cluster, &a.1), (c.0.cluster, &c.1));
        assert!(a.0.member != b.0.member && b.0.member != c.0.member);
        let Plan::Found { identity, .. } = found("a", &named, "another").expect("a plan") else { panic!() };
        assert_ne!(identity.cluster, a.0.cluster, "the token goes into the ids");
        assert!(matches!(found("d", &named, ""), Err(PlanError::Flags(_))));
    }

    #[test]
    fn who_joins_is_known_and_new() {
        let named = named(&[("a", "http://a:1"), ("b", "http://b:1")]);
        let view = |members| ClusterView { cluster: 9, members };
        let good = view(vec![known(1, "http://a:1", true), known(2, "http://b:1", false)]);
        let Plan::Join { identity, members } = join("b", &named, good.clone()).expect("a plan") else { panic!() };
        assert_eq!((identity, members.len()), (Identity { member: MemberId(2), cluster: 9 }, 2));
        assert_eq!(join("a", &named, good).expect_err("a has run"), PlanError::Bootstrapped(MemberId(1)));
        let fewer = join("b", &named, view(vec![known(1, "http://a:1", true)])).expect_err("one is missing");
        assert_eq!(fewer.to_string(), "error validating peerURLs [1=http://a:1]: member count is unequal");
        let other = view(vec![known(1, "http://a:1", true), known(2, "http://x:1", false)]);
        let other = join("b", &named, other).expect_err("another URL").to_string();
        assert!(other.contains("unmatched member while checking PeerURLs ([\"http://b:1\"])"), "{other}");
    }
}
