//! The process: reactors, their task queues, start and stop.
//!
//! Task queues, by what must not wait: consensus and completions of the log, client requests, watch delivery and
//! background work. Shares are relative: 1000 to 1 means that background work runs when there is nothing else.

use crate::api::Api;
use crate::boot::{self, Booted};
use crate::config::Config;
use crate::home::clock::Clock;
use crate::home::flush::{self, Flusher};
use crate::home::{Home, background, driver};
use crate::sys::Signals;
use crate::wake::{self, Woken};
use futures_lite::FutureExt;
use glommio::{Latency, LocalExecutorBuilder, Placement, Shares};
use plinth_engine::command::{Command, MemberAttributes};
use plinth_engine::watch::{Hub, HubConfig};
use plinth_net::server::{ListenOptions, Listener, ServerOptions, Shutdown, serve};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// Starts the member and serves until a signal stops it or something fails for good.
pub fn run(config: Config, folder: &Path, log_folder: Option<&Path>) -> ExitCode {
    let signals = match Signals::block() {
        Ok(signals) => Arc::new(signals),
        Err(error) => return fail("signals cannot be taken", &error),
    };
    let (folder, log_folder) = (folder.to_path_buf(), log_folder.map(Path::to_path_buf));
    let taken = Arc::new(AtomicI32::new(0));
    let (inner_signals, inner_taken) = (signals.clone(), taken.clone());
    let placement = if config.reactors.pin { Placement::Fixed(0) } else { Placement::Unbound };
    let reactor = LocalExecutorBuilder::new(placement).name("reactor-0").spawn(move || async move {
        home_reactor(config, &folder, log_folder.as_deref(), inner_signals, inner_taken).await
    });
    let reactor = match reactor {
        Ok(reactor) => reactor,
        Err(error) => {
            return fail("the reactor cannot be started; io_uring and 512 KiB of locked memory are needed", &error);
        }
    };
    match reactor.join() {
        Ok(Ok(())) => {
            let signal = taken.load(Ordering::Acquire);
            if signal != 0 && std::process::id() != 1 {
                signals.die_by(signal);
            }
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => fail("stopped", &error),
        Err(error) => fail("the reactor ended", &error),
    }
}

fn fail(what: &str, error: &dyn std::fmt::Display) -> ExitCode {
    tracing::error!(%error, "{what}");
    eprintln!("plinth: {what}: {error}");
    ExitCode::FAILURE
}

/// Everything that runs on the home reactor, from boot to the last flush.
async fn home_reactor(
    config: Config,
    folder: &Path,
    log_folder: Option<&Path>,
    signals: Arc<Signals>,
    taken: Arc<AtomicI32>,
) -> Result<(), String> {
    let Booted { member, profile, writer } =
        boot::boot(&config, folder, log_folder).map_err(|error| error.to_string())?;
    let wake_fd = member.wal().disk().wake_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
    let hub_config = HubConfig {
        fragment_bytes: profile.limits.request_bytes_max + (512 << 10),
        progress_interval_millis: config.watch_progress_interval.as_millis() as u64,
        seed: profile.member_id,
        ..HubConfig::default()
    };
    let hub = Hub::new(hub_config, member.store().revision());
    let home = Home::new(profile, Clock::start(), member, hub);
    let failed = start_tasks(&home, &config, Woken::on(wake_fd));
    let flusher = Flusher::start(writer).map_err(|error| error.to_string())?;
    let flushing = spawn_background(flush::flush_regularly(home.clone(), flusher));
    home.pump.notify();

    publish(&home, &config).await?;
    let shutdown = Shutdown::new();
    let served = listen(&home, &config, &shutdown)?;
    tracing::info!("ready to serve client requests");

    let stop = wait_for_signal(signals, taken);
    let ended = async { failed.await }.or(async { stop.await.map_err(|error| error.to_string()) }).await;
    ended?;
    shutdown.drain();
    for server in served {
        server.await;
    }
    home.stop();
    let mut flusher = flushing.await.map_err(|error| format!("data file: {error}"))?;
    flush::flush_once(&home, &mut flusher).await.map_err(|error| format!("data file: {error}"))?;
    tracing::info!("closed etcd server");
    Ok(())
}

fn spawn_into<T: 'static>(
    future: impl Future<Output = T> + 'static,
    queue: glommio::TaskQueueHandle,
) -> glommio::Task<T> {
    glommio::spawn_local_into(future, queue).expect("task queues live as long as their reactor")
}

