//! What was said, before it means anything: the values given by command line, environment or configuration file.
//!
//! Invariant: every value is of the kind its flag has in the registry, so that the typed getters cannot fail for an
//! input, only for a flag that does not exist, which the tests over all flags would show.

use std::collections::BTreeMap;
use std::time::Duration;

use super::gates::Name;
use super::legacy::{self, Translation};
use super::notice::Notice;
use super::registry::{self, Flag};
use super::url::Url;
use super::value::{Kind, Value};

/// The values given, by flag, and what has to be told about them once there is a log.
#[derive(Debug, Default)]
pub struct Recorded {
    given: BTreeMap<&'static str, Value>,
    /// Warnings so far.
    pub notices: Vec<Notice>,
    #[cfg(test)]
    pub(super) looked_up: std::cell::RefCell<std::collections::BTreeSet<&'static str>>,
}

impl Recorded {
    /// Whether the flag was given, even with its default value.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// Reads and keeps the text given for a flag of either table. The error is the reason alone.
    pub fn set_text(&mut self, name: &str, text: &str) -> Result<(), SetError> {
        if let Some(flag) = registry::find(name) {
            return self.set_flag(flag, text).map_err(SetError::BadValue);
        }
        let old = legacy::find(name).ok_or(SetError::Unknown)?;
        let translation = old.translate(text).map_err(|reason| match old.meaning {
            legacy::Meaning::IgnoredIf(..) => SetError::Gone(reason),
            _ => SetError::BadValue(reason),
        })?;
        self.notices.push(Notice::warn(old.warning()));
        match translation {
            Translation::Nothing => Ok(()),
            Translation::Set(to, text) => {
                let flag = registry::find(to).expect("successors are in the registry");
                self.set_flag(flag, &text).map_err(SetError::BadValue)
            }
        }
    }

    fn set_flag(&mut self, flag: &'static Flag, text: &str) -> Result<(), String> {
        // An empty list of URLs leaves the default, but counts as given.
        let value = if flag.kind == Kind::Urls && text.is_empty() { default(flag) } else { flag.kind.read(text)? };
        self.set_value(flag, value);
        Ok(())
    }

    /// Keeps a value that was read already.
    pub(super) fn set_value(&mut self, flag: &'static Flag, value: Value) {
        if let (Some(Value::Gates(earlier)), Value::Gates(more)) = (self.given.get_mut(flag.name), &value) {
            earlier.extend(more);
            return;
        }
        self.given.insert(flag.name, value);
    }

    fn value(&self, name: &str) -> Value {
        let flag = registry::find(name).unwrap_or_else(|| panic!("no flag {name} in the registry"));
        #[cfg(test)]
        self.looked_up.borrow_mut().insert(flag.name);
        self.given.get(name).cloned().unwrap_or_else(|| default(flag))
    }

    #[cfg(test)]
    pub(super) fn given_value(&self, name: &str) -> Option<&Value> {
        self.given.get(name)
    }

    /// The value of a boolean flag.
    pub fn bool(&self, name: &str) -> bool {
        let Value::Bool(value) = self.value(name) else { panic!("--{name} is not a boolean") };
        value
    }

    /// The value of an unsigned flag.
    pub fn uint(&self, name: &str) -> u64 {
        let Value::Uint(value) = self.value(name) else { panic!("--{name} is not unsigned") };
        value
    }

    /// The value of a signed flag.
    pub fn int(&self, name: &str) -> i64 {
        let Value::Int(value) = self.value(name) else { panic!("--{name} is not signed") };
        value
    }

    /// The value of a duration flag in nanoseconds, which may be negative.
    pub fn nanoseconds(&self, name: &str) -> i64 {
        let Value::Duration(value) = self.value(name) else { panic!("--{name} is not a duration") };
        value
    }

    /// The value of a duration flag; a negative one is taken as zero, as timers take it.
    pub fn duration(&self, name: &str) -> Duration {
        Duration::from_nanos(self.nanoseconds(name).max(0) as u64)
    }

    /// The value of a duration flag where zero stands for a default that is not in the registry.
    pub fn duration_or(&self, name: &str, default: Duration) -> Duration {
        let given = self.duration(name);
        if given.is_zero() { default } else { given }
    }

    /// The value of a text flag.
    pub fn text(&self, name: &str) -> String {
        let Value::Text(value) = self.value(name) else { panic!("--{name} is not a text") };
        value
    }

    /// The value of a text flag, or `None` if it is empty.
    pub fn text_if_any(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// The value of a flag with URLs.
    pub fn urls(&self, name: &str) -> Vec<Url> {
        let Value::Urls(value) = self.value(name) else { panic!("--{name} is not a list of URLs") };
        value
    }

    /// The value of a flag with a list or set of texts.
    pub fn list(&self, name: &str) -> Vec<String> {
        let Value::List(value) = self.value(name) else { panic!("--{name} is not a list") };
        value
    }

    /// The settings of feature gates.
    pub fn gates(&self, name: &str) -> Vec<(Name, bool)> {
        let Value::Gates(value) = self.value(name) else { panic!("--{name} does not set gates") };
        value
    }
}

/// Why a text was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    /// No flag of that name.
    Unknown,
    /// The text is not a value of the flag's kind.
    BadValue(String),
    /// An old flag asks for something that no longer exists.
    Gone(String),
}

fn default(flag: &Flag) -> Value {
    flag.kind.read_default(flag.default).expect("the registry's defaults can be read")
}
