//! `snapshot status`: what a snapshot holds, and whether it is whole.

use crate::failure::{Exit, Failure};
use crate::output::json::Json;
use crate::output::table::Table;
use crate::output::{Report, Text};
use crate::quote;
use plinth_bbolt::check::{self, Status};
use plinth_bbolt::{Database, DatabaseFile};
use std::fs::File;
use std::path::Path;

/// Reads the snapshot at `path`.
pub(super) fn of(path: &Path) -> Result<Found, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Error, error.to_string());
    let cannot = |error: std::io::Error| failed(&format_args!("stat {}: {}", path.display(), system_text(&error)));
    let source = File::open(path).and_then(DatabaseFile::whole).map_err(cannot)?;
    let database = Database::open(&source).map_err(|error| failed(&error))?;
    let errors = check::verify(&database);
    if !errors.is_empty() {
        let text =
            format!("snapshot file integrity check failed. {} errors found.\n{}", errors.len(), errors.join("\n"));
        return Err(Failure::new(Exit::Error, text));
    }
    Ok(Found(check::status(&database).map_err(|error| failed(&error))?))
}

fn system_text(error: &std::io::Error) -> String {
    crate::failure::system_text(error)
}

/// What was found.
pub(super) struct Found(Status);

impl Report for Found {
    fn simple(&self, out: &mut Text) {
        let Status { hash, revision, total_keys, total_bytes, version } = &self.0;
        out.line(format_args!("{hash:x}, {revision}, {total_keys}, {}, {version}", quote::size(*total_bytes)));
    }

    fn fields(&self, out: &mut Text) -> bool {
        out.field("Hash", self.0.hash);
        out.field("Revision", self.0.revision);
        out.field("Keys", self.0.total_keys);
        out.field("Size", self.0.total_bytes);
        out.field("Version", &self.0.version);
        true
    }

    fn json(&self, _hex: bool) -> Json {
        let number = |number: u64| Json::Number(i128::from(number));
        Json::object()
            .with("hash", number(u64::from(self.0.hash)))
            .with("revision", Json::Number(i128::from(self.0.revision)))
            .with("totalKey", number(self.0.total_keys))
            .with("totalSize", number(self.0.total_bytes))
            .with("version", self.0.version.as_str())
    }

    fn table(&self) -> Option<Table> {
        let mut table = Table::new(&["hash", "revision", "total keys", "total size", "version"]);
        let Status { hash, revision, total_keys, total_bytes, version } = &self.0;
        table.row(vec![
            format!("{hash:x}"),
            revision.to_string(),
            total_keys.to_string(),
            quote::size(*total_bytes),
            version.clone(),
        ]);
        Some(table)
    }
}
