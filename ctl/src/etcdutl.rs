//! `etcdutl`: offline work on etcd's own files. What makes a data directory of another kind (`snapshot restore`, `export`)
//! is the server's own and not here: [`server_command`] tells it apart.
//!
//! Output, errors and exit codes are those of etcd 3.7's tool; `check v2store` is that of 3.6, after which etcd has no v2
//! store left to look at.

mod defrag;
mod files;
mod hashkv;
mod migrate;
mod status;
mod v2store;

use crate::command::completion;
use crate::etcdctl;
use crate::failure::{Exit, Failure};
use crate::output::print::print;
use crate::output::{Format, render};
use crate::quote;
use crate::usage;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser, Debug)]
#[command(name = "etcdutl", about = "Works on files of a stopped server", subcommand_required = true)]
#[command(infer_subcommands = true, disable_help_subcommand = true)]
struct Cli {
    /// How to print: fields, json, protobuf, simple, table
    #[arg(short, long, global = true, default_value = "simple")]
    write_out: String,
    /// How long to wait for the lock on the database, 0 for ever
    #[arg(long, global = true, default_value = "10s", value_parser = quote::parse_duration)]
    timeout: Duration,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Writes the database of an etcd that is stopped anew, without its free pages
    Defrag {
        /// The data directory
        #[arg(long)]
        data_dir: Option<PathBuf>,
        #[arg(hide = true)]
        args: Vec<OsString>,
    },
    /// Snapshots
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// The hash of the history in a file
    Hashkv {
        /// The newest revision that counts; 0 for all
        #[arg(long, default_value_t = 0, value_parser = quote::parse_flag_int)]
        rev: i64,
        #[arg(value_name = "FILE")]
        args: Vec<PathBuf>,
    },
    Version,
    /// A completion script for a shell
    Completion(completion::Args),
    /// Changes the version of the schema of a stopped etcd's data
    Migrate(migrate::Args),
    /// Whether files fit a newer etcd
    #[command(subcommand)]
    Check(Check),
    /// Makes a data directory of etcd from one of Plinth (Plinth only)
    Export,
}

#[derive(Subcommand, Debug)]
enum Snapshot {
    /// Tells what a snapshot holds, and whether it is whole
    Status {
        /// The snapshot
        #[arg(value_name = "FILE")]
        args: Vec<PathBuf>,
    },
    /// Makes a data directory from a snapshot
    Restore,
}

#[derive(Subcommand, Debug)]
enum Check {
    /// Whether the v2 store holds anything of users
    V2store(v2store::Args),
}

/// Commands that the server carries out itself: which one, and the words behind it.
pub fn server_command(words: &[String]) -> Option<(ServerCommand, Vec<String>)> {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let words: Vec<String> = usage::commands_first(&definition(), words)
        .into_iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let is = |word: Option<&String>, name: &str| word.is_some_and(|word| !word.is_empty() && name.starts_with(&**word));
    match words.as_slice() {
        [first, rest @ ..] if is(Some(first), "export") => Some((ServerCommand::Export, rest.to_vec())),
        [first, second, rest @ ..] if is(Some(first), "snapshot") && is(Some(second), "restore") => {
            Some((ServerCommand::Restore, rest.to_vec()))
        }
        _ => None,
    }
}

/// See [`server_command`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerCommand {
    /// `snapshot restore`
    Restore,
    /// `export`
    Export,
}

fn definition() -> clap::Command {
    usage::as_go(Cli::command())
}

/// Runs etcdutl with the arguments behind its name.
pub fn main(args: Vec<String>) -> ExitCode {
    if let [first, rest @ ..] = &args[..]
        && first == "migrate-v2"
    {
        return crate::v2::migrate::main(rest.to_vec());
    }
    let words = usage::commands_first(&definition(), args.into_iter().map(OsString::from).collect());
    let parsed = definition().try_get_matches_from(std::iter::once(&"etcdutl".into()).chain(&words));
    match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => run(cli).map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS),
        Err(error) => usage::report(&error, &definition(), &words),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Version => print(version().as_bytes()),
        Command::Completion(args) => completion::run(definition(), &args),
        Command::Snapshot(Snapshot::Restore) => Err(Failure::unsupported("restore by this program")),
        Command::Export => Err(Failure::unsupported("export by this program")),
        Command::Snapshot(Snapshot::Status { args }) => {
            let [path] = args.as_slice() else {
                return Err(Failure::arguments("snapshot status requires exactly one argument"));
            };
            files::stat(path)?;
            let format = Format::parse(&cli.write_out)?;
            print(&render(&status::of(path)?, format, false)?)
        }
        Command::Hashkv { rev, args } => {
            let [path] = args.as_slice() else {
                return Err(Failure::new(Exit::Error, format!("accepts 1 arg(s), received {}", args.len())));
            };
            let format = Format::parse(&cli.write_out)?;
            print(&render(&hashkv::of(path, rev, cli.timeout)?, format, false)?)
        }
        Command::Defrag { data_dir, .. } => defrag::run(&required(data_dir, "data-dir")?, cli.timeout),
        Command::Migrate(args) => migrate::run(args, cli.timeout),
        Command::Check(Check::V2store(args)) => v2store::run(args),
    }
}

/// A flag that has to be there.
fn required<T>(value: Option<T>, name: &str) -> Result<T, Failure> {
    value.ok_or_else(|| Failure::new(Exit::Error, format!("required flag(s) {name:?} not set")))
}

fn version() -> String {
    format!("etcdutl version: {}\nAPI version: {}\n", etcdctl::VERSION, etcdctl::API_VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        definition().debug_assert();
    }

    #[test]
    fn tells_its_version() {
        assert_eq!(version(), "etcdutl version: 3.7.1\nAPI version: 3.7\n");
    }

    #[test]
    fn what_the_server_does_itself_is_told_apart() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let told = |line: &str| server_command(&words(line));
        assert_eq!(told("snapshot restore a --name b"), Some((ServerCommand::Restore, words("a --name b"))));
        assert_eq!(told("-w json snap rest a"), Some((ServerCommand::Restore, words("-w json a"))));
        assert_eq!(told("export --to a"), Some((ServerCommand::Export, words("--to a"))));
        for line in ["snapshot status a", "hashkv restore", "version"] {
            assert_eq!(told(line), None, "{line}");
        }
    }
}
