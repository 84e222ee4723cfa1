//! `compaction`: forgets history below a revision.

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::print::print;
use crate::quote;
use plinth_api::methods::COMPACT;
use plinth_api::proto::etcdserverpb::CompactionRequest;

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
    let revision = quote::parse_int(revision, 10).map_err(|text| Failure::new(Exit::Error, text))?;
    let request = CompactionRequest { revision, physical: args.physical };
    context.call(&COMPACT, request).await?;
    print(format!("compacted revision {revision}\n").as_bytes())
}
