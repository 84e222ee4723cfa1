//! The settings of metad: names and defaults are the original's, and what is added is marked so in the documentation.

use crate::limit::Limit;
use crate::store::Places;
use crate::who::{Demand, Identity, Network};
use plinth_companion::listen::Encryption;
use plinth_companion::log::Level;
use plinth_companion::settings::Kind::{List, Switch, Text};
use plinth_companion::settings::{Flag, Settings, Stop, flag};
use plinth_ctl::cluster::Cluster;
use plinth_ctl::rpc::{ANSWER_BYTES_MAX, Credentials, Options, REQUEST_BYTES_MAX};
use plinth_ctl::tls;
use std::time::Duration;

/// Every setting.
pub const FLAGS: &[Flag] = &[
    flag("backend", Text, "etcdv3", "where the data are: etcdv3"),
    flag("nodes", List, "127.0.0.1:2379", "endpoints of the store, several times or parted by commas"),
    flag("prefix", Text, "", "the part of the store that is served"),
    flag("group", Text, "default", "metads of one group share mappings and rules"),
    flag("listen", Text, ":9180", "address of the data API"),
    flag("listen_manage", Text, "127.0.0.1:9611", "address of the management API; empty for none"),
    flag("only_self", Switch, "", "serve nothing but /self"),
    flag("xff", Switch, "", "take the client's address from X-Forwarded-For; needs --xff_from"),
    flag("xff_from", List, "", "addresses or networks of proxies whose X-Forwarded-For is believed"),
    flag(
        "identity",
        Text,
        "address",
        "what tells clients apart: address, or the certificate's common name (certificate)",
    ),
    flag("server_cert", Text, "", "certificate of the data API (PEM); none: in clear"),
    flag("server_key", Text, "", "its key (PEM)"),
    flag("server_client_ca", Text, "", "authorities one of which a client's certificate must be of (PEM)"),
    flag("require_header", Text, "", "NAME or NAME: VALUE that every request must have"),
    flag("rate_limit", Text, "100", "requests a second that a client may make; 0: any number"),
    flag("rate_burst", Text, "200", "requests that a client may make at once"),
    flag("basic_auth", Switch, "", "show username and password to the store"),
    flag("username", Text, "", "user of the store"),
    flag("password", Text, "", "password of the user"),
    flag("client_ca_keys", Text, "", "authorities that the store's certificate must be of (PEM)"),
    flag("client_cert", Text, "", "certificate to show to the store (PEM)"),
    flag("client_key", Text, "", "its key (PEM)"),
    flag("log_level", Text, "info", "debug, info, warning or error"),
    flag("pid_file", Text, "", "file to write the process's id to"),
    flag("config", Text, "", "file with these settings (YAML)"),
    flag("version", Switch, "", "print the version"),
];

/// What they say.
pub struct Config {
    pub cluster: Cluster,
    pub places: Places,
    pub listen: String,
    pub listen_manage: Option<String>,
    pub only_self: bool,
    pub identity: Identity,
    pub encryption: Option<Encryption>,
    pub demand: Option<Demand>,
    pub limit: Limit,
    pub level: Level,
    pub pid_file: Option<String>,
}

/// What is to be done.
pub enum Order {
    Serve(Box<Config>),
    Print(String),
}

/// Reads the command line, and the file it names.
///
/// # Errors
/// In words for the user.
pub fn read(words: &[String]) -> Result<Order, String> {
    let (mut settings, rest) = match Settings::parse("metad", FLAGS, words) {
        Ok(parsed) => parsed,
        Err(Stop::Help(text)) => return Ok(Order::Print(text)),
        Err(Stop::Wrong(text)) => return Err(text),
    };
    if let Some(word) = rest.first() {
        return Err(format!("metad takes no argument: {word:?}"));
    }
    if settings.switch("version")? {
        return Ok(Order::Print(format!("metad (Plinth) {}\n", env!("CARGO_PKG_VERSION"))));
    }
    if let Some(file) = settings.given("config") {
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
        fill(&mut settings, &text).map_err(|error| format!("{file}: {error}"))?;
    }
    config(&settings).map(|config| Order::Serve(Box::new(config)))
}

