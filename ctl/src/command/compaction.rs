//! `compaction`: forgets history below a revision.

use crate::context::{Context, print};
use crate::failure::{Exit, Failure};
use crate::rpc::COMPACT;
use plinth_net::proto::etcdserverpb::CompactionRequest;

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Wait until old revisions are gone from the store.
    #[arg(long)]
    physical: bool,
    /// revision
    #[arg(value_name = "REVISION")]
    args: Vec<String>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let [revision] = args.args.as_slice() else {
        return Err(Failure::arguments("compaction command needs 1 argument"));
    };
    let revision: i64 =
        revision.parse().map_err(|error| Failure::new(Exit::Error, format!("{revision:?}: {error}")))?;
    let request = CompactionRequest { revision, physical: args.physical };
    context.limited(async { context.connect().await?.call(&COMPACT, request).await }).await?;
    print(format!("compacted revision {revision}\n").as_bytes())
}
