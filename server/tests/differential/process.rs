//! Starts one server on free loopback ports with a fresh data folder; dropping it ends the process.

use super::client::Client;
use plinth_net::proto::etcdserverpb::{StatusRequest, StatusResponse};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const START_TIMEOUT: Duration = Duration::from_secs(30);
const LOG_LINES_SHOWN: usize = 30;
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// A running server.
pub struct Server {
    child: Child,
    /// Its client.
    pub client: Client,
    /// Its first answer.
    pub status: StatusResponse,
    log: PathBuf,
    _folder: TempDir,
}

impl Server {
    /// Starts the binary and waits until it answers a Status call and knows a leader.
    pub async fn start(binary: &Path) -> Result<Server, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let log = folder.path().join("server.log");
        let (client_port, peer_port) = (free_port()?, free_port()?);
        let client_url = format!("http://127.0.0.1:{client_port}");
        let peer_url = format!("http://127.0.0.1:{peer_port}");
        let output = File::create(&log).map_err(|error| error.to_string())?;
        let mut child = Command::new(binary)
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}"), "--log-level", "error"])
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(|error| error.to_string())?)
            .stderr(output)
            .spawn()
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        let client = Client::new(SocketAddr::from((Ipv4Addr::LOCALHOST, client_port)));
        let status = wait_ready(&mut child, &client).await.map_err(|what| {
            let _ = child.kill();
            let _ = child.wait();
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            format!("{} {what}; it wrote:\n{text}", binary.display())
        })?;
        Ok(Server { child, client, status, log, _folder: folder })
    }

    /// How the process ended and what it wrote last, if it did end.
    pub fn post_mortem(&mut self) -> Option<String> {
        let exit = self.child.try_wait().ok()??;
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let skipped = text.lines().count().saturating_sub(LOG_LINES_SHOWN);
        let tail: Vec<&str> = text.lines().skip(skipped).collect();
        Some(format!("the process ended with {exit}; it wrote last:\n{}", tail.join("\n")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn wait_ready(child: &mut Child, client: &Client) -> Result<StatusResponse, String> {
    let deadline = Instant::now() + START_TIMEOUT;
    let mut last = String::new();
    while Instant::now() < deadline {
        if let Ok(Some(exit)) = child.try_wait() {
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

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    Ok(listener.local_addr().map_err(|error| error.to_string())?.port())
}

/// Where the reference is: `PLINTH_ETCD_BIN`, else what `tools/install-etcd` left in the target folder.
pub fn find_etcd() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("PLINTH_ETCD_BIN") {
        return Some(PathBuf::from(path));
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/etcd/usr/bin/etcd");
    installed.exists().then_some(installed)
}
