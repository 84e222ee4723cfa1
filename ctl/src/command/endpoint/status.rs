//! `endpoint status`: versions, sizes, and where each endpoint stands in the log.

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::json::Json;
use crate::output::table::Table;
use crate::output::{Report, Text};
use crate::quote::size;
use plinth_api::methods::STATUS;
use plinth_api::proto::etcdserverpb::{StatusRequest, StatusResponse};

/// Columns.
const COLUMNS: [&str; 16] = [
    "endpoint",
    "ID",
    "version",
    "storage version",
    "db size",
    "in use",
    "percentage not in use",
    "quota",
    "is leader",
    "is learner",
    "raft term",
    "raft index",
    "raft applied index",
    "errors",
    "downgrade target version",
    "downgrade enabled",
];

/// Asks one endpoint after the other; shows those that answered.
pub async fn run(context: &Context, endpoints: Vec<String>) -> Result<(), Failure> {
    let (mut list, mut failed) = (Vec::new(), false);
    for endpoint in endpoints {
        match context.limited(context.only(&endpoint).call(&STATUS, StatusRequest {})).await {
            Ok(status) => list.push((endpoint, status)),
            Err(failure) => {
                eprintln!("Failed to get the status of endpoint {endpoint} ({})", failure.text);
                failed = true;
            }
        }
    }
    context.print(&List(list))?;
    if failed { Err(Failure::new(Exit::Error, "")) } else { Ok(()) }
}

struct List(Vec<(String, StatusResponse)>);

fn row(endpoint: &str, status: &StatusResponse) -> Vec<String> {
    let member = status.header.as_ref().map_or(0, |header| header.member_id);
    let bytes = |bytes: i64| size(bytes.max(0).cast_unsigned());
    let used = (status.db_size_in_use * 100).checked_div(status.db_size).unwrap_or(100);
    let (downgrade, target) = downgrade(status);
    vec![
        endpoint.to_owned(),
        format!("{member:x}"),
        status.version.clone(),
        status.storage_version.clone(),
        bytes(status.db_size),
        bytes(status.db_size_in_use),
        format!("{}%", 100 - used),
        bytes(status.db_size_quota),
        (status.leader == member).to_string(),
        status.is_learner.to_string(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        status.errors.join(", "),
        target.to_owned(),
        downgrade.to_string(),
    ]
}

/// Whether the cluster is going back to an earlier release, and which.
fn downgrade(status: &StatusResponse) -> (bool, &str) {
    status.downgrade_info.as_ref().map_or((false, ""), |info| (info.enabled, info.target_version.as_str()))
}

fn json(status: &StatusResponse) -> Json {
    let info = status.downgrade_info.as_ref().map(|info| {
        Json::object().nonzero("enabled", info.enabled).nonzero("targetVersion", info.target_version.as_str())
    });
    Json::object()
        .nonzero("header", status.header.as_ref())
        .nonzero("version", status.version.as_str())
        .nonzero("dbSize", status.db_size)
        .nonzero("leader", status.leader)
        .nonzero("raftIndex", status.raft_index)
        .nonzero("raftTerm", status.raft_term)
        .nonzero("raftAppliedIndex", status.raft_applied_index)
        .nonzero("errors", Json::list(&status.errors, |error| error.as_str().into()))
        .nonzero("dbSizeInUse", status.db_size_in_use)
        .nonzero("isLearner", status.is_learner)
        .nonzero("storageVersion", status.storage_version.as_str())
        .nonzero("dbSizeQuota", status.db_size_quota)
        .nonzero("downgradeInfo", info)
}

impl Report for List {
    fn simple(&self, out: &mut Text) {
        self.0.iter().for_each(|(endpoint, status)| out.line(row(endpoint, status).join(", ")));
    }

    fn fields(&self, out: &mut Text) -> bool {
        for (endpoint, status) in &self.0 {
            let (downgrade, target) = downgrade(status);
            out.header(status.header.as_ref());
            out.quoted("Version", status.version.as_bytes());
            out.quoted("StorageVersion", status.storage_version.as_bytes());
            out.field("DBSize", status.db_size);
            out.field("DBSizeInUse", status.db_size_in_use);
            out.field("DBSizeQuota", status.db_size_quota);
            out.field("Leader", status.leader);
            out.field("IsLearner", status.is_learner);
            out.field("RaftIndex", status.raft_index);
            out.field("RaftTerm", status.raft_term);
            out.field("RaftAppliedIndex", status.raft_applied_index);
            out.field("Errors", format_args!("[{}]", status.errors.join(" ")));
            out.quoted("Endpoint", endpoint.as_bytes());
            out.quoted("DowngradeTargetVersion", target.as_bytes());
            out.field("DowngradeEnabled", downgrade);
            out.line("");
        }
        true
    }

    fn json(&self, _hex: bool) -> Json {
        Json::list_or_null(&self.0, |(endpoint, status)| {
            Json::object().with("Endpoint", endpoint.as_str()).with("Status", json(status))
        })
    }

    fn table(&self) -> Option<Table> {
        let mut table = Table::new(&COLUMNS);
        self.0.iter().for_each(|(endpoint, status)| table.row(row(endpoint, status)));
        Some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Format, rendered};
    use plinth_api::proto::etcdserverpb::ResponseHeader;

    #[test]
    fn formats() {
        let status = StatusResponse {
            header: Some(ResponseHeader { cluster_id: 1, member_id: 0x8e9e, revision: 3, raft_term: 2 }),
            version: "3.7.1".to_owned(),
            db_size: 20_480,
            leader: 0x8e9e,
            raft_index: 7,
            raft_term: 2,
            raft_applied_index: 7,
            errors: vec!["one".to_owned(), "two".to_owned()],
            db_size_in_use: 15_360,
            is_learner: false,
            storage_version: "3.7.0".to_owned(),
            db_size_quota: 2_147_483_648,
            downgrade_info: None,
        };
        let list = List(vec![("a:1".to_owned(), status)]);
        let line = "a:1, 8e9e, 3.7.1, 3.7.0, 20 kB, 15 kB, 25%, 2.1 GB, true, false, 2, 7, 7, one, two, , false\n";
        assert_eq!(rendered(&list, Format::Simple), line);
        let json = "[{\"Endpoint\":\"a:1\",\"Status\":{\"header\":{\"cluster_id\":1,\"member_id\":36510,\"revision\":3,\
                    \"raft_term\":2},\"version\":\"3.7.1\",\"dbSize\":20480,\"leader\":36510,\"raftIndex\":7,\
                    \"raftTerm\":2,\"raftAppliedIndex\":7,\"errors\":[\"one\",\"two\"],\"dbSizeInUse\":15360,\
                    \"storageVersion\":\"3.7.0\",\"dbSizeQuota\":2147483648}}]\n";
        assert_eq!(rendered(&list, Format::Json), json);
        assert!(rendered(&list, Format::Fields).contains("\"Errors\" : [one two]\n\"Endpoint\" : \"a:1\"\n"));
    }

    #[test]
    fn nobody_answered() {
        assert_eq!(rendered(&List(Vec::new()), Format::Json), "null\n");
        assert_eq!(row("a:1", &StatusResponse::default())[6], "0%", "an empty file is wholly in use");
    }
}
