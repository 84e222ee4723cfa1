//! Starts the binary on a free loopback port; dropping it ends the process by its id.

use etcd_client::Client;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running server and its folder.
pub struct Server {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub endpoint: String,
    port: u16,
    log: PathBuf,
    folder: TempDir,
    arguments: Vec<String>,
}

impl Server {
    /// With a fresh folder.
    pub fn start(arguments: &[&str]) -> Server {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let arguments: Vec<String> = arguments.iter().map(|argument| argument.to_string()).collect();
        let port = free_port();
        let log = folder.path().join("log");
        let child = spawn(folder.path(), port, &log, &arguments);
        let mut server = Server { child, endpoint: format!("127.0.0.1:{port}"), port, log, folder, arguments };
        server.wait_until_ready();
        server
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.log().contains("ready to serve client requests") {
            if let Ok(Some(exit)) = self.child.try_wait() {
                panic!("the server ended with {exit}:\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "the server is not ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the server has logged in this life.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("the process is ours");
    }

    /// Asks it to stop; how it ended.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        let status = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill is installed");
        assert!(status.success(), "kill failed");
        self.child.wait().expect("the process is ours")
    }

    /// Starts it again on the same folder and port.
    pub fn restart(&mut self) {
        self.child = spawn(self.folder.path(), self.port, &self.log, &self.arguments);
        self.wait_until_ready();
    }

    /// A connected client.
    pub async fn client(&self) -> Client {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match Client::connect([&self.endpoint], None).await {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}

/// A port nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// The command line for a folder and a port.
pub fn command(folder: &Path, port: u16, arguments: &[String]) -> Command {
    let url = format!("http://127.0.0.1:{port}");
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

fn spawn(folder: &Path, port: u16, log: &Path, arguments: &[String]) -> Child {
    let output = File::create(log).expect("a log file");
    command(folder, port, arguments)
        .stdout(output.try_clone().expect("a second handle"))
        .stderr(output)
        .spawn()
        .expect("the binary starts")
}
