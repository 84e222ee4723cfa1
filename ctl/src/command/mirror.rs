//! `make-mirror`: copies keys to another cluster and keeps them equal, until it fails or is stopped.
//!
//! What is copied first is the state at one revision, in pieces; what happened since follows from there. A change of
//! several keys at once is one transaction there as well, up to a limit.

use crate::cluster::Cluster;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::flags;
use crate::output::print::print;
use crate::quote;
use crate::rpc::Options;
use crate::watching::{Seen, Watcher};
use bytes::Bytes;
use clap::ArgAction;
use plinth_api::methods::{PUT, RANGE, TXN};
use plinth_api::proto::etcdserverpb::range_request::SortOrder;
use plinth_api::proto::etcdserverpb::request_op::Request;
use plinth_api::proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
};
use plinth_api::proto::mvccpb::Event;
use plinth_api::proto::mvccpb::event::EventType;
use plinth_api::range::prefix_end;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Keys of one piece.
const PIECE_KEYS: i64 = 1000;

/// How often the count of copied keys is printed.
const REPORT_PAUSE: Duration = Duration::from_secs(30);

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Only keys that start with this
    #[arg(long, default_value = "")]
    prefix: String,
    /// Only what happened from this revision on; 0 copies what there is first
    #[arg(long, default_value = "0", value_parser = quote::parse_flag_int)]
    rev: i64,
    /// At most this many changes in one transaction
    #[arg(long, default_value = "128", value_parser = quote::parse_flag_int)]
    max_txn_ops: i64,
    /// What keys start with there, instead of the prefix
    #[arg(long, default_value = "")]
    dest_prefix: String,
    /// Keys lose the prefix there
    #[arg(long)]
    no_dest_prefix: bool,
    /// User there, or name:password
    #[arg(long, default_value = "")]
    dest_user: String,
    /// Password there
    #[arg(long, default_value = "")]
    dest_password: String,
    /// Certificate to show there
    #[arg(long)]
    dest_cert: Option<String>,
    /// Its key
    #[arg(long)]
    dest_key: Option<String>,
    /// Authorities to trust there
    #[arg(long)]
    dest_cacert: Option<String>,
    /// Whether an endpoint without a scheme is spoken to in clear, if no other flag asks for TLS
    #[arg(
        long, action = ArgAction::Set, value_parser = quote::parse_bool, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", default_value = "true"
    )]
    dest_insecure_transport: bool,
    /// Endpoint of the other cluster
    #[arg(value_name = "ENDPOINT")]
    args: Vec<String>,
}

/// Runs the command; it ends by failing.
pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let [endpoint] = args.args.as_slice() else {
        return Err(Failure::arguments("make-mirror takes one destination argument"));
    };
    if args.no_dest_prefix && !args.dest_prefix.is_empty() {
        let text = "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one";
        return Err(Failure::arguments(text));
    }
    let credentials = flags::user(&args.dest_user, &args.dest_password, "Destination Password: ")?;
    let files = [("cert", &args.dest_cert), ("key", &args.dest_key), ("cacert", &args.dest_cacert)];
    let encryption = flags::encryption("dest-", files, args.dest_insecure_transport)?;
    let options = Options { credentials, encryption, ..context.options.clone() };
    let dest_prefix = match (args.no_dest_prefix, args.dest_prefix.as_str()) {
        (false, "") => args.prefix.clone(),
        (_, prefix) => prefix.to_owned(),
    };
    let mirror = Mirror {
        from: context.cluster(),
        to: Cluster::new(vec![endpoint.clone()], options),
        prefix: args.prefix.into_bytes(),
        dest_prefix: dest_prefix.into_bytes(),
        operations_max: usize::try_from(args.max_txn_ops).unwrap_or(1).max(1),
        copied: Arc::default(),
    };
    let count = mirror.copied.clone();
    let report = async move {
        loop {
            tokio::time::sleep(REPORT_PAUSE).await;
            print(format!("{}\n", count.load(Ordering::Relaxed)).as_bytes())?;
        }
    };
    tokio::select! {
        ended = mirror.run(args.rev) => ended,
        ended = report => ended,
    }
}

