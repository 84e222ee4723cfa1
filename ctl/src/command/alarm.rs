//! `alarm`: shows what members have raised, and disarms it.

use crate::context::Context;
use crate::failure::Failure;
use crate::output::json::Json;
use crate::output::{Report, Text};
use clap::Subcommand;
use plinth_api::methods::ALARM;
use plinth_api::proto::etcdserverpb::alarm_request::AlarmAction;
use plinth_api::proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmResponse};
use prost::Message;

/// Commands.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    List {
        /// Ignored
        #[arg(hide = true)]
        args: Vec<String>,
    },
    Disarm {
        /// Ignored
        #[arg(hide = true)]
        args: Vec<String>,
    },
}

/// The request for all alarms.
pub fn all() -> AlarmRequest {
    AlarmRequest { action: AlarmAction::Get.into(), ..AlarmRequest::default() }
}

/// Runs the command.
pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List { args } if !args.is_empty() => {
            Err(Failure::arguments("alarm list command accepts no arguments"))
        }
        Command::Disarm { args } if !args.is_empty() => {
            Err(Failure::arguments("alarm disarm command accepts no arguments"))
        }
        Command::List { .. } => context.print(&context.call(&ALARM, all()).await?),
        Command::Disarm { .. } => context.print(&context.limited(disarm(context)).await?),
    }
}

/// One by one, so the answer has no header.
async fn disarm(context: &Context) -> Result<AlarmResponse, Failure> {
    let cluster = context.cluster();
    let mut disarmed = AlarmResponse::default();
    for AlarmMember { member_id, alarm } in cluster.call(&ALARM, all()).await?.alarms {
        let request = AlarmRequest { action: AlarmAction::Deactivate.into(), member_id, alarm };
        disarmed.alarms.extend(cluster.call(&ALARM, request).await?.alarms);
    }
    Ok(disarmed)
}

impl Report for AlarmResponse {
    fn simple(&self, out: &mut Text) {
        for alarm in &self.alarms {
            out.line(format_args!("memberID:{} alarm:{}", alarm.member_id, alarm.alarm().as_str_name()));
        }
    }

    fn fields(&self, out: &mut Text) -> bool {
        out.header(self.header.as_ref());
        for alarm in &self.alarms {
            out.id("MemberID", alarm.member_id);
            out.field("AlarmType", alarm.alarm().as_str_name());
            out.line("");
        }
        true
    }

    fn json(&self, _hex: bool) -> Json {
        let alarm =
            |alarm: &AlarmMember| Json::object().nonzero("memberID", alarm.member_id).nonzero("alarm", alarm.alarm);
        Json::object().nonzero("header", self.header.as_ref()).nonzero("alarms", Json::list(&self.alarms, alarm))
    }

    fn message(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Format, rendered};
    use plinth_api::proto::etcdserverpb::AlarmType;

    #[test]
    fn an_alarm() {
        let alarms = vec![AlarmMember { member_id: 12, alarm: AlarmType::Nospace.into() }];
        let answer = AlarmResponse { header: None, alarms };
        assert_eq!(rendered(&answer, Format::Simple), "memberID:12 alarm:NOSPACE\n");
        assert_eq!(rendered(&answer, Format::Json), "{\"alarms\":[{\"memberID\":12,\"alarm\":1}]}\n");
    }
}
