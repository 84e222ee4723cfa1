//! `get`: reads a key or a range. Its output form is also that of `lock`, `elect` and of gets inside a `txn`.

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::flags::{key_range, serializable};
use crate::output::json::Json;
use crate::output::{Format, Report, Text};
use crate::quote::parse_flag_int;
use plinth_api::methods::{RANGE, RANGE_STREAM};
use plinth_api::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use plinth_api::proto::etcdserverpb::{RangeRequest, RangeResponse};
use prost::Message;
use std::ffi::OsString;

/// Arguments.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Args {
    /// Linearizable (l) or serializable (s).
    #[arg(long, default_value = "l")]
    consistency: String,
    /// Order of results: ASCEND or DESCEND.
    #[arg(long, default_value = "")]
    order: String,
    /// Sort by CREATE, KEY, MODIFY, VALUE or VERSION.
    #[arg(long, default_value = "")]
    sort_by: String,
    /// At most this many; 0 is all.
    #[arg(long, default_value = "0", value_parser = parse_flag_int)]
    limit: i64,
    /// All keys that start with the key.
    #[arg(long)]
    prefix: bool,
    /// All keys from the key on.
    #[arg(long)]
    from_key: bool,
    /// At this revision; 0 is now.
    #[arg(long, default_value = "0", value_parser = parse_flag_int)]
    rev: i64,
    /// No values.
    #[arg(long)]
    keys_only: bool,
    /// The number of keys only (with -w fields).
    #[arg(long)]
    count_only: bool,
    /// Values only (with -w simple).
    #[arg(long)]
    print_value_only: bool,
    /// Created at this revision or later.
    #[arg(long, default_value = "0", value_parser = parse_flag_int)]
    min_create_rev: i64,
    /// Created at this revision or earlier.
    #[arg(long, default_value = "0", value_parser = parse_flag_int)]
    max_create_rev: i64,
    /// Modified at this revision or later.
    #[arg(long, default_value = "0", value_parser = parse_flag_int)]
    min_mod_rev: i64,
    /// Modified at this revision or earlier.
    #[arg(long, default_value = "0", value_parser = parse_flag_int)]
    max_mod_rev: i64,
    /// Get the answer in pieces (RangeStream).
    #[arg(long)]
    stream: bool,
    /// key [range_end]
    #[arg(value_name = "KEY [RANGE_END]")]
    args: Vec<OsString>,
}

impl Args {
    /// The request these arguments ask for.
    pub fn request(&self) -> Result<RangeRequest, Failure> {
        self.check()?;
        let serializable = serializable(&self.consistency)?;
        let (key, range_end) = key_range(&self.args, self.prefix, self.from_key);
        Ok(RangeRequest {
            key: key.into(),
            range_end: range_end.into(),
            limit: self.limit,
            revision: self.rev,
            sort_order: self.sort_order()?.into(),
            sort_target: self.sort_target()?.into(),
            serializable,
            keys_only: self.keys_only,
            count_only: self.count_only,
            min_mod_revision: self.min_mod_rev,
            max_mod_revision: self.max_mod_rev,
            min_create_revision: self.min_create_rev,
            max_create_revision: self.max_create_rev,
        })
    }

    fn check(&self) -> Result<(), Failure> {
        let refuse = |text: &str| Err(Failure::arguments(text));
        if self.args.is_empty() {
            return refuse("get command needs one argument as key and an optional argument as range_end");
        }
        if self.prefix && self.from_key {
            return refuse("`--prefix` and `--from-key` cannot be set at the same time, choose one");
        }
        if self.keys_only && self.count_only {
            return refuse("`--keys-only` and `--count-only` cannot be set at the same time, choose one");
        }
        if self.args.len() > 1 && (self.prefix || self.from_key) {
            return refuse("too many arguments, only accept one argument when `--prefix` or `--from-key` is set");
        }
        for (name, min, max) in
            [("Create", self.min_create_rev, self.max_create_rev), ("Mod", self.min_mod_rev, self.max_mod_rev)]
        {
            if max > 0 && min > max {
                let text = format!("getMin{name}Rev(={min}) > getMax{name}Rev(={max})");
                return Err(Failure::new(Exit::BadFeature, text));
            }
        }
        Ok(())
    }

