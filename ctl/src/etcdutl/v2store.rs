//! `check v2store`: whether a stopped etcd still holds data of the v2 API, which 3.6 does not start with.
//!
//! Looked at are the tree in the newest `.snap` that is whole, and requests in the log behind it. A member's attributes and
//! the cluster's version were v2 requests up to 3.4: these are etcd's own.

use super::files::failed;
use super::required;
use crate::etcd_dir;
use crate::failure::Failure;
use crate::output::print::print;
use plinth_api::wire::bytes_field;
use plinth_bbolt::wal::{Entry, EntryType, v2_request};
use std::path::PathBuf;

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    /// The data directory
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The log's folder, if it is not in the data directory
    #[arg(long)]
    wal_dir: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let data_dir = required(args.data_dir, "data-dir")?;
    let member = data_dir.join("member");
    let newest = etcd_dir::newest(&member.join("snap"))?;
    let in_tree = match &newest {
        Some(snap) => snap.has_custom_content().map_err(failed)?,
        None => false,
    };
    let wal = args.wal_dir.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| member.join("wal"));
    let from = newest.map_or(0, |snap| snap.index);
    let in_log = etcd_dir::read_log(&wal)?.entries.iter().any(|entry| entry.index > from && is_custom(entry));
    match (in_tree, in_log) {
        (false, false) => print(b"No custom content found in both v2store and WAL records.\n"),
        (true, false) => Err(failed("detected custom content in v2store")),
        (false, true) => Err(failed("detected custom v2 content in WAL records")),
        (true, true) => Err(failed("detected custom v2 content in both v2store and WAL records")),
    }
}

/// Whether an entry is a request of the v2 API that is not etcd's own.
fn is_custom(entry: &Entry) -> bool {
    if entry.kind != EntryType::Normal {
        return false;
    }
    let Some(request) = v2_request(&entry.data) else { return false };
    let text =
        |number| bytes_field(request, number).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
    let (method, path) = (text(2), text(3));
    let is_own = path == "/0/version" || (path.starts_with("/0/members/") && path.ends_with("/attributes"));
    !(method == "PUT" && is_own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_api::wire::{field_bytes, field_message};

    #[test]
    fn requests_of_etcd_itself_are_no_content() {
        for (method, path, is_content) in [
            ("PUT", "/0/version", false),
            ("PUT", "/0/members/8e9e05c52164694d/attributes", false),
            ("PUT", "/1/mine", true),
            ("DELETE", "/0/version", true),
            ("SYNC", "", true),
        ] {
            let mut data = Vec::new();
            field_message(&mut data, 2, |out| {
                field_bytes(out, 2, method.as_bytes());
                field_bytes(out, 3, path.as_bytes());
            });
            let entry = Entry { index: 1, term: 1, kind: EntryType::Normal, data };
            assert_eq!(is_custom(&entry), is_content, "{method} {path}");
            let bare = bytes_field(&entry.data, 2).expect("written above").to_vec();
            assert_eq!(is_custom(&Entry { data: bare, ..entry.clone() }), is_content, "bare {method} {path}");
            assert!(!is_custom(&Entry { kind: EntryType::ConfChange, ..entry }));
        }
        assert!(!is_custom(&Entry { index: 1, term: 1, kind: EntryType::Normal, data: Vec::new() }));
    }
}
