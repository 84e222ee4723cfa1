//! `etcdctl`: flags and commands, parsed whole before anything is done.

use crate::command::{
    alarm, auth, check, compaction, completion, defrag, del, downgrade, elect, endpoint, get, lease, lock, member,
    migrate, mirror, move_leader, put, role, snapshot, txn, user, watch,
};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::flags::{self, Globals};
use crate::usage;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
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

#[derive(Subcommand, Debug)]
enum Command {
    /// Reads a key or a range
    Get(get::Args),
    Put(put::Args),
    /// Deletes a key or a range
    Del(del::Args),
    /// Compares, and then does one thing or the other, at once
    Txn(txn::Args),
    /// Forgets history below a revision
    Compaction(compaction::Args),
    /// Follows the changes of a key or a range
    Watch(watch::Args),
    /// Leases
    #[command(subcommand)]
    Lease(lease::Command),
    /// Members of the cluster
    #[command(subcommand)]
    Member(member::Command),
    /// Endpoints, each by itself
    Endpoint(endpoint::Args),
    /// Alarms
    #[command(subcommand)]
    Alarm(alarm::Command),
    /// Gives back space that is not used
    Defrag(defrag::Args),
    /// Hands leadership to another member
    MoveLeader(move_leader::Args),
    /// Snapshots of a member's state
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    /// The way back to the release before
    #[command(subcommand)]
    Downgrade(downgrade::Command),
    Lock(lock::Args),
    /// Takes part in an election, or observes it
    Elect(elect::Args),
    /// Authentication as a whole
    #[command(subcommand)]
    Auth(auth::Command),
    /// Users
    #[command(subcommand)]
    User(user::Command),
    /// Roles
    #[command(subcommand)]
    Role(role::Command),
    Version,
    /// Prints the flags that every command takes
    Options,
    /// Copies keys to another cluster, and keeps them equal
    MakeMirror(mirror::Args),
    /// Whether the cluster is up to a load
    #[command(subcommand)]
    Check(check::Command),
    /// A standby of another cluster, and the moment when it takes over (Plinth only)
    #[command(subcommand)]
    Migrate(migrate::Command),
    /// A completion script for a shell
    Completion(completion::Args),
}

