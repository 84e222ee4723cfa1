//! Lines on standard error: `TIME HOST PROGRAM[PID]: LEVEL message`, or one JSON object each.
//!
//! What is said where is the programs' business; none of them hands a value of the store to it.

use std::fmt::Arguments;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::SystemTime;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    /// Reads a level as the programs' flags name it.
    ///
    /// # Errors
    /// If it is not known.
    pub fn parse(text: &str) -> Result<Level, String> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Ok(Level::Debug),
            "" | "info" => Ok(Level::Info),
            "warn" | "warning" => Ok(Level::Warn),
            "error" | "fatal" | "panic" => Ok(Level::Error),
            _ => Err(format!("not a valid log level: {text:?}")),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warn => "WARNING",
            Level::Error => "ERROR",
        }
    }
}

/// What every line says beside its message.
struct Head {
    host: String,
    program: String,
    is_json: bool,
}

/// Who takes the lines, within a program that has a log of its own.
static TAKER: OnceLock<fn(Level, Arguments<'_>)> = OnceLock::new();

static LEAST: AtomicU8 = AtomicU8::new(Level::Info as u8);
static HEAD: OnceLock<Head> = OnceLock::new();

/// Sets what is logged, and how. The first call counts for the shape, each for the level.
pub fn start(program: &str, least: Level, is_json: bool) {
    LEAST.store(least as u8, Ordering::Relaxed);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    HEAD.get_or_init(|| Head { host, program: program.to_owned(), is_json });
}

/// Hands all lines to a log that decides by itself what is wanted.
pub fn pass_to(taker: fn(Level, Arguments<'_>)) {
    TAKER.get_or_init(|| taker);
}

/// Whether lines of this level are written.
pub fn is_wanted(level: Level) -> bool {
    level as u8 >= LEAST.load(Ordering::Relaxed)
}

/// Writes a line, if its level is wanted.
pub fn line(level: Level, message: Arguments<'_>) {
    if let Some(taker) = TAKER.get() {
        taker(level, message);
    } else if is_wanted(level) {
        eprintln!("{}", shape(HEAD.get(), SystemTime::now(), level, message));
    }
}

fn shape(head: Option<&Head>, now: SystemTime, level: Level, message: Arguments<'_>) -> String {
    let time = humantime::format_rfc3339_seconds(now);
    let pid = std::process::id();
    match head {
        Some(head) if head.is_json => serde_json::json!({
            "time": time.to_string(), "level": level.name(), "program": head.program, "pid": pid, "msg": message.to_string(),
        })
        .to_string(),
        Some(head) => format!("{time} {} {}[{pid}]: {} {message}", head.host, head.program, level.name()),
        None => format!("{time} {} {message}", level.name()),
    }
}

/// A line for whoever looks for a fault.
#[macro_export]
macro_rules! debug { ($($text:tt)*) => { $crate::log::line($crate::log::Level::Debug, format_args!($($text)*)) } }
/// A line on what goes on.
#[macro_export]
macro_rules! info { ($($text:tt)*) => { $crate::log::line($crate::log::Level::Info, format_args!($($text)*)) } }
/// A line on what may become a fault.
#[macro_export]
macro_rules! warn { ($($text:tt)*) => { $crate::log::line($crate::log::Level::Warn, format_args!($($text)*)) } }
/// A line on a fault.
#[macro_export]
macro_rules! error { ($($text:tt)*) => { $crate::log::line($crate::log::Level::Error, format_args!($($text)*)) } }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_one_shape() {
        let head = |is_json| Head { host: "h".to_owned(), program: "confd".to_owned(), is_json };
        let line = |is_json| shape(Some(&head(is_json)), SystemTime::UNIX_EPOCH, Level::Warn, format_args!("a {}", 1));
        let pid = std::process::id();
        assert_eq!(line(false), format!("1970-01-01T00:00:00Z h confd[{pid}]: WARNING a 1"));
        let json: serde_json::Value = serde_json::from_str(&line(true)).expect("JSON");
        assert_eq!((&json["level"], &json["msg"]), (&"WARNING".into(), &"a 1".into()));
        assert!(Level::parse("loud").is_err() && Level::parse("warning") == Ok(Level::Warn));
    }
}
