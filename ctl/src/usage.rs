//! Flags and mistakes Go's way: how flags may be written, and what is said about those that make no sense.
//!
//! The parser's own errors become the reference tool's first lines, which scripts look for; the help text is ours.

use crate::failure::Exit;
use crate::output::print::print;
use crate::quote;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};
use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

/// Booleans may be written `--hex`, `--hex=true`, `--hex=false`; a value may begin with a dash.
pub fn as_go(command: Command) -> Command {
    let flag = |arg: Arg| match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .value_parser(quote::parse_bool)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false")
            .hide_default_value(true)
            .hide_possible_values(true)
            .value_name("BOOL"),
        ArgAction::Set | ArgAction::Append if arg.get_long().is_some() => {
            let optional = arg.get_num_args().is_some_and(|values| values.min_values() == 0);
            arg.allow_hyphen_values(!optional)
        }
        _ => arg,
    };
    // The last of several counts, where they do not add up.
    let last = |arg: Arg| match (arg.get_action(), arg.get_long(), arg.get_id().clone()) {
        (ArgAction::Set, Some(_), id) => arg.overrides_with(id),
        _ => arg,
    };
    command.mut_args(|arg| last(flag(arg))).mut_subcommands(as_go)
}

/// The words with the names of commands in front of all flags: flags of a command may stand before its name. A flag that
/// is not known to be a boolean takes the next word for its value, unless it has one behind an equals sign.
pub fn commands_first(definition: &Command, words: Vec<OsString>) -> Vec<OsString> {
    let (mut names, mut rest, mut at) = (Vec::new(), words, definition);
    while at.has_subcommands() {
        let is_switch = |word: &str| {
            let flag = word.trim_start_matches('-');
            let mut known = at.get_arguments().chain(definition.get_arguments());
            known.any(|arg| {
                let named =
                    arg.get_long() == Some(flag) || arg.get_short().is_some_and(|short| flag == short.to_string());
                named && arg.get_num_args().is_some_and(|values| values.min_values() == 0)
            }) || ["h", "help"].contains(&flag)
        };
        let (mut place, mut is_value) = (None, false);
        for (index, word) in rest.iter().enumerate() {
            let word = word.to_string_lossy();
            match () {
                () if is_value => is_value = false,
                () if word == "--" => break,
                () if word.starts_with("--") => is_value = !word.contains('=') && !is_switch(&word),
                () if word.starts_with('-') => is_value = word.chars().count() == 2 && !is_switch(&word),
                () => {
                    place = Some(index);
                    break;
                }
            }
        }
        let Some(place) = place else { break };
        let word = rest[place].to_string_lossy().into_owned();
        let exact = at.find_subcommand(&word);
        let mut fitting = at.get_subcommands().filter(|sub| sub.get_name().starts_with(&word));
        let Some(sub) = exact.or_else(|| fitting.next().filter(|_| fitting.next().is_none())) else { break };
        names.push(rest.remove(place));
        at = sub;
    }
    names.append(&mut rest);
    names
}

