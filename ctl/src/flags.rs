//! Global flags of etcdctl and their `ETCDCTL_*` variables, and what several commands make of their arguments.
//!
//! A flag is one item here: parser, help and environment variable come from it.

use crate::discovery::Discovery;
use crate::failure::{Exit, Failure};
use crate::prompt;
use crate::quote;
use crate::rpc::{ANSWER_BYTES_MAX, Credentials, Options, REQUEST_BYTES_MAX};
use crate::services;
use crate::tls::Encryption;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command};
use plinth_api::range::prefix_end;
use std::ffi::OsString;
use std::time::Duration;

/// Before the name of a flag, in capitals, in the environment.
const PREFIX: &str = "ETCDCTL_";

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Comma-separated endpoints: host:port, http://host:port, https://host:port, unix://path or unixs://path
    #[arg(long, global = true, default_value = "127.0.0.1:2379", value_delimiter = ',')]
    pub endpoints: Vec<String>,
    /// Output format: fields, json, protobuf, simple, table
    #[arg(short, long, global = true, default_value = "simple")]
    pub write_out: String,
    /// Print byte strings and ids as hexadecimal
    #[arg(long, global = true)]
    pub hex: bool,
    /// Limit for connecting
    #[arg(long, global = true, default_value = "2s", value_parser = quote::parse_duration)]
    pub dial_timeout: Duration,
    /// Limit for short commands
    #[arg(long, global = true, default_value = "5s", value_parser = quote::parse_duration)]
    pub command_timeout: Duration,
    /// Pause before a silent connection is probed
    #[arg(long, global = true, default_value = "2s", value_parser = quote::parse_duration)]
    keepalive_time: Duration,
    /// Limit for the answer to a probe
    #[arg(long, global = true, default_value = "6s", value_parser = quote::parse_duration)]
    keepalive_timeout: Duration,
    /// Largest request sent, in bytes; 0 is 2 MiB
    #[arg(long, global = true, default_value = "0", value_parser = quote::parse_flag_int)]
    max_request_bytes: i64,
    /// Largest answer taken, in bytes; 0 is 2 GiB
    #[arg(long, global = true, default_value = "0", value_parser = quote::parse_flag_int)]
    max_recv_bytes: i64,
    /// Name of the user, or name:password; without one the password is asked for
    #[arg(long, global = true, default_value = "")]
    user: String,
    /// Password of the user
    #[arg(long, global = true, default_value = "")]
    password: String,
    /// Token to show instead of a name and a password
    #[arg(long, global = true, default_value = "")]
    auth_jwt_token: String,
    /// Print the values of these flags
    #[arg(long, global = true)]
    pub debug: bool,
    #[command(flatten)]
    secure: Secure,
}

/// Flags of encrypted connections.
#[derive(Args, Clone, Debug)]
struct Secure {
    /// Certificate to show (PEM)
    #[arg(long, global = true)]
    cert: Option<String>,
    /// Key of the certificate (PEM)
    #[arg(long, global = true)]
    key: Option<String>,
    /// Authorities to trust, instead of the system's (PEM)
    #[arg(long, global = true)]
    cacert: Option<String>,
    /// Encrypt, but trust anybody
    #[arg(long, global = true)]
    insecure_skip_tls_verify: bool,
    /// Whether endpoints without a scheme are spoken to in clear, if no other flag asks for TLS
    #[arg(
        long, global = true, action = ArgAction::Set, value_parser = quote::parse_bool,
        num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true"
    )]
    insecure_transport: bool,
    /// Whether endpoints in clear are taken of a domain; if not, its members have to prove the domain's name
    #[arg(
        long, global = true, action = ArgAction::Set, value_parser = quote::parse_bool,
        num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true"
    )]
    insecure_discovery: bool,
    /// Domain whose SRV records name the endpoints
    #[arg(short, long, global = true, default_value = "")]
    discovery_srv: String,
    /// Which of the domain's clusters: what stands behind `etcd-client-` in the records' names
    #[arg(long, global = true, default_value = "")]
    discovery_srv_name: String,
}

