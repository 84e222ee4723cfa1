//! The settings of confd: upstream's, and of the fork those that change what is rendered and when.
//!
//! What counts: a flag, then `CONFD_*` of the environment, then the file, then the default.

use crate::backend::Backend;
use crate::backend::{etcd::Etcd, etcd2::Etcd2, local::Files, metad::Metad};
use crate::resource::{Place, PrefixMode};
use crate::round::Manner;
use plinth_companion::log::Level;
use plinth_companion::settings::Kind::{List, Switch, Text};
use plinth_companion::settings::{Flag, Settings, Stop, flag};
use plinth_ctl::cluster::Cluster;
use plinth_ctl::rpc::{ANSWER_BYTES_MAX, Credentials, Options, REQUEST_BYTES_MAX};
use plinth_ctl::tls::Encryption;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Every setting.
pub const FLAGS: &[Flag] = &[
    flag("backend", Text, "etcdv3", "where keys come from: etcdv3, etcd (its v2 API), metad, env or file"),
    flag("node", List, "", "endpoints of the backend, several times or parted by commas"),
    flag("confdir", Text, "/etc/confd", "where conf.d and templates are"),
    flag("config-file", Text, "/etc/confd/confd.toml", "file with these settings (TOML)"),
    flag("interval", Text, "600", "seconds between rounds, where the backend is not watched"),
    flag("watch", Switch, "", "act on changes at once"),
    flag("onetime", Switch, "", "one round, and its outcome as exit status"),
    flag("noop", Switch, "", "tell what would change, and change nothing"),
    flag("sync-only", Switch, "", "neither check nor reload commands"),
    flag("keep-stage-file", Switch, "", "leave what was rendered beside its target"),
    flag("prefix", Text, "", "prefix of all keys"),
    flag("prefix-mode", Text, "join", "join: before each resource's own; replace: instead of it"),
    flag("file", List, "", "files or folders of backend file"),
    flag("filter", Text, "*", "names of files that count in folders of backend file"),
    flag("header", List, "", "NAME: VALUE to send to a metad"),
    flag("numeric-texts", Text, "", "comparisons take texts for numbers; true for backend metad"),
    flag("basic-auth", Switch, "", "show username and password to the store"),
    flag("username", Text, "", "user of the store"),
    flag("password", Text, "", "password of the user"),
    flag("scheme", Text, "http", "how nodes without a scheme are spoken to: http or https"),
    flag("client-ca-keys", Text, "", "authorities that the backend's certificate must be of (PEM)"),
    flag("client-cert", Text, "", "certificate to show to the backend (PEM)"),
    flag("client-key", Text, "", "its key (PEM)"),
    flag("client-insecure", Switch, "", "trust any certificate of the backend"),
    flag("log-level", Text, "info", "debug, info, warn or error"),
    flag("log-format", Text, "text", "text or json"),
    flag("debounce", Text, "0s", "how long nothing must change before a change is acted on"),
    flag("failure-mode", Text, "best-effort", "best-effort, or fail-fast: the first failure ends a round"),
    flag("backend-timeout", Text, "30s", "how long the backend may take"),
    flag("check-cmd-timeout", Text, "30s", "how long a check command may take"),
    flag("reload-cmd-timeout", Text, "60s", "how long a reload command may take"),
    flag("watch-error-backoff", Text, "2s", "pause after a round that failed, while watching"),
    flag("metrics-addr", Text, "", "address of /metrics, /health and /ready"),
    flag("systemd-notify", Switch, "", "tell systemd when ready, and that it goes on"),
    flag("version", Switch, "", "print the version"),
];

/// Names that others have for the same.
const ALIASES: [(&str, &str); 3] = [("client-cakeys", "client-ca-keys"), ("nodes", "node"), ("loglevel", "log-level")];

/// When rounds are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Once,
    Every(Duration),
    OnChange { pause_on_error: Duration },
}

/// What the settings say.
pub struct Config {
    pub place: Place,
    pub backend: Backend,
    pub manner: Manner,
    pub when: When,
    pub debounce: Duration,
    pub level: Level,
    pub is_json: bool,
    pub metrics: Option<String>,
    pub tells_systemd: bool,
}

