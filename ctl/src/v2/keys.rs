//! Commands on keys and directories.

use super::client::{Answer, Content, key_target, query};
use super::{Context, Ended, line, text};
use clap::Args;
use http::Method;
use serde_json::{Value, json};
use std::io::Read;

#[derive(Args, Debug)]
pub(super) struct KeyArgs {
    /// The key
    key: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct GetArgs {
    /// The key
    key: Option<String>,
    /// Sort
    #[arg(long)]
    sort: bool,
    /// Ask a majority
    #[arg(long, short)]
    quorum: bool,
}

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    /// The directory
    #[arg(default_value = "/")]
    key: String,
    /// Sort
    #[arg(long)]
    sort: bool,
    /// All that is below it
    #[arg(long, short)]
    recursive: bool,
    /// A slash behind directories
    #[arg(short)]
    p: bool,
    /// Ask a majority
    #[arg(long, short)]
    quorum: bool,
}

#[derive(Args, Debug)]
pub(super) struct SetArgs {
    /// The key
    key: Option<String>,
    /// The value; standard input if it is not given
    value: Option<String>,
    /// Time to live in seconds
    #[arg(long, default_value = "0")]
    ttl: i64,
    /// Only if this is the value
    #[arg(long, default_value = "")]
    swap_with_value: String,
    /// Only if this is the index
    #[arg(long, default_value = "0")]
    swap_with_index: u64,
}

#[derive(Args, Debug)]
pub(super) struct MakeArgs {
    /// The key
    key: Option<String>,
    /// The value; standard input if it is not given
    value: Option<String>,
    /// Under a name of its own in that directory
    #[arg(long)]
    in_order: bool,
    /// Time to live in seconds
    #[arg(long, default_value = "0")]
    ttl: i64,
}

#[derive(Args, Debug)]
pub(super) struct UpdateArgs {
    /// The key
    key: Option<String>,
    /// The value; standard input if it is not given
    value: Option<String>,
    /// Time to live in seconds
    #[arg(long, default_value = "0")]
    ttl: i64,
}

#[derive(Args, Debug)]
pub(super) struct DirArgs {
    /// The directory
    key: Option<String>,
    /// Time to live in seconds
    #[arg(long, default_value = "0")]
    ttl: i64,
}

#[derive(Args, Debug)]
pub(super) struct RemoveArgs {
    /// The key
    key: Option<String>,
    /// An empty directory, too
    #[arg(long)]
    dir: bool,
    /// A directory with all that is in it
    #[arg(long, short)]
    recursive: bool,
    /// Only if this is the value
    #[arg(long, default_value = "")]
    with_value: String,
    /// Only if this is the index
    #[arg(long, default_value = "0")]
    with_index: u64,
}

/// A key that has to be given.
pub(super) fn required(key: Option<String>) -> Result<String, Ended> {
    key.ok_or_else(|| Ended::bad_arguments("key required"))
}

fn value_of(value: Option<String>) -> Result<String, Ended> {
    if let Some(value) = value {
        return Ok(value);
    }
    let mut read = String::new();
    match std::io::stdin().read_to_string(&mut read) {
        Ok(length) if length > 0 => Ok(read),
        _ => Err(Ended::bad_arguments("value required")),
    }
}

/// An answer about a node, as it is read by other programs.
fn shown(answer: &Answer) -> Value {
    fn node(node: &Value) -> Value {
        let mut all = json!({
            "key": text(&node["key"]),
            "value": text(&node["value"]),
            "nodes": node["nodes"].as_array().map(|nodes| nodes.iter().map(self::node_of).collect::<Vec<_>>()),
            "createdIndex": node["createdIndex"].as_u64().unwrap_or(0),
            "modifiedIndex": node["modifiedIndex"].as_u64().unwrap_or(0),
        });
        for name in ["dir", "expiration", "ttl"] {
            if let Some(value) = node.get(name) {
                all[name] = value.clone();
            }
        }
        all
    }
    let event = answer.json();
    let prev = event.get("prevNode").map(node);
    json!({ "action": event["action"], "node": node(&event["node"]), "prevNode": prev })
}

fn node_of(node: &Value) -> Value {
    shown(&Answer { status: 200, index: 0, body: json!({ "node": node }).to_string().into() })["node"].clone()
}

/// The fields of a node in the order in which etcd's tool writes them.
fn ordered(value: &Value) -> String {
    const FIELDS: [&str; 11] = [
        "action",
        "node",
        "prevNode",
        "key",
        "dir",
        "value",
        "nodes",
        "createdIndex",
        "modifiedIndex",
        "expiration",
        "ttl",
    ];
    match value {
        Value::Object(fields) => {
            let known = FIELDS.iter().filter_map(|name| Some(format!("\"{name}\":{}", ordered(fields.get(*name)?))));
            format!("{{{}}}", known.collect::<Vec<_>>().join(","))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(ordered).collect::<Vec<_>>().join(",")),
        plain => plain.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"),
    }
}

/// Prints an answer about a node.
pub(super) fn print_node(context: &Context, answer: &Answer) -> Result<(), Ended> {
    let event = answer.json();
    let (node, prev) = (&event["node"], &event["prevNode"]);
    let is_delete = event["action"] == "delete";
    match context.output.as_str() {
        "simple" if is_delete => line(format!("PrevNode.Value: {}", text(&prev["value"]))),
        "simple" => line(text(&node["value"])),
        "extended" => {
            line(format!("Key: {}", text(&node["key"])))?;
            line(format!("Created-Index: {}", node["createdIndex"].as_u64().unwrap_or(0)))?;
            line(format!("Modified-Index: {}", node["modifiedIndex"].as_u64().unwrap_or(0)))?;
            if prev.is_object() {
                line(format!("PrevNode.Value: {}", text(&prev["value"])))?;
            }
            line(format!("TTL: {}", node["ttl"].as_i64().unwrap_or(0)))?;
            line(format!("Index: {}", answer.index))?;
            if is_delete { Ok(()) } else { line(format!("\n{}", text(&node["value"]))) }
        }
        "json" => line(ordered(&shown(answer))),
        other => {
            eprintln!("Unsupported output format: {other}");
            Ok(())
        }
    }
}

