//! `etcdctl` with `ETCDCTL_API=2`: commands for the v2 API, with the outputs that it had.
//!
//! | file | what |
//! | --- | --- |
//! | `client` | requests, to whichever member answers |
//! | `keys`, `watch` | commands on keys |
//! | `cluster` | members, and whether they are well |
//! | `users` | users, roles, and whether they matter |
//! | `import` | keys of a snapshot's file |
//! | `offline` | the tree of an etcd that is stopped |
//! | `migrate` | `plinth util migrate-v2`: keys copied to v3, and back |

pub mod client;
mod cluster;
mod import;
mod keys;
pub mod migrate;
mod offline;
mod users;
mod watch;

use crate::failure::{Exit, Failure};
use crate::output::print::print;
use crate::prompt;
use crate::quote::parse_duration;
use crate::tls::Encryption;
use clap::{Parser, Subcommand};
use client::{Client, Content, Refused};
use http::Method;
use serde_json::Value;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

/// Exit codes of this API's tool.
const SERVER_ERROR: Exit = Exit::Of(4);

#[derive(Parser, Debug)]
#[command(name = "etcdctl", about = "A command line client for etcd's v2 API", disable_version_flag = true)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args, Debug)]
struct Globals {
    /// Print what goes on
    #[arg(long)]
    debug: bool,
    /// Do not ask the cluster for its members first
    #[arg(long)]
    no_sync: bool,
    /// Form of output: simple, extended, json
    #[arg(long, short, default_value = "simple")]
    output: String,
    /// Members to ask, by commas
    #[arg(long, env = "ETCDCTL_ENDPOINTS", hide_env = true)]
    endpoints: Option<String>,
    #[arg(long, env = "ETCDCTL_ENDPOINT", hide_env = true, hide = true)]
    endpoint: Option<String>,
    #[arg(long, short = 'C', env = "ETCDCTL_PEERS", hide_env = true, hide = true)]
    peers: Option<String>,
    /// Certificate to show
    #[arg(long, env = "ETCDCTL_CERT_FILE", hide_env = true)]
    cert_file: Option<String>,
    /// Its key
    #[arg(long, env = "ETCDCTL_KEY_FILE", hide_env = true)]
    key_file: Option<String>,
    /// Authorities to trust
    #[arg(long, env = "ETCDCTL_CA_FILE", hide_env = true)]
    ca_file: Option<String>,
    /// name[:password]
    #[arg(long, short, env = "ETCDCTL_USERNAME", hide_env = true)]
    username: Option<String>,
    /// Time for a request
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    timeout: Duration,
    /// Time for the command, but for watches
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    total_timeout: Duration,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Asks whether all members are well
    ClusterHealth(cluster::HealthArgs),
    /// Makes a key
    Mk(keys::MakeArgs),
    /// Makes a directory
    Mkdir(keys::DirArgs),
    /// Removes a key or a directory
    Rm(keys::RemoveArgs),
    /// Removes an empty directory
    Rmdir(keys::KeyArgs),
    /// Prints the value of a key
    Get(keys::GetArgs),
    /// Lists a directory
    Ls(keys::ListArgs),
    /// Sets the value of a key
    Set(keys::SetArgs),
    /// Makes a directory, or changes its time to live
    Setdir(keys::DirArgs),
    /// Changes the value of a key
    Update(keys::UpdateArgs),
    /// Changes the time to live of a directory
    Updatedir(keys::DirArgs),
    /// Prints changes of a key
    Watch(watch::WatchArgs),
    /// Runs a program at each change of a key
    ExecWatch(watch::ExecArgs),
    /// Sets the keys of a snapshot's file
    Import(import::ImportArgs),
    /// Members of the cluster
    #[command(subcommand)]
    Member(cluster::Command),
    /// Users
    #[command(subcommand)]
    User(users::UserCommand),
    /// Roles
    #[command(subcommand)]
    Role(users::RoleCommand),
    /// Whether users matter
    #[command(subcommand)]
    Auth(users::AuthCommand),
}

/// What commands work with.
struct Context {
    client: Client,
    output: String,
    total: Duration,
}

