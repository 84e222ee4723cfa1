//! The reactor of the group, from boot to the last flush.

use super::listen::{self, Servers, Sharing};
use super::part::part;
use super::{EdgeChannels, new_tally, peers, wait_for_signal};
use crate::api::{self, Api, maintenance};
use crate::backup;
use crate::boot::{self, Booted};
use crate::cluster::{Link, corruption};
use crate::config::{Config, Gate};
use crate::conversion;
use crate::discovery;
use crate::endpoints::HttpEndpoints;
use crate::follow;
use crate::home::flush::{self, Flusher};
use crate::home::identity::Identities;
use crate::home::queues::Queues;
use crate::home::reactor::Reactor;
use crate::home::stall::Doorkeeper;
use crate::home::{Home, auto_compaction, background, driver, leases, scrub, space};
use crate::http::Endpoints;
use crate::logging::{self, events, notify_ready, notify_stopping};
use crate::mesh::home_side::{Answering, EdgeSink, HomeSide};
use crate::metad;
use crate::metrics::ReactorMetrics;
use crate::passwords::Passwords;
use crate::service::{self, HomeService};
use crate::sys::Signals;
use crate::tls::{Carries, Security};
use crate::tokens::Tokens;
use crate::wake::Woken;
use futures_lite::FutureExt;
use plinth_engine::watch::{Hub, HubConfig};
use plinth_net::grpc::Tally;
use plinth_net::rt;
use plinth_net::server::Shutdown;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// How long a simple token lives without being used, if the configuration says none.
const TOKEN_TTL: Duration = Duration::from_secs(300);

/// Runs the member. An error is why it cannot go on.
pub async fn run(
    config: Config,
    security: Security,
    member_dir: &Path,
    log_dir: &Path,
    channels: Vec<EdgeChannels>,
    signals: Arc<Signals>,
    taken: Arc<AtomicI32>,
) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (listeners, connector) = (peers::bind(&config).await?, security.connector());
    let converted = conversion::convert(&config, member_dir, log_dir).map_err(|error| text(&error))?;
    let mut stop =
        std::pin::pin!(async { wait_for_signal(signals, taken.clone()).await.map_err(|error| text(&error)) });
    let booted = boot::boot(&config, member_dir, log_dir, &connector);
    let booted = async { peers::turn_away_until(&listeners, booted).await.map(Some).map_err(|error| text(&error)) };
    // It may wait for other founders.
    let Some(booted) = booted.or(async { (&mut stop).await.map(|()| None) }).await? else { return Ok(()) };
    let Booted { member, log, profile, data, writer, first_members } = booted;
    if let Some(converted) = converted {
        // From here on consensus may add to the log.
        converted.set_aside().map_err(|error| text(&error))?;
    }
    let log_woken = log.wal().disk().wake_fd().try_clone_to_owned().map_err(|error| text(&error))?;
    let hub = Hub::new(hub_config(&config, profile.member_id), member.store().revision());
    let metrics = Rc::new(ReactorMetrics::new(api::method_table()));
    let users = identification(&config)?;
    let reactor = Reactor::new(Queues::create(), metrics, log);
    let link = peers::link((&reactor, member.group_id()), &profile, &config, &security, first_members);
    let home = Home::new(profile, data, reactor.clone(), (member, hub), link.clone(), users);
    let failed = start_tasks(&home, &link, &config, Woken::on(log_woken))?;
    let flusher = Flusher::start(writer, home.flushes.count()).map_err(|error| text(&error))?;
    let mut flushing = rt::spawn_into(flush::flush_regularly(home.clone(), flusher), reactor.queues.background);
    peers::connect(&home, &link, &config, &security, listeners);
    home.reactor.pump.notify();
    let is_founded_alone = !config.cluster.initial.contains(',') && !discovery::is_wanted(&config);
    let following = follow::follow(home.clone(), config.follow.clone(), is_founded_alone);
    let following = rt::spawn_into(following, reactor.queues.background);
    let followed = async { Err(format!("following another cluster: {}", following.await)) };

    let broken = async { Err(flush_fault((&mut flushing).await)) };
    let removed = async {
        peers::wait_for_removal(&home, &link).await;
        Ok(())
    };
    let mut ends = std::pin::pin!(failed.or(stop).or(broken).or(removed).or(followed));

    let tally = new_tally(&config);
    let tallies = channels.iter().map(|channel| channel.tally.clone()).chain([tally.clone()]).collect();
    let http = Rc::new(HttpEndpoints::new(home.clone(), link.clone(), &config, tallies, security.clone()));
    let ready = async {
        peers::join(&home, &link, &config).await?;
        follow::wait_for_data(&home).await;
        Ok(true)
    };
    let is_ready = ready.or(async { (&mut ends).await.map(|()| false) }).await?;
    let mut serving = Serving::default();
    if is_ready {
        let metad = metad::Bound::new(&config)?;
        let starting = async { serve(&home, &config, &http, channels, &tally, &security).await.map(Some) };
        if let Some(started) = starting.or(async { (&mut ends).await.map(|()| None) }).await? {
            home.stall.admit_by(started.doorkeeper());
            serving = started;
            // Until the end of this block: before connections are waited for, of which it has some.
            let _metad = metad.map(metad::Bound::start).transpose()?;
            ends.await?;
        }
    }
    if home.is_removed() {
        tracing::warn!("the member has been permanently removed from the cluster");
        tracing::warn!("the data-dir used by this member must be removed");
    } else {
        let name = if taken.load(Ordering::Acquire) == libc::SIGINT { "interrupt" } else { "terminated" };
        events::received_signal(name);
    }
    events::closing(&config);
    if let Err(error) = notify_stopping() {
        tracing::warn!(%error, "the supervisor could not be told that the server stops");
    }
    part(&home, &link, serving).await;
    let mut flusher = flushing.await.map_err(|error| format!("data file: {error}"))?;
    flush::flush_once(&home, &mut flusher).await.map_err(|error| format!("data file: {error}"))?;
    driver::mark_at_stop(&home.reactor).await.map_err(|error| text(&error))?;
    backup::wait_for_end(&home).await;
    events::closed(&config);
    Ok(())
}

