//! `endpoint`: asks each endpoint by itself, and shows the answers side by side.

mod hashkv;
mod health;
mod status;

use crate::context::Context;
use crate::failure::Failure;
use clap::Subcommand;

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// All members of the cluster, not only the endpoints given
    #[arg(long, global = true)]
    cluster: bool,
    #[command(subcommand)]
    command: Command,
}

/// Commands.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Shows whether each endpoint serves
    Health {
        /// Ignored
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Shows versions, sizes, and who leads
    Status {
        /// Ignored
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Shows a hash over the keys and values of each endpoint
    Hashkv {
        /// Up to this revision; 0 is all
        #[arg(long, default_value = "0", value_parser = crate::quote::parse_flag_int)]
        rev: i64,
        /// Ignored
        #[arg(hide = true)]
        args: Vec<String>,
    },
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let endpoints = context.members_or_given(args.cluster).await?;
    match args.command {
        Command::Health { .. } => health::run(context, endpoints).await,
        Command::Status { .. } => status::run(context, endpoints).await,
        Command::Hashkv { rev, .. } => hashkv::run(context, endpoints, rev).await,
    }
}
