//! `etcdctl`: flags and commands, parsed whole before anything is done.
//!
//! Missing commands are listed here by name, so that they are refused as missing and not as misspelt.

use crate::command::{compaction, del, get, put};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::flags::{self, Globals};
use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::process::ExitCode;

/// The release of etcd whose tool this one equals.
pub const VERSION: &str = "3.7.1";
/// The API version spoken.
pub const API_VERSION: &str = "3.7";

#[derive(Parser, Debug)]
#[command(name = "etcdctl", about = "A command line client for etcd v3", infer_subcommands = true)]
#[command(disable_version_flag = true, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Words behind a command that is missing.
#[derive(clap::Args, Clone, Debug)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    words: Vec<String>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Reads a key or a range
    Get(get::Args),
    /// Writes a key
    Put(put::Args),
    /// Deletes a key or a range
    Del(del::Args),
    /// Forgets history below a revision
    Compaction(compaction::Args),
    /// Prints the version
    Version,
    #[command(hide = true)]
    Txn(Rest),
    #[command(hide = true)]
    Watch(Rest),
    #[command(hide = true)]
    Lease(Rest),
    #[command(hide = true)]
    Member(Rest),
    #[command(hide = true)]
    Endpoint(Rest),
    #[command(hide = true)]
    Alarm(Rest),
    #[command(hide = true)]
    Defrag(Rest),
    #[command(hide = true)]
    Lock(Rest),
    #[command(hide = true)]
    Elect(Rest),
    #[command(hide = true)]
    Snapshot(Rest),
    #[command(hide = true)]
    MoveLeader(Rest),
    #[command(hide = true)]
    Downgrade(Rest),
    #[command(hide = true)]
    Auth(Rest),
    #[command(hide = true)]
    User(Rest),
    #[command(hide = true)]
    Role(Rest),
    #[command(hide = true)]
    MakeMirror(Rest),
    #[command(hide = true)]
    Check(Rest),
    #[command(hide = true)]
    Completion(Rest),
    #[command(hide = true)]
    Options(Rest),
}

