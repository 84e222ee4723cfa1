//! Settings by name: flags written as Go's `flag` package takes them (`-x v`, `--x=v`, switches without a value), then
//! whatever weaker source is filled in behind them, then the default. Dashes and underscores in names are the same.
//!
//! A value is text until it is asked for; what cannot be read as what it should be is an error that names it.

use plinth_ctl::quote::{parse_bool, parse_duration};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::str::FromStr;
use std::time::Duration;

/// How a flag is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Without a value it is on; `=false` turns it off.
    Switch,
    /// The last one counts.
    Text,
    /// All count.
    List,
}

/// A flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without dashes in front.
    pub name: &'static str,
    pub kind: Kind,
    /// As a user would write it; of a list, parted by commas.
    pub default: &'static str,
    pub help: &'static str,
}

/// One of them, for tables.
pub const fn flag(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag { name, kind, default, help }
}

/// Why there are no settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The user asked for help, which is this.
    Help(String),
    /// What is wrong.
    Wrong(String),
}

/// What was set, by whom it counts most.
#[derive(Clone, Debug)]
pub struct Settings {
    flags: &'static [Flag],
    values: BTreeMap<&'static str, Vec<String>>,
}

impl Settings {
    /// Reads flags up to the first word that is none; gives what follows them, too.
    ///
    /// # Errors
    /// With the words of Go's `flag` package.
    pub fn parse(program: &str, flags: &'static [Flag], words: &[String]) -> Result<(Settings, Vec<String>), Stop> {
        let mut settings = Settings { flags, values: BTreeMap::new() };
        let mut words = words.iter();
        while let Some(word) = words.as_slice().first() {
            let Some(body) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|_| word != "-") else {
                break;
            };
            words.next();
            if body.is_empty() {
                break;
            }
            let (name, value) = body.split_once('=').map_or((body, None), |(name, value)| (name, Some(value)));
            if name.is_empty() || name.starts_with('-') {
                return Err(Stop::Wrong(format!("bad flag syntax: {word}")));
            }
            let Some(flag) = find(flags, name) else {
                if name == "help" || name == "h" {
                    return Err(Stop::Help(usage(program, flags)));
                }
                return Err(Stop::Wrong(format!("flag provided but not defined: -{name}")));
            };
            let value = match (flag.kind, value) {
                (Kind::Switch, value) => value.unwrap_or("true"),
                (_, Some(value)) => value,
                (_, None) => words.next().ok_or_else(|| Stop::Wrong(format!("flag needs an argument: -{name}")))?,
            };
            if flag.kind == Kind::Switch && parse_bool(value).is_err() {
                return Err(Stop::Wrong(format!("invalid boolean value {value:?} for -{name}: parse error")));
            }
            let values = settings.values.entry(flag.name).or_default();
            if flag.kind != Kind::List {
                values.clear();
            }
            values.push(value.to_owned());
        }
        Ok((settings, words.cloned().collect()))
    }

    /// Takes what a weaker source says, unless a stronger one has spoken.
    ///
    /// # Errors
    /// If there is no such setting.
    pub fn fill(&mut self, name: &str, values: Vec<String>) -> Result<(), String> {
        let flag = find(self.flags, name).ok_or_else(|| format!("there is no setting {name:?}"))?;
        self.values.entry(flag.name).or_insert(values);
        Ok(())
    }

    /// Whether anybody has set it.
    pub fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The text of a setting.
    ///
    /// # Panics
    /// If the program asks for a flag that it did not declare.
    pub fn text(&self, name: &str) -> &str {
        self.values.get(name).and_then(|values| values.last()).map_or(self.flag(name).default, String::as_str)
    }

    /// All values of a list.
    pub fn list(&self, name: &str) -> Vec<String> {
        match self.values.get(name) {
            Some(values) => values.clone(),
            None => self.flag(name).default.split(',').filter(|text| !text.is_empty()).map(str::to_owned).collect(),
        }
    }

    /// Text that is there, nothing if it is empty.
    pub fn given(&self, name: &str) -> Option<String> {
        Some(self.text(name).to_owned()).filter(|text| !text.is_empty())
    }

    /// Whether a switch is on.
    ///
    /// # Errors
    /// If it is neither on nor off.
    pub fn switch(&self, name: &str) -> Result<bool, String> {
        let text = self.text(name);
        parse_bool(if text.is_empty() { "false" } else { text })
            .map_err(|_| format!("{name}: neither true nor false: {text:?}"))
    }

    /// A number.
    ///
    /// # Errors
    /// If it is none.
    pub fn number<N: FromStr>(&self, name: &str) -> Result<N, String> {
        let text = self.text(name);
        text.parse().map_err(|_| format!("{name}: not a number of this kind: {text:?}"))
    }

    /// A duration as Go writes it; a number alone is seconds.
    ///
    /// # Errors
    /// If it is none.
    pub fn duration(&self, name: &str) -> Result<Duration, String> {
        duration(self.text(name)).map_err(|error| format!("{name}: {error}"))
    }

    fn flag(&self, name: &str) -> &'static Flag {
        self.flags.iter().find(|flag| flag.name == name).expect("a setting that the program declares")
    }
}

