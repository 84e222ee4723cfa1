//! Starts the binary on free loopback ports; dropping it ends the process by its id.
//!
//! All servers found the same cluster: two of them differ in nothing that a client sees.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// What a member is known by; nobody listens there.
const PEER_URL: &str = "http://127.0.0.1:2380";

/// A running server and its folder.
pub struct Server {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub endpoint: String,
    folder: TempDir,
}

impl Server {
    /// With a fresh folder.
    pub fn start() -> Server {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let endpoint = format!("127.0.0.1:{}", free_port());
        let child = spawn(&folder, &endpoint);
        let mut server = Server { child, endpoint, folder };
        server.wait_until_ready();
        server
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + TIMEOUT;
        while !self.log().contains("ready to serve client requests") {
            if let Ok(Some(exit)) = self.child.try_wait() {
                panic!("the server ended with {exit}:\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "the server is not ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("the process is ours");
    }

    /// Starts it again on the same folder and port.
    pub fn restart(&mut self) {
        self.child = spawn(&self.folder, &self.endpoint);
        self.wait_until_ready();
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

fn spawn(folder: &TempDir, endpoint: &str) -> Child {
    let output = File::create(folder.path().join("log")).expect("a log file");
    Command::new(env!("CARGO_BIN_EXE_plinth"))
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .args(["--name", "test", "--initial-cluster", &format!("test={PEER_URL}")])
        .args(["--initial-advertise-peer-urls", PEER_URL])
        .args(["--listen-peer-urls", &format!("http://127.0.0.1:{}", free_port())])
        .args(["--listen-client-urls", &format!("http://{endpoint}")])
        .args(["--advertise-client-urls", "http://test.example:2379"])
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a second handle"))
        .stderr(output)
        .spawn()
        .expect("the binary starts")
}
