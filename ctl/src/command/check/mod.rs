//! `check`: writes to a running cluster for a while, and says whether it is up to the load.

mod datascale;
mod load;
mod perf;

use crate::context::Context;
use crate::failure::Failure;
use clap::Subcommand;

/// Commands.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Writes at a given rate for a minute
    Perf {
        /// s, m, l or xl: 150, 1000, 8000 or 15000 writes a second
        #[arg(long, default_value = "s")]
        load: String,
        /// Where the keys are written, and deleted afterwards
        #[arg(long, default_value = "/etcdctl-check-perf/")]
        prefix: String,
        /// When it is over
        #[command(flatten)]
        after: After,
        /// Ignored
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Writes many keys, and shows what they take of the memory
    Datascale {
        /// s, m, l or xl: 10 thousand, 100 thousand, 1 million or 3 million keys of 1 KiB
        #[arg(long, default_value = "s")]
        load: String,
        /// Where the keys are written, and deleted afterwards
        #[arg(long, default_value = "/etcdctl-check-datascale/")]
        prefix: String,
        /// When it is over
        #[command(flatten)]
        after: After,
        /// Ignored
        #[arg(hide = true)]
        args: Vec<String>,
    },
}

/// What to do when it is over.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct After {
    /// Forget history
    #[arg(long)]
    auto_compact: bool,
    /// Give back space that is not used
    #[arg(long)]
    auto_defrag: bool,
}

/// Runs the command.
pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Perf { load, prefix, after, .. } => perf::run(context, &load, &prefix, after).await,
        Command::Datascale { load, prefix, after, .. } => datascale::run(context, &load, &prefix, after).await,
    }
}
