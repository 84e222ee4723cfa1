//! `endpoint hashkv`: a hash over keys and values up to a revision, to compare members with.

use crate::context::Context;
use crate::failure::Failure;
use crate::output::json::Json;
use crate::output::table::Table;
use crate::output::{Report, Text};
use plinth_api::methods::HASH_KV;
use plinth_api::proto::etcdserverpb::{HashKvRequest, HashKvResponse};

/// Asks one endpoint after the other; shows those that answered.
pub async fn run(context: &Context, endpoints: Vec<String>, revision: i64) -> Result<(), Failure> {
    let (mut list, mut failed) = (Vec::new(), None);
    for endpoint in endpoints {
        match context.limited(context.only(&endpoint).call(&HASH_KV, HashKvRequest { revision })).await {
            Ok(hash) => list.push((endpoint, hash)),
            Err(failure) => {
                eprintln!("Failed to get the hash of endpoint {endpoint} ({})", failure.text);
                failed = Some(failure);
            }
        }
    }
    context.print(&List(list))?;
    failed.map_or(Ok(()), Err)
}

struct List(Vec<(String, HashKvResponse)>);

impl Report for List {
    fn simple(&self, out: &mut Text) {
        for (endpoint, hash) in &self.0 {
            out.line(format_args!("{endpoint}, {}, {}", hash.hash, hash.hash_revision));
        }
    }

    fn fields(&self, out: &mut Text) -> bool {
        for (endpoint, hash) in &self.0 {
            out.header(hash.header.as_ref());
            out.quoted("Endpoint", endpoint.as_bytes());
            out.field("Hash", hash.hash);
            out.field("HashRevision", hash.hash_revision);
            out.line("");
        }
        true
    }

    fn json(&self, _hex: bool) -> Json {
        let json = |hash: &HashKvResponse| {
            Json::object()
                .nonzero("header", hash.header.as_ref())
                .nonzero("hash", hash.hash)
                .nonzero("compact_revision", hash.compact_revision)
                .nonzero("hash_revision", hash.hash_revision)
        };
        Json::list_or_null(&self.0, |(endpoint, hash)| {
            Json::object().with("Endpoint", endpoint.as_str()).with("HashKV", json(hash))
        })
    }

    fn table(&self) -> Option<Table> {
        let mut table = Table::new(&["endpoint", "hash", "hash_revision"]);
        for (endpoint, hash) in &self.0 {
            table.row(vec![endpoint.clone(), hash.hash.to_string(), hash.hash_revision.to_string()]);
        }
        Some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Format, rendered};

    #[test]
    fn formats() {
        let hash = HashKvResponse { header: None, hash: 7, compact_revision: 2, hash_revision: 5 };
        let list = List(vec![("a:1".to_owned(), hash)]);
        assert_eq!(rendered(&list, Format::Simple), "a:1, 7, 5\n");
        let json = "[{\"Endpoint\":\"a:1\",\"HashKV\":{\"hash\":7,\"compact_revision\":2,\"hash_revision\":5}}]\n";
        assert_eq!(rendered(&list, Format::Json), json);
        let table = "┌──────────┬──────┬───────────────┐\n│ ENDPOINT │ HASH │ HASH REVISION │\n\
                     ├──────────┼──────┼───────────────┤\n│      a:1 │    7 │             5 │\n\
                     └──────────┴──────┴───────────────┘\n";
        assert_eq!(rendered(&list, Format::Table), table);
    }
}
