//! Starts the binary on free loopback ports; dropping it ends the process by its id.
//!
//! All servers found the same cluster: two of them differ in nothing that a client sees.

use super::common::{Port, Process};
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// What a member is known by; nobody listens there.
const PEER_URL: &str = "http://127.0.0.1:2380";

/// A running server and its folder.
pub struct Server {
    process: Process,
    /// `127.0.0.1:PORT`.
    pub endpoint: String,
    client: Port,
    peer: Port,
    folder: TempDir,
    arguments: Vec<String>,
}

impl Server {
    /// With a fresh folder.
    pub fn start() -> Server {
        Server::start_with(&[])
    }

    /// The same, told these arguments besides.
    pub fn start_with(arguments: &[&str]) -> Server {
        Server::start_as(tempfile::tempdir().expect("a temporary folder"), arguments)
    }

    /// On the folder `data` within `folder`, which may hold a member's data.
    pub fn start_in(folder: TempDir) -> Server {
        Server::start_as(folder, &[])
    }

    fn start_as(folder: TempDir, arguments: &[&str]) -> Server {
        let (client, peer) = (Port::reserve(), Port::reserve());
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let process = spawn(&folder, &client, &peer, &arguments);
        Server { process, endpoint: client.address(), client, peer, folder, arguments }
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Sends it a signal, such as `-STOP`.
    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// Starts it again on the same folder and ports.
    pub fn restart(&mut self) {
        self.process = spawn(&self.folder, &self.client, &self.peer, &self.arguments);
    }
}

fn spawn(folder: &TempDir, client: &Port, peer: &Port, arguments: &[String]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plinth"));
    command
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .args(["--name", "test", "--initial-cluster", &format!("test={PEER_URL}")])
        .args(["--initial-advertise-peer-urls", PEER_URL])
        .args(["--listen-peer-urls", &peer.url()])
        .args(["--listen-client-urls", &client.url()])
        .args(["--advertise-client-urls", "http://test.example:2379"])
        .args(arguments);
    let mut process = Process::start(&mut command, &folder.path().join("log")).expect("the binary starts");
    process.wait_until_ready();
    process
}