/// Everything that has clients.
#[derive(Default)]
pub struct Serving {
    shutdown: Shutdown,
    servers: Vec<rt::Task<()>>,
    /// Where an edge's answers go, and what takes its calls until it is gone.
    edges: Vec<(Rc<EdgeSink>, rt::Task<()>)>,
}

impl Serving {
    /// Tells clients to go.
    pub fn drain(&self) {
        for (edge, _) in &self.edges {
            edge.drain();
        }
        self.shutdown.drain();
    }

    /// Sends clients away, and takes them again.
    fn doorkeeper(&self) -> Doorkeeper {
        let edges: Vec<_> = self.edges.iter().map(|(edge, _)| edge.clone()).collect();
        let shutdown = self.shutdown.clone();
        Box::new(move |sends_away| {
            edges.iter().for_each(|edge| edge.turn_away(sends_away));
            shutdown.turn_away(sends_away);
        })
    }

    /// Waits until the last connection is closed; true.
    pub async fn wait_until_gone(self) -> bool {
        for server in self.servers {
            server.await;
        }
        for (_, receiving) in self.edges {
            receiving.await;
        }
        true
    }
}

fn flush_fault(ended: std::io::Result<Flusher>) -> String {
    match ended {
        Ok(_) => "the flush of the data file ended by itself".to_string(),
        Err(error) => format!("data file: {error}"),
    }
}

/// What identifies users, and where their passwords are worked on.
fn identification(config: &Config) -> Result<Identities, String> {
    let ttl = Some(config.auth.token_ttl).filter(|ttl| !ttl.is_zero()).unwrap_or(TOKEN_TTL);
    let tokens = Tokens::open(&config.auth.token, u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))?;
    let passwords = Passwords::start(config.auth.bcrypt_cost).map_err(|error| error.to_string())?;
    Ok(Identities::new(tokens, config.client_tls.client_cert_auth, passwords))
}

fn hub_config(config: &Config, member: u64) -> HubConfig {
    HubConfig {
        fragment_bytes: config.limits.message_bytes_max(),
        progress_interval_millis: config.watch_progress_interval.as_millis() as u64,
        seed: member,
        ..HubConfig::default()
    }
}

