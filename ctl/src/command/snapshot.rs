//! `snapshot save`: writes a member's state to a file, under another name until it is whole and on disk.

use crate::context::Context;
use crate::failure::{Exit, Failure, system_text};
use crate::output::print::print;
use crate::quote;
use clap::Subcommand;
use plinth_api::go::format_duration;
use plinth_api::methods::SNAPSHOT;
use plinth_api::proto::plinthpb::SnapshotRequest;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

/// A checksum stands behind the pages of a state, whose size is a multiple of a sector's.
const SECTOR_BYTES: u64 = 512;
const CHECKSUM_BYTES: u64 = 32;

/// Commands.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Saves a member's state to a file
    Save {
        /// Where to save
        #[arg(value_name = "FILE")]
        args: Vec<String>,
        /// Leave the keys of the v2 API out (Plinth only)
        #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
        without_v2: bool,
    },
}

/// Runs the command.
pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let Command::Save { args, without_v2 } = command;
    let [path] = args.as_slice() else {
        return Err(Failure::arguments("snapshot save expects one argument"));
    };
    let saved = save(context, path, SnapshotRequest { without_v2 });
    // Without a limit of the user's own, it takes as long as it takes.
    let saved = if context.command_timeout_given { context.limited(saved).await } else { saved.await };
    let version = saved.map_err(|failure| failure.exiting(Exit::Interrupted))?;
    print(format!("Snapshot saved at {path}\n").as_bytes())?;
    match version.as_str() {
        "" => Ok(()),
        version => print(format!("Server version {version}\n").as_bytes()),
    }
}

/// Removes an unfinished file.
struct Part<'a>(&'a str);

impl Drop for Part<'_> {
    fn drop(&mut self) {
        // A finished one has its name already.
        let _ = std::fs::remove_file(self.0);
    }
}

/// Saves, and tells the server's version.
async fn save(context: &Context, path: &str, request: SnapshotRequest) -> Result<String, Failure> {
    if context.endpoints.len() != 1 {
        let given = context.endpoints.join(" ");
        let text = format!("snapshot must be requested to one selected node, not multiple [{given}]");
        return Err(Failure::new(Exit::Interrupted, text));
    }
    let part_path = format!("{path}.part");
    let failed = |what: &str, error: std::io::Error| {
        Failure::new(Exit::Interrupted, format!("{what} ({})", system_text(&error)))
    };
    let part = Part(&part_path);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part_path).map_err(|error| {
            let text = format!("could not open {part_path} (open {part_path}: {})", system_text(&error));
            Failure::new(Exit::Interrupted, text)
        })?;
    log(json!({ "level": "info", "msg": "created temporary db file", "path": part_path }));
    let start = Instant::now();
    let (bytes, version) = fetch(context, request, &mut file).await?;
    if bytes % SECTOR_BYTES != CHECKSUM_BYTES {
        let text = format!("sha256 checksum not found [bytes: {bytes}]");
        return Err(Failure::new(Exit::Interrupted, text));
    }
    file.sync_all().map_err(|error| failed("could not fsync snapshot:", error))?;
    let (size, took) = (quote::size(bytes), format_duration(start.elapsed()));
    log(json!({ "level": "info", "msg": "fetched snapshot", "size": size, "took": took, "etcd-version": version }));
    std::fs::rename(&part_path, path)
        .map_err(|error| failed(&format!("could not rename {part_path} to {path}"), error))?;
    drop(part);
    sync_folder(path).map_err(|error| failed("could not fsync the folder of the snapshot:", error))?;
    log(json!({ "level": "info", "msg": "saved", "path": path }));
    Ok(version)
}

/// Writes what the server sends; its size, and the server's version.
async fn fetch(context: &Context, request: SnapshotRequest, file: &mut File) -> Result<(u64, String), Failure> {
    let mut pieces = context.cluster().client().await?.server_stream(&SNAPSHOT, request).await?;
    log(json!({ "level": "info", "msg": "fetching snapshot", "endpoint": context.endpoints[0] }));
    let (mut bytes, mut version) = (0, String::new());
    while let Some(piece) = pieces.message().await? {
        file.write_all(&piece.blob)
            .map_err(|error| Failure::new(Exit::Interrupted, format!("could not write snapshot: {error}")))?;
        bytes += piece.blob.len() as u64;
        if !piece.version.is_empty() {
            version = piece.version;
        }
    }
    Ok((bytes, version))
}

/// Makes the file's new name last.
fn sync_folder(path: &str) -> std::io::Result<()> {
    let folder = Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn log(line: Value) {
    eprintln!("{line}");
}
