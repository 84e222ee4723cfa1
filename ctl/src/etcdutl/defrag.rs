//! `defrag`: a stopped etcd's database, written anew without its free pages.

use super::files::{self, failed};
use crate::failure::Failure;
use crate::quote;
use plinth_bbolt::copy::Changes;
use std::path::Path;
use std::time::{Duration, Instant};

/// Runs the command.
pub(super) fn run(data_dir: &Path, timeout: Duration) -> Result<(), Failure> {
    // A directory of this program has no such file, and needs none of it: free pages are given back while it runs.
    if data_dir.join("member").join("data.plinth").exists() {
        eprintln!("{}: a data directory of Plinth, which gives free pages back by itself", data_dir.display());
        return Ok(());
    }
    let start = Instant::now();
    let failed =
        |failure: Failure| failed(format!("Failed to defragment etcd data[{}] ({})", data_dir.display(), failure.text));
    let database = files::open(&files::database_of(data_dir), timeout).map_err(failed)?;
    let done = database.rewrite(&Changes::default()).map_err(failed)?;
    eprintln!(
        "finished defragmenting directory: path={} size-before={} size-after={} took={:?}",
        data_dir.display(),
        quote::size(done.before),
        quote::size(done.after),
        start.elapsed()
    );
    Ok(())
}
