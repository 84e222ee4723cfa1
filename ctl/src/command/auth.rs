//! `auth`: turns authentication on and off.

use crate::cluster::Cluster;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::json::Json;
use crate::output::print::print;
use crate::output::{Report, Text};
use clap::Subcommand;
use plinth_api::methods::{AUTH_DISABLE, AUTH_ENABLE, AUTH_STATUS, ROLE_ADD, USER_GRANT_ROLE};
use plinth_api::proto::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthStatusRequest, AuthStatusResponse,
    AuthUserGrantRoleRequest,
};
use prost::Message;

/// Commands.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Turns authentication on
    Enable {
        /// Ignored
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Turns authentication off
    Disable {
        /// Ignored
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Shows whether authentication is on
    Status {
        /// Ignored
        #[arg(hide = true)]
        args: Vec<String>,
    },
}

/// Runs the command.
pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let (Command::Enable { args } | Command::Disable { args } | Command::Status { args }) = &command;
    if !args.is_empty() {
        let name = match command {
            Command::Enable { .. } => "enable",
            Command::Disable { .. } => "disable",
            Command::Status { .. } => "status",
        };
        return Err(Failure::arguments(format!("auth {name} command does not accept any arguments")));
    }
    match command {
        Command::Enable { .. } => {
            context.limited(enable(&context.cluster())).await?;
            print(b"Authentication Enabled\n")
        }
        Command::Disable { .. } => {
            context.call(&AUTH_DISABLE, AuthDisableRequest {}).await?;
            print(b"Authentication Disabled\n")
        }
        Command::Status { .. } => context.print(&context.call(&AUTH_STATUS, AuthStatusRequest {}).await?),
    }
}

/// Gives the user root its role if that is all that is missing.
async fn enable(cluster: &Cluster) -> Result<(), Failure> {
    match cluster.call(&AUTH_ENABLE, AuthEnableRequest {}).await {
        Err(failure) if failure.text == "etcdserver: root user does not have root role" => {}
        done => return done.map(|_| ()),
    }
    let root = || "root".to_owned();
    cluster.call(&ROLE_ADD, AuthRoleAddRequest { name: root() }).await?;
    cluster.call(&USER_GRANT_ROLE, AuthUserGrantRoleRequest { user: root(), role: root() }).await?;
    cluster.call(&AUTH_ENABLE, AuthEnableRequest {}).await.map(|_| ())
}

impl Report for AuthStatusResponse {
    fn simple(&self, out: &mut Text) {
        out.line(format_args!("Authentication Status: {}", self.enabled));
        out.line(format_args!("AuthRevision: {}", self.auth_revision));
    }

    fn json(&self, _hex: bool) -> Json {
        Json::object()
            .nonzero("header", self.header.as_ref())
            .nonzero("enabled", self.enabled)
            .nonzero("authRevision", self.auth_revision)
    }

    fn message(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}
