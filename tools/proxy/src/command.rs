//! The command line of `etcd grpc-proxy`: flags only, no variables and no file, as etcd's.

use crate::front::{Front, Keeping};
use crate::members::{Members, Registry};
use crate::namespace::Namespace;
use crate::proxy::Proxy;
use crate::tls::{self, Clients};
use crate::upstream::Upstream;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use plinth_companion::{etcd_log as log, listen, systemd};
use plinth_ctl::cluster::Cluster;
use plinth_ctl::discovery::Discovery;
use plinth_ctl::rpc::{Credentials, Options};
use plinth_ctl::{quote, services, signals, usage};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a connection to a server may take, as in etcd's proxy.
const DIAL_TIME: Duration = Duration::from_secs(5);

#[derive(Parser)]
#[command(name = "etcd grpc-proxy", about = "grpc-proxy related command", subcommand_required = true)]
struct Cli {
    #[command(subcommand)]
    command: Group,
}

#[derive(Subcommand)]
enum Group {
    /// start the grpc proxy
    Start(Box<Start>),
}

/// What the flags say.
#[derive(Args, Clone, Debug)]
struct Start {
    /// listen address
    #[arg(long, default_value = "127.0.0.1:23790")]
    listen_addr: String,
    /// listen for endpoint /metrics requests on an additional interface
    #[arg(long, default_value = "")]
    metrics_addr: String,
    /// comma separated etcd cluster endpoints
    #[arg(long, default_value = "127.0.0.1:2379", value_delimiter = ',')]
    endpoints: Vec<String>,
    /// domain name to query for SRV records describing cluster endpoints
    #[arg(long, default_value = "")]
    discovery_srv: String,
    /// service name to query when using DNS discovery
    #[arg(long, default_value = "")]
    discovery_srv_name: String,
    /// accept insecure SRV records
    #[arg(long)]
    insecure_discovery: bool,
    /// advertise address to register (must be reachable by client)
    #[arg(long, default_value = "127.0.0.1:23790")]
    advertise_client_url: String,
    /// prefix to use for registering proxy (must be shared with other grpc-proxy members)
    #[arg(long, default_value = "")]
    resolver_prefix: String,
    /// specify TTL, in seconds, when registering proxy endpoints
    #[arg(long, default_value_t = 0)]
    resolver_ttl: i64,
    /// string to prefix to all keys for namespacing requests
    #[arg(long, default_value = "")]
    namespace: String,
    /// data directory for generated certificates
    #[arg(long, default_value = "default.proxy")]
    data_dir: String,
    /// message send limits in bytes
    #[arg(long, default_value_t = 1536 << 10)]
    max_send_bytes: usize,
    /// message receive limits in bytes
    #[arg(long, default_value_t = i32::MAX as usize)]
    max_recv_bytes: usize,
    /// maximum concurrent streams that each client can open at a time
    #[arg(long, default_value_t = u32::MAX)]
    max_concurrent_streams: u32,
    #[command(flatten)]
    keeping: Keepalive,
    #[command(flatten)]
    servers: Servers,
    #[command(flatten)]
    clients: Clients,
    #[command(flatten)]
    missing: Missing,
    /// enable debug-level logging for grpc-proxy
    #[arg(long)]
    debug: bool,
}

/// Probes of silent connections.
#[derive(Args, Clone, Debug)]
struct Keepalive {
    /// keepalive time for client(grpc-proxy) connections (0: a probe after ten silent seconds)
    #[arg(long, default_value = "0s", value_parser = quote::parse_duration)]
    dial_keepalive_time: Duration,
    /// keepalive timeout for client(grpc-proxy) connections
    #[arg(long, default_value = "20s", value_parser = quote::parse_duration)]
    dial_keepalive_timeout: Duration,
    /// taken without effect: connections without calls are not probed
    #[arg(long)]
    permit_without_stream: bool,
    /// taken without effect: clients that ask too often lose their connection anyway
    #[arg(long, default_value = "5s", value_parser = quote::parse_duration)]
    grpc_keepalive_min_time: Duration,
    /// frequency duration of server-to-client ping to check if a connection is alive (0 to disable)
    #[arg(long, default_value = "2h", value_parser = quote::parse_duration)]
    grpc_keepalive_interval: Duration,
    /// additional duration of wait before closing a non-responsive connection
    #[arg(long, default_value = "20s", value_parser = quote::parse_duration)]
    grpc_keepalive_timeout: Duration,
}

/// TLS towards the servers.
#[derive(Args, Clone, Debug)]
struct Servers {
    /// identify secure connections with etcd servers using this TLS certificate file
    #[arg(long, default_value = "")]
    cert: String,
    /// identify secure connections with etcd servers using this TLS key file
    #[arg(long, default_value = "")]
    key: String,
    /// verify certificates of TLS-enabled secure etcd servers using this CA bundle
    #[arg(long, default_value = "")]
    cacert: String,
    /// skip authentication of etcd server TLS certificates (for testing only)
    #[arg(long)]
    insecure_skip_tls_verify: bool,
}

