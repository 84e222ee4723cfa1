//! Runs a tool to its end, or beside the test; what it prints is read as it comes.

use super::common::PATIENCE;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

/// How a run ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ran {
    /// What it printed, of a run that must have succeeded.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        String::from_utf8(self.out).expect("text")
    }

    /// Exit code and the last line of the errors.
    pub fn failure(&self) -> (i32, &str) {
        (self.code.expect("it ended by itself"), self.err.lines().last().unwrap_or_default())
    }
}

/// A tool and the endpoints it works on.
#[derive(Clone, Debug)]
pub struct Tool {
    program: PathBuf,
    first: Option<&'static str>,
    endpoints: String,
    variables: Vec<(&'static str, String)>,
}

impl Tool {
    /// `plinth ctl`.
    pub fn ours(endpoints: &str) -> Tool {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_plinth"));
        Tool { program, first: Some("ctl"), endpoints: endpoints.to_owned(), variables: Vec::new() }
    }

    /// A program that answers to etcdctl's name.
    pub fn named(program: &Path, endpoints: &str) -> Tool {
        Tool { program: program.to_owned(), first: None, endpoints: endpoints.to_owned(), variables: Vec::new() }
    }

    /// With a variable in its environment.
    pub fn with(mut self, name: &'static str, value: &str) -> Tool {
        self.variables.push((name, value.to_owned()));
        self
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).args(self.first);
        command.envs(self.variables.iter().cloned());
        if !self.endpoints.is_empty() {
            command.args(["--endpoints", &self.endpoints]);
        }
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs to the end.
    pub fn run(&self, words: &[&str], input: &[u8]) -> Ran {
        let mut child = self.command(words).spawn().expect("the tool starts");
        let mut stdin = child.stdin.take().expect("piped");
        // A tool that does not read its input is done before it is written.
        let _ = stdin.write_all(input);
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        Ran { code: output.status.code(), out: output.stdout, err }
    }

    /// The words of a line that has no quotes.
    pub fn line(&self, line: &str) -> Ran {
        self.run(&line.split_whitespace().collect::<Vec<_>>(), b"")
    }

    /// Runs beside the test.
    pub fn start(&self, line: &str) -> Running {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut child = self.command(&words).spawn().expect("the tool starts");
        let (lines, received) = channel();
        let out = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in out.lines() {
                let Ok(line) = line else { break };
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        Running { stdin: child.stdin.take(), child, lines: received }
    }
}

/// A tool that runs beside the test; dropping it ends the process by its id.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Running {
    /// The next lines it prints.
    pub fn lines(&self, count: usize) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        while lines.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => lines.push(line),
                Err(error) => panic!("{count} lines are expected, these came: {lines:?} ({error})"),
            }
        }
        lines
    }

    /// Types something.
    pub fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("still open");
        stdin.write_all(text.as_bytes()).expect("it reads");
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill is installed").success());
    }

    /// Closes its input and waits for its end: its code, and what it said of errors.
    pub fn end(mut self) -> (Option<i32>, String) {
        drop(self.stdin.take());
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().expect("the process is ours") {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "it does not end"),
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        let mut err = String::new();
        let _ = self.child.stderr.take().expect("piped").read_to_string(&mut err);
        (status.code(), err)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something holds.
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "still not so: {what}");
    }
}