/// Two clusters.
struct Mirror {
    from: Cluster,
    to: Cluster,
    prefix: Vec<u8>,
    dest_prefix: Vec<u8>,
    operations_max: usize,
    copied: Arc<AtomicU64>,
}

impl Mirror {
    async fn run(&self, revision: i64) -> Result<(), Failure> {
        // A mirror that begins later than the first revision copies no state.
        let next = if revision > 1 { revision } else { self.copy().await? + 1 };
        self.follow(next).await
    }

    /// Where the keys are.
    fn range(&self) -> (Vec<u8>, Vec<u8>) {
        if self.prefix.is_empty() { (vec![0], vec![0]) } else { (self.prefix.clone(), prefix_end(&self.prefix)) }
    }

    /// A key's name there.
    fn renamed(&self, key: &[u8]) -> Bytes {
        let rest = key.strip_prefix(self.prefix.as_slice()).unwrap_or(key);
        [self.dest_prefix.as_slice(), rest].concat().into()
    }

    /// Copies what there is; as of which revision.
    async fn copy(&self) -> Result<i64, Failure> {
        let (mut key, range_end) = self.range();
        let mut revision = 0;
        loop {
            let request = RangeRequest {
                key: key.into(),
                range_end: range_end.clone().into(),
                limit: PIECE_KEYS,
                revision,
                sort_order: SortOrder::Ascend.into(),
                ..RangeRequest::default()
            };
            let piece = self.from.call(&RANGE, request).await?;
            if revision == 0 {
                revision = piece.header.map_or(0, |header| header.revision);
            }
            let last = piece.kvs.last().map(|kv| kv.key.to_vec());
            for kv in piece.kvs {
                let put = PutRequest { key: self.renamed(&kv.key), value: kv.value, ..PutRequest::default() };
                self.to.call(&PUT, put).await?;
                self.copied.fetch_add(1, Ordering::Relaxed);
            }
            match last.filter(|_| piece.more) {
                // The smallest key behind the last one.
                Some(last) => key = [last.as_slice(), &[0]].concat(),
                None => return Ok(revision),
            }
        }
    }

    /// Repeats what happens from a revision on.
    async fn follow(&self, start_revision: i64) -> Result<(), Failure> {
        let (key, range_end) = self.range();
        let (key, range_end) = (key.into(), range_end.into());
        let request = WatchCreateRequest { key, range_end, start_revision, ..WatchCreateRequest::default() };
        let mut watcher = Watcher::new(self.from.clone(), request);
        loop {
            match watcher.next().await? {
                Seen::Answer(answer) => self.repeat(answer.events).await?,
                Seen::End(_, reason) => return Err(Failure::new(Exit::Error, reason)),
            }
        }
    }

    /// Repeats events, those of one revision together.
    async fn repeat(&self, events: Vec<Event>) -> Result<(), Failure> {
        let revision = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        for together in events.chunk_by(|one, next| revision(one) == revision(next)) {
            for part in together.chunks(self.operations_max) {
                let success = part.iter().filter_map(|event| self.operation(event)).collect();
                self.to.call(&TXN, TxnRequest { success, ..TxnRequest::default() }).await?;
                self.copied.fetch_add(part.len() as u64, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn operation(&self, event: &Event) -> Option<RequestOp> {
        let kv = event.kv.as_ref()?;
        let key = self.renamed(&kv.key);
        let request = match event.r#type() {
            EventType::Put => Request::RequestPut(PutRequest { key, value: kv.value.clone(), ..PutRequest::default() }),
            EventType::Delete => Request::RequestDeleteRange(DeleteRangeRequest { key, ..Default::default() }),
        };
        Some(RequestOp { request: Some(request) })
    }
}