/// What is to be done.
pub enum Order {
    Run(Box<Config>),
    Print(String),
}

/// Reads the command line, the environment, and the file that they name.
///
/// # Errors
/// In words for the user.
pub fn read(words: &[String], environment: &BTreeMap<String, String>) -> Result<Order, String> {
    let parse = |words: &[String]| Settings::parse("confd", FLAGS, words);
    let stopped = |stop: Stop| match stop {
        Stop::Help(text) => Ok(Order::Print(text)),
        Stop::Wrong(text) => Err(text),
    };
    let (mut settings, rest) = match parse(words) {
        Ok(parsed) => parsed,
        Err(stop) => return stopped(stop),
    };
    // The fork's way: the backend is a word, and flags may stand behind it.
    if let Some((backend, behind)) = rest.split_first() {
        let before = words.len() - rest.len();
        let backend = if backend == "etcd" { "etcdv3" } else { backend.as_str() };
        let words = [&words[..before], &["--backend".to_owned(), backend.to_owned()], behind].concat();
        settings = match parse(&words) {
            Ok((settings, rest)) if rest.is_empty() => settings,
            Ok((_, rest)) => return Err(format!("confd takes no argument: {:?}", rest[0])),
            Err(stop) => return stopped(stop),
        };
    }
    if settings.switch("version")? {
        return Ok(Order::Print(format!("confd (Plinth) {}\n", env!("CARGO_PKG_VERSION"))));
    }
    for (name, value) in environment {
        let Some(name) = name.strip_prefix("CONFD_").filter(|_| !value.is_empty()) else { continue };
        // Others' variables may begin so, too.
        let _ = settings.fill(&named(&name.to_lowercase()), vec![value.clone()]);
    }
    let file = settings.text("config-file").to_owned();
    match std::fs::read_to_string(&file) {
        Ok(text) => fill(&mut settings, &text).map_err(|error| format!("{file}: {error}"))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !settings.is_set("config-file") => {}
        Err(error) => return Err(format!("{file}: {error}")),
    }
    config(&settings).map(|config| Order::Run(Box::new(config)))
}

/// One name for a setting.
fn named(name: &str) -> String {
    let name = name.replace('_', "-");
    ALIASES.iter().find(|(other, _)| *other == name).map_or(name, |(_, own)| (*own).to_owned())
}

fn fill(settings: &mut Settings, text: &str) -> Result<(), String> {
    // The parser's own words show the line, where a password may be.
    let table: toml::Table = text.parse().map_err(|_| "not sound TOML".to_owned())?;
    let one = |value: &toml::Value| match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(_) | toml::Value::Boolean(_) | toml::Value::Float(_) => Ok(value.to_string()),
        _ => Err("a setting is a text, a number, true or false, or a list of texts".to_owned()),
    };
    for (name, value) in &table {
        let values = match value {
            toml::Value::Array(list) => list.iter().map(one).collect::<Result<Vec<_>, _>>()?,
            value => vec![one(value)?],
        };
        settings.fill(&named(name), values)?;
    }
    Ok(())
}

fn config(settings: &Settings) -> Result<Config, String> {
    let one_of = |name: &str, first: &str, second: &str| match settings.text(name) {
        text if text == first => Ok(false),
        text if text == second => Ok(true),
        other => Err(format!("{name}: neither {first} nor {second}: {other:?}")),
    };
    let mode = if one_of("prefix-mode", "join", "replace")? { PrefixMode::Replace } else { PrefixMode::Join };
    let confdir = PathBuf::from(settings.text("confdir"));
    let place = Place { confdir, prefix: settings.text("prefix").to_owned(), mode };
    let when = match (settings.switch("onetime")?, settings.switch("watch")?) {
        (true, _) => When::Once,
        (_, true) => When::OnChange { pause_on_error: settings.duration("watch-error-backoff")? },
        _ => When::Every(settings.duration("interval")?.max(Duration::from_secs(1))),
    };
    let manner = Manner {
        templates: place.templates(),
        noop: settings.switch("noop")?,
        sync_only: settings.switch("sync-only")?,
        keep_stage_file: settings.switch("keep-stage-file")?,
        texts_are_numbers: match settings.text("numeric-texts") {
            "" => settings.text("backend") == "metad",
            _ => settings.switch("numeric-texts")?,
        },
        check_time: settings.duration("check-cmd-timeout")?,
        reload_time: settings.duration("reload-cmd-timeout")?,
        fail_fast: one_of("failure-mode", "best-effort", "fail-fast")?,
    };
    Ok(Config {
        place,
        backend: backend(settings)?,
        manner,
        when,
        debounce: settings.duration("debounce")?,
        level: Level::parse(settings.text("log-level"))?,
        is_json: one_of("log-format", "text", "json")?,
        metrics: settings.given("metrics-addr"),
        tells_systemd: settings.switch("systemd-notify")?,
    })
}

