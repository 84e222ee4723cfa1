//! `move-leader`: has the leader, which must be among the endpoints, hand over to another member.

use crate::context::Context;
use crate::failure::Failure;
use crate::output::json::Json;
use crate::output::{Report, Text};
use crate::quote::parse_uint;
use plinth_api::methods::{MOVE_LEADER, STATUS};
use plinth_api::proto::etcdserverpb::{MoveLeaderRequest, MoveLeaderResponse, StatusRequest};
use prost::Message;

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Id of the member
    #[arg(value_name = "MEMBER")]
    args: Vec<String>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let [target] = args.args.as_slice() else {
        return Err(Failure::arguments("move-leader command needs 1 argument"));
    };
    let target = parse_uint(target, 16).map_err(Failure::arguments)?;
    context.print(&context.limited(transfer(context, target)).await?)
}

async fn transfer(context: &Context, target: u64) -> Result<Moved, Failure> {
    for endpoint in &context.endpoints {
        let server = context.only(endpoint);
        let status = server.call(&STATUS, StatusRequest {}).await?;
        if status.header.is_some_and(|header| header.member_id == status.leader) {
            let answer = server.call(&MOVE_LEADER, MoveLeaderRequest { target_id: target }).await?;
            return Ok(Moved { leader: status.leader, target, answer });
        }
    }
    Err(Failure::arguments(format!("no leader endpoint given at [{}]", context.endpoints.join(" "))))
}

struct Moved {
    leader: u64,
    target: u64,
    answer: MoveLeaderResponse,
}

impl Report for Moved {
    fn simple(&self, out: &mut Text) {
        out.line(format_args!("Leadership transferred from {:x} to {:x}", self.leader, self.target));
    }

    fn json(&self, _hex: bool) -> Json {
        Json::object().nonzero("header", self.answer.header.as_ref())
    }

    fn message(&self) -> Option<Vec<u8>> {
        Some(self.answer.encode_to_vec())
    }
}
