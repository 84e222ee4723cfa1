//! Global flags of etcdctl, and how flags are read: Go's way of writing booleans, `ETCDCTL_*` variables.
//!
//! A flag is one item here: parser, help and environment variable come from it.

use crate::failure::{Exit, Failure};
use crate::quote;
use clap::builder::BoolishValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command};
use std::time::Duration;

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Comma-separated endpoints: host:port, http://host:port or unix://path.
    #[arg(long, global = true, env = "ETCDCTL_ENDPOINTS", default_value = "127.0.0.1:2379", value_delimiter = ',')]
    pub endpoints: Vec<String>,
    /// Output format: fields, json, protobuf, simple, table.
    #[arg(short, long, global = true, env = "ETCDCTL_WRITE_OUT", default_value = "simple")]
    pub write_out: String,
    /// Print byte strings and ids as hexadecimal.
    #[arg(long, global = true, env = "ETCDCTL_HEX")]
    pub hex: bool,
    /// Limit for connecting.
    #[arg(long, global = true, env = "ETCDCTL_DIAL_TIMEOUT", default_value = "2s", value_parser = quote::parse_duration)]
    pub dial_timeout: Duration,
    /// Limit for short commands.
    #[arg(long, global = true, env = "ETCDCTL_COMMAND_TIMEOUT", default_value = "5s", value_parser = quote::parse_duration)]
    pub command_timeout: Duration,
    /// Accepted; a connection lives as long as one command.
    #[arg(long, global = true, env = "ETCDCTL_KEEPALIVE_TIME", value_parser = quote::parse_duration, hide = true)]
    pub keepalive_time: Option<Duration>,
    /// Accepted, as keepalive-time.
    #[arg(long, global = true, env = "ETCDCTL_KEEPALIVE_TIMEOUT", value_parser = quote::parse_duration, hide = true)]
    pub keepalive_timeout: Option<Duration>,
    /// Accepted; there is no client log.
    #[arg(long, global = true, env = "ETCDCTL_DEBUG", hide = true)]
    pub debug: bool,
    #[command(flatten)]
    secure: Secure,
}

/// Flags that ask for what is missing; all are refused.
#[derive(Args, Clone, Debug)]
struct Secure {
    #[arg(long, global = true, env = "ETCDCTL_CERT", hide = true)]
    cert: Option<String>,
    #[arg(long, global = true, env = "ETCDCTL_KEY", hide = true)]
    key: Option<String>,
    #[arg(long, global = true, env = "ETCDCTL_CACERT", hide = true)]
    cacert: Option<String>,
    #[arg(long, global = true, env = "ETCDCTL_INSECURE_SKIP_TLS_VERIFY", hide = true)]
    insecure_skip_tls_verify: bool,
    #[arg(
        long, global = true, env = "ETCDCTL_INSECURE_TRANSPORT", hide = true, action = ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true"
    )]
    insecure_transport: bool,
    #[arg(long, global = true, env = "ETCDCTL_AUTH_JWT_TOKEN", hide = true)]
    auth_jwt_token: Option<String>,
    #[arg(long, global = true, env = "ETCDCTL_USER", hide = true)]
    user: Option<String>,
    #[arg(long, global = true, env = "ETCDCTL_PASSWORD", hide = true)]
    password: Option<String>,
    #[arg(short, long, global = true, env = "ETCDCTL_DISCOVERY_SRV", hide = true)]
    discovery_srv: Option<String>,
    #[arg(long, global = true, env = "ETCDCTL_DISCOVERY_SRV_NAME", hide = true)]
    discovery_srv_name: Option<String>,
}

