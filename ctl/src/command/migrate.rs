//! `migrate`: how far a standby of another cluster is, and the moment when it takes over. Not one of etcd's commands.

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::json::Json;
use crate::output::{Report, Text};
use clap::Subcommand;
use plinth_api::methods::{ABORT, CUT_OVER, MIGRATION_STATUS};
use plinth_api::proto::plinthpb::{MigrationRequest, MigrationStatus};
use prost::Message;

/// Commands.
#[derive(Subcommand, Clone, Copy, Debug)]
pub enum Command {
    /// How far it is
    Status,
    /// Stops the other cluster, takes over from it, and waits until that is done
    CutOver,
    /// Gives a cut-over up, and lets the other cluster go on
    Abort,
}

/// Runs the command.
pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let answer = match command {
        Command::Status => context.call(&MIGRATION_STATUS, MigrationRequest {}).await?,
        Command::CutOver => wish(context, &CUT_OVER).await?,
        Command::Abort => wish(context, &ABORT).await?,
    };
    let (has_ended, problem) = (answer.phase == "ended", answer.problem.clone());
    context.print(&answer)?;
    match command {
        Command::CutOver if !has_ended => Err(Failure::new(Exit::Error, problem)),
        _ => Ok(()),
    }
}

/// Without a limit of the user's own, it takes as long as it takes.
async fn wish(
    context: &Context,
    method: &plinth_api::methods::Method<MigrationRequest, MigrationStatus>,
) -> Result<MigrationStatus, Failure> {
    match context.command_timeout_given {
        true => context.call(method, MigrationRequest {}).await,
        false => context.cluster().call(method, MigrationRequest {}).await,
    }
}

impl Report for MigrationStatus {
    fn simple(&self, out: &mut Text) {
        let behind = (self.source_revision - self.revision).max(0);
        match self.phase.as_str() {
            "none" => return out.line("follows no cluster"),
            "ended" => {
                let paused = self.paused_millis as f64 / 1000.0;
                out.line(format_args!("took over at revision {}, after a pause of {paused:.1}s", self.revision));
            }
            phase => out.line(format_args!(
                "{phase} cluster {:x} at {}: revision {}, {behind} behind for {:.1}s, compared at {}",
                self.source_cluster_id,
                self.source,
                self.revision,
                self.lag_millis as f64 / 1000.0,
                self.compared_revision
            )),
        }
        if !self.problem.is_empty() {
            out.line(format_args!("problem: {}", self.problem));
        }
    }

    fn fields(&self, out: &mut Text) -> bool {
        out.field("Phase", &self.phase);
        out.field("Source", &self.source);
        out.id("SourceClusterID", self.source_cluster_id);
        out.field("Revision", self.revision);
        out.field("SourceRevision", self.source_revision);
        out.field("LagMillis", self.lag_millis);
        out.field("ComparedRevision", self.compared_revision);
        out.field("PausedMillis", self.paused_millis);
        out.field("Problem", &self.problem);
        true
    }

    fn json(&self, _hex: bool) -> Json {
        Json::object()
            .nonzero("phase", self.phase.as_str())
            .nonzero("source", self.source.as_str())
            .nonzero("source_cluster_id", self.source_cluster_id)
            .nonzero("revision", self.revision)
            .nonzero("source_revision", self.source_revision)
            .nonzero("lag_millis", self.lag_millis)
            .nonzero("compared_revision", self.compared_revision)
            .nonzero("paused_millis", self.paused_millis)
            .nonzero("problem", self.problem.as_str())
    }

    fn message(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Format, rendered};

    #[test]
    fn what_people_read() {
        let following = MigrationStatus {
            phase: "following".into(),
            source: "https://old1:2379".into(),
            source_cluster_id: 0xab,
            revision: 7,
            source_revision: 9,
            lag_millis: 1500,
            compared_revision: 5,
            ..MigrationStatus::default()
        };
        let text = "following cluster ab at https://old1:2379: revision 7, 2 behind for 1.5s, compared at 5\n";
        assert_eq!(rendered(&following, Format::Simple), text);
        let ended = MigrationStatus { phase: "ended".into(), revision: 9, paused_millis: 2140, ..following };
        assert_eq!(rendered(&ended, Format::Simple), "took over at revision 9, after a pause of 2.1s\n");
        assert_eq!(
            rendered(&MigrationStatus { phase: "none".into(), ..ended }, Format::Simple),
            "follows no cluster\n"
        );
    }
}
