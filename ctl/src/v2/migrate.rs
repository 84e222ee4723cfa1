//! `plinth util migrate-v2`: the keys of a running server's v2 API, or of an etcd that is stopped, as keys of v3, and the way
//! back.
//!
//! A key `/a/b` becomes the v3 key of that name behind `--prefix`. Keys that end together share a lease. Directories are no keys
//! in v3: those that hold nothing are told, and left out. Hidden keys are in no listing; what is below a directory that is
//! named (`--from /a/_b`) is seen.
//!
//! Nothing that is there is removed, and a key that is there already is not written over unless `--overwrite` says so. What
//! was done and what was not is told at the end; with `--dry-run` all is told, and nothing done.

use super::client::{Client, Content, Refused, key_target};
use super::{offline, text};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::flags::Globals;
use crate::output::print::print;
use clap::Parser;
use http::Method;
use plinth_api::methods::{LEASE_GRANT, LEASE_TIME_TO_LIVE, RANGE, TXN};
use plinth_api::proto::etcdserverpb as pb;
use plinth_api::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use plinth_api::range::prefix_end;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// Keys that are read at once on the way back.
const PIECE_KEYS: i64 = 500;

#[derive(Parser, Debug)]
#[command(name = "migrate-v2", about = "Copies keys of the v2 API to keys of v3, or back")]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    /// Data directory of an etcd 2.3 to 3.5 that is stopped, to read the keys from; without, the server's v2 API is asked
    #[arg(long, value_name = "FOLDER", conflicts_with = "back")]
    data_dir: Option<PathBuf>,
    /// Its log, if that is not in the data directory
    #[arg(long, value_name = "FOLDER", requires = "data_dir")]
    wal_dir: Option<PathBuf>,
    /// The directory of the v2 API
    #[arg(long, default_value = "/")]
    from: String,
    /// What the keys of v3 begin with
    #[arg(long, default_value = "")]
    prefix: String,
    /// From v3 to v2
    #[arg(long)]
    back: bool,
    /// Write over keys that are there
    #[arg(long)]
    overwrite: bool,
    /// Only tell
    #[arg(long)]
    dry_run: bool,
}

/// What was done.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    copied: u64,
    there: u64,
    leases: u64,
    left_out: Vec<String>,
}

/// Runs the command with the arguments behind its name.
pub fn main(args: Vec<String>) -> ExitCode {
    let cli = match Cli::try_parse_from(std::iter::once("migrate-v2".to_owned()).chain(args)) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Error.code() } else { 0 });
        }
    };
    let started = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = started.map_err(Failure::from).and_then(|runtime| runtime.block_on(run(&cli)));
    result.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}

async fn run(cli: &Cli) -> Result<(), Failure> {
    let context = Context::new(&cli.globals, false)?;
    let with_scheme = |endpoint: &String| match endpoint.contains("://") {
        true => endpoint.clone(),
        false => format!("http://{endpoint}"),
    };
    let endpoints = context.endpoints.iter().map(with_scheme).collect();
    let client = Client::new(endpoints, &context.options.encryption, context.command_timeout)?;
    let work = Work { cli, context, client };
    let report = if cli.back { work.to_v2().await? } else { work.to_v3().await? };
    for left in &report.left_out {
        say(format!("left out: {left}"))?;
    }
    let Report { copied, there, leases, left_out } = report;
    let verb = if cli.dry_run { "would be copied" } else { "copied" };
    say(format!("{copied} keys {verb}, {there} were there already, {leases} leases, {} left out", left_out.len()))
}

fn say(text: String) -> Result<(), Failure> {
    print(format!("{text}\n").as_bytes())
}

fn refused(refused: Refused) -> Failure {
    Failure::new(Exit::Error, refused.text())
}

struct Work<'a> {
    cli: &'a Cli,
    context: Context,
    client: Client,
}

/// A key of the v2 API.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) ttl: i64,
    expiration: String,
}

/// The keys below a node; directories that hold nothing go to `empty`.
pub(super) fn leaves(node: &Value, all: &mut Vec<Leaf>, empty: &mut Vec<String>) {
    let mut waiting = vec![node];
    while let Some(node) = waiting.pop() {
        let (key, nodes) = (text(&node["key"]), node["nodes"].as_array());
        match (node["dir"] == true, nodes) {
            (true, Some(nodes)) => waiting.extend(nodes.iter().rev()),
            (true, None) => empty.push(format!("{key}/ (an empty directory)")),
            (false, _) => all.push(Leaf {
                key: key.to_owned(),
                value: text(&node["value"]).to_owned(),
                ttl: node["ttl"].as_i64().unwrap_or(0),
                expiration: text(&node["expiration"]).to_owned(),
            }),
        }
    }
}

