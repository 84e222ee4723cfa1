//! `lock`: holds a named lock until a signal comes, or while a command runs.

use crate::context::Context;
use crate::failure::{Exit, Failure, system_text};
use crate::queue::{self, Place};
use crate::quote::quoted;
use crate::session::Session;
use crate::signals;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use tokio::process::Command;

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Seconds after which the lock is free if this process is gone
    #[arg(long, default_value = "10", value_parser = crate::quote::parse_flag_int)]
    ttl: i64,
    /// name [command]
    #[arg(value_name = "NAME [COMMAND...]")]
    args: Vec<String>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let [name, command @ ..] = args.args.as_slice() else {
        return Err(Failure::arguments("lock takes a lock name argument and an optional command to execute"));
    };
    let cluster = context.cluster();
    let ttl = if args.ttl > 0 { args.ttl } else { 60 };
    let mut signal = signals::end()?;
    let mut session = tokio::select! {
        session = Session::open(&cluster, ttl) => session?,
        _ = signal.recv() => return Err(Failure::new(Exit::Error, "context canceled")),
    };
    let acquired = async {
        let place = queue::enter(&cluster, name, session.lease, "").await?;
        place.wait(&cluster).await?;
        let pair = place.read(&cluster).await?;
        Ok::<_, Failure>((place, pair))
    };
    let acquired = tokio::select! {
        acquired = acquired => acquired,
        _ = signal.recv() => Err(Failure::new(Exit::Error, "context canceled")),
    };
    let done = match acquired {
        Ok((place, _)) if !command.is_empty() => execute(&place, command).await,
        Ok((_, pair)) if pair.kvs.is_empty() => Err(Failure::new(Exit::Error, "lock lost on init")),
        Ok((_, pair)) => match context.print(&pair) {
            Ok(()) => tokio::select! {
                _ = signal.recv() => Ok(()),
                () = session.lost() => Err(Failure::new(Exit::Error, "session expired")),
            },
            failed => failed,
        },
        Err(failure) => Err(failure),
    };
    // A lock that was never acquired, or is lost, need not be released in an orderly way.
    let closed = context.limited(session.close()).await;
    done.and(closed)
}

async fn execute(place: &Place, command: &[String]) -> Result<(), Failure> {
    let status = Command::new(&command[0])
        .args(&command[1..])
        .env("ETCD_LOCK_KEY", &place.key)
        .env("ETCD_LOCK_REV", place.header.revision.to_string())
        .stdin(Stdio::null())
        .status()
        .await
        .map_err(|error| cannot_run(&command[0], &error))?;
    if status.success() { Ok(()) } else { Err(Failure::new(exit_of(status), ended(status))) }
}

/// What a shell is told about a command that failed.
fn exit_of(status: ExitStatus) -> Exit {
    Exit::Of(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
}

/// Why a command could not be run.
pub fn cannot_run(command: &str, error: &std::io::Error) -> Failure {
    let text = match command.contains('/') {
        true => format!("fork/exec {command}: {}", system_text(error)),
        false => format!("exec: {}: executable file not found in $PATH", quoted(command.as_bytes())),
    };
    Failure::new(Exit::Error, text)
}

/// How a command ended.
pub fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal: {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings() {
        let (code, signal) = (ExitStatus::from_raw(3 << 8), ExitStatus::from_raw(9));
        assert_eq!((exit_of(code), ended(code)), (Exit::Of(3), "exit status 3".to_owned()));
        assert_eq!((exit_of(signal), ended(signal)), (Exit::Of(255), "signal: 9".to_owned()));
    }
}
