//! Starts members of a cluster on free loopback ports; dropping it ends each by its process id.

use super::common::client::*;
use super::common::{PATIENCE, Port, Process};
use super::net::Net;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// One member, running or not.
pub struct Seat {
    /// Its name and folder.
    pub name: String,
    client_port: Port,
    listen_port: Port,
    /// Where the others reach it: its proxy.
    pub peer_port: u16,
    process: Option<Process>,
    initial_cluster: String,
    state: &'static str,
    /// More flags, of this member alone.
    pub flags: Vec<String>,
    /// What starts the binary, if it is not started directly; it must not fork.
    pub starter: Vec<String>,
}

impl Seat {
    /// Where clients reach it.
    pub fn endpoint(&self) -> String {
        self.client_port.address()
    }

    /// What it answers to a request by HTTP/1.1, head included.
    pub fn http(&self, target: &str) -> String {
        use std::io::{Read, Write};
        let address = self.endpoint();
        let mut stream = std::net::TcpStream::connect(address.trim_start_matches("http://")).expect("it listens");
        write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }

    /// Where the others reach it.
    pub fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }
}

/// See the module.
pub struct Cluster {
    /// All that were ever started. They end before their folder does.
    pub seats: Vec<Seat>,
    /// The network between the members.
    pub net: Net,
    folder: TempDir,
    arguments: Vec<String>,
}

impl Cluster {
    /// A new cluster of `count` members that serves.
    pub fn start(count: usize, arguments: &[&str]) -> Cluster {
        Cluster::start_with(count, arguments, |_| {})
    }