fn spawn_background<T: 'static>(future: impl Future<Output = T> + 'static) -> glommio::Task<T> {
    let queue = glommio::executor().create_task_queue(Shares::Static(50), Latency::NotImportant, "background");
    spawn_into(future, queue)
}

/// Starts the home's tasks. The future ends only when one of them fails for good.
fn start_tasks(home: &Rc<Home>, config: &Config, log: Woken) -> impl Future<Output = Result<(), String>> + use<> {
    let consensus = glommio::executor().create_task_queue(
        Shares::Static(1000),
        Latency::Matters(Duration::from_millis(1)),
        "consensus",
    );
    let background = glommio::executor().create_task_queue(Shares::Static(50), Latency::NotImportant, "background");
    let drive = spawn_into(driver::drive(home.clone()), consensus);
    let log = spawn_into(driver::watch_log(home.clone(), log), consensus);
    let tick = driver::tick(home.clone(), config.cluster.heartbeat_interval);
    spawn_into(tick, consensus).detach();
    let work = spawn_into(background::work(home.clone()), background);
    let rest = [
        Box::pin(background::expire_leases(home.clone())) as std::pin::Pin<Box<dyn Future<Output = ()>>>,
        Box::pin(background::notify_progress(home.clone())),
        Box::pin(background::trim(home.clone())),
    ];
    for task in rest {
        spawn_into(task, background).detach();
    }
    async move {
        let fatal = async { Err(drive.await.to_string()) };
        let log_gone = async { log.await.map_err(|error| format!("write-ahead log: {error}")) };
        let broken = async { Err(format!("data: {}", work.await)) };
        fatal.or(log_gone).or(broken).await
    }
}

/// Waits until the member leads and publishes its name and client URLs, unless they are known already.
async fn publish(home: &Rc<Home>, config: &Config) -> Result<(), String> {
    let attributes = MemberAttributes {
        member: home.profile.member_id,
        name: config.name.clone(),
        client_urls: home.profile.client_urls.clone(),
    };
    home.barrier().await.map_err(|error| error.to_string())?;
    home.propose(Command::SetMemberAttributes(attributes)).await.map_err(|error| error.to_string())?;
    tracing::info!(name = config.name, "published local member to cluster through raft");
    Ok(())
}

/// Binds every client URL and starts serving.
fn listen(home: &Rc<Home>, config: &Config, shutdown: &Shutdown) -> Result<Vec<glommio::Task<()>>, String> {
    let api = Api::new(home.clone());
    let options = server_options(config);
    let mut servers = Vec::new();
    for url in &config.addresses.listen_client {
        let address = resolve(url.address()).map_err(|error| format!("listen on {}: {error}", url.as_str()))?;
        let listen = ListenOptions { reuse_port: config.addresses.reuse_port, ..ListenOptions::default() };
        let listener =
            Listener::bind(address, listen).map_err(|error| format!("listen on {}: {error}", url.as_str()))?;
        servers.push(glommio::spawn_local(serve(listener, api.clone(), options.clone(), shutdown.clone())));
        tracing::info!(address = %address, "serving client traffic insecurely; this is strongly discouraged!");
    }
    Ok(servers)
}

fn server_options(config: &Config) -> ServerOptions {
    let limits = &config.limits;
    ServerOptions {
        max_recv_message_bytes: limits.request_bytes_max as usize + (512 << 10),
        max_concurrent_streams: limits.concurrent_streams_max,
        keepalive_min_time: limits.keepalive_min_time,
        keepalive_interval: limits.keepalive_interval.unwrap_or_default(),
        keepalive_timeout: limits.keepalive_timeout.unwrap_or_default(),
        drain_timeout: config.cluster.request_timeout(),
        ..ServerOptions::default()
    }
}

fn resolve(address: &str) -> io::Result<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.into_iter().next().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// Ends when SIGTERM or SIGINT arrives.
async fn wait_for_signal(signals: Arc<Signals>, taken: Arc<AtomicI32>) -> io::Result<()> {
    let (waker, mut woken) = wake::pair()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if let Ok(signal) = signals.wait() {
            taken.store(signal, Ordering::Release);
        }
        waker.wake();
        // Kept open until the process ends: a closed pair would look like a failure.
        std::mem::forget(waker);
    })?;
    woken.wait().await?;
    tracing::info!("received signal; shutting down");
    Ok(())
}
