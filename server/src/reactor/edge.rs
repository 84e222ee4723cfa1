//! A reactor that has connections and no group: everything it is asked goes to the home.

use super::listen::{self, Servers, Sharing};
use crate::api;
use crate::boot::GROUP;
use crate::config::Config;
use crate::http::Endpoints;
use crate::mesh::channel::{Receiver, Sender};
use crate::mesh::edge::{Edge, EdgeService};
use crate::mesh::{ToEdge, ToHome};
use crate::service;
use crate::tls::Security;
use plinth_net::grpc::Tally;
use plinth_net::rt::{self, Reactor};
use plinth_net::server::Shutdown;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// Starts the reactor; it binds its sockets when the home says that the member is ready.
pub fn start(
    number: usize,
    config: &Config,
    security: &Security,
    to_home: Sender<Vec<ToHome>>,
    to_edge: Receiver<Vec<ToEdge>>,
    tally: Arc<Tally>,
) -> io::Result<Reactor<()>> {
    let (config, security) = (config.clone(), security.clone());
    super::start(number, config.reactors.pin, move || async move {
        if let Err(error) = run(config, security, to_home, to_edge, tally).await {
            tracing::error!(reactor = number, %error, "an edge reactor does not serve");
        }
    })
}

async fn run(
    config: Config,
    security: Security,
    to_home: Sender<Vec<ToHome>>,
    to_edge: Receiver<Vec<ToEdge>>,
    tally: Arc<Tally>,
) -> Result<(), String> {
    let edge = Edge::new(api::method_table());
    // The first batch says that the member is ready; without one there is nothing to serve.
    let Some(_) = to_edge.receive().await else { return Ok(()) };
    let shutdown = Shutdown::new();
    let service = service::for_clients(
        Rc::new(EdgeService::new(edge.clone(), GROUP)),
        &config,
        &tally,
        Endpoints::of_clients(&config),
    );
    let start = Servers { config: &config, security: &security, shutdown: &shutdown, tally: &tally };
    let urls = &config.addresses.listen_client;
    let servers = start.start(urls, listen::carries(&config), Sharing::Joins, service)?;
    if !to_home.send(Vec::new()).await {
        return Ok(());
    }
    let sending = rt::spawn_into(edge.clone().send(to_home), rt::first_queue());
    let receiving = {
        let (edge, shutdown) = (edge.clone(), shutdown.clone());
        let receive = async move {
            edge.receive(&to_edge, &shutdown).await;
            // The home is gone: nothing can be answered any more.
            shutdown.close();
        };
        rt::spawn_into(receive, rt::first_queue())
    };
    for server in servers {
        server.await;
    }
    sending.cancel().await;
    receiving.cancel().await;
    Ok(())
}
