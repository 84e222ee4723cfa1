//! Command line and environment: where flags are read the way Go's `flag` package does.

use std::collections::{BTreeMap, BTreeSet};

use super::legacy::OLD_FLAGS;
use super::notice::Notice;
use super::recorded::{Recorded, SetError};
use super::registry::{self, FLAGS, env_name};
use super::value::Kind;
use super::{ConfigError, legacy};

/// What the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Serve,
    /// `-h`, `-help`, `--help`.
    Help,
}

/// What the command line gave: names of either table, needed to find variables that would be shadowed.
#[derive(Debug)]
pub struct CommandLine {
    /// Help or service.
    pub asked: Asked,
    /// Names given, of either table.
    pub names: BTreeSet<&'static str>,
    /// The first argument that is not a flag. An error, but reported after `--version` had its say.
    pub stray: Option<String>,
}

/// Reads arguments (without the program's name) up to the first that is not a flag, or `--`.
pub fn read_arguments(arguments: &[String], recorded: &mut Recorded) -> Result<CommandLine, ConfigError> {
    let mut command_line = CommandLine { asked: Asked::Serve, names: BTreeSet::new(), stray: None };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let Some(body) = argument.strip_prefix('-').filter(|body| !body.is_empty()) else {
            command_line.stray = Some(argument.clone());
            break;
        };
        if body == "-" {
            command_line.stray = rest.next().cloned();
            break;
        }
        let body = body.strip_prefix('-').unwrap_or(body);
        if body.starts_with(['-', '=']) {
            return Err(ConfigError::usage(format!("bad flag syntax: {argument}")));
        }
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let Some((known, value_optional)) = look_up(name) else {
            if matches!(name, "h" | "help") {
                command_line.asked = Asked::Help;
                return Ok(command_line);
            }
            return Err(ConfigError::usage(format!("flag provided but not defined: -{name}")));
        };
        let value = match inline {
            Some(value) => value,
            None if value_optional => "true",
            None => match rest.next() {
                Some(value) => value,
                None => return Err(ConfigError::usage(format!("flag needs an argument: -{name}"))),
            },
        };
        match recorded.set_text(known, value) {
            Ok(()) => {}
            Err(SetError::Gone(what)) => return Err(ConfigError::invalid(format!("--{name}={value}: {what}"))),
            Err(SetError::BadValue(reason)) => {
                let boolean = if value_optional { "boolean value" } else { "value" };
                let of = if value_optional { "for" } else { "for flag" };
                return Err(ConfigError::usage(format!("invalid {boolean} {value:?} {of} -{name}: {reason}")));
            }
            Err(SetError::Unknown) => unreachable!("looked up above"),
        }
        command_line.names.insert(known);
    }
    Ok(command_line)
}

/// The name as the tables have it, and whether the flag stands without a value.
fn look_up(name: &str) -> Option<(&'static str, bool)> {
    registry::find(name)
        .map(|flag| (flag.name, flag.kind == Kind::Bool))
        .or_else(|| legacy::find(name).map(|old| (old.name, old.value_optional)))
}

/// Variables that belong to nobody's flag but are not mistakes either.
const RESERVED_VERSION: &str = "ETCD_VERSION";

/// Reads the environment for flags the command line did not give.
pub fn read_environment(
    environment: &BTreeMap<String, String>,
    command_line: &CommandLine,
    recorded: &mut Recorded,
) -> Result<(), ConfigError> {
    if let Some(value) = environment.get(RESERVED_VERSION).filter(|value| !value.is_empty()) {
        let notice = Notice::warn("cannot set special environment variable");
        recorded.notices.push(notice.with("key", RESERVED_VERSION).with("value", value.as_str()));
    }
    let mut names: Vec<&'static str> = FLAGS.iter().map(|flag| flag.name).collect();
    names.extend(OLD_FLAGS.iter().map(|old| old.name));
    names.retain(|name| env_name(name) != RESERVED_VERSION);
    names.sort_unstable();

    let mut used = BTreeSet::from([RESERVED_VERSION.to_owned()]);
    for name in names {
        let variable = env_name(name);
        let Some(value) = environment.get(&variable).filter(|value| !value.is_empty()) else { continue };
        if command_line.names.contains(name) {
            return Err(ConfigError::Shadowed { variable });
        }
        match recorded.set_text(name, value) {
            Ok(()) => {}
            Err(SetError::Gone(what)) => return Err(ConfigError::invalid(format!("{variable}={value}: {what}"))),
            Err(SetError::BadValue(reason)) => {
                return Err(ConfigError::invalid(format!("invalid value {value:?} for {variable}: {reason}")));
            }
            Err(SetError::Unknown) => unreachable!("the names come from the tables"),
        }
        let shown = if name.ends_with("password") { "[set]" } else { value };
        recorded.notices.push(
            Notice::info("recognized and used environment variable")
                .with("variable-name", variable.as_str())
                .with("variable-value", shown),
        );
        used.insert(variable);
    }
    for (variable, value) in environment {
        if variable.starts_with("ETCD_") && !used.contains(variable) && !value.is_empty() {
            let text = format!("{variable}={value}");
            recorded.notices.push(Notice::warn("unrecognized environment variable").with("environment-variable", text));
        }
    }
    Ok(())
}