/// The settings of a file, for a metad within another program, whose store is at `nodes` unless the file says otherwise.
///
/// # Errors
/// In words for the user.
pub fn of_file(file: &str, nodes: Vec<String>) -> Result<Config, String> {
    let named = |error: String| format!("{file}: {error}");
    let text = std::fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
    let (mut settings, _) = Settings::parse("metad", FLAGS, &[]).expect("no words are no mistake");
    fill(&mut settings, &text).map_err(named)?;
    for name in ["pid_file", "log_level", "config", "version"] {
        if settings.is_set(name) {
            return Err(named(format!("{name} is a matter of the program that serves this")));
        }
    }
    if !settings.is_set("nodes") {
        match nodes.is_empty() {
            true => return Err(named("nodes has to be set: clients of this member need TLS".to_owned())),
            false => settings.fill("nodes", nodes)?,
        }
    }
    config(&settings).map_err(named)
}

/// Settings of a file, below those of the command line.
fn fill(settings: &mut Settings, yaml: &str) -> Result<(), String> {
    let file: serde_yaml_ng::Mapping = serde_yaml_ng::from_str(yaml).map_err(|error| error.to_string())?;
    let text = |value: &serde_yaml_ng::Value| match value {
        serde_yaml_ng::Value::String(text) => Ok(text.clone()),
        serde_yaml_ng::Value::Bool(is_on) => Ok(is_on.to_string()),
        serde_yaml_ng::Value::Number(number) => Ok(number.to_string()),
        serde_yaml_ng::Value::Null => Ok(String::new()),
        _ => Err("a setting is a text, a number, true or false, or a list of texts".to_owned()),
    };
    for (name, value) in &file {
        // The original spells one of them in its own way.
        let name = text(name)?.to_lowercase();
        let values = match value {
            serde_yaml_ng::Value::Sequence(list) => list.iter().map(text).collect::<Result<Vec<_>, _>>()?,
            value => vec![text(value)?],
        };
        settings.fill(&name, values)?;
    }
    Ok(())
}

fn config(settings: &Settings) -> Result<Config, String> {
    match settings.text("backend") {
        "etcdv3" | "etcd" => {}
        "local" => return Err("backend local is not supported: it forgets everything when it ends".to_owned()),
        other => return Err(format!("backend {other} is not supported: etcdv3 is")),
    }
    let group = settings.text("group").to_owned();
    if group.is_empty() || group.contains('/') {
        return Err(format!("group: not a name without slashes: {group:?}"));
    }
    let demand = settings.given("require_header").map(|text| Demand::parse(&text)).transpose()?;
    let (rate, burst): (f64, f64) = (settings.number("rate_limit")?, settings.number("rate_burst")?);
    if !(rate >= 0.0 && burst >= 0.0) {
        return Err("rate_limit and rate_burst cannot be negative".to_owned());
    }
    let encryption = encryption(settings)?;
    Ok(Config {
        cluster: cluster(settings)?,
        places: Places::new(settings.text("prefix"), &group),
        listen: settings.text("listen").to_owned(),
        listen_manage: settings.given("listen_manage"),
        only_self: settings.switch("only_self")?,
        identity: identity(settings)?,
        encryption,
        demand,
        limit: Limit::new(rate, burst),
        level: Level::parse(settings.text("log_level"))?,
        pid_file: settings.given("pid_file"),
    })
}

fn identity(settings: &Settings) -> Result<Identity, String> {
    let lists = settings.list("xff_from");
    let proxies = lists.iter().flat_map(|list| list.split(',')).map(Network::parse).collect::<Result<Vec<_>, _>>()?;
    if settings.switch("xff")? == proxies.is_empty() {
        return Err(
            "xff and xff_from go together: without a list of proxies, anybody could claim any address".to_owned()
        );
    }
    match settings.text("identity") {
        "address" => Ok(Identity::Address { proxies }),
        "certificate" if !proxies.is_empty() => Err("identity certificate needs no xff".to_owned()),
        "certificate" if settings.given("server_client_ca").is_none() => {
            Err("identity certificate needs server_client_ca".to_owned())
        }
        "certificate" => Ok(Identity::Certificate),
        other => Err(format!("identity: neither address nor certificate: {other:?}")),
    }
}