fn backend(settings: &Settings) -> Result<Backend, String> {
    let nodes = settings.list("node");
    let nodes: Vec<String> = nodes.iter().flat_map(|list| list.split(',')).map(|node| node.trim().to_owned()).collect();
    let or = |default: &str| if nodes.is_empty() { vec![default.to_owned()] } else { nodes.clone() };
    match settings.text("backend") {
        "etcdv3" => Ok(Backend::Etcd(Etcd::new(
            cluster(settings, or("127.0.0.1:2379"))?,
            settings.duration("backend-timeout")?,
        ))),
        "metad" => {
            let header = |text: &String| {
                let (name, value) = text.split_once(':').ok_or_else(|| format!("header: not NAME: VALUE: {text:?}"))?;
                Ok((name.trim().to_owned(), value.trim().to_owned()))
            };
            let headers = settings.list("header").iter().map(header).collect::<Result<Vec<_>, String>>()?;
            let nodes: Vec<String> = or("127.0.0.1:9180").iter().flat_map(|node| with_scheme(settings, node)).collect();
            Metad::new(&nodes, encryption(settings)?, headers, settings.duration("backend-timeout")?)
                .map(Backend::Metad)
        }
        "env" => Ok(Backend::Env),
        "file" => {
            let files: Vec<PathBuf> = settings.list("file").into_iter().map(PathBuf::from).collect();
            if files.is_empty() {
                return Err("backend file needs a file".to_owned());
            }
            Ok(Backend::File(Files::new(files, settings.text("filter").to_owned())))
        }
        // As upstream has it. As a word it is the fork's, see `read`.
        "etcd" | "etcdv2" => {
            let (name, password) = (settings.text("username"), settings.text("password"));
            let user = (!name.is_empty()).then(|| format!("{name}:{password}"));
            let nodes =
                or("127.0.0.1:4001,127.0.0.1:2379").iter().flat_map(|nodes| with_scheme(settings, nodes)).collect();
            Etcd2::new(nodes, &encryption(settings)?, user, settings.duration("backend-timeout")?).map(Backend::Etcd2)
        }
        other => Err(format!("backend {other} is not supported: etcdv3, etcd, metad, env and file are")),
    }
}

/// Nodes that are parted by commas, as URLs.
fn with_scheme(settings: &Settings, nodes: &str) -> Vec<String> {
    let scheme = settings.text("scheme");
    let url = |node: &str| if node.contains("://") { node.to_owned() } else { format!("{scheme}://{node}") };
    nodes.split(',').map(url).collect()
}

fn encryption(settings: &Settings) -> Result<Encryption, String> {
    let files = ["client-ca-keys", "client-cert", "client-key"].map(|name| settings.given(name));
    let skip_verify = settings.switch("client-insecure")?;
    let is_wanted = settings.text("scheme") == "https" || files.iter().any(Option::is_some) || skip_verify;
    let [cacert, cert, key] = files;
    let encryption = Encryption { cacert, cert, key, skip_verify, is_wanted, server_name: None };
    if is_wanted {
        encryption.settings().map_err(|failure| failure.text)?;
    }
    Ok(encryption)
}

