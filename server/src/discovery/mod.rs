//! Who founds the cluster, as others tell it: the records of a domain (`--discovery-srv`), or a registry in another cluster
//! (`--discovery-endpoints`). What they say takes the place of `--initial-cluster`.
//!
//! Only a member without data asks. That takes as long as it takes until all founders are known, on a thread of its own.

mod domain;
mod registry;

use crate::config::Config;
use crate::wake;
use plinth_ctl::services::name_servers;
use std::sync::mpsc;

/// Whether founders are to be asked for.
pub fn is_wanted(config: &Config) -> bool {
    let discovery = &config.cluster.discovery;
    !discovery.srv_domain.is_empty() || !discovery.endpoints.is_empty()
}

/// The configuration with the founders in it. If it is dropped meanwhile, the thread goes on until the process ends.
///
/// # Errors
/// Nobody can tell, or what they tell is not for this member.
pub async fn with_founders(config: Config) -> Result<Config, String> {
    let failed = |error: std::io::Error| format!("discovery cannot begin: {error}");
    let (waker, mut woken) = wake::pair().map_err(failed)?;
    let (sender, receiver) = mpsc::channel();
    let ask = move || {
        // Nobody waits any more if the process ends.
        let _ = sender.send(ask(config));
        waker.wake();
    };
    std::thread::Builder::new().name("discovery".into()).spawn(ask).map_err(failed)?;
    woken.wait().await.map_err(failed)?;
    receiver.recv().unwrap_or_else(|_| Err("discovery ended without an answer".to_owned()))
}

fn ask(mut config: Config) -> Result<Config, String> {
    let (name, advertised) = (&config.name, &config.addresses.advertise_peer);
    let cluster = &mut config.cluster;
    if cluster.discovery.endpoints.is_empty() {
        let domain = (cluster.discovery.srv_domain.as_str(), cluster.discovery.srv_name.as_str());
        cluster.initial = domain::initial_cluster(domain, name, advertised, &name_servers())?;
        // Records are nobody's word: a certificate of a public authority for any host that they name would do.
        if cluster.initial.contains("=https://") && config.peer_tls.trusted_ca_file.is_none() && !config.peer_tls.auto {
            return Err(
                "members that a domain names are trusted only by --peer-trusted-ca-file: give it, or name them \
                        with --initial-cluster"
                    .to_owned(),
            );
        }
    } else {
        cluster.initial = registry::initial_cluster(&cluster.discovery, name, advertised)?;
        // It tells this cluster from others then.
        cluster.token.clone_from(&cluster.discovery.token);
    }
    tracing::info!("initial-cluster" = cluster.initial, "discovered the founders of the cluster");
    Ok(config)
}