/// The flags that every command takes, for `options`.
pub fn global_flags(definition: &Command) -> String {
    let mut text = String::from("The following options can be passed to any command:\n\n");
    let mut flags: Vec<&Arg> = definition.get_arguments().filter(|arg| arg.is_global_set()).collect();
    flags.sort_by_key(|arg| arg.get_long());
    for arg in flags {
        let short = arg.get_short().map_or("    ".to_owned(), |short| format!("-{short}, "));
        let default: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let default = match default.join(",").as_str() {
            "" | "false" => String::new(),
            default => format!(" (default {default})"),
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_else(|| "Not supported".to_owned());
        text += &format!("  {short}--{:<26}{help}{default}\n", arg.get_long().unwrap_or_default());
    }
    text
}

/// Tells of an error. Help that was asked for is a success; so is, as in the reference tool, a group of commands
/// without one that exists.
pub fn report(error: &clap::Error, definition: &Command, words: &[OsString]) -> ExitCode {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let invalid = text(error, ContextKind::InvalidSubcommand);
    let group = group(definition, &words, invalid.as_deref());
    let help = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Some(error.render()),
        ErrorKind::MissingSubcommand if group.get_name() == definition.get_name() => Some(group.clone().render_help()),
        ErrorKind::MissingSubcommand | ErrorKind::InvalidSubcommand if group.get_name() != definition.get_name() => {
            Some(group.clone().bin_name(format!("{} {}", definition.get_name(), group.get_name())).render_help())
        }
        _ => None,
    };
    if let Some(help) = help {
        // Whoever stops reading has read enough.
        let _ = print(help.to_string().as_bytes());
        return ExitCode::SUCCESS;
    }
    eprintln!("Error: {}", message(error, definition, &words));
    match (invalid, text(error, ContextKind::Usage)) {
        (None, Some(usage)) => eprintln!("{}", usage.trim_end()),
        _ => eprintln!("Run '{} --help' for usage.", definition.get_name()),
    }
    ExitCode::from(Exit::Error.code())
}

/// The group of commands the words lead to.
fn group<'a>(definition: &'a Command, words: &[String], invalid: Option<&str>) -> &'a Command {
    let mut at = definition;
    for word in words {
        if at.get_name() != definition.get_name() && invalid == Some(word) {
            break;
        }
        let mut fitting = at.get_subcommands().filter(|sub| sub.get_name().starts_with(word.as_str()));
        let exact = at.find_subcommand(word);
        if let Some(sub) = exact.or_else(|| fitting.next().filter(|_| fitting.next().is_none())) {
            at = sub;
        }
    }
    at
}

/// What the reference tool says about the same mistake.
pub fn message(error: &clap::Error, definition: &Command, words: &[String]) -> String {
    let argument = text(error, ContextKind::InvalidArg).unwrap_or_default();
    let value = text(error, ContextKind::InvalidValue).unwrap_or_default();
    let name = argument.split([' ', '=']).next().unwrap_or_default().trim_end_matches('[');
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = text(error, ContextKind::InvalidSubcommand).unwrap_or_default();
            return format!("unknown command {} for \"{}\"", quote::quoted(word.as_bytes()), definition.get_name());
        }
        ErrorKind::UnknownArgument if name.starts_with("--") => return format!("unknown flag: {name}"),
        ErrorKind::UnknownArgument if name.starts_with('-') => {
            let flag = name.trim_start_matches('-');
            let word = words.iter().find(|word| is_shorthand(word) && word.contains(flag));
            return format!("unknown shorthand flag: '{flag}' in {}", word.map_or(name, |word| word));
        }
        ErrorKind::InvalidValue if value.is_empty() => {
            return match words.last().filter(|word| is_shorthand(word)) {
                Some(word) => format!("flag needs an argument: '{}' in {word}", word.trim_start_matches('-')),
                None => format!("flag needs an argument: {name}"),
            };
        }
        ErrorKind::ValueValidation => {
            let why = error.source().map(ToString::to_string).unwrap_or_default();
            let value = quote::quoted(value.as_bytes());
            return format!("invalid argument {value} for \"{}\" flag: {why}", both_names(definition, name));
        }
        _ => {}
    }
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// `-w`, `-wjson`
fn is_shorthand(word: &str) -> bool {
    word.len() > 1 && word.starts_with('-') && !word.starts_with("--")
}

/// `-w, --write-out`
fn both_names(definition: &Command, name: &str) -> String {
    let long = name.trim_start_matches('-');
    match definition.get_arguments().find(|arg| arg.get_long() == Some(long)).and_then(Arg::get_short) {
        Some(short) => format!("-{short}, --{long}"),
        None => name.to_owned(),
    }
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::StyledStr(text) => Some(text.to_string()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    }
}