    /// The same, with something to be done before its members start.
    pub fn start_with(count: usize, arguments: &[&str], prepare: impl FnOnce(&mut Cluster)) -> Cluster {
        let mut cluster = Cluster {
            folder: tempfile::tempdir().expect("a temporary folder"),
            net: Net::default(),
            seats: Vec::new(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
        };
        for number in 1..=count {
            cluster.add_seat(&format!("m{number}"), "new");
        }
        let initial: Vec<String> =
            cluster.seats.iter().map(|seat| format!("{}={}", seat.name, seat.peer_url())).collect();
        for seat in &mut cluster.seats {
            seat.initial_cluster = initial.join(",");
        }
        prepare(&mut cluster);
        (0..count).for_each(|seat| cluster.launch(seat));
        (0..count).for_each(|seat| cluster.wait_until_ready(seat));
        cluster
    }

    fn add_seat(&mut self, name: &str, state: &'static str) {
        let listen_port = Port::reserve();
        self.seats.push(Seat {
            name: name.to_string(),
            client_port: Port::reserve(),
            peer_port: self.net.proxy(listen_port.number()),
            listen_port,
            process: None,
            initial_cluster: String::new(),
            state,
            flags: Vec::new(),
            starter: Vec::new(),
        });
    }

    /// From its next start on a member listens elsewhere, and nobody where it did.
    pub fn relocate(&mut self, seat: usize) {
        let port = Port::reserve();
        self.seats[seat].peer_port = self.net.proxy(port.number());
        self.seats[seat].listen_port = port;
    }

    /// A seat for a member that will join; its number. It is started by [`Cluster::join`].
    pub fn reserve(&mut self, name: &str) -> usize {
        self.add_seat(name, "existing");
        self.seats.len() - 1
    }

    /// Starts a member that joins the present members, which know it already.
    pub fn join(&mut self, seat: usize, members: &[usize]) {
        let list = members.iter().chain([&seat]).map(|at| &self.seats[*at]);
        let initial: Vec<String> = list.map(|seat| format!("{}={}", seat.name, seat.peer_url())).collect();
        self.seats[seat].initial_cluster = initial.join(",");
        self.seats[seat].state = "existing";
        self.launch(seat);
    }

    fn launch(&mut self, seat: usize) {
        let process = Process::start(&mut self.command(seat), &self.log_path(seat)).expect("the binary starts");
        self.seats[seat].process = Some(process);
    }

    fn command(&self, number: usize) -> Command {
        let seat = &self.seats[number];
        let (client, listen) = (seat.client_port.url(), seat.listen_port.url());
        let binary = [env!("CARGO_BIN_EXE_plinth").to_string()];
        let mut words = seat.starter.iter().chain(&binary);
        let mut command = Command::new(words.next().expect("the binary at least"));
        command
            .args(words)
            .arg("--data-dir")
            .arg(self.data_dir(number))
            .args(["--name", &seat.name, "--initial-cluster", &seat.initial_cluster])
            .args(["--initial-cluster-state", seat.state])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &listen, "--initial-advertise-peer-urls", &seat.peer_url()])
            .args(&self.arguments)
            .args(&seat.flags);
        command
    }

    /// A member's data directory.
    pub fn data_dir(&self, seat: usize) -> PathBuf {
        self.folder.path().join(&self.seats[seat].name)
    }

    fn log_path(&self, seat: usize) -> PathBuf {
        self.folder.path().join(format!("{}.log", self.seats[seat].name))
    }

    /// What a member has logged in this life.
    pub fn log(&self, seat: usize) -> String {
        std::fs::read_to_string(self.log_path(seat)).unwrap_or_default()
    }

    fn process(&mut self, seat: usize) -> &mut Process {
        self.seats[seat].process.as_mut().expect("it runs")
    }

    /// Waits until a member serves clients.
    pub fn wait_until_ready(&mut self, seat: usize) {
        self.process(seat).wait_until_ready();
    }

    /// Waits until a member has logged something.
    pub fn wait_for_log(&mut self, seat: usize, text: &str) {
        self.process(seat).wait_for_log(text);
    }

    /// Waits until a member has ended by itself.
    pub fn wait_for_end(&mut self, seat: usize) -> ExitStatus {
        let exit = self.process(seat).wait_for_end();
        self.seats[seat].process = None;
        exit
    }

    /// Ends a member without a warning.
    pub fn kill(&mut self, seat: usize) {
        self.seats[seat].process = None;
    }

    /// Sends a signal to a member.
    pub fn signal(&self, seat: usize, signal: &str) {
        self.seats[seat].process.as_ref().expect("it runs").signal(signal);
    }

    /// Asks a member to stop, and waits.
    pub fn terminate(&mut self, seat: usize) {
        self.signal(seat, "-TERM");
        self.wait_for_end(seat);
    }

    /// Starts a member again, which need not be able to serve at once.
    pub fn restart(&mut self, seat: usize) {
        self.launch(seat);
    }

    /// Removes a member's data.
    pub fn wipe(&self, seat: usize) {
        std::fs::remove_dir_all(self.data_dir(seat)).expect("the folder is ours");
    }

    /// A client of one member.
    pub async fn client(&self, seat: usize) -> Client {
        connect(&self.seats[seat].endpoint()).await
    }

    /// The id of a member.
    pub async fn id(&self, seat: usize) -> u64 {
        let status = self.client(seat).await.status().await.expect("status");
        status.header().expect("header").member_id()
    }

    /// The ids of the first members, by seat.
    pub async fn ids(&self) -> Vec<u64> {
        let mut ids = Vec::new();
        for seat in 0..self.seats.len() {
            ids.push(self.id(seat).await);
        }
        ids
    }

    /// The seat of the member that all of `seats` take for the leader.
    pub async fn leader(&self, seats: &[usize]) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut leaders = Vec::new();
            for &seat in seats {
                let mut client = self.client(seat).await;
                let status = tokio::time::timeout(Duration::from_secs(2), client.status()).await;
                let Ok(Ok(status)) = status else { continue };
                let own = status.header().expect("header").member_id();
                leaders.push((seat, own, status.leader()));
            }
            let leader = leaders.first().map_or(0, |(_, _, leader)| *leader);
            let agreed = leaders.len() == seats.len() && leaders.iter().all(|(_, _, of)| *of == leader);
            if let (true, Some((seat, ..))) = (agreed, leaders.iter().find(|(_, own, _)| *own == leader)) {
                return *seat;
            }
            assert!(Instant::now() < deadline, "no agreed leader: {leaders:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether any of `seats` still takes the member at `leader` for the leader.
    pub async fn leader_is(&self, seats: &[usize], leader: usize) -> bool {
        for &seat in seats {
            let status = self.client(seat).await.status().await.expect("status");
            let own = status.header().expect("header").member_id();
            assert!(seat != leader);
            if status.leader() != 0 && status.leader() != own && !self.leads(seats, status.leader()).await {
                return true;
            }
        }
        false
    }

    /// Whether one of `seats` has this id.
    async fn leads(&self, seats: &[usize], id: u64) -> bool {
        for &seat in seats {
            if self.id(seat).await == id {
                return true;
            }
        }
        false
    }

    /// Waits until members have the same data, by their hashes at one revision.
    pub async fn wait_until_equal(&self, seats: &[usize]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut first = self.client(seats[0]).await;
            let revision = match first.get("revision", None).await {
                Ok(answer) => answer.header().expect("header").revision(),
                Err(error) => {
                    assert!(Instant::now() < deadline, "no linearizable read: {error}");
                    continue;
                }
            };
            let mut hashes = Vec::new();
            for &seat in seats {
                let hash = self.client(seat).await.hash_kv(revision).await;
                hashes.push(hash.map(|hash| (hash.hash(), hash.compact_version())).map_err(|error| error.to_string()));
            }
            if hashes.iter().all(|hash| hash.is_ok() && *hash == hashes[0]) {
                return;
            }
            assert!(Instant::now() < deadline, "revision {revision}: {hashes:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A client of this endpoint.
pub async fn connect(endpoint: &str) -> Client {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let options = ConnectOptions::new().with_connect_timeout(Duration::from_secs(2));
        match Client::connect(endpoint, Some(options)).await {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Does something until it succeeds: a slow machine may lose its leader at any time, and clients then try again.
pub async fn retry<T>(mut act: impl AsyncFnMut() -> Result<T, Error>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match act().await {
            Ok(done) => return done,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Writes a pair, however often it takes.
pub async fn put(client: &mut Client, key: &str, value: impl Into<Vec<u8>>) {
    let value = value.into();
    retry(async || client.put(key, value.clone(), None).await).await;
}