impl Globals {
    /// Where servers may be: what the domain says that is named, or else the flag. Waits for name servers.
    pub fn places(&self) -> Result<Vec<String>, Failure> {
        let Secure { discovery_srv: domain, discovery_srv_name: suffix, insecure_discovery, .. } = &self.secure;
        if !domain.is_empty() {
            let discovery = Discovery { domain, suffix, is_insecure: *insecure_discovery };
            let found = discovery.endpoints(&services::name_servers())?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(self.endpoints.iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect())
    }

    /// How to connect. What is missing is refused, rather than connected without.
    pub fn connection(&self) -> Result<Options, Failure> {
        let encryption = self.secure.encryption()?;
        let bytes = |flag: &str, value: i64, default: usize| match usize::try_from(value) {
            Ok(0) => Ok(default),
            Ok(bytes) => Ok(bytes),
            Err(_) => Err(Failure::arguments(format!("--{flag} cannot be negative"))),
        };
        Ok(Options {
            dial_timeout: self.dial_timeout,
            keepalive_time: self.keepalive_time,
            keepalive_timeout: self.keepalive_timeout,
            request_bytes_max: bytes("max-request-bytes", self.max_request_bytes, REQUEST_BYTES_MAX)?,
            answer_bytes_max: bytes("max-recv-bytes", self.max_recv_bytes, ANSWER_BYTES_MAX)?,
            credentials: self.credentials()?,
            encryption,
        })
    }

    fn credentials(&self) -> Result<Credentials, Failure> {
        if !self.auth_jwt_token.is_empty() {
            return Ok(Credentials::Token(self.auth_jwt_token.clone()));
        }
        user(&self.user, &self.password, "Password: ")
    }
}

/// Credentials from a name, which may have its password behind a colon, and a password.
pub fn user(name: &str, password: &str, prompt: &str) -> Result<Credentials, Failure> {
    if name.is_empty() {
        return Ok(Credentials::None);
    }
    let (name, password) = match (password, name.split_once(':')) {
        ("", Some((name, password))) => (name.to_owned(), password.to_owned()),
        ("", None) => (name.to_owned(), prompt::password(prompt)?),
        (password, _) => (name.to_owned(), password.to_owned()),
    };
    Ok(Credentials::User { name, password })
}

impl Secure {
    fn encryption(&self) -> Result<Encryption, Failure> {
        let files = [("cert", &self.cert), ("key", &self.key), ("cacert", &self.cacert)];
        let mut encryption = encryption("", files, self.insecure_transport)?;
        encryption.skip_verify = self.insecure_skip_tls_verify;
        encryption.server_name =
            Some(self.discovery_srv.clone()).filter(|domain| !domain.is_empty() && !self.insecure_discovery);
        Ok(encryption)
    }
}

/// What flags with these names (behind `prefix`) and values ask for: certificate, key, authorities. Files that are named
/// are read, so that what is wrong with them is told whether or not an endpoint needs them.
pub fn encryption(
    prefix: &str,
    files: [(&str, &Option<String>); 3],
    insecure_transport: bool,
) -> Result<Encryption, Failure> {
    for (flag, value) in files {
        if value.as_deref() == Some("") {
            return Err(Failure::arguments(format!("empty string is passed to --{prefix}{flag} option")));
        }
    }
    let [cert, key, cacert] = files.map(|(_, value)| value.clone());
    let is_named = cert.is_some() || key.is_some() || cacert.is_some();
    let encryption =
        Encryption { cacert, cert, key, is_wanted: is_named || !insecure_transport, ..Encryption::default() };
    if is_named {
        encryption.settings()?;
    }
    Ok(encryption)
}

/// The variable of a flag.
fn variable(arg: &Arg) -> Option<String> {
    Some(format!("{PREFIX}{}", arg.get_long()?.to_uppercase().replace('-', "_")))
}

/// What the environment says, as flags to put before the others. A flag and its variable together are refused; of
/// variables nobody knows, the user is told.
pub fn from_environment(
    command: &Command,
    matches: &ArgMatches,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<(Vec<String>, Vec<String>), Failure> {
    let (mut words, mut warnings) = (Vec::new(), Vec::new());
    for (name, value) in environment.filter(|(name, _)| name.starts_with(PREFIX)) {
        let flag = command.get_arguments().find(|arg| variable(arg).is_some_and(|variable| variable == name));
        match flag {
            Some(flag) if matches.value_source(flag.get_id().as_str()) == Some(ValueSource::CommandLine) => {
                let text = format!(
                    "conflicting environment variable {name:?} is shadowed by corresponding command-line flag \
                     (either unset environment variable or disable flag)"
                );
                return Err(Failure::new(Exit::Error, text));
            }
            Some(flag) if !value.is_empty() => {
                words.push(format!("--{}={value}", flag.get_long().unwrap_or_default()));
            }
            Some(_) => {}
            None if name.starts_with("ETCDCTL_WATCH_") => {}
            None => warnings.push(format!("{name}={value}")),
        }
    }
    Ok((words, warnings))
}

/// The value of every global flag, as its variable would hold it.
pub fn effective(command: &Command, matches: &ArgMatches) -> Vec<String> {
    let value = |arg: &Arg| match matches.get_raw(arg.get_id().as_str()) {
        Some(values) => values.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(","),
        None => String::new(),
    };
    let secret = |name: &str| ["ETCDCTL_PASSWORD", "ETCDCTL_AUTH_JWT_TOKEN", "ETCDCTL_USER"].contains(&name);
    let line = |arg: &Arg| {
        let (name, value) = (variable(arg)?, value(arg));
        let value = if secret(&name) && !value.is_empty() { "(not shown)".to_owned() } else { value };
        Some(format!("{name}={value}"))
    };
    let mut lines: Vec<String> = command.get_arguments().filter(|arg| arg.is_global_set()).filter_map(line).collect();
    lines.sort();
    lines
}

/// A lease id as users write it.
pub fn lease_id(text: &str) -> Result<i64, Failure> {
    quote::parse_int(text, 16)
        .map_err(|error| Failure::arguments(format!("bad lease ID ({error}), expecting ID in Hex")))
}

/// A member id as users write it.
pub fn member_id(text: &str) -> Result<u64, Failure> {
    quote::parse_uint(text, 16)
        .map_err(|error| Failure::arguments(format!("bad member ID arg ({error}), expecting ID in Hex")))
}

/// Whether `--consistency` means serializable.
pub fn serializable(consistency: &str) -> Result<bool, Failure> {
    match consistency {
        "l" => Ok(false),
        "s" => Ok(true),
        other => {
            let text = format!("unknown consistency flag {}", quote::quoted(other.as_bytes()));
            Err(Failure::new(Exit::BadFeature, text))
        }
    }
}

/// Key and range end for the flags `--prefix` and `--from-key`.
pub fn key_range(args: &[OsString], prefix: bool, from_key: bool) -> (Vec<u8>, Vec<u8>) {
    let key = args.first().map(|key| key.as_encoded_bytes().to_vec()).unwrap_or_default();
    match (key.is_empty(), prefix, from_key) {
        (true, true, _) | (true, _, true) => (vec![0], vec![0]),
        (false, true, _) => (key.clone(), prefix_end(&key)),
        (false, _, true) => (key, vec![0]),
        _ => (key, args.get(1).map(|end| end.as_encoded_bytes().to_vec()).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
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
