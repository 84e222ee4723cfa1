//! The member among the others: its port for them, and what it does before it serves clients.

use super::listen;
use crate::cluster::{Link, corruption, snapshots};
use crate::config::{Config, Gate};
use crate::home::others::Others;
use crate::home::reactor::Reactor;
use crate::home::{Home, Profile};
use crate::logging::events;
use crate::tls::Security;
use futures_lite::FutureExt;
use plinth_engine::command::{Command, MemberAttributes, NEWEST_KIND};
use plinth_net::peer::{PeerConfig, PeerOptions, turn_away};
use plinth_net::rt::sleep;
use plinth_net::transport::Listener;
use plinth_raft::{GroupId, Member};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// How often this member looks whether it was removed, and snapshots are looked after.
const LOOK: Duration = Duration::from_millis(200);

/// How long it is waited for a port that somebody has, and how often it is tried.
const PORT_PATIENCE: Duration = Duration::from_secs(2);
const PORT_RETRY: Duration = Duration::from_millis(20);

/// How long a removed member goes on, so that the others learn what has been decided.
const REMOVED_DELAY: Duration = Duration::from_secs(1);

/// Pause between two attempts to publish.
const PUBLISH_RETRY: Duration = Duration::from_millis(100);

/// The transport to the other members, without connections yet.
pub fn link(
    (reactor, group): (&Rc<Reactor>, GroupId),
    profile: &Profile,
    config: &Config,
    security: &Security,
    first_members: Vec<Member>,
) -> Rc<Link> {
    let cluster = &config.cluster;
    let peer_config = PeerConfig {
        cluster: profile.cluster_id,
        member: profile.member_id,
        reads: NEWEST_KIND,
        seed: profile.member_id ^ u64::from(std::process::id()),
        options: PeerOptions { dead_after: cluster.read_timeout.max(cluster.write_timeout), ..PeerOptions::default() },
    };
    let advertised = config.addresses.advertise_peer.iter().map(|url| url.as_str().to_string()).collect();
    Link::new((reactor.clone(), group), peer_config, security.connector(), first_members, advertised, security.clone())
}

/// Listens where the other members connect, before anything else: they need not wait to hear that nobody is there yet. A
/// process that has just ended may hold its port for a moment more. In the order of the URLs.
pub async fn bind(config: &Config) -> Result<Vec<Listener>, String> {
    let deadline = Instant::now() + PORT_PATIENCE;
    let mut listeners = Vec::new();
    for url in &config.addresses.listen_peer {
        listeners.push(loop {
            match listen::bind(url, config, listen::Sharing::Alone) {
                Err(error) if Instant::now() < deadline && error.ends_with("address already in use") => {
                    sleep(PORT_RETRY).await;
                }
                bound => break bound?,
            }
        });
    }
    Ok(listeners)
}

/// Turns away whoever connects, until `ready` yields.
pub async fn turn_away_until<T>(listeners: &[Listener], ready: impl Future<Output = T>) -> T {
    let turning = listeners.iter().map(|listener| Box::pin(turn_away(listener)));
    let mut turning: Vec<_> = turning.collect();
    let all = poll_fn(move |cx| {
        turning.iter_mut().for_each(|one| assert!(one.as_mut().poll(cx).is_pending(), "it never ends"));
        Poll::Pending
    });
    ready.or(all).await
}

/// Lets the other members in, and dials them.
pub fn connect(home: &Rc<Home>, link: &Link, config: &Config, security: &Security, listeners: Vec<Listener>) {
    for (listener, url) in listeners.into_iter().zip(&config.addresses.listen_peer) {
        link.peers().listen(listener, security.member_acceptor(url));
    }
    link.follow_members(home);
}

/// Before clients are served: waits for a leader, compares data if asked to, and publishes this member.
pub async fn join(home: &Rc<Home>, link: &Rc<Link>, config: &Config) -> Result<(), String> {
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
        snapshots::look_after(home, link);
    }
    sleep(REMOVED_DELAY).await;
}
