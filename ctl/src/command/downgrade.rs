//! `downgrade`: asks whether the cluster could go back to the release before, and lets it.

use crate::context::Context;
use crate::failure::Failure;
use crate::output::json::Json;
use crate::output::{Report, Text};
use clap::Subcommand;
use plinth_api::methods::DOWNGRADE;
use plinth_api::proto::etcdserverpb::downgrade_request::DowngradeAction;
use plinth_api::proto::etcdserverpb::{DowngradeRequest, DowngradeResponse};
use prost::Message;

/// Commands.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Asks whether it is possible
    Validate {
        /// Release to go back to
        #[arg(value_name = "VERSION")]
        args: Vec<String>,
    },
    Enable {
        /// Release to go back to
        #[arg(value_name = "VERSION")]
        args: Vec<String>,
    },
    /// Ends without having done it
    Cancel {
        /// Ignored
        #[arg(hide = true)]
        args: Vec<String>,
    },
}

/// Runs the command.
pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let (action, name, version) = match command {
        Command::Validate { args } => (DowngradeAction::Validate, "validate", target(args)?),
        Command::Enable { args } => (DowngradeAction::Enable, "enable", target(args)?),
        Command::Cancel { .. } => (DowngradeAction::Cancel, "cancel", String::new()),
    };
    let answer = context.call(&DOWNGRADE, DowngradeRequest { action: action.into(), version }).await?;
    context.print(&Downgrade { name, answer })
}

fn target(args: Vec<String>) -> Result<String, Failure> {
    let mut args = args.into_iter();
    match (args.next(), args.next()) {
        (None, _) => Err(Failure::arguments("TARGET_VERSION not provided")),
        (Some(_), Some(_)) => Err(Failure::arguments("too many arguments")),
        (Some(version), None) if version.is_empty() => Err(Failure::arguments("target version not provided")),
        (Some(version), None) => Ok(version),
    }
}

struct Downgrade {
    name: &'static str,
    answer: DowngradeResponse,
}

impl Report for Downgrade {
    fn simple(&self, out: &mut Text) {
        out.line(format_args!("Downgrade {} success, cluster version {}", self.name, self.answer.version));
    }

    fn json(&self, _hex: bool) -> Json {
        let object = Json::object().nonzero("header", self.answer.header.as_ref());
        object.nonzero("version", self.answer.version.as_str())
    }

    fn message(&self) -> Option<Vec<u8>> {
        Some(self.answer.encode_to_vec())
    }
}
