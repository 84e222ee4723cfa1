//! Starts servers of its own on free loopback ports with fresh data folders, alone or as a cluster, and ends them by
//! their process ids.
//!
//! Plinth takes etcd's flags, so both are started in the same way. The floor, which only answers, is an example of
//! `plinth-net`.

use crate::certificates::Certificates;
use crate::endpoint::Endpoint;
use crate::grpc;
use crate::users::{self, Tokens};
use plinth_api::methods;
use plinth_api::proto::etcdserverpb::{StatusRequest, StatusResponse};
use prost::Message;
use rustix::process::{Pid, Signal};
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for a server to answer its first call.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest wait for a server to end after SIGTERM, before SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two tries to reach a starting server: small against any start-up time worth reporting.
const RETRY_PAUSE: Duration = Duration::from_millis(2);
/// Database size quota, so that no run ends in a full database.
const QUOTA_BYTES: u64 = 32 << 30;
/// Ports for servers: below those the kernel hands out to outgoing connections, so that a server that is away for a
/// while finds its own again.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A server program to measure.
#[derive(Clone, Debug)]
pub struct Program {
    /// The name used in tables and plots.
    pub label: String,
    pub path: PathBuf,
    pub arguments: Vec<String>,
    /// How it is told where to listen.
    pub form: Form,
    pub security: Security,
}

/// What a server asks of its clients.
#[derive(Clone, Copy, Default)]
pub struct Security {
    /// Keys and certificates, if anything here needs any.
    pub certificates: Option<&'static Certificates>,
    pub tls: bool,
    pub users: Option<Tokens>,
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Security").field("tls", &self.tls).field("users", &self.users).finish_non_exhaustive()
    }
}

impl Security {
    fn encrypting(&self) -> Option<&'static Certificates> {
        self.certificates.filter(|_| self.tls)
    }

    /// The scheme of its URLs for clients.
    fn scheme(&self) -> &'static str {
        if self.encrypting().is_some() { "https" } else { "http" }
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if let Some(files) = self.encrypting() {
            let (cert, key) = (files.cert.display().to_string(), files.key.display().to_string());
            arguments.extend(["--cert-file".to_owned(), cert, "--key-file".to_owned(), key]);
        }
        if let (Some(tokens), Some(files)) = (self.users, self.certificates) {
            arguments.extend(tokens.arguments(files));
        }
        arguments
    }
}

/// What command line a program understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Etcd,
    Floor,
}

/// Where requests go, and whose counters are read.
#[derive(Clone)]
pub struct Target {
    /// Connections go to these in turn.
    pub addresses: Vec<Endpoint>,
    /// All processes of the server or cluster; none if they cannot be read.
    pub pids: Vec<u32>,
}

impl Target {
    /// A server nothing is known of but its address.
    pub fn address(address: impl Into<Endpoint>) -> Target {
        Target { addresses: vec![address.into()], pids: Vec::new() }
    }

    /// Where connection `number` goes.
    pub fn of_connection(&self, number: usize) -> Endpoint {
        self.addresses[number % self.addresses.len()]
    }
}

/// One or more servers of a program that form a cluster.
pub struct Cluster {
    members: Vec<Server>,
}

impl Cluster {
    /// Starts `size` members with empty data folders below `root` and waits until all of them know a leader.
    pub fn start(program: &Program, root: &Path, size: usize) -> io::Result<Cluster> {
        assert!(size > 0, "a cluster has members");
        let seats = (0..size).map(|number| Seat::find(root, &program.label, number)).collect::<io::Result<Vec<_>>>()?;
        let peers: Vec<String> = seats.iter().map(|seat| format!("{}={}", seat.name, seat.peer_url())).collect();
        let peers = peers.join(",");
        let start = |seat| Server::spawn(program, seat, &peers);
        let mut members = seats.into_iter().map(start).collect::<io::Result<Vec<_>>>()?;
        members.iter_mut().try_for_each(|member| member.wait_ready().map(|_| ()))?;
        if program.security.users.is_some() {
            let token = users::introduce(members[0].address())?;
            members.iter_mut().for_each(|member| member.token = Some(token));
        }
        Ok(Cluster { members })
    }

    /// The members in the order of their numbers.
    pub fn members(&mut self) -> &mut [Server] {
        &mut self.members
    }

    /// All members.
    pub fn target(&self) -> Target {
        let addresses = self.members.iter().map(Server::address).collect();
        Target { addresses, pids: self.members.iter().map(Server::pid).collect() }
    }

    /// The number of the member that leads, by what the first reachable one says.
    pub fn leader(&self) -> io::Result<usize> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            for (number, member) in self.members.iter().enumerate() {
                // A member leads if it says so of itself: others may not have heard of a change yet.
                let Ok(status) = runtime.block_on(status(member.address())) else { continue };
                if status.leader != 0 && status.header.is_some_and(|header| header.member_id == status.leader) {
                    return Ok(number);
                }
            }
            std::thread::sleep(RETRY_PAUSE);
        }
        Err(io::Error::other("no member leads"))
    }
}

/// A member's name, folder and ports.
struct Seat {
    name: String,
    folder: PathBuf,
    client_port: u16,
    peer_port: u16,
}

