//! Starts the binary on a free loopback port; dropping it ends the process by its id.

use super::common::client::Client;
use super::common::{PATIENCE, Port, Process};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running server and its folder.
pub struct Server {
    process: Process,
    /// `127.0.0.1:PORT`.
    pub endpoint: String,
    port: Port,
    folder: TempDir,
    arguments: Vec<String>,
}

impl Server {
    /// With a fresh folder.
    pub fn start(arguments: &[&str]) -> Server {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let arguments: Vec<String> = arguments.iter().map(|argument| argument.to_string()).collect();
        let port = Port::reserve();
        let process = spawn(folder.path(), &port, &arguments);
        Server { process, endpoint: port.address(), port, folder, arguments }
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What it has logged in this life.
    #[allow(dead_code, reason = "for tests of others who start it, too")]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Asks it to stop; how it ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.terminate()
    }

    /// Starts it again on the same folder and port.
    pub fn restart(&mut self) {
        self.process = spawn(self.folder.path(), &self.port, &self.arguments);
    }

    /// A connected client.
    pub async fn client(&self) -> Client {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Client::connect(&self.endpoint, None).await {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The command line for a folder and a port.
pub fn command(folder: &Path, port: &Port, arguments: &[String]) -> Command {
    let url = port.url();
    let mut command = Command::new(env!("CARGO_BIN_EXE_plinth"));
    command
        .arg("--data-dir")
        .arg(folder.join("data"))
        .args(["--name", "test", "--initial-cluster", "test=http://localhost:2380"])
        .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
        .args(["--listen-peer-urls", "http://127.0.0.1:0"])
        .args(arguments)
        .stdin(Stdio::null());
    command
}

fn spawn(folder: &Path, port: &Port, arguments: &[String]) -> Process {
    let started = Process::start(&mut command(folder, port, arguments), &folder.join("log"));
    let mut process = started.expect("the binary starts");
    process.wait_until_ready();
    process
}