/// Runs the tool with the arguments behind its name.
pub fn main<T: Into<OsString>>(args: Vec<T>) -> ExitCode {
    let words = std::iter::once("etcdctl".into()).chain(args.into_iter().map(Into::into));
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let started = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match started {
        Ok(runtime) => {
            let result = runtime.block_on(run(cli));
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(Ended::Failure(error.into())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(ended) => ended.report(),
    }
}

/// Why a command ends early.
enum Ended {
    /// The cluster refused.
    Refused(Refused),
    /// Said on standard error as it is.
    Plain(String),
    /// With an exit code of its own.
    Failure(Failure),
}

impl From<Refused> for Ended {
    fn from(refused: Refused) -> Ended {
        Ended::Refused(refused)
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Ended {
        Ended::Failure(failure)
    }
}

impl Ended {
    fn bad_arguments(text: &str) -> Ended {
        Ended::Failure(Failure::arguments(text))
    }

    fn report(self) -> ExitCode {
        match self {
            Ended::Plain(text) => {
                eprintln!("{text}");
                ExitCode::FAILURE
            }
            Ended::Failure(failure) => {
                if !failure.text.is_empty() {
                    eprintln!("Error:  {}", failure.text);
                }
                ExitCode::from(failure.exit.code())
            }
            Ended::Refused(refused) => {
                eprintln!("Error:  {}", refused.text());
                if let Refused::Unreachable(all) = &refused {
                    all.iter().enumerate().for_each(|(at, text)| eprintln!("error #{at}: {text}"));
                    eprintln!();
                    return ExitCode::from(Exit::BadConnection.code());
                }
                ExitCode::from(SERVER_ERROR.code())
            }
        }
    }
}

fn endpoints(globals: &Globals) -> Vec<String> {
    let given = [&globals.endpoints, &globals.endpoint, &globals.peers];
    let given = given.into_iter().flatten().find(|text| !text.is_empty());
    let text = given.map_or("http://127.0.0.1:2379,http://127.0.0.1:4001", String::as_str);
    let with_scheme = |endpoint: &str| match endpoint.contains("://") {
        true => endpoint.to_owned(),
        false => format!("http://{endpoint}"),
    };
    text.split(',').map(with_scheme).collect()
}

async fn run(cli: Cli) -> Result<(), Ended> {
    let Cli { globals, command } = cli;
    let encryption = Encryption {
        cacert: globals.ca_file.clone(),
        cert: globals.cert_file.clone(),
        key: globals.key_file.clone(),
        ..Encryption::default()
    };
    let mut client = Client::new(endpoints(&globals), &encryption, globals.timeout)?;
    client.user = match globals.username {
        Some(user) if user.contains(':') => Some(user),
        Some(user) => Some(format!("{user}:{}", prompt::password("Password: ")?)),
        None => None,
    };
    let syncs = !globals.no_sync && !matches!(command, Command::ClusterHealth(_));
    let mut context = Context { client, output: globals.output, total: globals.total_timeout };
    if syncs {
        context.sync().await?;
    }
    if globals.debug {
        eprintln!("Cluster-Endpoints: {}", context.client.endpoints.join(", "));
    }
    match command {
        Command::ClusterHealth(args) => cluster::health(&context, &args).await,
        Command::Member(command) => cluster::run(&context, command).await,
        Command::User(command) => users::user(&context, command).await,
        Command::Role(command) => users::role(&context, command).await,
        Command::Auth(command) => users::auth(&context, command).await,
        Command::Watch(args) => watch::watch(&context, &args).await,
        Command::ExecWatch(args) => watch::exec(&context, &args).await,
        Command::Import(args) => import::import(&context, &args).await,
        Command::Mk(args) => keys::mk(&context, args).await,
        Command::Mkdir(args) => keys::mkdir(&context, args, Some(false)).await,
        Command::Setdir(args) => keys::mkdir(&context, args, None).await,
        Command::Updatedir(args) => keys::mkdir(&context, args, Some(true)).await,
        Command::Rm(args) => keys::rm(&context, args).await,
        Command::Rmdir(args) => keys::rmdir(&context, args).await,
        Command::Get(args) => keys::get(&context, args).await,
        Command::Ls(args) => keys::ls(&context, args).await,
        Command::Set(args) => keys::set(&context, args).await,
        Command::Update(args) => keys::update(&context, args).await,
    }
}

impl Context {
    /// Asks, within the time for the command.
    async fn ask(&self, method: Method, target: &str, body: Content) -> Result<client::Answer, Ended> {
        let asked = tokio::time::timeout(self.total, self.client.ask(method, target, body, false)).await;
        asked.map_err(|_| Ended::Plain("context deadline exceeded".into()))?.map_err(Ended::Refused)
    }

    /// Reads JSON.
    async fn read(&self, target: &str) -> Result<Value, Ended> {
        Ok(self.ask(Method::GET, target, Content::Nothing).await?.json())
    }

    /// Asks for the members, and goes on with where they say that they are reached.
    async fn sync(&mut self) -> Result<(), Ended> {
        let list = match self.read("/v2/members").await {
            Ok(list) => list,
            Err(Ended::Refused(refused @ Refused::Unreachable(_))) => return Err(refused.into()),
            // A server that is asked to say nothing of that is asked for the rest all the same.
            Err(_) => return Ok(()),
        };
        let members = list["members"].as_array().cloned().unwrap_or_default();
        let urls = members.iter().flat_map(|member| texts(&member["clientURLs"])).collect::<Vec<String>>();
        if urls.is_empty() {
            return Err(Ended::Failure(Failure::new(SERVER_ERROR, "client: no endpoints available")));
        }
        self.client.endpoints = urls;
        Ok(())
    }
}

/// A list of texts.
fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// A text, or nothing.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Prints a line.
fn line(text: impl AsRef<str>) -> Result<(), Ended> {
    Ok(print(format!("{}\n", text.as_ref()).as_bytes())?)
}
