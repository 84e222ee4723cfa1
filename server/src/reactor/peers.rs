//! The member among the others: its port for them, and what it does before it serves clients.

use super::listen;
use crate::cluster::{Link, corruption};
use crate::config::{Config, Gate};
use crate::home::others::Others;
use crate::home::{Home, Profile};
use crate::logging::events;
use crate::tls::Security;
use plinth_engine::command::{Command, MemberAttributes};
use plinth_net::peer::{PeerConfig, PeerOptions};
use plinth_net::rt::sleep;
use plinth_raft::Member;
use std::rc::Rc;
use std::time::Duration;

/// How often this member looks whether it was removed, and snapshots are looked after.
const LOOK: Duration = Duration::from_millis(200);

/// How long a removed member goes on, so that the others learn what has been decided.
const REMOVED_DELAY: Duration = Duration::from_secs(1);

/// Pause between two attempts to publish.
const PUBLISH_RETRY: Duration = Duration::from_millis(100);

/// The transport to the other members, without connections yet.
pub fn link(profile: &Profile, config: &Config, security: &Security, first_members: Vec<Member>) -> Rc<Link> {
    let cluster = &config.cluster;
    let peer_config = PeerConfig {
        cluster: profile.cluster_id,
        member: profile.member_id,
        seed: profile.member_id ^ u64::from(std::process::id()),
        options: PeerOptions { dead_after: cluster.read_timeout.max(cluster.write_timeout), ..PeerOptions::default() },
    };
    let advertised = config.addresses.advertise_peer.iter().map(|url| url.as_str().to_string()).collect();
    Link::new(peer_config, security.connector(), first_members, advertised)
}

/// Starts listening for the other members and dials them.
pub fn connect(home: &Rc<Home>, link: &Link, config: &Config, security: &Security) -> Result<(), String> {
    for url in &config.addresses.listen_peer {
        let listener = listen::bind(url, config, listen::Sharing::Alone)?;
        link.peers().listen(listener, security.member_acceptor(url));
    }
    link.attach(home);
    link.follow_members(home);
    Ok(())
}

/// Before clients are served: waits for a leader, compares data if asked to, and publishes this member.
pub async fn join(home: &Rc<Home>, link: &Link, config: &Config) -> Result<(), String> {
    if config.gates.enabled(Gate::InitialCorruptCheck) {
        corruption::check_at_start(home, link).await?;
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
    crate::fail_point!("beforePublishing");
    home.propose(Command::SetMemberAttributes(attributes)).await.map(|_| ())
}

/// Ends some time after this member was removed.
pub async fn wait_for_removal(home: &Rc<Home>, link: &Link) {
    while !home.is_removed() {
        sleep(LOOK).await;
        link.source.expire(home, link);
    }
    sleep(REMOVED_DELAY).await;
}