/// Flags of etcd's proxy that this one does not have. They are refused, rather than ignored.
#[derive(Args, Clone, Debug)]
struct Missing {
    #[arg(long, default_value = "", hide = true)]
    experimental_leasing_prefix: String,
    #[arg(long, default_value = "", hide = true)]
    client_crl_file: String,
    #[arg(long, hide = true)]
    experimental_serializable_ordering: bool,
    #[arg(long, hide = true)]
    experimental_enable_grpc_logging: bool,
    #[arg(long, hide = true)]
    enable_pprof: bool,
    #[arg(long, default_value = "0s", hide = true, value_parser = quote::parse_duration)]
    endpoints_auto_sync_interval: Duration,
}

impl Missing {
    fn check(&self) -> Result<(), String> {
        let given = [
            ("experimental-leasing-prefix", !self.experimental_leasing_prefix.is_empty()),
            ("client-crl-file", !self.client_crl_file.is_empty()),
            ("experimental-serializable-ordering", self.experimental_serializable_ordering),
            ("experimental-enable-grpc-logging", self.experimental_enable_grpc_logging),
            ("enable-pprof", self.enable_pprof),
            ("endpoints-auto-sync-interval", !self.endpoints_auto_sync_interval.is_zero()),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((name, _)) => Err(format!("--{name} is not supported by this proxy")),
            None => Ok(()),
        }
    }
}

/// Runs `etcd grpc-proxy` with the arguments behind that. `make` makes a certificate, if one is asked for.
pub fn main(words: Vec<String>, make: tls::Make) -> ExitCode {
    let definition = usage::as_go(Cli::command());
    let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
    let named = std::iter::once(OsString::from("etcd grpc-proxy")).chain(words.clone());
    let parsed = definition.clone().try_get_matches_from(named).and_then(|found| Cli::from_arg_matches(&found));
    let Group::Start(start) = match parsed {
        Ok(cli) => cli.command,
        Err(error) => return usage::report(&error, &definition, &words),
    };
    let ran = check(&start).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.map_err(|error| error.to_string())?.block_on(run(*start, make))
    });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// What is wrong with flags taken together, in etcd's words where it has some.
fn check(start: &Start) -> Result<(), String> {
    let (prefix, ttl) = (&start.resolver_prefix, start.resolver_ttl);
    if !prefix.is_empty() && ttl < 1 {
        return Err(format!("invalid resolver-ttl {ttl}"));
    }
    if prefix.is_empty() && ttl > 0 {
        return Err(format!("invalid resolver-prefix {prefix:?}"));
    }
    if !prefix.is_empty() && start.advertise_client_url.is_empty() {
        return Err(format!("invalid advertise-client-url {:?}", start.advertise_client_url));
    }
    start.missing.check()?;
    tls::common(&start.clients).map(drop)
}

/// The endpoints: of DNS, if it has some.
fn endpoints(start: &Start) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    if !start.discovery_srv.is_empty() {
        let (domain, suffix, is_insecure) =
            (&start.discovery_srv[..], &start.discovery_srv_name[..], start.insecure_discovery);
        let discovery = Discovery { domain, suffix, is_insecure };
        found = discovery.endpoints(&services::name_servers()).map_err(|failure| failure.text)?;
    }
    if found.is_empty() {
        found = start.endpoints.iter().filter(|endpoint| !endpoint.is_empty()).cloned().collect();
    }
    match found.iter().find(|endpoint| leads_back(endpoint, &start.listen_addr)) {
        Some(own) => Err(format!("endpoint {own} is where the proxy listens itself")),
        None if found.is_empty() => Err("no endpoints found".to_owned()),
        None => Ok(found),
    }
}

/// A proxy of itself would ask itself without an end.
fn leads_back(endpoint: &str, listen: &str) -> bool {
    endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest).split('/').next() == Some(listen)
}

fn options(start: &Start) -> Result<Options, String> {
    let Servers { cert, key, cacert, insecure_skip_tls_verify } = start.servers.clone();
    let encryption = tls::towards_servers(cert, key, cacert, insecure_skip_tls_verify)?;
    Ok(Options {
        dial_timeout: DIAL_TIME,
        keepalive_time: start.keeping.dial_keepalive_time,
        keepalive_timeout: start.keeping.dial_keepalive_timeout,
        request_bytes_max: start.max_send_bytes,
        answer_bytes_max: start.max_recv_bytes,
        credentials: Credentials::None,
        encryption,
    })
}

