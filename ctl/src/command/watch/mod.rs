//! `watch`: prints events as they come, or runs a command for each; with `-i` it takes watches from standard input.

mod arguments;
mod interactive;

use crate::command::lock::{cannot_run, ended};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::json::Json;
use crate::output::print::print;
use crate::output::{Report, Text};
use crate::quote;
use crate::watching::{Seen, Watcher};
use arguments::{Environment, Plan};
use plinth_api::proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use plinth_api::proto::mvccpb::Event;
use plinth_api::proto::mvccpb::event::EventType;
use plinth_api::range::prefix_end;
use prost::Message;
use std::ffi::OsString;

/// Flags of one watch.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// All keys that start with the key
    #[arg(long)]
    prefix: bool,
    /// From this revision on; 0 is from now on
    #[arg(long, default_value = "0", value_parser = quote::parse_flag_int)]
    rev: i64,
    /// Show the pair before as well
    #[arg(long)]
    prev_kv: bool,
    /// Be told from time to time how far the watch is
    #[arg(long)]
    progress_notify: bool,
    /// key [range_end] [-- command]
    #[arg(value_name = "KEY [RANGE_END] [-- COMMAND...]")]
    args: Vec<OsString>,
}

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Take watches from standard input
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Runs the command. `words` is the command line, in which `--` is still to be seen.
pub async fn run(context: &Context, args: Args, words: &[OsString]) -> Result<(), Failure> {
    let environment = Environment::read()?;
    if args.interactive {
        return interactive::run(context, &environment).await;
    }
    let plan = arguments::from_command_line(args.flags, words, &environment)?;
    let request = request(&plan).map_err(Failure::arguments)?;
    follow(context, &mut Watcher::new(context.cluster(), request), &plan.command).await?;
    Err(Failure::new(Exit::Interrupted, "watch is canceled by the server"))
}

/// The request for a watch.
fn request(plan: &Plan) -> Result<WatchCreateRequest, String> {
    let Flags { prefix, rev, prev_kv, progress_notify, args } = &plan.flags;
    let bytes = |word: &OsString| word.as_encoded_bytes().to_vec();
    let Some(key) = args.first().map(bytes) else { return Err("bad number of arguments".to_owned()) };
    let (key, range_end) = match (args.as_slice(), prefix) {
        ([_, _], true) => return Err("`range_end` and `--prefix` are mutually exclusive".to_owned()),
        ([_, end], false) => (key, bytes(end)),
        (_, true) if key.is_empty() => (vec![0], vec![0]),
        (_, true) => (key.clone(), prefix_end(&key)),
        (_, false) => (key, Vec::new()),
    };
    Ok(WatchCreateRequest {
        // As in the reference client: the key before all others stands for none.
        key: if key.is_empty() { vec![0].into() } else { key.into() },
        range_end: range_end.into(),
        start_revision: *rev,
        prev_kv: *prev_kv,
        progress_notify: *progress_notify,
        ..WatchCreateRequest::default()
    })
}

/// Prints what a watch tells, until its end.
async fn follow(context: &Context, watcher: &mut Watcher, command: &[OsString]) -> Result<(), Failure> {
    loop {
        let (answer, end) = match watcher.next().await? {
            Seen::Answer(answer) => (answer, false),
            Seen::End(answer, reason) => {
                eprintln!("watch was canceled ({reason})");
                (answer, true)
            }
        };
        if !end && answer.events.is_empty() {
            let revision = answer.header.as_ref().map_or(0, |header| header.revision);
            print(format!("progress notify: {revision}\n").as_bytes())?;
        }
        context.print(&answer)?;
        if !command.is_empty() {
            for event in &answer.events {
                execute(command, &answer, event).await?;
            }
        }
        if end {
            return Ok(());
        }
    }
}