fn with_query(target: &str, pairs: &[(&'static str, String)]) -> String {
    match pairs {
        [] => target.to_owned(),
        pairs => format!("{target}?{}", query(pairs)),
    }
}

fn time(ttl: i64, pairs: &mut Vec<(&'static str, String)>) {
    if ttl > 0 {
        pairs.push(("ttl", ttl.to_string()));
    }
}

/// `get`.
pub(super) async fn get(context: &Context, args: GetArgs) -> Result<(), Ended> {
    let pairs = [("sorted", args.sort.to_string()), ("quorum", args.quorum.to_string())];
    let target = with_query(&key_target(&required(args.key)?), &pairs);
    let answer = context.ask(Method::GET, &target, Content::Nothing).await?;
    let node = &answer.json()["node"];
    match node["dir"] == true {
        true => Err(Ended::Plain(format!("{}: is a directory", text(&node["key"])))),
        false => print_node(context, &answer),
    }
}

/// `ls`.
pub(super) async fn ls(context: &Context, args: ListArgs) -> Result<(), Ended> {
    fn each(node: &Value, slash: bool) -> Result<(), Ended> {
        let end = if slash && node["dir"] == true { "/" } else { "" };
        line(format!("{}{end}", text(&node["key"])))?;
        node["nodes"].as_array().into_iter().flatten().try_for_each(|node| each(node, slash))
    }
    let pairs = [
        ("recursive", args.recursive.to_string()),
        ("sorted", args.sort.to_string()),
        ("quorum", args.quorum.to_string()),
    ];
    let target = with_query(&key_target(&args.key), &pairs);
    let answer = context.ask(Method::GET, &target, Content::Nothing).await?;
    if context.output != "simple" {
        return print_node(context, &answer);
    }
    let node = &answer.json()["node"];
    if node["dir"] != true {
        line(text(&node["key"]))?;
    }
    node["nodes"].as_array().into_iter().flatten().try_for_each(|node| each(node, args.p))
}

/// `set`.
pub(super) async fn set(context: &Context, args: SetArgs) -> Result<(), Ended> {
    let key = required(args.key)?;
    let mut form = vec![("value", value_of(args.value)?)];
    time(args.ttl, &mut form);
    if !args.swap_with_value.is_empty() {
        form.push(("prevValue", args.swap_with_value));
    }
    if args.swap_with_index > 0 {
        form.push(("prevIndex", args.swap_with_index.to_string()));
    }
    print_node(context, &context.ask(Method::PUT, &key_target(&key), Content::Form(form)).await?)
}

/// `mk`.
pub(super) async fn mk(context: &Context, args: MakeArgs) -> Result<(), Ended> {
    let key = required(args.key)?;
    let mut form = vec![("value", value_of(args.value)?)];
    time(args.ttl, &mut form);
    let method = if args.in_order { Method::POST } else { Method::PUT };
    if !args.in_order {
        form.push(("prevExist", "false".into()));
    }
    print_node(context, &context.ask(method, &key_target(&key), Content::Form(form)).await?)
}

/// `update`.
pub(super) async fn update(context: &Context, args: UpdateArgs) -> Result<(), Ended> {
    let key = required(args.key)?;
    let mut form = vec![("value", value_of(args.value)?), ("prevExist", "true".into())];
    time(args.ttl, &mut form);
    print_node(context, &context.ask(Method::PUT, &key_target(&key), Content::Form(form)).await?)
}

/// `mkdir`, `setdir` and `updatedir`, which differ in whether the directory may or must be there.
pub(super) async fn mkdir(context: &Context, args: DirArgs, exists: Option<bool>) -> Result<(), Ended> {
    let key = required(args.key)?;
    let mut form = vec![("dir", "true".to_owned())];
    time(args.ttl, &mut form);
    form.extend(exists.map(|exists| ("prevExist", exists.to_string())));
    let answer = context.ask(Method::PUT, &key_target(&key), Content::Form(form)).await?;
    if context.output == "simple" { Ok(()) } else { print_node(context, &answer) }
}

/// `rm`.
pub(super) async fn rm(context: &Context, args: RemoveArgs) -> Result<(), Ended> {
    let key = required(args.key)?;
    let mut pairs = Vec::new();
    if args.dir {
        pairs.push(("dir", "true".to_owned()));
    }
    if args.recursive {
        pairs.push(("recursive", "true".to_owned()));
    }
    if !args.with_value.is_empty() {
        pairs.push(("prevValue", args.with_value));
    }
    if args.with_index > 0 {
        pairs.push(("prevIndex", args.with_index.to_string()));
    }
    removed(context, &with_query(&key_target(&key), &pairs)).await
}

/// `rmdir`.
pub(super) async fn rmdir(context: &Context, args: KeyArgs) -> Result<(), Ended> {
    let key = required(args.key)?;
    removed(context, &with_query(&key_target(&key), &[("dir", "true".to_owned())])).await
}

async fn removed(context: &Context, target: &str) -> Result<(), Ended> {
    let answer = context.ask(Method::DELETE, target, Content::Nothing).await?;
    let is_dir = answer.json()["node"]["dir"] == true;
    if is_dir && context.output == "simple" { Ok(()) } else { print_node(context, &answer) }
}
