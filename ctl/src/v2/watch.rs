//! `watch` and `exec-watch`: changes one after the other, each by a request that waits for the next one.

use super::client::{Answer, Content, Refused, key_target};
use super::keys::{print_node, required};
use super::{Context, Ended, line, text};
use clap::Args;
use http::Method;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

#[derive(Args, Debug)]
pub(super) struct WatchArgs {
    /// The key
    key: Option<String>,
    /// Until it is interrupted
    #[arg(long, short)]
    forever: bool,
    /// Changes behind this index
    #[arg(long, default_value = "0")]
    after_index: u64,
    /// All that is below it
    #[arg(long, short)]
    recursive: bool,
}

#[derive(Args, Debug)]
pub(super) struct ExecArgs {
    /// Changes behind this index
    #[arg(long, default_value = "0")]
    after_index: u64,
    /// All that is below it
    #[arg(long, short)]
    recursive: bool,
    /// The key, and the program with its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Where a watch has come to.
struct Watcher {
    target: String,
    next: u64,
}

impl Watcher {
    fn new(key: &str, recursive: bool, after: u64) -> Watcher {
        let next = if after > 0 { after + 1 } else { 0 };
        Watcher { target: format!("{}?wait=true&recursive={recursive}", key_target(key)), next }
    }

    async fn next(&mut self, context: &Context) -> Result<Answer, Ended> {
        /// Between two tries, when no member answers.
        const PAUSE: Duration = Duration::from_millis(500);
        loop {
            let target = format!("{}&waitIndex={}", self.target, self.next);
            match context.client.ask(Method::GET, &target, Content::Nothing, true).await {
                // The other end went away before anything happened.
                Ok(answer) if answer.body.is_empty() => {}
                Ok(answer) => {
                    self.next = answer.json()["node"]["modifiedIndex"].as_u64().unwrap_or(self.next) + 1;
                    return Ok(answer);
                }
                Err(Refused::Unreachable(_)) if self.next > 0 => tokio::time::sleep(PAUSE).await,
                Err(refused) => return Err(refused.into()),
            }
        }
    }
}

/// `watch`.
pub(super) async fn watch(context: &Context, args: &WatchArgs) -> Result<(), Ended> {
    let mut watcher = Watcher::new(&required(args.key.clone())?, args.recursive, args.after_index);
    loop {
        let answer = watcher.next(context).await?;
        let event = answer.json();
        if event["node"]["dir"] == true {
            continue;
        }
        if args.recursive {
            line(format!("[{}] {}", text(&event["action"]), text(&event["node"]["key"])))?;
        }
        print_node(context, &answer)?;
        if !args.forever {
            return Ok(());
        }
    }
}

/// `exec-watch`: `KEY -- PROGRAM ...`, or `PROGRAM ... KEY` as etcd's tool has it without `--`.
pub(super) async fn exec(context: &Context, args: &ExecArgs) -> Result<(), Ended> {
    let too_few = || Ended::bad_arguments("key and command to exec required");
    let (key, program) = match args.words.iter().position(|word| word == "--") {
        Some(at) if at > 0 => (&args.words[0], &args.words[at + 1..]),
        _ => match args.words.split_first() {
            Some((key, program)) => (key, program),
            None => return Err(too_few()),
        },
    };
    let (first, others) = program.split_first().ok_or_else(too_few)?;
    let mut watcher = Watcher::new(key, args.recursive, args.after_index);
    loop {
        let event = watcher.next(context).await?.json();
        let node = &event["node"];
        if node["dir"] == true {
            eprintln!("Ignored dir {} change", text(&node["key"]));
            continue;
        }
        let started = Command::new(first)
            .args(others)
            .stdin(Stdio::null())
            .env("ETCD_WATCH_ACTION", text(&event["action"]))
            .env("ETCD_WATCH_MODIFIED_INDEX", node["modifiedIndex"].to_string())
            .env("ETCD_WATCH_KEY", text(&node["key"]))
            .env("ETCD_WATCH_VALUE", text(&node["value"]))
            .spawn();
        match started {
            Ok(mut child) => drop(tokio::spawn(async move { child.wait().await })),
            Err(error) => return Err(Ended::Plain(error.to_string())),
        }
    }
}
