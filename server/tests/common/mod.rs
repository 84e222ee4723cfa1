//! What tests of real processes share: ports that nobody else is given, and processes that end with the test.
//!
//! A process is ended by its id when it is dropped, and its log is shown if the test fails. What is said on the command
//! line is each test's own.

#![allow(dead_code, reason = "each of the test binaries uses a part of it")]

pub mod client;
pub mod http;
pub mod sys;

use socket2::{Domain, Socket, Type};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take; a limit that only a hang reaches.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a server logs when it serves clients.
const READY: &str = "ready to serve client requests";

/// A port of the loopback interface at which nobody listens but the process it is given to.
///
/// It is bound as long as this lives, so that neither the kernel nor another test gives it to somebody else, not even
/// between the lives of a server. Servers may listen there nevertheless: their listeners reuse addresses.
pub struct Port {
    number: u16,
    _socket: Socket,
}

impl Port {
    /// A free one.
    pub fn reserve() -> Port {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("set");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
        let address = socket.local_addr().expect("bound").as_socket().expect("IPv4");
        Port { number: address.port(), _socket: socket }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }
}

/// A process whose output goes to a file.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; the file is emptied first.
    pub fn start(command: &mut Command, log: &Path) -> std::io::Result<Process> {
        let output = File::create(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(Process { child: command.spawn()?, log: log.to_owned() })
    }

    /// What it has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it serves clients.
    pub fn wait_until_ready(&mut self) {
        self.wait_for_log(READY);
    }

    /// Waits until it has written something.
    pub fn wait_for_log(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            if let Some(exit) = self.has_ended() {
                panic!("it ended with {exit} before {text:?}");
            }
            assert!(Instant::now() < deadline, "it never wrote {text:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How it ended, if it did.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the process is ours")
    }

    /// Waits until it has ended by itself.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(exit) = self.has_ended() {
                return exit;
            }
            assert!(Instant::now() < deadline, "it goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("the process is ours");
    }

    /// Sends it a signal, such as `-STOP`.
    pub fn signal(&self, signal: &str) {
        send_signal(&self.child, signal);
    }

    /// Asks it to stop; how it ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("-TERM");
        self.wait_for_end()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), self.log());
        }
    }
}

/// Sends a signal, such as `-TERM`, to a process of ours.
pub fn send_signal(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill is installed");
    assert!(status.success(), "kill failed");
}
