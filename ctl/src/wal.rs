//! `plinth wal`: looks at the log of a stopped server, says whether it would open, and repairs it.
//!
//! Reading changes nothing. A repair drops records, so it shows its plan and wants `--yes`; what it drops stays beside
//! the log in files whose names it prints.

use crate::failure::{Exit, Failure};
use crate::output::print::print;
use clap::{Parser, Subcommand};
use plinth_wal::inspect::{Inspection, inspect, verify};
use plinth_wal::repair::{RepairPlan, RepairStep, plan, repair};
use plinth_wal::{Directory, RecoveryReport};
use serde_json::json;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Parser, Debug)]
#[command(name = "plinth wal", about = "Works on the log folder of a stopped server", subcommand_required = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Sums up what the log holds
    Inspect {
        /// One JSON object.
        #[arg(long)]
        json: bool,
        folder: PathBuf,
    },
    /// Says whether the log would open; exit code 1 if not
    Verify { folder: PathBuf },
    /// Shows what a repair would drop, and with --yes does it
    Repair {
        /// Make the repair.
        #[arg(long)]
        yes: bool,
        folder: PathBuf,
    },
}

/// Runs `plinth wal` with the arguments behind it.
pub fn main(args: Vec<String>) -> ExitCode {
    let cli = match Cli::try_parse_from(std::iter::once("plinth wal".to_owned()).chain(args)) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::BadArguments.code() } else { 0 });
        }
    };
    let done = match cli.command {
        Command::Inspect { json, folder } => run_inspect(&folder, json),
        Command::Verify { folder } => run_verify(&folder),
        Command::Repair { yes, folder } => run_repair(&folder, yes),
    };
    done.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Error, error.to_string())
}

/// Opens a folder that is there: the log must not be made by looking at it.
fn open(folder: &Path) -> Result<Directory, Failure> {
    if !folder.is_dir() {
        return Err(failed(format_args!("{}: not a folder", folder.display())));
    }
    Directory::open(folder).map_err(failed)
}

fn run_inspect(folder: &Path, json: bool) -> Result<(), Failure> {
    let inspection = inspect(&mut open(folder)?).map_err(failed)?;
    let text = if json { format!("{}\n", as_json(&inspection)) } else { as_text(&inspection) };
    print(text.as_bytes())
}

fn run_verify(folder: &Path) -> Result<(), Failure> {
    let report = verify(&mut open(folder)?).map_err(failed)?;
    print(format!("sound: {}\n", end_text(&report)).as_bytes())
}

fn run_repair(folder: &Path, yes: bool) -> Result<(), Failure> {
    let mut store = open(folder)?;
    let Some(first) = plan(&mut store).map_err(failed)? else {
        return print(b"nothing to repair\n");
    };
    print(plan_text(&first).as_bytes())?;
    if !yes {
        return Err(failed("nothing was changed; stop the server, keep a copy of the folder, and repeat with --yes"));
    }
    let report = repair(&mut store).map_err(failed)?;
    let mut text = String::new();
    for later in report.plans.iter().skip(1) {
        text += &plan_text(later);
    }
    for name in &report.kept {
        let _ = writeln!(text, "kept {name}");
    }
    let _ = match &report.outcome {
        Some(outcome) => writeln!(text, "repaired: {}", end_text(outcome)),
        None => writeln!(text, "repaired: no segment is left; the next start begins a new log"),
    };
    print(text.as_bytes())
}

fn plan_text(plan: &RepairPlan) -> String {
    let mut text = format!("problem: {}\n", plan.problem);
    for step in &plan.steps {
        let _ = match step {
            RepairStep::SetAside(segment) => writeln!(text, "  set aside {segment}"),
            RepairStep::Copy(segment) => writeln!(text, "  keep a copy of {segment}"),
            RepairStep::Erase(range) => writeln!(text, "  erase {} bytes {}..{}", range.segment, range.from, range.to),
            RepairStep::Make(header) => writeln!(text, "  make {} empty", header.seq),
        };
    }
    text
}

fn end_text(report: &RecoveryReport) -> String {
    let first = report.first.map_or("none".to_owned(), |first| first.to_string());
    let RecoveryReport { segment, offset, last, end, .. } = report;
    let mut text = format!("{end} in {segment} at {offset}, records {first}..{last}");
    for range in &report.erased {
        let _ = write!(text, ", {} bytes {}..{} are left from unfinished writes", range.segment, range.from, range.to);
    }
    text
}

fn as_text(inspection: &Inspection) -> String {
    let mut text = String::new();
    for (segment, bytes) in &inspection.files {
        let _ = match inspection.segments.iter().find(|scan| scan.header.seq == *segment) {
            Some(scan) => {
                let sealed = if scan.sealed { ", sealed" } else { "" };
                writeln!(text, "{segment} {bytes} bytes, {} records, end at {}{sealed}", scan.records, scan.end)
            }
            None => writeln!(text, "{segment} {bytes} bytes, not read"),
        };
    }
    for ((group, kind), sum) in &inspection.contents {
        let _ = writeln!(
            text,
            "group {group} {kind:?}: {} records, {} bytes, {}..{}",
            sum.records, sum.payload_bytes, sum.first, sum.last
        );
    }
    let _ = match &inspection.outcome {
        Ok(report) => writeln!(text, "sound: {}", end_text(report)),
        Err(error) => writeln!(text, "refused: {error}"),
    };
    text
}

fn as_json(inspection: &Inspection) -> serde_json::Value {
    let segments: Vec<_> = inspection
        .files
        .iter()
        .map(|(segment, bytes)| {
            let scan = inspection.segments.iter().find(|scan| scan.header.seq == *segment);
            json!({
                "file": segment.to_string(),
                "bytes": bytes,
                "records": scan.map(|scan| scan.records),
                "payload_bytes": scan.map(|scan| scan.payload_bytes),
                "end": scan.map(|scan| scan.end),
                "sealed": scan.map(|scan| scan.sealed),
            })
        })
        .collect();
    let contents: Vec<_> = inspection
        .contents
        .iter()
        .map(|((group, kind), sum)| {
            json!({
                "group": group.0, "kind": format!("{kind:?}"), "records": sum.records,
                "payload_bytes": sum.payload_bytes, "first": sum.first.to_string(), "last": sum.last.to_string(),
            })
        })
        .collect();
    let outcome = match &inspection.outcome {
        Ok(report) => json!({
            "sound": true, "segment": report.segment.to_string(), "offset": report.offset, "end": report.end,
            "first": report.first.map(|first| first.to_string()), "last": report.last.to_string(),
        }),
        Err(error) => json!({ "sound": false, "error": error.to_string() }),
    };
    json!({ "segments": segments, "contents": contents, "outcome": outcome })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_log_is_refused_and_left_empty() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(run_verify(folder.path()).is_err());
        assert!(run_verify(&folder.path().join("none")).is_err());
        assert_eq!(folder.path().read_dir().expect("readable").count(), 0);
    }

    #[test]
    fn a_broken_segment_is_shown_and_repaired_only_when_told() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join(format!("{:016x}.wal", 1));
        std::fs::write(&file, vec![7; 8192]).expect("writable");
        let inspection = inspect(&mut open(folder.path()).expect("opens")).expect("reads");
        assert_eq!(as_json(&inspection)["outcome"]["sound"], false);
        assert!(as_text(&inspection).contains("refused: "), "{}", as_text(&inspection));
        assert!(run_repair(folder.path(), false).is_err());
        assert!(file.exists(), "nothing happens without --yes");
        run_repair(folder.path(), true).expect("repairs");
        assert!(!file.exists(), "the segment was set aside");
    }
}