impl Seat {
    fn find(root: &Path, label: &str, number: usize) -> io::Result<Seat> {
        let folder = fresh_folder(root, label)?;
        Ok(Seat { name: format!("m{number}"), folder, client_port: free_port()?, peer_port: free_port()? })
    }

    fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }
}

/// A running server. Dropping it ends the process and removes its data.
pub struct Server {
    program: Program,
    child: Child,
    seat: Seat,
    peers: String,
    token: Option<&'static str>,
}

impl Server {
    /// Starts `program` alone with an empty data folder below `root` and waits until it answers.
    pub fn start(program: &Program, root: &Path) -> io::Result<Server> {
        let seat = Seat::find(root, &program.label, 0)?;
        let peers = format!("{}={}", seat.name, seat.peer_url());
        let mut server = Server::spawn(program, seat, &peers)?;
        server.wait_ready()?;
        if program.security.users.is_some() {
            server.token = Some(users::introduce(server.address())?);
        }
        Ok(server)
    }

    fn spawn(program: &Program, seat: Seat, peers: &str) -> io::Result<Server> {
        let child = spawn(program, &seat, peers)?;
        Ok(Server { program: program.clone(), child, seat, peers: peers.to_owned(), token: None })
    }

    /// Where clients find it, and how.
    pub fn address(&self) -> Endpoint {
        let tls = self.program.security.encrypting().map(|files| files.full);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.seat.client_port));
        Endpoint { address, tls, token: self.token }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// This server alone.
    pub fn target(&self) -> Target {
        Target { addresses: vec![self.address()], pids: vec![self.pid()] }
    }

    /// Kills the process without warning and starts it again on the same data; returns the time from the start
    /// of the process to the first answered linearizable read of `key`.
    pub fn kill_and_restart(&mut self, key: &[u8]) -> io::Result<Duration> {
        self.kill()?;
        let started = Instant::now();
        self.start_again()?;
        self.wait_answered(key)?;
        Ok(started.elapsed())
    }

    /// Kills the process without warning.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    /// Asks the process to end.
    pub fn terminate(&self) -> io::Result<()> {
        Ok(rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM)?)
    }

    /// Waits until the process has ended, and kills it if that takes too long.
    pub fn wait_ended(&mut self) {
        let deadline = Instant::now() + STOP_TIMEOUT;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.kill();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts a process that has ended again, on the same data, and does not wait for it.
    pub fn start_again(&mut self) -> io::Result<()> {
        self.child = spawn(&self.program, &self.seat, &self.peers)?;
        Ok(())
    }

    /// Waits until the server answers and knows a leader.
    pub fn wait_ready(&mut self) -> io::Result<StatusResponse> {
        let address = self.address();
        self.wait(async move || status(address).await.ok().filter(|status| status.leader != 0))
    }

    /// Bytes of all files in the data folder, as allocated on disk.
    pub fn disk_bytes(&self) -> u64 {
        disk_bytes(&self.seat.folder)
    }

    fn wait_answered(&mut self, key: &[u8]) -> io::Result<()> {
        let request = grpc::frame(&plinth_api::proto::etcdserverpb::RangeRequest {
            key: key.to_vec().into(),
            ..Default::default()
        });
        let address = self.address();
        self.wait(async move || grpc::call(address, methods::RANGE.path, request.clone()).await.ok().map(|_| ()))
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
        let log = fs::read_to_string(self.seat.folder.join("server.log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(10).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        io::Error::other(format!("{} {what}; its last lines:\n{tail}", self.program.path.display()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.terminate();
        self.wait_ended();
        let _ = fs::remove_dir_all(&self.seat.folder);
    }
}

/// Asks a server for its status.
pub async fn status(address: Endpoint) -> Result<StatusResponse, grpc::CallError> {
    let message = grpc::call(address, methods::STATUS.path, grpc::frame(&StatusRequest {})).await?;
    StatusResponse::decode(message).map_err(|_| grpc::CallError::Malformed("not a StatusResponse"))
}

fn spawn(program: &Program, seat: &Seat, peers: &str) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(seat.folder.join("server.log"))?;
    let mut command = Command::new(&program.path);
    match program.form {
        Form::Etcd => {
            let scheme = program.security.scheme();
            let (client, peer) = (format!("{scheme}://127.0.0.1:{}", seat.client_port), seat.peer_url());
            command
                .args(["--name", &seat.name, "--log-level", "error"])
                .arg("--data-dir")
                .arg(seat.folder.join("data"))
                .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                .args(["--initial-cluster", peers])
                .args(["--quota-backend-bytes", &QUOTA_BYTES.to_string()])
        }
        Form::Floor => command.arg(format!("127.0.0.1:{}", seat.client_port)),
    };
    command
        .args(program.security.arguments())
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

/// A port nobody listens on now, and no other call has returned. Another process could take it before the server does;
/// the server then fails to start and says so.
fn free_port() -> io::Result<u16> {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    let first = u16::try_from(std::process::id().wrapping_mul(31) % u32::from(count)).expect("below a u16");
    for _ in 0..count {
        let step = TAKEN.fetch_add(1, Ordering::Relaxed);
        let number = (u32::from(first) + u32::from(step)) % u32::from(count);
        let port = PORTS.start + u16::try_from(number).expect("below a u16");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::other("no free port"))
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
