//! `defrag`: has each endpoint give back space it does not use.

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::print::print;
use plinth_api::go::format_duration;
use plinth_api::methods::DEFRAGMENT;
use plinth_api::proto::etcdserverpb::DefragmentRequest;
use std::time::Instant;

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// All members of the cluster, not only the endpoints given
    #[arg(long)]
    cluster: bool,
    /// Ignored
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Runs the command: one endpoint after the other, as each is busy meanwhile.
pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let mut failed = false;
    for endpoint in context.members_or_given(args.cluster).await? {
        let start = Instant::now();
        let done = context.limited(context.only(&endpoint).call(&DEFRAGMENT, DefragmentRequest {})).await;
        let took = format_duration(start.elapsed());
        match done {
            Ok(_) => print(format!("Finished defragmenting etcd member[{endpoint}]. took {took}\n").as_bytes())?,
            Err(failure) => {
                eprintln!("Failed to defragment etcd member[{endpoint}]. took {took}. ({})", failure.text);
                failed = true;
            }
        }
    }
    if failed { Err(Failure::new(Exit::Error, "")) } else { Ok(()) }
}
