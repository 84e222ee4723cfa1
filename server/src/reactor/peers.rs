//! The member among the others: its port for them, and what it does before it serves clients.

use super::listen;
use crate::cluster::inbox::Inbox;
use crate::cluster::{Link, corruption};
use crate::config::{Config, Gate};
use crate::home::Home;
use crate::logging::events;
use glommio::timer::sleep;
use plinth_engine::command::{Command, MemberAttributes};
use plinth_net::peer::{PeerConfig, PeerOptions, Peers};
use plinth_raft::Member;
use std::rc::Rc;
use std::time::Duration;

/// How often this member looks whether it was removed, and snapshots are looked after.
const LOOK: Duration = Duration::from_millis(200);

/// How long a removed member goes on, so that the others learn what has been decided.
const REMOVED_DELAY: Duration = Duration::from_secs(1);

/// Pause between two attempts to publish.
const PUBLISH_RETRY: Duration = Duration::from_millis(100);

/// Starts listening for the other members and dials them.
pub fn connect(home: &Rc<Home>, config: &Config, first_members: Vec<Member>) -> Result<(), String> {
    let cluster = &config.cluster;
    let peer_config = PeerConfig {
        cluster: home.profile.cluster_id,
        member: home.profile.member_id,
        seed: home.profile.member_id ^ u64::from(std::process::id()),
        options: PeerOptions { dead_after: cluster.read_timeout.max(cluster.write_timeout), ..PeerOptions::default() },
    };
    let peers = Peers::new(peer_config, Rc::new(Inbox::new(home)));
    for url in &config.addresses.listen_peer {
        peers.listen(listen::bind(url, config, false)?);
    }
    home.set_link(Link::new(peers, first_members));
    home.link().expect("just set").follow_members(home);
    Ok(())
}

/// Before clients are served: waits for a leader, compares data if asked to, and publishes this member.
pub async fn join(home: &Rc<Home>, config: &Config) -> Result<(), String> {
    if config.gates.enabled(Gate::InitialCorruptCheck) {
        corruption::check_at_start(home).await?;
    }
    let attributes = MemberAttributes {
        member: home.profile.member_id,
        name: config.name.clone(),
        client_urls: home.profile.client_urls.clone(),
    };
    while let Err(error) = publish(home, attributes.clone()).await {
        if home.is_stopping() {
            return Ok(());
        }
        tracing::warn!(%error, "failed to publish local member to cluster through raft");
        sleep(PUBLISH_RETRY).await;
    }
    events::published(config, home.profile.member_id, home.profile.cluster_id, config.cluster.request_timeout());
    Ok(())
}

async fn publish(home: &Home, attributes: MemberAttributes) -> Result<(), plinth_net::grpc::Status> {
    home.barrier().await?;
    home.propose(Command::SetMemberAttributes(attributes)).await.map(|_| ())
}

/// Ends some time after this member was removed.
pub async fn wait_for_removal(home: &Rc<Home>) {
    while !home.is_removed() {
        sleep(LOOK).await;
        if let Some(link) = home.link() {
            link.source.expire(home);
        }
    }
    sleep(REMOVED_DELAY).await;
}