/// Runs etcdctl with the arguments behind its name.
pub fn main<T: Into<OsString>>(args: Vec<T>) -> ExitCode {
    match std::env::var("ETCDCTL_API").as_deref() {
        Ok("2") => return crate::v2::main(args),
        Ok("" | "3") | Err(_) => {}
        Ok(other) => {
            eprintln!("unsupported API version: {other}");
            return ExitCode::FAILURE;
        }
    }
    let words = usage::commands_first(&definition(), args.into_iter().map(Into::into).collect());
    let parse = |words: &[OsString]| definition().try_get_matches_from(std::iter::once(&"etcdctl".into()).chain(words));
    let matches = match parse(&words) {
        Ok(matches) => matches,
        Err(error) => return usage::report(&error, &definition(), &words),
    };
    let settings = match environment(&matches) {
        Ok(settings) => settings,
        Err(failure) => return failure.report(),
    };
    // What the environment says goes first, as flags, and is read together with the rest.
    let matches = match parse(&[settings.as_slice(), words.as_slice()].concat()) {
        Ok(matches) => matches,
        Err(error) => return usage::report(&error, &definition(), &settings),
    };
    match start(&matches, &words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn definition() -> clap::Command {
    usage::as_go(Cli::command())
}

/// The flags that the environment sets.
fn environment(matches: &ArgMatches) -> Result<Vec<OsString>, Failure> {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
    let (settings, unknown) = flags::from_environment(&definition(), matches, variables)?;
    for variable in unknown {
        let line = serde_json::json!({
            "level": "warn", "msg": "unrecognized environment variable", "environment-variable": variable,
        });
        eprintln!("{line}");
    }
    Ok(settings.into_iter().map(OsString::from).collect())
}

fn start(matches: &ArgMatches, words: &[OsString]) -> Result<(), Failure> {
    let cli = Cli::from_arg_matches(matches).map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
    if cli.globals.debug {
        flags::effective(&definition(), matches).iter().for_each(|line| eprintln!("{line}"));
    }
    let given = matches.value_source("command_timeout") == Some(ValueSource::CommandLine);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(run(cli, given, words));
    // Whoever reads standard input or holds a connection need not be waited for.
    runtime.shutdown_background();
    result
}

async fn run(cli: Cli, command_timeout_given: bool, words: &[OsString]) -> Result<(), Failure> {
    let context = || Context::new(&cli.globals, command_timeout_given);
    match cli.command {
        Command::Get(args) => get::run(&context()?, args).await,
        Command::Put(args) => put::run(&context()?, args).await,
        Command::Del(args) => del::run(&context()?, args).await,
        Command::Txn(args) => txn::run(&context()?, args).await,
        Command::Compaction(args) => compaction::run(&context()?, args).await,
        Command::Watch(args) => watch::run(&context()?, args, words).await,
        Command::Lease(command) => lease::run(&context()?, command).await,
        Command::Member(command) => member::run(&context()?, command).await,
        Command::Endpoint(args) => endpoint::run(&context()?, args).await,
        Command::Alarm(command) => alarm::run(&context()?, command).await,
        Command::Defrag(args) => defrag::run(&context()?, args).await,
        Command::MoveLeader(args) => move_leader::run(&context()?, args).await,
        Command::Snapshot(command) => snapshot::run(&context()?, command).await,
        Command::Downgrade(command) => downgrade::run(&context()?, command).await,
        Command::Lock(args) => lock::run(&context()?, args).await,
        Command::Elect(args) => elect::run(&context()?, args).await,
        Command::Auth(command) => auth::run(&context()?, command).await,
        Command::User(command) => user::run(&context()?, command).await,
        Command::Role(command) => role::run(&context()?, command).await,
        Command::Version => {
            let text = format!("etcdctl version: {VERSION}\nAPI version: {API_VERSION}\n");
            crate::output::print::print(text.as_bytes())
        }
        Command::Options => crate::output::print::print(usage::global_flags(&definition()).as_bytes()),
        Command::MakeMirror(args) => mirror::run(&context()?, args).await,
        Command::Migrate(command) => migrate::run(&context()?, command).await,
        Command::Check(command) => check::run(&context()?, command).await,
        Command::Completion(args) => completion::run(definition(), &args),
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
    fn flags_of_a_command_may_stand_before_its_name() {
        let ordered = |line: &str| {
            let words = line.split(' ').map(OsString::from).collect();
            let words = usage::commands_first(&definition(), words);
            words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        for (written, read) in [
            ("--consistency s get a", "get --consistency s a"),
            ("--hex --prefix=true get a", "get --hex --prefix=true a"),
            ("-w json lease --endpoints x list", "lease list -w json --endpoints x"),
            ("--ttl get lease grant", "lease grant --ttl get"),
            ("get a --limit 1", "get a --limit 1"),
            ("lock l -- etcdctl --hex get a", "lock l -- etcdctl --hex get a"),
            ("snap save x", "snap save x"),
            ("--hex", "--hex"),
            ("nonsense get", "nonsense get"),
        ] {
            assert_eq!(ordered(written), read, "{written}");
        }
    }

    #[test]
    fn commands_may_be_abbreviated() {
        assert!(matches!(parse(&["compact", "5"]).expect("parses").command, Command::Compaction(_)));
        assert!(matches!(parse(&["snap", "save", "x"]).expect("parses").command, Command::Snapshot(_)));
        assert!(parse(&["nonsense"]).is_err());
    }

    #[test]
    fn a_flag_and_its_variable_exclude_each_other() {
        let check = |words: &[&str], variables: &[(&str, &str)]| {
            let matches = definition().try_get_matches_from([&["etcdctl"], words].concat()).expect("parses");
            let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            flags::from_environment(&definition(), &matches, variables)
        };
        let endpoints = ("ETCDCTL_ENDPOINTS", "a:1");
        assert!(check(&["--endpoints", "b:1", "get", "k"], &[endpoints]).is_err());
        assert!(check(&["get", "k", "--endpoints", "b:1"], &[endpoints]).is_err());
        let set = vec!["--endpoints=a:1".to_owned()];
        assert_eq!(check(&["get", "k"], &[endpoints, ("HOME", "/"), ("ETCDCTL_HEX", "")]), Ok((set, vec![])));
        let unknown = vec!["ETCDCTL_API=3".to_owned()];
        assert_eq!(check(&["get", "k"], &[("ETCDCTL_API", "3")]), Ok((vec![], unknown)));
    }

    #[test]
    fn flags_may_be_written_as_in_go() {
        let cli = parse(&["get", "-w=json", "--limit", "-1", "k", "--limit=0x10", "--hex=T"]).expect("parses");
        assert_eq!((cli.globals.write_out.as_str(), cli.globals.hex), ("json", true));
        let Command::Get(args) = cli.command else { panic!("not a get") };
        assert_eq!(args.request().expect("complete").limit, 16, "the last one counts");
        assert!(parse(&["get", "k", "--limit", "ten"]).is_err());
    }

    #[test]
    fn keys_that_are_not_text_arrive_as_they_are() {
        use std::os::unix::ffi::OsStringExt;
        let words = ["etcdctl".into(), "put".into(), OsString::from_vec(vec![0xff]), "v".into()];
        let matches = definition().try_get_matches_from(words).expect("parses");
        let Command::Put(args) = Cli::from_arg_matches(&matches).expect("parses").command else { panic!("not a put") };
        assert_eq!(&args.request(&mut &b""[..]).expect("complete").key[..], b"\xff");
    }
}
