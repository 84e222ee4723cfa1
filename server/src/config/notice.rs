//! Things to tell the operator that come up before there is a log: kept in order, logged once it is there.

/// How severe a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// For the record.
    Info,
    /// Something to look at.
    Warn,
}

/// One line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How severe it is.
    pub severity: Severity,
    pub message: String,
    /// Names and values that belong to it.
    pub fields: Vec<(&'static str, String)>,
}

impl Notice {
    /// An informational line.
    pub fn info(message: impl Into<String>) -> Self {
        Notice { severity: Severity::Info, message: message.into(), fields: Vec::new() }
    }

    /// A warning.
    pub fn warn(message: impl Into<String>) -> Self {
        Notice { severity: Severity::Warn, message: message.into(), fields: Vec::new() }
    }

    /// Adds a field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}
