//! `del`: deletes a key or a range. A range given by its end alone waits two seconds, as it may be a mistake.

use crate::context::Context;
use crate::failure::Failure;
use crate::flags::key_range;
use crate::output::json::Json;
use crate::output::{Report, Text};
use crate::quote;
use plinth_api::methods::DELETE_RANGE;
use plinth_api::proto::etcdserverpb::{DeleteRangeRequest, DeleteRangeResponse};
use prost::Message;
use std::ffi::OsString;
use std::time::Duration;

/// Time to think again.
const PAUSE: Duration = Duration::from_secs(2);

/// Arguments.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Args {
    /// All keys that start with the key.
    #[arg(long)]
    prefix: bool,
    /// Print the deleted pairs.
    #[arg(long)]
    prev_kv: bool,
    /// All keys from the key on.
    #[arg(long)]
    from_key: bool,
    /// The range is meant: no warning.
    #[arg(long)]
    range: bool,
    /// key [range_end]
    #[arg(value_name = "KEY [RANGE_END]")]
    args: Vec<OsString>,
}

impl Args {
    /// The request these arguments ask for.
    pub fn request(&self) -> Result<DeleteRangeRequest, Failure> {
        if self.args.is_empty() || self.args.len() > 2 {
            let text = "del command needs one argument as key and an optional argument as range_end";
            return Err(Failure::arguments(text));
        }
        if self.prefix && self.from_key {
            let text = "`--prefix` and `--from-key` cannot be set at the same time, choose one";
            return Err(Failure::arguments(text));
        }
        if self.args.len() == 2 && (self.prefix || self.from_key) {
            let text = "too many arguments, only accept one argument when `--prefix` or `--from-key` is set";
            return Err(Failure::arguments(text));
        }
        let (key, range_end) = key_range(&self.args, self.prefix, self.from_key);
        Ok(DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: self.prev_kv })
    }

    /// Warns of a range that may be a mistake, and leaves time to stop.
    pub async fn think_again(&self) {
        let ([key, end], false) = (self.args.as_slice(), self.range) else { return };
        eprintln!(
            "Warning: Keys between {} and {} will be deleted. Please interrupt the command within next 2 seconds to \
             cancel. You can provide `--range` flag to avoid the delay.",
            quote::quoted(key.as_encoded_bytes()),
            quote::quoted(end.as_encoded_bytes()),
        );
        tokio::time::sleep(PAUSE).await;
    }
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let request = args.request()?;
    args.think_again().await;
    let answer = context.call(&DELETE_RANGE, request).await?;
    context.print(&answer)
}

impl Report for DeleteRangeResponse {
    fn simple(&self, out: &mut Text) {
        out.line(self.deleted);
        self.prev_kvs.iter().for_each(|kv| out.pair(kv));
    }

    fn fields(&self, out: &mut Text) -> bool {
        out.header(self.header.as_ref());
        out.field("Deleted", self.deleted);
        self.prev_kvs.iter().for_each(|kv| out.kv("Prev", kv));
        true
    }

    fn json(&self, _hex: bool) -> Json {
        Json::object()
            .nonzero("header", self.header.as_ref())
            .nonzero("deleted", self.deleted)
            .nonzero("prev_kvs", Json::list(&self.prev_kvs, |kv| kv.into()))
    }

    fn message(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}
