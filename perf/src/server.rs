//! Starts a server of its own on free loopback ports with a fresh data folder, and ends it by its process id.
//!
//! Plinth takes etcd's flags, so both servers are started in the same way.

use crate::api::{StatusRequest, StatusResponse, path};
use crate::grpc::{self, Connection, Keep, Method};
use prost::Message;
use rustix::process::{Pid, Signal};
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a server to answer its first call.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest wait for a server to end after SIGTERM, before SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two tries to reach a starting server: small against any start-up time worth reporting.
const RETRY_PAUSE: Duration = Duration::from_millis(2);
/// Database size quota, so that no run ends in a full database.
const QUOTA_BYTES: u64 = 32 << 30;

/// A server program to measure.
#[derive(Clone, Debug)]
pub struct Program {
    /// The name used in tables and plots.
    pub label: String,
    /// The binary.
    pub path: PathBuf,
    /// Further arguments.
    pub arguments: Vec<String>,
}

/// A running server. Dropping it ends the process and removes its data.
pub struct Server {
    program: Program,
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
    peer_port: u16,
}

impl Server {
    /// Starts `program` with an empty data folder below `root` and waits until it answers.
    pub fn start(program: &Program, root: &Path) -> io::Result<Server> {
        let folder = fresh_folder(root, &program.label)?;
        let (client_port, peer_port) = (free_port()?, free_port()?);
        let child = spawn(program, &folder, client_port, peer_port)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, client_port));
        let mut server = Server { program: program.clone(), child, address, folder, peer_port };
        server.wait_ready()?;
        Ok(server)
    }

    /// The address for clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process without warning and starts it again on the same data; returns the time from the start
    /// of the process to the first answered linearizable read of `key`.
    pub fn kill_and_restart(&mut self, key: &[u8]) -> io::Result<Duration> {
        self.child.kill()?;
        self.child.wait()?;
        let started = Instant::now();
        self.child = spawn(&self.program, &self.folder, self.address.port(), self.peer_port)?;
        self.wait_answered(key)?;
        Ok(started.elapsed())
    }

    /// Bytes of all files in the data folder, as allocated on disk.
    pub fn disk_bytes(&self) -> u64 {
        disk_bytes(&self.folder)
    }

    fn wait_ready(&mut self) -> io::Result<StatusResponse> {
        let address = self.address;
        self.wait(async move || status(address).await.ok().filter(|status| status.leader != 0))
    }

    fn wait_answered(&mut self, key: &[u8]) -> io::Result<()> {
        let request = grpc::frame(&crate::api::RangeRequest { key: key.to_vec().into(), ..Default::default() });
        let address = self.address;
        self.wait(async move || call(address, path::RANGE, request.clone()).await.ok().map(|_| ()))
    }

    fn wait<T>(&mut self, attempt: impl AsyncFn() -> Option<T>) -> io::Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(exit) = self.child.try_wait()? {
                return Err(self.start_error(&format!("ended with {exit}")));
            }
            if let Some(answer) = runtime.block_on(attempt()) {
                return Ok(answer);
            }
            std::thread::sleep(RETRY_PAUSE);
        }
        Err(self.start_error("did not answer in time"))
    }

    fn start_error(&self, what: &str) -> io::Error {
        let log = fs::read_to_string(self.folder.join("server.log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(10).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        io::Error::other(format!("{} {what}; its last lines:\n{tail}", self.program.path.display()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, Signal::TERM);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Asks a server for its status.
pub async fn status(address: SocketAddr) -> Result<StatusResponse, grpc::CallError> {
    let message = call(address, path::STATUS, grpc::frame(&StatusRequest {})).await?;
    StatusResponse::decode(message).map_err(|_| grpc::CallError::Malformed("not a StatusResponse"))
}

/// One call on a connection of its own.
pub async fn call(address: SocketAddr, path: &str, framed: bytes::Bytes) -> Result<bytes::Bytes, grpc::CallError> {
    let connection = Connection::open(address).await?;
    let method = Method::new(address, path);
    grpc::unary(&mut connection.sender(), &method, framed, Keep::Body).await
}

fn spawn(program: &Program, folder: &Path, client_port: u16, peer_port: u16) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(folder.join("server.log"))?;
    let client = format!("http://127.0.0.1:{client_port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    Command::new(&program.path)
        .args(["--name", "perf", "--log-level", "error"])
        .arg("--data-dir")
        .arg(folder.join("data"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("perf={peer}")])
        .args(["--quota-backend-bytes", &QUOTA_BYTES.to_string()])
        .args(&program.arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.path.display())))
}

fn fresh_folder(root: &Path, label: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(root)?;
    for number in 0..u32::MAX {
        let folder = root.join(format!("{label}-{}-{number}", std::process::id()));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("no free name for a data folder"))
}

/// A port nobody listens on now. Another process could take it before the server does; the server then fails
/// to start and says so.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => disk_bytes(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
