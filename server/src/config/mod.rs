//! Configuration: etcd's flags, environment and configuration file, turned into one typed [`Config`].
//!
//! ```text
//! arguments ─┐                                  defaults (of the machine)
//! environment ├──▶ Recorded ──▶ Config::build ──▶ complete ──▶ checks ──▶ unsupported ──▶ Loaded
//! file ──────┘   (form only)      (meaning)
//! ```
//!
//! [`registry`] describes every flag once; parser, environment, file, help and the tests over all flags read it.
//! `legacy` holds old names, [`unsupported`](self) what is not built yet. Errors and exit codes are etcd's: 2 for a
//! command line that cannot be read, 1 for everything else.
//!
//! Not here: the log (warnings are collected as [`Notice`]s until there is one), opening anything but the
//! configuration file, and changing settings later.

mod build;
mod checks;
mod defaults;
mod file;
pub mod gates;
mod help;
mod legacy;
mod notice;
mod recorded;
pub mod registry;
mod settings;
mod sources;
#[cfg(test)]
mod tests;
mod tls;
mod unsupported;
mod url;
mod value;
pub mod version;

use std::collections::BTreeMap;
use std::net::IpAddr;

pub use gates::{FeatureGates, Gate};
pub use notice::{Notice, Severity};
pub use settings::{
    Addresses, Auth, AutoCompaction, Backup, Cluster, ClusterState, Config, Discovery, Follow, Http, Limits, Log,
    LogFormat, LogLevel, LogOutput, LogRotation, Monitoring, Reactors, Storage, Tls, TlsCommon,
};
pub use url::{Scheme, Url, join as join_urls};

use recorded::Recorded;
use sources::Asked;

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    Serve(Box<Loaded>),
    /// To print this on stdout and exit with 0.
    Print(String),
}

/// A configuration that passed all checks.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What to log first.
    pub notices: Vec<Notice>,
}

/// Why the server cannot start with this configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line cannot be read. Print it with [`ConfigError::usage_text`] on stderr.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
    },
    /// A flag and its variable are both given. To be logged as fatal.
    #[error(
        "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment \
         variable or disable flag))"
    )]
    Shadowed { variable: String },
    /// The configuration can be read but not used. To be logged as a warning `failed to verify flags`.
    #[error("{message}")]
    Invalid {
        /// What is wrong.
        message: String,
        /// What to log before it.
        notices: Vec<Notice>,
    },
}

impl ConfigError {
    fn usage(message: String) -> Self {
        ConfigError::Usage { message }
    }

    fn invalid(message: String) -> Self {
        ConfigError::Invalid { message, notices: Vec::new() }
    }

    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            ConfigError::Usage { .. } => 2,
            ConfigError::Shadowed { .. } | ConfigError::Invalid { .. } => 1,
        }
    }

    /// The complaint and the usage, for stderr.
    pub fn usage_text(&self) -> String {
        format!("{self}\n{}", help::USAGE)
    }
}

/// Reads the configuration of this process: its arguments without the program's name, and its environment.
pub fn load(arguments: &[String], environment: &BTreeMap<String, String>) -> Result<Command, ConfigError> {
    load_on(arguments, environment, version::arch(), defaults::default_host)
}

/// [`load`] on a given machine.
fn load_on(
    arguments: &[String],
    environment: &BTreeMap<String, String>,
    arch: &str,
    default_host: fn() -> Option<IpAddr>,
) -> Result<Command, ConfigError> {
    check_arch(arch, environment)?;
    let mut recorded = Recorded::default();
    let command_line = sources::read_arguments(arguments, &mut recorded)?;
    if command_line.asked == Asked::Help {
        return Ok(Command::Print(help::help()));
    }
    if let Some(stray) = command_line.stray {
        return Err(ConfigError::invalid(format!("{stray:?} is not a valid flag")));
    }
    if recorded.bool("version") {
        return Ok(Command::Print(version::lines()));
    }
    let mut path = recorded.text("config-file");
    if path.is_empty() {
        path = environment.get("ETCD_CONFIG_FILE").cloned().unwrap_or_default();
    }
    if path.is_empty() {
        sources::read_environment(environment, &command_line, &mut recorded)?;
    } else {
        recorded = Recorded::default();
        let text = std::fs::read_to_string(&path)
            .map_err(|error| ConfigError::invalid(format!("open {path}: {}", reason(&error))))?;
        file::read(&text, &mut recorded).map_err(ConfigError::invalid)?;
        recorded.notices.push(
            Notice::info(
                "loaded server configuration, other configuration command line flags and environment variables will \
                 be ignored if provided",
            )
            .with("path", path),
        );
    }
    let mut notices = std::mem::take(&mut recorded.notices);
    match resolve(&recorded, default_host, &mut notices) {
        Ok(config) => Ok(Command::Serve(Box::new(Loaded { config, notices }))),
        Err(message) => Err(ConfigError::Invalid { message, notices }),
    }
}

/// The reason of a failed file operation, as Go words it: `no such file or directory`.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

/// From what was said to what it means, or why it cannot be.
fn resolve(
    recorded: &Recorded,
    default_host: fn() -> Option<IpAddr>,
    notices: &mut Vec<Notice>,
) -> Result<Config, String> {
    let mut config = Config::build(recorded)?;
    if recorded.is_given("listen-client-urls") && !recorded.is_given("advertise-client-urls") {
        config.addresses.advertise_client.clear();
    }
    let discovery = &config.cluster.discovery;
    let discovers =
        !discovery.endpoints.is_empty() || !discovery.srv_domain.is_empty() || !discovery.srv_name.is_empty();
    if discovers && !config.cluster.initial_is_given {
        config.cluster.initial.clear();
    }
    checks::check(&config, recorded, notices)?;
    if !recorded.is_given("data-dir") || recorded.text("data-dir").is_empty() {
        let data_dir = config.data_dir.display().to_string();
        notices.push(Notice::warn("'data-dir' was empty; using default").with("data-dir", data_dir));
    }
    defaults::complete(&mut config, default_host(), notices);
    unsupported::check(&config, notices)?;
    Ok(config)
}

/// Architectures etcd is tested on start as they are; another has to be named in `ETCD_UNSUPPORTED_ARCH`.
fn check_arch(arch: &str, environment: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    let supported = matches!(arch, "amd64" | "arm64" | "ppc64le" | "s390x");
    if supported || environment.get("ETCD_UNSUPPORTED_ARCH").is_some_and(|named| named == arch) {
        return Ok(());
    }
    Err(ConfigError::invalid(format!(
        "refusing to run etcd on unsupported architecture since ETCD_UNSUPPORTED_ARCH is not set: {arch}"
    )))
}
