//! Why a tool ends without success, and with which exit code. The codes are etcdctl's, which scripts test for.
//!
//! Messages that the reference client knows are printed alone, all others with their gRPC code.

use std::io::ErrorKind;
use std::process::ExitCode;
use tonic::{Code, Status};

/// Messages of a server, behind `etcdserver: `, that the reference client does not know.
const UNLISTED: [&str; 8] = [
    "invalid client api version",
    "watch canceled",
    "permission not given",
    "request timed out, waiting for the applied index took too long",
    "request canceled",
    "context deadline exceeded",
    "request timed out, leader transfer took too long",
    "unknown method",
];

/// Exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The server or the client failed.
    Error,
    BadConnection,
    /// Input that is not an argument (standard input) makes no sense.
    InvalidInput,
    /// A value or output format that is not known.
    BadFeature,
    Interrupted,
    /// Arguments make no sense.
    BadArguments,
    /// The exit code of a command that was run.
    Of(u8),
}

impl Exit {
    /// The number a shell sees.
    pub fn code(self) -> u8 {
        match self {
            Exit::Error => 1,
            Exit::BadConnection => 2,
            Exit::InvalidInput => 3,
            Exit::BadFeature => 4,
            Exit::Interrupted => 5,
            Exit::BadArguments => 128,
            Exit::Of(code) => code,
        }
    }
}

/// A failed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// What to say after `Error: `; nothing if all is said.
    pub text: String,
}

impl Failure {
    /// A failure that ends this way.
    pub fn new(exit: Exit, text: impl Into<String>) -> Failure {
        Failure { exit, text: text.into() }
    }

    /// Arguments that make no sense.
    pub fn arguments(text: impl Into<String>) -> Failure {
        Failure::new(Exit::BadArguments, text)
    }

    /// A command or flag of etcd's that is missing here.
    pub fn unsupported(what: &str) -> Failure {
        Failure::new(Exit::Error, format!("{what} is not supported yet"))
    }

    /// The time for the command is over.
    pub fn deadline() -> Failure {
        Failure::new(Exit::Error, "context deadline exceeded")
    }

    /// The same, ending another way.
    pub fn exiting(self, exit: Exit) -> Failure {
        Failure { exit, ..self }
    }

    /// Tells the user, and how to end.
    pub fn report(&self) -> ExitCode {
        if !self.text.is_empty() {
            eprintln!("Error: {}", self.text);
        }
        ExitCode::from(self.exit.code())
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        let known = status.message().strip_prefix("etcdserver: ").is_some_and(|rest| !UNLISTED.contains(&rest));
        let text = if known {
            status.message().to_owned()
        } else {
            format!("rpc error: code = {} desc = {}", code_name(status.code()), status.message())
        };
        Failure::new(Exit::Error, text)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        match error.kind() {
            // Whoever stops reading has read enough; a shell sees what it sees of a process ended by SIGPIPE.
            ErrorKind::BrokenPipe => Failure::new(Exit::Of(141), ""),
            _ => Failure::new(Exit::Error, system_text(&error)),
        }
    }
}

/// What the system says went wrong, in the words of C.
pub fn system_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}

/// The reference client's names of the codes.
fn code_name(code: Code) -> String {
    match code {
        Code::Ok => "OK".to_owned(),
        Code::Cancelled => "Canceled".to_owned(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_s_words() {
        let error = std::fs::File::open("/nonexistent").expect_err("not there");
        assert_eq!(system_text(&error), "no such file or directory");
    }

    #[test]
    fn known_errors_print_their_message_alone() {
        let known = Failure::from(Status::not_found("etcdserver: key not found"));
        assert_eq!(known, Failure::new(Exit::Error, "etcdserver: key not found"));
        let unknown = Failure::from(Status::cancelled("gone"));
        assert_eq!(unknown.text, "rpc error: code = Canceled desc = gone");
        let unlisted = Failure::from(Status::invalid_argument("etcdserver: permission not given"));
        assert_eq!(unlisted.text, "rpc error: code = InvalidArgument desc = etcdserver: permission not given");
    }
}
