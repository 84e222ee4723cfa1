//! Servers with the v2 API: this program, and a real etcd 3.5 where one is at hand.

use crate::common::{Port, Process};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A server, alone or a member of a cluster.
pub struct Side {
    client: Port,
    arguments: Vec<String>,
    program: String,
    folder: TempDir,
    process: Process,
}

impl Side {
    /// This program, alone.
    pub fn plinth(more: &[&str]) -> Side {
        Side::start(env!("CARGO_BIN_EXE_plinth"), more)
    }

    /// A program that has etcd's command line, alone.
    pub fn start(program: &str, more: &[&str]) -> Side {
        let peer = Port::reserve();
        let cluster = format!("default={}", peer.url());
        let mut all = vec!["--listen-peer-urls", "--initial-advertise-peer-urls"]
            .into_iter()
            .map(|flag| format!("{flag}={}", peer.url()))
            .collect::<Vec<_>>();
        all.push(format!("--initial-cluster={cluster}"));
        all.extend(more.iter().map(|text| (*text).to_string()));
        Side::member(program, all)
    }

    /// Three members of this program.
    pub fn three(more: &[&str]) -> Vec<Side> {
        let peers: Vec<Port> = (0..3).map(|_| Port::reserve()).collect();
        let names = ["a", "b", "c"];
        let of = |(name, port): (&&str, &Port)| format!("{name}={}", port.url());
        let cluster: Vec<String> = names.iter().zip(&peers).map(of).collect();
        let begin = |(name, port): (&&str, &Port)| {
            let mut all = vec![
                format!("--name={name}"),
                format!("--listen-peer-urls={}", port.url()),
                format!("--initial-advertise-peer-urls={}", port.url()),
                format!("--initial-cluster={}", cluster.join(",")),
            ];
            all.extend(more.iter().map(|text| (*text).to_string()));
            Side::begin(env!("CARGO_BIN_EXE_plinth"), all)
        };
        let mut sides: Vec<Side> = names.iter().zip(&peers).map(begin).collect();
        sides.iter_mut().for_each(|side| side.process.wait_until_ready());
        sides
    }

    fn member(program: &str, arguments: Vec<String>) -> Side {
        let mut side = Side::begin(program, arguments);
        side.process.wait_until_ready();
        side
    }

    fn begin(program: &str, arguments: Vec<String>) -> Side {
        let (client, folder) = (Port::reserve(), tempfile::tempdir().expect("a folder"));
        let process = run(program, &client, &arguments, folder.path());
        Side { client, arguments, program: program.to_string(), folder, process }
    }

    /// Where clients reach it.
    pub fn address(&self) -> String {
        self.client.address()
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts this program where another one has run.
    pub fn become_plinth(&mut self) {
        self.program = env!("CARGO_BIN_EXE_plinth").to_string();
        self.restart();
    }

    /// Removes what it has kept.
    pub fn empty(&self) {
        std::fs::remove_dir_all(self.folder.path().join("data")).expect("it is there");
    }

    /// Makes it of a snapshot, and starts it.
    pub fn restore(&mut self, file: &str, more: &[&str]) {
        let of = |flag: &str| self.arguments.iter().find(|text| text.starts_with(flag)).expect("it was given").clone();
        let (cluster, url) = (of("--initial-cluster="), of("--initial-advertise-peer-urls="));
        let data = format!("--data-dir={}", self.folder.path().join("data").display());
        let mut command = Command::new(&self.program);
        command.args(["util", "snapshot", "restore", file, &cluster, &url, &data]).args(more);
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.restart();
    }

    /// Starts it again, and another member with it: alone neither is ready.
    pub fn restart_with(&mut self, other: &mut Side) {
        for side in [&mut *self, &mut *other] {
            side.process = run(&side.program, &side.client, &side.arguments, side.folder.path());
        }
        self.process.wait_until_ready();
        other.process.wait_until_ready();
    }

    /// Starts it again.
    pub fn restart(&mut self) {
        self.process = run(&self.program, &self.client, &self.arguments, self.folder.path());
        self.process.wait_until_ready();
    }
}

fn run(program: &str, client: &Port, arguments: &[String], folder: &Path) -> Process {
    let mut command = Command::new(program);
    command.arg("--enable-v2").args(arguments);
    command.arg(format!("--listen-client-urls={}", client.url()));
    command.arg(format!("--advertise-client-urls={}", client.url()));
    command.arg(format!("--data-dir={}", folder.join("data").display()));
    Process::start(&mut command, &folder.join("log")).expect("it starts")
}