impl Work<'_> {
    /// The node to begin with, and all that is below it.
    async fn source(&self) -> Result<Value, Failure> {
        if let Some(data_dir) = &self.cli.data_dir {
            return offline::listed(&offline::tree(data_dir, self.cli.wal_dir.as_deref())?, &self.cli.from);
        }
        let target = format!("{}?recursive=true&quorum=true", key_target(&self.cli.from));
        let listed = self.client.ask(Method::GET, &target, Content::Nothing, true).await.map_err(refused)?;
        Ok(listed.json()["node"].take())
    }

    async fn to_v3(&self) -> Result<Report, Failure> {
        let (mut all, mut report) = (Vec::new(), Report::default());
        leaves(&self.source().await?, &mut all, &mut report.left_out);
        let mut leases: BTreeMap<String, i64> = BTreeMap::new();
        for leaf in all {
            // What a stopped etcd had no time to end.
            if !leaf.expiration.is_empty() && leaf.ttl <= 0 {
                report.left_out.push(format!("{} (it has ended)", leaf.key));
                continue;
            }
            let lease = match (leaf.expiration.is_empty(), leases.get(&leaf.expiration)) {
                (true, _) => 0,
                (false, Some(lease)) => *lease,
                (false, None) => {
                    let lease = self.grant(leaf.ttl).await?;
                    leases.insert(leaf.expiration.clone(), lease);
                    lease
                }
            };
            match self.put(&leaf, lease).await? {
                true => report.copied += 1,
                false => report.there += 1,
            }
        }
        report.leases = leases.len() as u64;
        Ok(report)
    }

    async fn grant(&self, ttl: i64) -> Result<i64, Failure> {
        if self.cli.dry_run {
            return Ok(0);
        }
        Ok(self.context.call(&LEASE_GRANT, pb::LeaseGrantRequest { id: 0, ttl: ttl.max(1) }).await?.id)
    }

    /// Stores a key; false if it is there.
    async fn put(&self, leaf: &Leaf, lease: i64) -> Result<bool, Failure> {
        let key = bytes::Bytes::from(format!("{}{}", self.cli.prefix, leaf.key));
        if self.cli.dry_run {
            let read = pb::RangeRequest { key, count_only: true, ..Default::default() };
            return Ok(self.cli.overwrite || self.context.call(&RANGE, read).await?.count == 0);
        }
        let missing = pb::Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Create as i32,
            key: key.clone(),
            target_union: Some(TargetUnion::CreateRevision(0)),
            ..Default::default()
        };
        let put = pb::PutRequest { key, value: leaf.value.clone().into(), lease, ..Default::default() };
        let put = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) };
        let compare = if self.cli.overwrite { Vec::new() } else { vec![missing] };
        let txn = pb::TxnRequest { compare, success: vec![put], ..Default::default() };
        Ok(self.context.call(&TXN, txn).await?.succeeded)
    }

    async fn to_v2(&self) -> Result<Report, Failure> {
        let prefix = self.cli.prefix.as_bytes();
        let (mut from, mut report) = (prefix.to_vec(), Report::default());
        let mut times: BTreeMap<i64, i64> = BTreeMap::new();
        loop {
            let end = if prefix.is_empty() { vec![0] } else { prefix_end(prefix) };
            let key = if from.is_empty() { vec![0] } else { from.clone() };
            let read =
                pb::RangeRequest { key: key.into(), range_end: end.into(), limit: PIECE_KEYS, ..Default::default() };
            let piece = self.context.call(&RANGE, read).await?;
            let Some(last) = piece.kvs.last() else { break };
            from = [&last.key[..], &[0]].concat();
            for pair in &piece.kvs {
                if pair.lease != 0 && !times.contains_key(&pair.lease) {
                    let asked = pb::LeaseTimeToLiveRequest { id: pair.lease, keys: false };
                    times.insert(pair.lease, self.context.call(&LEASE_TIME_TO_LIVE, asked).await?.ttl);
                }
                self.set(&pair.key[prefix.len()..], &pair.value, times.get(&pair.lease).copied(), &mut report).await?;
            }
            if !piece.more {
                break;
            }
        }
        report.leases = times.len() as u64;
        Ok(report)
    }

    async fn set(&self, key: &[u8], value: &[u8], ttl: Option<i64>, report: &mut Report) -> Result<(), Failure> {
        let (Ok(name), Ok(value)) = (std::str::from_utf8(key), std::str::from_utf8(value)) else {
            report.left_out.push(format!("{} (not text)", String::from_utf8_lossy(key)));
            return Ok(());
        };
        let is_path = !name.split('/').skip(1).any(|part| matches!(part, "" | "." | ".."));
        if !is_path || !name.starts_with('/') || name.len() < 2 {
            report.left_out.push(format!("{name} (not a path)"));
            return Ok(());
        }
        let whole = format!("{}{name}", self.cli.from.trim_end_matches('/'));
        let target = key_target(&whole);
        if self.cli.dry_run {
            match self.client.ask(Method::GET, &target, Content::Nothing, false).await {
                Ok(_) if !self.cli.overwrite => report.there += 1,
                _ => report.copied += 1,
            }
            return Ok(());
        }
        let mut form = vec![("value", value.to_owned())];
        form.extend(ttl.filter(|ttl| *ttl > 0).map(|ttl| ("ttl", ttl.to_string())));
        if !self.cli.overwrite {
            form.push(("prevExist", "false".to_owned()));
        }
        match self.client.ask(Method::PUT, &target, Content::Form(form), false).await {
            Ok(_) => report.copied += 1,
            Err(Refused::Key(error)) if error["errorCode"] == 105 => report.there += 1,
            Err(Refused::Key(error)) => report.left_out.push(format!("{whole} ({})", text(&error["message"]))),
            Err(other) => return Err(refused(other)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_order() {
        let node = serde_json::json!({ "dir": true, "nodes": [
            { "key": "/a", "dir": true, "nodes": [{ "key": "/a/1", "value": "x", "ttl": 5, "expiration": "soon" }] },
            { "key": "/b", "dir": true },
            { "key": "/c", "value": "" },
        ] });
        let (mut all, mut empty) = (Vec::new(), Vec::new());
        leaves(&node, &mut all, &mut empty);
        let keys: Vec<&str> = all.iter().map(|leaf| &*leaf.key).collect();
        assert_eq!((keys, all[0].ttl), (vec!["/a/1", "/c"], 5));
        assert_eq!(empty, ["/b/ (an empty directory)"]);
    }
}