impl Globals {
    /// Refuses what is not there, rather than connect without it.
    pub fn refuse_unsupported(&self) -> Result<(), Failure> {
        let secure = &self.secure;
        for (flag, value) in [("cert", &secure.cert), ("key", &secure.key), ("cacert", &secure.cacert)] {
            match value.as_deref() {
                Some("") => return Err(Failure::arguments(format!("empty string is passed to --{flag} option"))),
                Some(_) => return Err(Failure::unsupported(&format!("TLS (--{flag})"))),
                None => {}
            }
        }
        if secure.insecure_skip_tls_verify || !secure.insecure_transport {
            return Err(Failure::unsupported("TLS"));
        }
        for (flag, value) in [
            ("auth-jwt-token", &secure.auth_jwt_token),
            ("user", &secure.user),
            ("password", &secure.password),
            ("discovery-srv", &secure.discovery_srv),
            ("discovery-srv-name", &secure.discovery_srv_name),
        ] {
            if value.as_deref().is_some_and(|value| !value.is_empty()) {
                return Err(Failure::unsupported(&format!("--{flag}")));
            }
        }
        Ok(())
    }
}

/// Lets booleans be written Go's way as well: `--hex`, `--hex=true`, `--hex=false`.
pub fn go_booleans(command: Command) -> Command {
    let boolean = |arg: Arg| match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .value_parser(BoolishValueParser::new())
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false")
            .hide_default_value(true)
            .hide_possible_values(true)
            .value_name("BOOL"),
        _ => arg,
    };
    command.mut_args(boolean).mut_subcommands(go_booleans)
}

/// A flag and its variable together are refused; of variables nobody knows, the user is told.
pub fn check_environment(
    command: &Command,
    matches: &ArgMatches,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Vec<String>, Failure> {
    let mut warnings = Vec::new();
    for (name, value) in environment.filter(|(name, _)| name.starts_with("ETCDCTL_")) {
        let flag = command.get_arguments().find(|arg| arg.get_env().is_some_and(|env| env == name.as_str()));
        match flag {
            Some(flag) if matches.value_source(flag.get_id().as_str()) == Some(ValueSource::CommandLine) => {
                let text = format!(
                    "conflicting environment variable {name:?} is shadowed by corresponding command-line flag \
                     (either unset environment variable or disable flag)"
                );
                return Err(Failure::new(Exit::Error, text));
            }
            Some(_) => {}
            None if name.starts_with("ETCDCTL_WATCH_") => {}
            None => warnings.push(format!("{name}={value}")),
        }
    }
    Ok(warnings)
}

/// A lease id as users write it.
pub fn lease_id(text: &str) -> Result<i64, Failure> {
    u64::from_str_radix(text, 16)
        .map(|id| id.cast_signed())
        .map_err(|error| Failure::arguments(format!("bad lease ID ({error}), expecting ID in Hex")))
}

/// The smallest key behind all keys that start with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// Key and range end for the flags `--prefix` and `--from-key`.
pub fn key_range(args: &[String], prefix: bool, from_key: bool) -> (Vec<u8>, Vec<u8>) {
    let key = args.first().map(|key| key.as_bytes().to_vec()).unwrap_or_default();
    match (key.is_empty(), prefix, from_key) {
        (true, true, _) | (true, _, true) => (vec![0], vec![0]),
        (false, true, _) => (key.clone(), prefix_end(&key)),
        (false, _, true) => (key, vec![0]),
        _ => (key, args.get(1).map(|end| end.as_bytes().to_vec()).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(prefix_end(b"a\xff"), b"b");
        assert_eq!(prefix_end(b"\xff\xff"), b"\0");
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(key_range(&words(&["a"]), true, false), (b"a".to_vec(), b"b".to_vec()));
        assert_eq!(key_range(&words(&[""]), true, false), (vec![0], vec![0]));
        assert_eq!(key_range(&words(&["a"]), false, true), (b"a".to_vec(), vec![0]));
        assert_eq!(key_range(&words(&["a", "c"]), false, false), (b"a".to_vec(), b"c".to_vec()));
        assert_eq!(key_range(&words(&[""]), false, false), (vec![], vec![]));
    }

    #[test]
    fn lease_ids_are_hexadecimal() {
        assert_eq!(lease_id("1f"), Ok(31));
        assert_eq!(lease_id("xyz").map_err(|failure| failure.exit), Err(Exit::BadArguments));
    }
}