/// Runs the command for one event.
async fn execute(command: &[OsString], answer: &WatchResponse, event: &Event) -> Result<(), Failure> {
    let kv = event.kv.clone().unwrap_or_default();
    let revision = answer.header.as_ref().map_or(0, |header| header.revision);
    let status = tokio::process::Command::new(&command[0])
        .args(&command[1..])
        .env("ETCD_WATCH_REVISION", revision.to_string())
        .env("ETCD_WATCH_EVENT_TYPE", quote::quoted(event.r#type().as_str_name().as_bytes()))
        .env("ETCD_WATCH_KEY", quote::quoted(&kv.key))
        .env("ETCD_WATCH_VALUE", quote::quoted(&kv.value))
        .stdin(std::process::Stdio::null())
        .status()
        .await;
    let why = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => ended(status),
        Err(error) => cannot_run(&command[0].to_string_lossy(), &error).text,
    };
    let words: Vec<String> = command.iter().map(|word| quote::quoted(word.as_encoded_bytes())).collect();
    eprintln!("command [{}] error ({why})", words.join(" "));
    Err(Failure::new(Exit::Error, ""))
}

impl Report for WatchResponse {
    fn simple(&self, out: &mut Text) {
        for event in &self.events {
            out.line(event.r#type().as_str_name());
            event.prev_kv.iter().for_each(|kv| out.pair(kv));
            out.pair(event.kv.as_ref().unwrap_or(&Default::default()));
        }
    }

    fn fields(&self, out: &mut Text) -> bool {
        out.header(self.header.as_ref());
        for event in &self.events {
            out.field("Type", event.r#type().as_str_name());
            event.prev_kv.iter().for_each(|kv| out.kv("Prev", kv));
            out.kv("", event.kv.as_ref().unwrap_or(&Default::default()));
        }
        true
    }

    fn json(&self, _hex: bool) -> Json {
        let event = |event: &Event| {
            Json::object()
                .nonzero("type", i32::from(event.r#type() == EventType::Delete))
                .nonzero("kv", event.kv.as_ref())
                .nonzero("prev_kv", event.prev_kv.as_ref())
        };
        Json::object()
            .with("Header", self.header.as_ref())
            .with("Events", Json::list(&self.events, event))
            .with("CompactRevision", self.compact_revision)
            .with("Canceled", self.canceled)
            .with("Created", self.created)
            .with("CancelReason", self.cancel_reason.as_str())
    }

    fn message(&self) -> Option<Vec<u8>> {
        // What the reference client hands on of an answer.
        let handed_on = WatchResponse { watch_id: 0, fragment: false, cancel_reason: String::new(), ..self.clone() };
        Some(handed_on.encode_to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Format, rendered};
    use plinth_api::proto::etcdserverpb::ResponseHeader;
    use plinth_api::proto::mvccpb::KeyValue;

    #[test]
    fn formats() {
        let kv = |value: &'static str| KeyValue { key: "k".into(), value: value.into(), ..KeyValue::default() };
        let put = Event { kv: Some(kv("v")), prev_kv: Some(kv("u")), ..Event::default() };
        let delete = Event { r#type: EventType::Delete.into(), kv: Some(kv("")), prev_kv: None };
        let header = ResponseHeader { cluster_id: 1, member_id: 2, revision: 3, raft_term: 4 };
        let answer = WatchResponse { header: Some(header), events: vec![put, delete], ..WatchResponse::default() };
        assert_eq!(rendered(&answer, Format::Simple), "PUT\nk\nu\nk\nv\nDELETE\nk\n\n");
        let json = "{\"Header\":{\"cluster_id\":1,\"member_id\":2,\"revision\":3,\"raft_term\":4},\"Events\":[{\"kv\":\
                    {\"key\":\"aw==\",\"value\":\"dg==\"},\"prev_kv\":{\"key\":\"aw==\",\"value\":\"dQ==\"}},\
                    {\"type\":1,\"kv\":{\"key\":\"aw==\"}}],\"CompactRevision\":0,\"Canceled\":false,\
                    \"Created\":false,\"CancelReason\":\"\"}\n";
        assert_eq!(rendered(&answer, Format::Json), json);
    }
}
