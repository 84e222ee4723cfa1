//! Starts one server on free loopback ports with a fresh data folder; dropping it ends the process.

use super::client::Client;
use super::common::{PATIENCE, Port, Process};
use plinth_api::proto::etcdserverpb::{StatusRequest, StatusResponse};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LOG_LINES_SHOWN: usize = 30;
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// A running server.
pub struct Server {
    process: Process,
    /// Its client.
    pub client: Client,
    /// Its first answer.
    pub status: StatusResponse,
    _ports: [Port; 2],
    _folder: TempDir,
}

impl Server {
    /// Starts the binary, told `arguments` besides, and waits until it answers a Status call and knows a leader.
    pub async fn start(binary: &Path, arguments: &[String]) -> Result<Server, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (client_port, peer_port) = (Port::reserve(), Port::reserve());
        let (client_url, peer_url) = (client_port.url(), peer_port.url());
        let mut command = Command::new(binary);
        command
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}"), "--log-level", "error"])
            .args(arguments);
        let mut process = Process::start(&mut command, &folder.path().join("server.log"))
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        let client = Client::new(SocketAddr::from((Ipv4Addr::LOCALHOST, client_port.number())));
        let status = wait_ready(&mut process, &client)
            .await
            .map_err(|what| format!("{} {what}; it wrote:\n{}", binary.display(), process.log()))?;
        Ok(Server { process, client, status, _ports: [client_port, peer_port], _folder: folder })
    }

    /// How the process ended and what it wrote last, if it did end.
    pub fn post_mortem(&mut self) -> Option<String> {
        let exit = self.process.has_ended()?;
        let text = self.process.log();
        let skipped = text.lines().count().saturating_sub(LOG_LINES_SHOWN);
        let tail: Vec<&str> = text.lines().skip(skipped).collect();
        Some(format!("the process ended with {exit}; it wrote last:\n{}", tail.join("\n")))
    }
}

async fn wait_ready(process: &mut Process, client: &Client) -> Result<StatusResponse, String> {
    let deadline = Instant::now() + PATIENCE;
    let mut last = String::new();
    while Instant::now() < deadline {
        if let Some(exit) = process.has_ended() {
            return Err(format!("ended with {exit}"));
        }
        let path = "/etcdserverpb.Maintenance/Status";
        match client.unary::<StatusResponse>(path, &StatusRequest {}).await {
            Ok(status) if status.leader != 0 => return Ok(status),
            Ok(_) => last = "no leader".to_owned(),
            Err(failure) => last = format!("{failure:?}"),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    Err(format!("gave no answer ({last})"))
}

/// Where the reference is: `PLINTH_ETCD_BIN`, else what `tools/install-etcd` left in the target folder.
pub fn find_etcd() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("PLINTH_ETCD_BIN") {
        return Some(PathBuf::from(path));
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/etcds/3.5/usr/bin/etcd");
    installed.exists().then_some(installed)
}

/// Major and minor version of an etcd, as it says.
pub fn version(binary: &Path) -> (u32, u32) {
    let said = Command::new(binary).arg("--version").output().expect("it runs");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let version = said.lines().find_map(|line| line.strip_prefix("etcd Version: ")).expect("it says");
    let mut parts = version.split('.').map(|part| part.parse().expect("a number"));
    (parts.next().expect("major"), parts.next().expect("minor"))
}