fn cluster(settings: &Settings, nodes: Vec<String>) -> Result<Cluster, String> {
    let (name, password) = (settings.text("username").to_owned(), settings.text("password").to_owned());
    let credentials = match settings.switch("basic-auth")? || !name.is_empty() {
        true => Credentials::User { name, password },
        false => Credentials::None,
    };
    let options = Options {
        dial_timeout: Duration::from_secs(5),
        keepalive_time: Duration::from_secs(10),
        keepalive_timeout: Duration::from_secs(3),
        request_bytes_max: REQUEST_BYTES_MAX,
        answer_bytes_max: ANSWER_BYTES_MAX,
        credentials,
        encryption: encryption(settings)?,
    };
    Ok(Cluster::new(nodes, options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(line: &str, environment: &[(&str, &str)]) -> Result<Order, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        read(&words, &environment)
    }

    fn taken(line: &str, environment: &[(&str, &str)]) -> Config {
        match order(line, environment) {
            Ok(Order::Run(config)) => *config,
            Ok(Order::Print(text)) => panic!("{line}: {text}"),
            Err(error) => panic!("{line}: {error}"),
        }
    }

    #[test]
    fn both_ways_of_writing_are_taken() {
        let config = taken("-onetime -backend=etcdv3 -node 127.0.0.1:1 -prefix /p -interval 5", &[]);
        assert_eq!((config.when, config.place.prefix.as_str()), (When::Once, "/p"));
        let config = taken("--log-level debug etcd --watch --debounce 500ms", &[]);
        assert_eq!(config.when, When::OnChange { pause_on_error: Duration::from_secs(2) });
        assert_eq!((config.level, config.debounce), (Level::Debug, Duration::from_millis(500)));
        assert!(matches!(config.backend, Backend::Etcd(_)) && !config.manner.texts_are_numbers);
        assert!(taken("metad", &[]).manner.texts_are_numbers);
        // Upstream's flag is the API of version 2, the fork's word that of version 3.
        assert!(matches!(taken("-backend etcd -node a:1,b:1 -username u -password p", &[]).backend, Backend::Etcd2(_)));
        assert!(matches!(taken("etcdv2 --scheme https", &[]).backend, Backend::Etcd2(_)));
        assert_eq!(taken("env --interval 7", &[]).when, When::Every(Duration::from_secs(7)));
    }

    #[test]
    fn flags_count_before_the_environment_and_that_before_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("confd.toml");
        let text =
            "backend = 'env'\ninterval = 9\nlog-level = 'warn'\nprefix = '/file'\nnoop = true\nnodes = ['a:1']\n";
        std::fs::write(&file, text).expect("written");
        let line = format!("-prefix /flag -config-file {}", file.display());
        let config = taken(&line, &[("CONFD_LOG_LEVEL", "error"), ("CONFD_PREFIX", "/env"), ("CONFD_OTHER", "x")]);
        assert_eq!((config.place.prefix.as_str(), config.level, config.manner.noop), ("/flag", Level::Error, true));
        assert_eq!(config.when, When::Every(Duration::from_secs(9)));
        std::fs::write(&file, "password = 'secret").expect("written");
        assert!(order(&line, &[]).is_err_and(|error| error.contains("not sound") && !error.contains("secret")));
        std::fs::write(&file, "nonsense = 1").expect("written");
        assert!(order(&line, &[]).is_err());
    }

    #[test]
    fn what_is_missing_is_refused_by_name() {
        for (line, text) in [
            ("-backend consul", "backend consul is not supported"),
            ("redis", "backend redis is not supported"),
            ("-backend file", "needs a file"),
            ("-nonsense", "flag provided but not defined: -nonsense"),
            ("-log-level loud", "not a valid log level"),
            ("-prefix-mode both", "neither join nor replace"),
            ("-client-cert /none", "CertFile"),
            ("env more", "confd takes no argument"),
            ("-config-file /none", "/none: "),
            ("-backend metad -header x", "not NAME: VALUE"),
        ] {
            let error = order(line, &[]).err().unwrap_or_else(|| panic!("{line}: taken"));
            assert!(error.contains(text), "{line}: {error}");
        }
        assert!(matches!(order("-version", &[]), Ok(Order::Print(text)) if text.starts_with("confd ")));
        assert!(matches!(order("-help", &[]), Ok(Order::Print(text)) if text.starts_with("Usage of confd:")));
    }
}