/// Starts the home's tasks. The future ends only when one of them fails for good.
fn start_tasks(
    home: &Rc<Home>,
    link: &Rc<Link>,
    config: &Config,
    log: Woken,
) -> Result<impl Future<Output = Result<(), String>> + use<>, String> {
    let queues = home.reactor.queues;
    let drive = rt::spawn_into(driver::drive(home.clone()), queues.consensus);
    let log = rt::spawn_into(driver::watch_log(home.reactor.clone(), log), queues.consensus);
    rt::spawn_into(driver::tick(home.clone(), config.cluster.heartbeat_interval), queues.consensus).detach();
    let work = rt::spawn_into(background::work(home.clone()), queues.background);
    let auto = config.storage.auto_compaction()?;
    let space = rt::spawn_into(space::watch(home.clone()), queues.background);
    let rest: [Pin<Box<dyn Future<Output = ()>>>; 6] = [
        Box::pin(leases::expire_leases(home.clone())),
        Box::pin(background::notify_progress(home.clone())),
        Box::pin(background::trim(home.clone())),
        Box::pin(scrub::scrub(home.clone())),
        Box::pin(crate::cluster::handover::leave_when_damaged(home.clone())),
        Box::pin(auto_compaction::run(home.clone(), auto)),
    ];
    for task in rest {
        rt::spawn_into(task, queues.background).detach();
    }
    if let Some(megabytes) = config.storage.shrink_threshold_megabytes {
        rt::spawn_into(maintenance::shrink_at_start(home.clone(), megabytes), queues.background).detach();
    }
    if let Some(interval) = config.cluster.corrupt_check_interval {
        rt::spawn_into(corruption::check_regularly(home.clone(), link.clone(), interval), queues.background).detach();
    }
    if let Some(backup) = config.backup.clone() {
        rt::spawn_into(backup::run(home.clone(), backup), queues.background).detach();
    }
    if config.gates.enabled(Gate::CompactHashCheck) {
        let interval = config.cluster.compact_hash_check_interval;
        rt::spawn_into(corruption::check_compactions(home.clone(), link.clone(), interval), queues.background).detach();
    }
    Ok(async move {
        let fatal = async { Err(drive.await.to_string()) };
        let log_gone = async { log.await.map_err(|error| format!("write-ahead log: {error}")) };
        let broken = async { Err(format!("data: {}", work.await)) };
        let unreadable = async { Err(format!("data file: {}", space.await)) };
        fatal.or(log_gone).or(broken).or(unreadable).await
    })
}

/// Starts listening here, lets the edges do so, and tells everybody that the member is ready.
async fn serve(
    home: &Rc<Home>,
    config: &Config,
    http: &Rc<HttpEndpoints>,
    channels: Vec<EdgeChannels>,
    tally: &Arc<Tally>,
    security: &Security,
) -> Result<Serving, String> {
    let shutdown = Shutdown::new();
    let addresses = &config.addresses;
    let client = Endpoints::of_clients(config);
    let api = Rc::new(Api::new(home.clone()));
    let answering = Answering { api: api.clone(), http: http.clone(), endpoints: client };
    let service = service::for_clients(HomeService::new(api.clone(), http.clone(), client), config, tally, client);
    let sharing = if channels.is_empty() { Sharing::Alone } else { Sharing::Leads };
    let start = Servers { config, security, shutdown: &shutdown, tally };
    let mut servers = start.start(&addresses.listen_client, listen::carries(config), sharing, service.clone())?;
    servers.extend(start.start(&addresses.listen_client_http, Carries::All, Sharing::Alone, service)?);
    let page = HomeService::new(api.clone(), http.clone(), Endpoints::Console);
    let page = service::for_clients(page, config, tally, Endpoints::Console);
    servers.extend(start.start(&addresses.listen_console, Carries::All, Sharing::Alone, page)?);
    let metrics_api = HomeService::new(api.clone(), http.clone(), Endpoints::Metrics);
    servers.extend(start.start(&addresses.listen_metrics, Carries::Metrics, Sharing::Alone, metrics_api)?);
    if config.http.console || !addresses.listen_console.is_empty() {
        rt::spawn_into(http.clone().sample_regularly(), home.reactor.queues.background).detach();
    }
    for channel in &channels {
        channel.to_edge.send(Vec::new()).await;
    }
    let mut edges = Vec::new();
    for channel in channels {
        if channel.to_home.receive().await.is_none() {
            return Err("an edge reactor does not serve".to_string());
        }
        let side = HomeSide::new(vec![(home.group, answering.clone())]);
        let sink = side.sink();
        rt::spawn_into(sink.clone().send(channel.to_edge), home.reactor.queues.mesh).detach();
        edges.push((sink, rt::spawn_into(side.receive(channel.to_home), home.reactor.queues.mesh)));
    }
    events::now_serving(config, home.profile.member_id);
    events::ready_to_serve();
    listen::announce(&addresses.listen_client, "grpc+http");
    listen::announce(&addresses.listen_client_http, "http");
    listen::announce(&addresses.listen_console, "console");
    if let Err(error) = notify_ready() {
        tracing::warn!(%error, "the supervisor could not be told that the server is ready");
    }
    logging::flush();
    Ok(Serving { shutdown, servers, edges })
}