    fn sort_order(&self) -> Result<SortOrder, Failure> {
        match self.order.to_uppercase().as_str() {
            "" => Ok(SortOrder::None),
            "ASCEND" => Ok(SortOrder::Ascend),
            "DESCEND" => Ok(SortOrder::Descend),
            _ => Err(Failure::new(Exit::BadFeature, format!("bad sort order {}", self.order))),
        }
    }

    fn sort_target(&self) -> Result<SortTarget, Failure> {
        match self.sort_by.to_uppercase().as_str() {
            "" | "KEY" => Ok(SortTarget::Key),
            "CREATE" => Ok(SortTarget::Create),
            "MODIFY" => Ok(SortTarget::Mod),
            "VALUE" => Ok(SortTarget::Value),
            "VERSION" => Ok(SortTarget::Version),
            _ => Err(Failure::new(Exit::BadFeature, format!("bad sort target {}", self.sort_by))),
        }
    }
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let request = args.request()?;
    let answer = match args.stream {
        true => context.limited(streamed(context, request)).await?,
        false => context.call(&RANGE, request).await?,
    };
    if args.count_only && context.format != Format::Fields {
        return Err(Failure::arguments("--count-only is only for `--write-out=fields`"));
    }
    if args.print_value_only && context.format != Format::Simple {
        return Err(Failure::arguments("print-value-only is only for `--write-out=simple`"));
    }
    if args.print_value_only {
        let mut out = Text { bytes: Vec::new(), hex: context.hex };
        answer.kvs.iter().for_each(|kv| out.bytes_line(&kv.value));
        return crate::output::print::print(&out.bytes);
    }
    context.print(&answer)
}

/// The pieces of a streamed answer, put together.
async fn streamed(context: &Context, request: RangeRequest) -> Result<RangeResponse, Failure> {
    let mut pieces = context.cluster().client().await?.server_stream(&RANGE_STREAM, request).await?;
    let mut whole = RangeResponse::default();
    while let Some(piece) = pieces.message().await? {
        let Some(piece) = piece.range_response else { continue };
        whole.header = piece.header.or(whole.header);
        whole.kvs.extend(piece.kvs);
        whole.more |= piece.more;
        whole.count = if piece.count == 0 { whole.count } else { piece.count };
    }
    Ok(whole)
}

impl Report for RangeResponse {
    fn simple(&self, out: &mut Text) {
        self.kvs.iter().for_each(|kv| out.pair(kv));
    }

    fn fields(&self, out: &mut Text) -> bool {
        out.header(self.header.as_ref());
        self.kvs.iter().for_each(|kv| out.kv("", kv));
        out.field("More", self.more);
        out.field("Count", self.count);
        true
    }

    fn json(&self, _hex: bool) -> Json {
        Json::object()
            .nonzero("header", self.header.as_ref())
            .nonzero("kvs", Json::list(&self.kvs, |kv| kv.into()))
            .nonzero("more", self.more)
            .nonzero("count", self.count)
    }

    fn message(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::rendered;
    use plinth_api::proto::etcdserverpb::ResponseHeader;
    use plinth_api::proto::mvccpb::KeyValue;

    #[test]
    fn formats() {
        let kv =
            KeyValue { create_revision: 2, mod_revision: 3, version: 2, key: "a".into(), value: "1".into(), lease: 0 };
        let header = ResponseHeader { cluster_id: 1, member_id: 2, revision: 3, raft_term: 4 };
        let answer = RangeResponse { header: Some(header), kvs: vec![kv], more: false, count: 1 };
        assert_eq!(rendered(&answer, Format::Simple), "a\n1\n");
        let fields = "\"ClusterID\" : 1\n\"MemberID\" : 2\n\"Revision\" : 3\n\"RaftTerm\" : 4\n\"Key\" : \"a\"\n\
                      \"CreateRevision\" : 2\n\"ModRevision\" : 3\n\"Version\" : 2\n\"Value\" : \"1\"\n\"Lease\" : 0\n\
                      \"More\" : false\n\"Count\" : 1\n";
        assert_eq!(rendered(&answer, Format::Fields), fields);
        let json = "{\"header\":{\"cluster_id\":1,\"member_id\":2,\"revision\":3,\"raft_term\":4},\"kvs\":[{\"key\":\"YQ==\",\
                    \"create_revision\":2,\"mod_revision\":3,\"version\":2,\"value\":\"MQ==\"}],\"count\":1}\n";
        assert_eq!(rendered(&answer, Format::Json), json);
    }
}
