//! The same commands by etcd's own etcdctl 3.5 and by ours, on two equal servers: output, errors and exit codes.
//!
//! What differs by nature is made equal first: times, ids of leases, ports. Usage texts are not compared.

use super::server::Server;
use super::tool::{Ran, Tool};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const COMMANDS: &str = include_str!("testdata/same.txt");
const USERS: &str = include_str!("testdata/users.txt");

/// etcd's own client, beside its server.
pub fn find_etcdctl() -> Option<PathBuf> {
    if let Some(etcd) = std::env::var_os("PLINTH_ETCD_BIN") {
        return Some(PathBuf::from(etcd).with_file_name("etcdctl"));
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/etcds/3.5/usr/bin/etcdctl");
    installed.exists().then_some(installed)
}

/// A command and its input.
struct Step {
    words: Vec<String>,
    input: Vec<u8>,
}

/// The steps of a line: one, or one for each format.
fn steps(line: &str) -> Vec<Step> {
    let words = |text: &str| plinth_ctl::words::split(text).expect("words");
    let (command, input) = match line.split_once(" <<< ") {
        Some((command, input)) => (command, words(input).remove(0).as_bytes().to_vec()),
        None => (line, Vec::new()),
    };
    let (every, command) = command.strip_prefix("* ").map_or((false, command), |command| (true, command));
    let text = |word: OsString| word.into_string().expect("UTF-8");
    let words: Vec<String> = words(command).into_iter().map(text).collect();
    if !every {
        return vec![Step { words, input }];
    }
    let formats = ["simple", "simple --hex", "json", "json --hex", "protobuf", "fields", "table"];
    let with = |format: &str| {
        let flags = format!("-w {format}");
        let words = words.iter().cloned().chain(flags.split(' ').map(str::to_owned)).collect();
        Step { words, input: input.clone() }
    };
    formats.into_iter().map(with).collect()
}

/// One tool at its server.
struct Side {
    tool: Tool,
    server: Server,
    lease: String,
}

/// What is compared.
#[derive(Debug, PartialEq)]
struct Outcome {
    code: Option<i32>,
    out: String,
    err: Vec<String>,
}

impl Side {
    fn new(tool: impl Fn(&str) -> Tool) -> Side {
        let server = Server::start_with(&["--bcrypt-cost", "4"]);
        Side { tool: tool(&server.endpoint), server, lease: String::new() }
    }

    fn run(&mut self, step: &Step) -> Outcome {
        let words: Vec<String> = step.words.iter().map(|word| word.replace("$LEASE", &self.lease)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = self.tool.run(&words, &step.input);
        if words.starts_with(&["lease", "grant"]) && ran.code == Some(0) {
            let out = String::from_utf8_lossy(&ran.out);
            self.lease = out.split(' ').nth(1).expect("an id").to_owned();
        }
        self.outcome(&ran)
    }

    fn outcome(&self, ran: &Ran) -> Outcome {
        // 3.5 prints usage texts to the standard output, and the error twice.
        let out = if ran.out.starts_with(b"NAME:") { String::new() } else { latin(&ran.out) };
        // It asks another program to hide passwords, which is no terminal's here.
        let is_said = |line: &&str| !line.starts_with('{') && !line.starts_with("stty: ") && !line.is_empty();
        let mut err: Vec<String> = ran.err.lines().filter(is_said).map(|line| self.equal(line)).collect();
        if let Some(at) = err.iter().position(|line| line.contains(" flag") || line.contains("unknown command")) {
            err = vec![err.remove(at)];
        }
        Outcome { code: ran.code, out: self.equal(&out), err }
    }

    /// Text without what differs by nature.
    fn equal(&self, text: &str) -> String {
        let mut text = text.replace(&self.server.endpoint, "ENDPOINT").replace(",\"CancelReason\":\"\"", "");
        // As of 3.7.
        text = text.replace("<open ended> (prefix )", "<open ended>");
        if !self.lease.is_empty() {
            let decimal = i64::from_str_radix(&self.lease, 16).expect("hexadecimal").to_string();
            text = text.replace(&self.lease, "LEASE").replace(&decimal, "LEASE");
        }
        for before in ["took = ", "\"Took\" : ", "\"took\":\"", "remaining("] {
            text = without_times(&text, before);
        }
        text
    }
}

/// Every byte as a character.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Cuts the time behind each occurrence of `before`.
fn without_times(text: &str, before: &str) -> String {
    let mut parts = text.split(before);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(['"', '\n', ')']).unwrap_or(part.len());
        out += before;
        out += &part[end..];
    }
    out
}

#[test]
fn etcdctl_and_ours_say_the_same() {
    compare(COMMANDS);
}

#[test]
fn etcdctl_and_ours_say_the_same_of_users() {
    compare(USERS);
}

fn compare(commands: &str) {
    let Some(etcdctl) = find_etcdctl() else {
        eprintln!("skipped: there is no etcdctl, see tools/install-etcd");
        return;
    };
    let mut theirs = Side::new(|endpoint| Tool::named(&etcdctl, endpoint));
    let mut ours = Side::new(Tool::ours);
    let mut faults = Vec::new();
    let mut count = 0;
    for line in commands.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        for step in steps(line) {
            let (wanted, got) = (theirs.run(&step), ours.run(&step));
            count += 1;
            if wanted != got {
                faults.push(format!("{:?}\n  wanted: {wanted:?}\n  got:    {got:?}", step.words.join(" ")));
            }
        }
    }
    assert!(faults.is_empty(), "{} of {count} differ:\n{}", faults.len(), faults.join("\n"));
}
