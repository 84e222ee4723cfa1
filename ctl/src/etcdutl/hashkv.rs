//! `hashkv`: the hash of the history in a file.

use super::files::{self, failed};
use crate::failure::Failure;
use crate::output::json::Json;
use crate::output::table::Table;
use crate::output::{Report, Text};
use plinth_bbolt::Database;
use plinth_bbolt::hash::{HashKv, hash_kv};
use std::path::Path;
use std::time::Duration;

/// Reads the file at `path`, up to a revision.
pub(super) fn of(path: &Path, revision: i64, timeout: Duration) -> Result<Found, Failure> {
    let locked = files::open(path, timeout)?;
    let database = Database::open(&locked.file).map_err(failed)?;
    Ok(Found(hash_kv(&database, revision).map_err(failed)?))
}

/// What was found.
pub(super) struct Found(HashKv);

impl Report for Found {
    fn simple(&self, out: &mut Text) {
        let HashKv { hash, revision, compact_revision } = self.0;
        out.line(format_args!("{hash}, {revision}, {compact_revision}"));
    }

    fn fields(&self, out: &mut Text) -> bool {
        out.field("Hash", self.0.hash);
        out.field("Hash revision", self.0.revision);
        out.field("Compact revision", self.0.compact_revision);
        true
    }

    fn json(&self, _hex: bool) -> Json {
        Json::object()
            .with("hash", Json::Number(i128::from(self.0.hash)))
            .with("hashRevision", Json::Number(i128::from(self.0.revision)))
            .with("compactRevision", Json::Number(i128::from(self.0.compact_revision)))
    }

    fn table(&self) -> Option<Table> {
        let mut table = Table::new(&["hash", "hash revision", "compact revision"]);
        let HashKv { hash, revision, compact_revision } = self.0;
        table.row(vec![hash.to_string(), revision.to_string(), compact_revision.to_string()]);
        Some(table)
    }
}
