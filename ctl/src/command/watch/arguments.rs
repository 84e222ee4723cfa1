//! What a watch is asked for: by arguments, or by the environment instead of them, and the command behind `--`.

use super::Flags;
use crate::failure::Failure;
use crate::{quote, usage};
use std::ffi::OsString;

const NOTHING: &str = "bad number of arguments";
const NO_COMMAND: &str = "bad number of arguments (found separator --, but no commands)";
const CONFLICT: &str = "bad number of arguments (found conflicting environment key)";

/// The key that the environment names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    key: OsString,
    range_end: OsString,
}

impl Environment {
    /// From the environment of the process.
    pub fn read() -> Result<Environment, Failure> {
        let read = |name: &str| std::env::var_os(name).unwrap_or_default();
        let (key, range_end) = (read("ETCDCTL_WATCH_KEY"), read("ETCDCTL_WATCH_RANGE_END"));
        if key.is_empty() && !range_end.is_empty() {
            let range_end = quote::quoted(range_end.as_encoded_bytes());
            let text = format!("ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={range_end}");
            return Err(Failure::arguments(text));
        }
        Ok(Environment { key, range_end })
    }

    /// Whether it names a key.
    pub fn has_key(&self) -> bool {
        !self.key.is_empty()
    }

    fn keys(&self) -> Vec<OsString> {
        [&self.key, &self.range_end].into_iter().filter(|word| !word.is_empty()).cloned().collect()
    }
}

/// One watch, and what to run for each of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub flags: Flags,
    /// Empty if events are only printed.
    pub command: Vec<OsString>,
}

/// The part of a line behind the first `--`.
fn command_of(words: &[OsString]) -> Result<Vec<OsString>, &'static str> {
    match words.iter().position(|word| word == "--") {
        Some(at) if at + 1 == words.len() => Err(NO_COMMAND),
        Some(at) => Ok(words[at + 1..].to_vec()),
        None => Ok(Vec::new()),
    }
}

/// Takes the command off the words that were parsed, and puts the keys of the environment in their place.
fn plan(mut flags: Flags, command: Vec<OsString>, environment: &Environment) -> Result<Plan, &'static str> {
    flags.args.truncate(flags.args.len() - command.len());
    match (environment.has_key(), flags.args.is_empty()) {
        (true, false) => Err(CONFLICT),
        (true, true) => Ok(Plan { flags: Flags { args: environment.keys(), ..flags }, command }),
        (false, true) => Err(NOTHING),
        (false, false) => Ok(Plan { flags, command }),
    }
}

/// From the command line.
pub fn from_command_line(flags: Flags, words: &[OsString], environment: &Environment) -> Result<Plan, Failure> {
    command_of(words).and_then(|command| plan(flags, command, environment)).map_err(Failure::arguments)
}

/// From the words behind `watch` on a line of input.
pub fn from_line(words: &[OsString], environment: &Environment) -> Result<Plan, Failure> {
    let command = command_of(words).map_err(Failure::arguments)?;
    let definition = <Flags as clap::Args>::augment_args(clap::Command::new("watch").no_binary_name(true));
    let definition = usage::as_go(definition.disable_help_flag(true));
    let refused = |error: clap::Error| {
        let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        Failure::arguments(usage::message(&error, &definition, &words))
    };
    let matches = definition.clone().try_get_matches_from(words).map_err(refused)?;
    let flags = <Flags as clap::FromArgMatches>::from_arg_matches(&matches).map_err(refused)?;
    plan(flags, command, environment).map_err(Failure::arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn keys_and_commands() {
        let plan = |line: &[&str]| from_line(&words(line), &Environment::default()).map_err(|failure| failure.text);
        let found = plan(&["a", "--rev", "1", "b", "--", "echo", "-n", "x"]).expect("complete");
        assert_eq!((found.flags.args, found.flags.rev), (words(&["a", "b"]), 1));
        assert_eq!(found.command, words(&["echo", "-n", "x"]));
        assert_eq!(plan(&["a", "--"]), Err(NO_COMMAND.to_owned()));
        assert_eq!(plan(&["--prefix"]), Err(NOTHING.to_owned()));
        assert_eq!(plan(&["--", "echo"]), Err(NOTHING.to_owned()));
        assert_eq!(plan(&["a", "--nonsense"]), Err("unknown flag: --nonsense".to_owned()));
    }

    #[test]
    fn the_environment_replaces_keys() {
        let environment = Environment { key: "a".into(), range_end: "b".into() };
        let plan = |line: &[&str]| from_line(&words(line), &environment).map_err(|failure| failure.text);
        let found = plan(&["--rev=1", "--", "echo"]).expect("complete");
        assert_eq!((found.flags.args, found.command), (words(&["a", "b"]), words(&["echo"])));
        assert_eq!(plan(&[]).expect("complete").flags.args, words(&["a", "b"]));
        assert_eq!(plan(&["a"]), Err(CONFLICT.to_owned()));
        assert_eq!(plan(&["a", "--", "echo"]), Err(CONFLICT.to_owned()));
    }
}