fn encryption(settings: &Settings) -> Result<Option<Encryption>, String> {
    let client_ca = settings.given("server_client_ca");
    match (settings.given("server_cert"), settings.given("server_key")) {
        (Some(cert), Some(key)) => Encryption::new(cert, key, client_ca).map(Some),
        (None, None) if client_ca.is_none() => Ok(None),
        _ => Err("server_cert and server_key go together, and server_client_ca needs both".to_owned()),
    }
}

fn cluster(settings: &Settings) -> Result<Cluster, String> {
    let nodes = settings.list("nodes");
    let nodes: Vec<String> = nodes.iter().flat_map(|list| list.split(',')).map(|node| node.trim().to_owned()).collect();
    let files = ["client_ca_keys", "client_cert", "client_key"].map(|name| settings.given(name));
    let is_wanted = files.iter().any(Option::is_some);
    let [cacert, cert, key] = files;
    let encryption = tls::Encryption { cacert, cert, key, is_wanted, ..tls::Encryption::default() };
    if is_wanted {
        encryption.settings().map_err(|failure| failure.text)?;
    }
    let (name, password) = (settings.text("username").to_owned(), settings.text("password").to_owned());
    let credentials = match settings.switch("basic_auth")? || !name.is_empty() {
        true => Credentials::User { name, password },
        false => Credentials::None,
    };
    let options = Options {
        dial_timeout: Duration::from_secs(3),
        keepalive_time: Duration::from_secs(10),
        keepalive_timeout: Duration::from_secs(6),
        request_bytes_max: REQUEST_BYTES_MAX,
        answer_bytes_max: ANSWER_BYTES_MAX,
        credentials,
        encryption,
    };
    Ok(Cluster::new(nodes, options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> String {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        read(&words).err().unwrap_or_else(|| panic!("{line}: taken"))
    }

    #[test]
    fn what_would_break_a_promise_is_refused() {
        for (line, text) in [
            ("--xff", "xff and xff_from go together"),
            ("--xff_from 10.0.0.1", "xff and xff_from go together"),
            ("--xff --xff_from x", "neither an address nor a network"),
            ("--identity certificate", "needs server_client_ca"),
            ("--identity name", "neither address nor certificate"),
            ("--backend local", "backend local is not supported"),
            ("--backend consul", "backend consul is not supported"),
            ("--server_cert x", "go together"),
            ("--group a/b", "not a name without slashes"),
            ("--rate_limit -1", "cannot be negative"),
            ("--config /nonexistent", "/nonexistent: "),
            ("serve", "metad takes no argument"),
        ] {
            assert!(refused(line).contains(text), "{line}: {}", refused(line));
        }
    }

    #[test]
    fn a_file_is_below_the_command_line() {
        let words = ["--listen".to_owned(), ":1".to_owned()];
        let (mut settings, _) = Settings::parse("metad", FLAGS, &words).expect("reads");
        let yaml = "listen: ':2'\nnodes: [a:1, b:1]\nxff: false\nGroup: g\nrate_limit: 5\nprefix: /users\n";
        fill(&mut settings, yaml).expect("reads");
        let config = config(&settings).expect("makes sense");
        assert_eq!((config.listen.as_str(), settings.list("nodes")), (":1", vec!["a:1".to_owned(), "b:1".to_owned()]));
        let folder = std::env::temp_dir().join(format!("plinth-metad-{}.yaml", std::process::id()));
        let file = folder.to_str().expect("text");
        for (yaml, nodes, wrong) in [
            ("listen: ':3'", vec!["http://a:1".to_owned()], None),
            ("listen: ':3'\nnodes: b:1", Vec::new(), None),
            ("listen: ':3'", Vec::new(), Some("nodes has to be set")),
            ("pid_file: x", Vec::new(), Some("pid_file is a matter")),
        ] {
            std::fs::write(file, yaml).expect("written");
            let read = of_file(file, nodes).map(|config| config.listen);
            match wrong {
                None => assert_eq!(read.as_deref(), Ok(":3")),
                Some(wrong) => assert!(read.as_ref().is_err_and(|error| error.contains(wrong)), "{read:?}"),
            }
        }
        std::fs::remove_file(file).expect("removed");
        assert!(fill(&mut settings, "nonsense: 1").is_err() && fill(&mut settings, "nodes: {a: 1}").is_err());
    }
}