/// Runs etcdctl with the arguments behind its name.
pub fn main(args: Vec<String>) -> ExitCode {
    let matches = match definition().try_get_matches_from(std::iter::once("etcdctl".to_owned()).chain(args)) {
        Ok(matches) => matches,
        Err(error) => return usage(&error),
    };
    match start(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn definition() -> clap::Command {
    flags::go_booleans(Cli::command())
}

fn start(matches: &ArgMatches) -> Result<(), Failure> {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
    for variable in flags::check_environment(&definition(), matches, environment)? {
        let line = serde_json::json!({
            "level": "warn", "msg": "unrecognized environment variable", "environment-variable": variable,
        });
        eprintln!("{line}");
    }
    let cli = Cli::from_arg_matches(matches).map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(run(cli));
    // Whoever reads standard input or holds a connection need not be waited for.
    runtime.shutdown_background();
    result
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let missing = |name: &str, rest: Rest| Err(Failure::unsupported(&missing_name(name, &rest)));
    match cli.command {
        Command::Txn(rest) => return missing("txn", rest),
        Command::Watch(rest) => return missing("watch", rest),
        Command::Lease(rest) => return missing("lease", rest),
        Command::Member(rest) => return missing("member", rest),
        Command::Endpoint(rest) => return missing("endpoint", rest),
        Command::Alarm(rest) => return missing("alarm", rest),
        Command::Defrag(rest) => return missing("defrag", rest),
        Command::Lock(rest) => return missing("lock", rest),
        Command::Elect(rest) => return missing("elect", rest),
        Command::Snapshot(rest) => return missing("snapshot", rest),
        Command::MoveLeader(rest) => return missing("move-leader", rest),
        Command::Downgrade(rest) => return missing("downgrade", rest),
        Command::Auth(rest) => return missing("auth", rest),
        Command::User(rest) => return missing("user", rest),
        Command::Role(rest) => return missing("role", rest),
        Command::MakeMirror(rest) => return missing("make-mirror", rest),
        Command::Check(rest) => return missing("check", rest),
        Command::Completion(rest) => return missing("completion", rest),
        Command::Options(rest) => return missing("options", rest),
        Command::Version => {
            let text = format!("etcdctl version: {VERSION}\nAPI version: {API_VERSION}\n");
            return crate::context::print(text.as_bytes());
        }
        _ => {}
    }
    let context = &Context::new(&cli.globals)?;
    match cli.command {
        Command::Get(args) => get::run(context, args).await,
        Command::Put(args) => put::run(context, args).await,
        Command::Del(args) => del::run(context, args).await,
        Command::Compaction(args) => compaction::run(context, args).await,
        other => unreachable!("{other:?} was answered above"),
    }
}

/// `user add`, not what follows it: that may be a password.
fn missing_name(name: &str, rest: &Rest) -> String {
    match rest.words.first().filter(|word| !word.starts_with('-')) {
        Some(word) if ["auth", "downgrade", "member", "role", "snapshot", "user"].contains(&name) => {
            format!("{name} {word}")
        }
        _ => name.to_owned(),
    }
}

/// Help that was asked for is a success; all else is not.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Whoever stops reading has read enough.
            let _ = crate::context::print(error.render().to_string().as_bytes());
            ExitCode::SUCCESS
        }
        _ => {
            let text = error.render().to_string();
            eprint!("Error: {}", text.strip_prefix("error: ").unwrap_or(&text));
            ExitCode::from(Exit::Error.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
        let matches = definition().try_get_matches_from([&["etcdctl"], words].concat())?;
        Cli::from_arg_matches(&matches)
    }

    #[test]
    fn the_definition_is_sound() {
        definition().debug_assert();
    }

    #[test]
    fn global_flags_stand_anywhere() {
        let cli = parse(&["get", "k", "-w", "json", "--endpoints", "a:1,b:2", "--hex"]).expect("parses");
        assert_eq!((cli.globals.write_out.as_str(), cli.globals.hex), ("json", true));
        assert_eq!(cli.globals.endpoints, ["a:1", "b:2"]);
        assert!(!parse(&["--hex=false", "get", "k"]).expect("parses").globals.hex);
        assert!(parse(&["--command-timeout", "5", "get", "k"]).is_err());
    }

    #[test]
    fn commands_may_be_abbreviated() {
        assert!(matches!(parse(&["compact", "5"]).expect("parses").command, Command::Compaction(_)));
        assert!(matches!(parse(&["snap", "save", "--x"]).expect("parses").command, Command::Snapshot(_)));
        assert!(parse(&["nonsense"]).is_err());
    }

    #[test]
    fn a_flag_and_its_variable_exclude_each_other() {
        let check = |words: &[&str], variables: &[(&str, &str)]| {
            let matches = definition().try_get_matches_from([&["etcdctl"], words].concat()).expect("parses");
            let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            flags::check_environment(&definition(), &matches, variables)
        };
        let endpoints = ("ETCDCTL_ENDPOINTS", "a:1");
        assert!(check(&["--endpoints", "b:1", "get", "k"], &[endpoints]).is_err());
        assert!(check(&["get", "k", "--endpoints", "b:1"], &[endpoints]).is_err());
        assert_eq!(check(&["get", "k"], &[endpoints, ("HOME", "/")]), Ok(vec![]));
        assert_eq!(check(&["get", "k"], &[("ETCDCTL_API", "3")]), Ok(vec!["ETCDCTL_API=3".to_owned()]));
    }

    #[test]
    fn secrets_are_not_repeated() {
        let rest = Rest { words: vec!["add".to_owned(), "me:secret".to_owned()] };
        assert_eq!(missing_name("user", &rest), "user add");
    }
}
