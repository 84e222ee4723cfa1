//! A server on ports of its own; dropping it ends the process.

use super::common::{PATIENCE, Port, Process};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use tempfile::TempDir;

/// A running server.
pub struct Server {
    process: Process,
    /// `127.0.0.1:PORT`.
    pub address: String,
    /// Its ports, for those who take them out of what it says.
    pub ports: [Port; 2],
    _folder: TempDir,
}

impl Server {
    /// The binary under test.
    pub fn plinth(arguments: &[&str]) -> Server {
        Server::start(Path::new(env!("CARGO_BIN_EXE_plinth")), arguments)
    }

    /// Any server with etcd's command line.
    pub fn start(binary: &Path, arguments: &[&str]) -> Server {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ports = [Port::reserve(), Port::reserve()];
        let [client, peer] = ports.each_ref().map(Port::url);
        let mut command = Command::new(binary);
        command
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(arguments);
        let process = Process::start(&mut command, &folder.path().join("log")).expect("the binary starts");
        let mut server = Server { process, address: ports[0].address(), ports, _folder: folder };
        server.process.wait_until_ready();
        let deadline = Instant::now() + PATIENCE;
        while super::client::ask(&server.address, "GET", "/health", "", "").status != 200 {
            assert!(Instant::now() < deadline, "it is never healthy");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        server
    }

    /// Asks it to stop; how long that took.
    pub fn stop(&mut self) -> std::time::Duration {
        let start = Instant::now();
        let status = self.process.terminate();
        assert_eq!(status.code(), None, "by the signal: {status}");
        start.elapsed()
    }
}

/// A real etcd, the newest first, and whether it is a 3.7.
pub fn find_etcd() -> Option<(PathBuf, bool)> {
    let is_new = |path: &Path| {
        let output = Command::new(path).arg("--version").output().expect("it runs");
        String::from_utf8_lossy(&output.stdout).contains("etcd Version: 3.7")
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/etcds");
    let named = std::env::var_os("PLINTH_GATEWAY_ETCD").map(PathBuf::from);
    let built = ["3.7", "3.5"].map(|release| root.join(release).join("usr/bin/etcd"));
    let found = named.into_iter().chain(built).find(|path| path.exists())?;
    let is_new = is_new(&found);
    Some((found, is_new))
}