/// Serves until a signal ends it.
async fn run(start: Start, make: tls::Make) -> Result<(), String> {
    let mut end = signals::end().map_err(|failure| failure.text)?;
    let (endpoints, options) = (endpoints(&start)?, options(&start)?);
    let encryption = tls::towards_clients(&start.clients, Path::new(&start.data_dir), &start.listen_addr, make)?;
    let cluster = Cluster::new(endpoints.clone(), options.clone());
    let registry = Some(&start.resolver_prefix).filter(|prefix| !prefix.is_empty());
    // The registry is in the namespace, as everything that clients see.
    let registry =
        registry.map(|prefix| Registry { prefix: format!("{}{prefix}", start.namespace), ttl: start.resolver_ttl });
    let members = Arc::new(Members::new(start.advertise_client_url.clone(), registry));
    let upstream = Upstream::new(endpoints, options);
    let proxy = Proxy::new(upstream, Namespace::new(&start.namespace), Arc::clone(&members));

    let keeping = Keeping {
        interval: start.keeping.grpc_keepalive_interval,
        timeout: start.keeping.grpc_keepalive_timeout,
        streams_max: start.max_concurrent_streams,
    };
    let mut fronts = Vec::new();
    let address = start.listen_addr.as_str();
    let listener = listen::bind(address).await.map_err(|error| error.to_string())?;
    log::line("info", "listening for gRPC proxy client requests", &[("address", address.into())]);
    fronts.push(Front { listener, encryption: encryption.clone(), keeping: keeping.clone(), has_calls: true });
    if !start.metrics_addr.is_empty() {
        let (address, encryption) = metrics_place(&start.metrics_addr, encryption)?;
        let listener = listen::bind(&address).await.map_err(|error| error.to_string())?;
        log::line("info", "gRPC proxy listening for metrics", &[("address", start.metrics_addr.as_str().into())]);
        fronts.push(Front { listener, encryption, keeping, has_calls: false });
    }

    let (ending, ended) = watch::channel(false);
    let serving: Vec<_> =
        fronts.into_iter().map(|front| tokio::spawn(front.serve(Arc::clone(&proxy), ended.clone()))).collect();
    log::line("info", "started gRPC proxy", &[("address", address.into())]);
    if let Err(error) = systemd::tell("READY=1") {
        log::line("error", "failed to notify systemd for readiness", &[("error", error.to_string().into())]);
    }
    let registering = tokio::spawn({
        let (members, cluster) = (Arc::clone(&members), cluster.clone());
        async move { members.run(cluster).await }
    });
    end.recv().await;
    registering.abort();
    // Who listens has not gone yet.
    let _ = ending.send(true);
    members.leave(&cluster).await;
    for front in serving {
        let _ = front.await;
    }
    log::line("info", "stop listening gRPC proxy client requests", &[("address", address.into())]);
    Ok(())
}

/// Where metrics are to be had besides, and with what.
fn metrics_place(
    url: &str,
    encryption: Option<Arc<listen::Encryption>>,
) -> Result<(String, Option<Arc<listen::Encryption>>), String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(format!("cannot parse {}", quote::quoted(url.as_bytes())));
    };
    let address = rest.split('/').next().unwrap_or_default().to_owned();
    match scheme {
        "http" => Ok((address, None)),
        "https" if encryption.is_some() => Ok((address, encryption)),
        "https" => Err(format!("cannot listen on TLS for {address}: KeyFile and CertFile are not presented")),
        _ => Err(format!("cannot parse {}", quote::quoted(url.as_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(words: &[&str]) -> Result<Start, String> {
        let named = ["etcd grpc-proxy", "start"].into_iter().chain(words.iter().copied());
        let found = usage::as_go(Cli::command()).try_get_matches_from(named).map_err(|error| error.to_string())?;
        let Group::Start(start) = Cli::from_arg_matches(&found).map_err(|error| error.to_string())?.command;
        check(&start)?;
        endpoints(&start)?;
        Ok(*start)
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        for (words, text) in [
            (&["--resolver-prefix=p"][..], "invalid resolver-ttl 0"),
            (&["--resolver-ttl=5"], "invalid resolver-prefix \"\""),
            (
                &["--resolver-prefix=p", "--resolver-ttl=5", "--advertise-client-url="],
                "invalid advertise-client-url \"\"",
            ),
            (&["--experimental-leasing-prefix=l"], "--experimental-leasing-prefix is not supported by this proxy"),
            (&["--enable-pprof"], "--enable-pprof is not supported by this proxy"),
            (&["--endpoints="], "no endpoints found"),
            (
                &["--endpoints=http://127.0.0.1:23790"],
                "endpoint http://127.0.0.1:23790 is where the proxy listens itself",
            ),
            (
                &["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
                "min version (TLS1.3) is greater than max version (TLS1.2)",
            ),
        ] {
            assert_eq!(checked(words).map(drop), Err(text.to_owned()), "{words:?}");
        }
        let start =
            checked(&["--endpoints=a:1,b:2", "--namespace", "n/", "--enable-pprof=false"]).expect("all is well");
        assert_eq!((start.endpoints.len(), start.max_send_bytes), (2, 1_572_864));
    }

    #[test]
    fn metrics_have_a_url() {
        let place = |url| metrics_place(url, None).map(|(address, _)| address);
        assert_eq!(place("http://127.0.0.1:1/x"), Ok("127.0.0.1:1".to_owned()));
        assert!(place("127.0.0.1:1").is_err() && place("https://a:1").is_err());
    }
}
