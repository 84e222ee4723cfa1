//! The two sides: a server on free loopback ports, with its folder.

use super::common::{PATIENCE, Port, Process};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PLINTH: &str = env!("CARGO_BIN_EXE_plinth");

/// A server of either kind.
pub struct Side {
    binary: PathBuf,
    process: Option<Process>,
    client: Port,
    peer: Port,
    folder: TempDir,
    arguments: Vec<String>,
    /// Clients come with TLS.
    is_secure: bool,
    /// Another member, whose cluster it joins.
    joins: Option<String>,
}

impl Side {
    /// The cluster to be followed.
    pub fn old() -> Side {
        Side::old_with(Vec::new(), false)
    }

    /// The same, with these arguments; clients come with TLS if it is secure.
    pub fn old_with(arguments: Vec<String>, is_secure: bool) -> Side {
        let binary = std::env::var_os("PLINTH_ETCD_BIN").map_or_else(|| PathBuf::from(PLINTH), PathBuf::from);
        let side = Side { is_secure, ..Side::new(&binary, arguments) }.started();
        side.wait_until_ready();
        side
    }

    /// A server of this program that follows nobody.
    pub fn plinth() -> Side {
        let side = Side::new(Path::new(PLINTH), Vec::new()).started();
        side.wait_until_ready();
        side
    }

    /// A standby that serves.
    pub fn standby(old: &Side, arguments: &[&str]) -> Side {
        let side = Side::standby_that_starts(old, arguments);
        side.wait_until_ready();
        side
    }

    /// A standby.
    pub fn standby_that_starts(old: &Side, arguments: &[&str]) -> Side {
        let follow = [format!("--follow={}", old.endpoint()), "--follow-check-time=1s".to_owned()];
        let arguments = follow.into_iter().chain(arguments.iter().map(|argument| (*argument).to_owned()));
        Side::new(Path::new(PLINTH), arguments.collect()).started()
    }

    fn new(binary: &Path, arguments: Vec<String>) -> Side {
        Side {
            binary: binary.to_owned(),
            process: None,
            client: Port::reserve(),
            peer: Port::reserve(),
            folder: tempfile::tempdir().expect("a temporary folder"),
            arguments,
            is_secure: false,
            joins: None,
        }
    }

    /// A member that joins the cluster of another one, which lists it.
    pub fn joining(first: &Side) -> Side {
        let mut side = Side::new(Path::new(PLINTH), vec!["--initial-cluster-state=existing".to_owned()]);
        ctl(first, &["member", "add", "n", "--peer-urls", &side.peer.url()]).expect("it is added");
        side.joins = Some(first.peer.url());
        let side = side.started();
        side.wait_until_ready();
        side
    }

    /// Where clients reach it.
    pub fn endpoint(&self) -> String {
        let url = self.client.url();
        if self.is_secure { url.replacen("http:", "https:", 1) } else { url }
    }

    /// Starts it.
    pub fn started(mut self) -> Side {
        let (name, members) = match &self.joins {
            None => ("m", format!("m={}", self.peer.url())),
            Some(first) => ("n", format!("m={first},n={}", self.peer.url())),
        };
        let mut command = Command::new(&self.binary);
        command
            .arg("--data-dir")
            .arg(self.folder.path().join("data"))
            .args(["--name", name, "--initial-cluster", &members])
            .args(["--initial-advertise-peer-urls", &self.peer.url(), "--listen-peer-urls", &self.peer.url()])
            .args(["--listen-client-urls", &self.endpoint(), "--advertise-client-urls", &self.endpoint()])
            .args(&self.arguments);
        let process = Process::start(&mut command, &self.folder.path().join("log")).expect("the binary starts");
        self.process = Some(process);
        self
    }

    /// Starts it as a server that follows nobody.
    pub fn started_without_follow(mut self) -> Side {
        self.arguments.clear();
        self.started()
    }

    /// Starts it to follow this cluster.
    pub fn started_to_follow(mut self, old: &Side) -> Side {
        self.arguments = vec![format!("--follow={}", old.endpoint())];
        self.started()
    }

    /// Ends it without a warning.
    pub fn killed(mut self) -> Side {
        self.process().kill();
        self
    }

    /// Ends it without a warning, and takes its data away.
    pub fn emptied(self) -> Side {
        let side = self.killed();
        std::fs::remove_dir_all(side.folder.path().join("data")).expect("removed");
        side
    }

    /// Ends it without a warning, and starts it again.
    pub fn kill_and_start(self) -> Side {
        self.killed().started()
    }

    /// Ends it as an operator does, and starts it again.
    pub fn restart(mut self) -> Side {
        assert!(self.process().terminate().code().is_some() || cfg!(unix), "it ends");
        let side = self.started();
        side.wait_until_ready();
        side
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }

    /// Waits until it has ended by itself.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        self.process().wait_for_end()
    }

    /// What it has written since it was started.
    pub fn log(&self) -> String {
        self.process.as_ref().expect("it was started").log()
    }

    /// Waits until it serves clients.
    pub fn wait_until_ready(&self) {
        wait_for("it serves", || self.log().contains("ready to serve client requests"));
    }
}

/// Runs the client against a side; what it printed, if it succeeded.
pub fn ctl(side: &Side, words: &[&str]) -> Option<String> {
    let output = Command::new(PLINTH).args(["ctl", "--endpoints", &side.endpoint()]).args(words).output();
    let output = output.expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    if !output.status.success() {
        println!("{words:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success().then_some(text)
}

/// Waits until something holds.
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
