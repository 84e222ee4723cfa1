//! The command line of `etcd gateway`: flags only, no variables and no file, as etcd's.

use crate::discovery::Domain;
use crate::pool::{Endpoint, Pool};
use crate::proxy::Proxy;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use plinth_companion::{etcd_log as log, systemd};
use plinth_ctl::services::name_servers;
use plinth_ctl::{quote, signals, usage};
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpListener;

#[derive(Parser)]
#[command(name = "etcd gateway", about = "gateway related command", subcommand_required = true)]
struct Cli {
    #[command(subcommand)]
    command: Gateway,
}

#[derive(Subcommand)]
enum Gateway {
    /// start the gateway
    Start {
        /// listen address
        #[arg(long, default_value = "127.0.0.1:23790")]
        listen_addr: String,
        /// comma separated etcd cluster endpoints
        #[arg(long, default_value = "127.0.0.1:2379", value_delimiter = ',')]
        endpoints: Vec<String>,
        #[command(flatten)]
        domain: Domain,
        /// duration of delay before retrying failed endpoints
        #[arg(long, default_value = "1m0s", value_parser = quote::parse_duration)]
        retry_delay: Duration,
    },
}

/// Runs `etcd gateway` with the arguments behind that.
pub fn main(words: Vec<String>) -> ExitCode {
    let definition = usage::as_go(Cli::command());
    let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
    let named = std::iter::once(OsString::from("etcd gateway")).chain(words.clone());
    let parsed = definition.clone().try_get_matches_from(named).and_then(|found| Cli::from_arg_matches(&found));
    let Gateway::Start { listen_addr, endpoints, domain, retry_delay } = match parsed {
        Ok(cli) => cli.command,
        Err(error) => return usage::report(&error, &definition, &words),
    };
    match start(&listen_addr, &endpoints, &domain, retry_delay) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn start(listen: &str, endpoints: &[String], domain: &Domain, retry_delay: Duration) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let found = runtime.block_on(domain.endpoints(&name_servers()))?;
    let pool = if found.is_empty() { pool(endpoints)? } else { Pool::new(found) };
    check_address(listen)?;
    leads_elsewhere(&pool, listen)?;
    runtime.block_on(run(pool, listen, retry_delay))
}

/// The endpoints: hosts and ports, of which a scheme is cut off.
fn pool(endpoints: &[String]) -> Result<Pool, String> {
    let bare = endpoints.iter().map(|text| text.split_once("://").map_or(text.as_str(), |(_, rest)| rest));
    let addresses: Vec<&str> =
        bare.map(|rest| rest.split('/').next().unwrap_or_default()).filter(|text| !text.is_empty()).collect();
    if addresses.is_empty() {
        return Err("no endpoints found".to_owned());
    }
    for address in &addresses {
        if !has_port(address) {
            return Err(format!("error parsing endpoint {}", quote::quoted(address.as_bytes())));
        }
    }
    Ok(Pool::new(addresses.into_iter().map(Endpoint::plain).collect()))
}

fn check_address(address: &str) -> Result<(), String> {
    if has_port(address) { Ok(()) } else { Err(format!("failed to validate listen address: {address}")) }
}

/// A gateway that passes on to itself would do so without an end.
fn leads_elsewhere(pool: &Pool, listen: &str) -> Result<(), String> {
    match pool.addresses().contains(&listen) {
        true => Err(format!("endpoint {listen} is where the gateway listens itself")),
        false => Ok(()),
    }
}

fn has_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && (!host.contains(':') || (host.starts_with('[') && host.ends_with(']')))
    })
}

/// Serves until a signal ends it.
async fn run(pool: Pool, listen: &str, retry: Duration) -> Result<(), String> {
    let mut end = signals::end().map_err(|failure| failure.text)?;
    let host = listen.strip_prefix(':').map(|port| format!("[::]:{port}"));
    let listener = TcpListener::bind(host.as_deref().unwrap_or(listen)).await;
    let listener = listener.map_err(|error| format!("listen tcp {listen}: {error}"))?;
    if let Err(error) = systemd::tell("READY=1") {
        log::line("error", "failed to notify systemd for readiness", &[("error", error.to_string().into())]);
    }
    tokio::select! {
        () = Proxy::new(pool, retry).serve(listener) => {}
        () = end.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ghsa_2xhq_gv6c_p224_a_gateway_does_not_lead_to_itself() {
        let pool = pool(&["http://127.0.0.1:2379".to_owned(), "127.0.0.1:23790".to_owned()]).expect("endpoints");
        assert!(leads_elsewhere(&pool, "127.0.0.1:23790").is_err());
        assert!(leads_elsewhere(&pool, "127.0.0.1:1").is_ok());
    }

    #[test]
    fn endpoints_are_hosts_and_ports() {
        let text = |list: &[&str]| {
            let list: Vec<String> = list.iter().map(|text| (*text).to_owned()).collect();
            pool(&list).map(|pool| pool.addresses().join(" "))
        };
        assert_eq!(text(&["http://a:1", "b:2", "https://[::1]:3/path"]), Ok("a:1 b:2 [::1]:3".to_owned()));
        assert_eq!(text(&[""]), Err("no endpoints found".to_owned()));
        assert_eq!(text(&["http://a/b"]), Err("error parsing endpoint \"a\"".to_owned()));
        assert!(check_address("999:1:2").is_err() && check_address(":2379").is_ok());
    }
}