/// Reads a duration as Go writes it; a number alone is seconds.
///
/// # Errors
/// If it is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => parse_duration(text),
    }
}

fn find(flags: &'static [Flag], name: &str) -> Option<&'static Flag> {
    let plain = |name: &str| name.replace('_', "-");
    flags.iter().find(|flag| plain(flag.name) == plain(name))
}

fn usage(program: &str, flags: &[Flag]) -> String {
    let mut text = format!("Usage of {program}:\n");
    for Flag { name, kind, default, help } in flags {
        let value = match kind {
            Kind::Switch => "",
            Kind::Text => " string",
            Kind::List => " value",
        };
        let default = if default.is_empty() { String::new() } else { format!(" (default {default})") };
        // Writing to a string does not fail.
        let _ = write!(text, "  -{name}{value}\n    \t{help}{default}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        Flag { name: "watch", kind: Kind::Switch, default: "", help: "watch" },
        Flag { name: "log_level", kind: Kind::Text, default: "info", help: "level" },
        Flag { name: "node", kind: Kind::List, default: "a,b", help: "nodes" },
        Flag { name: "wait", kind: Kind::Text, default: "10", help: "pause" },
    ];

    fn parse(line: &str) -> Result<(Settings, Vec<String>), Stop> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Settings::parse("it", FLAGS, &words)
    }

    #[test]
    fn flags_are_written_as_in_go() {
        let (settings, rest) = parse("-watch --log-level=debug -node x --node=y,z -- -wait").expect("reads");
        assert_eq!(settings.switch("watch"), Ok(true));
        assert_eq!(settings.text("log_level"), "debug", "dashes and underscores are the same");
        assert_eq!(settings.list("node"), ["x", "y,z"]);
        assert_eq!(rest, ["-wait"]);
        assert_eq!(parse("-watch=F").expect("reads").0.switch("watch"), Ok(false));
        assert_eq!(parse("sub -watch").expect("reads").1, ["sub", "-watch"], "the first other word ends them");
        for (line, text) in [
            ("-nonsense", "flag provided but not defined: -nonsense"),
            ("-wait", "flag needs an argument: -wait"),
            ("-watch=x", "invalid boolean value \"x\" for -watch: parse error"),
            ("---watch", "bad flag syntax: ---watch"),
        ] {
            assert_eq!(parse(line).expect_err("refused"), Stop::Wrong(text.to_owned()));
        }
        assert!(
            matches!(parse("-h"), Err(Stop::Help(text)) if text.contains("-log_level string\n    \tlevel (default info)"))
        );
    }

    #[test]
    fn stronger_sources_count() {
        let (mut settings, _) = parse("-log_level warn").expect("reads");
        settings.fill("log-level", vec!["debug".to_owned()]).expect("known");
        settings.fill("wait", vec!["1m".to_owned()]).expect("known");
        assert!(settings.fill("nonsense", Vec::new()).is_err());
        assert_eq!((settings.text("log_level"), settings.duration("wait")), ("warn", Ok(Duration::from_secs(60))));
        assert_eq!(settings.list("node"), ["a", "b"]);
        let (mut settings, _) = parse("").expect("reads");
        assert_eq!(settings.duration("wait"), Ok(Duration::from_secs(10)), "a number alone is seconds");
        settings.fill("watch", vec!["maybe".to_owned()]).expect("known");
        assert!(settings.switch("watch").is_err() && settings.number::<u16>("log_level").is_err());
    }
}
