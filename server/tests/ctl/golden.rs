//! What commands that end by themselves print, and with which code they end.

use super::server::Server;
use super::tool::Tool;

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("JSON")
}

/// Cluster and member, in decimal.
fn ids(tool: &Tool) -> (u64, u64) {
    let status = json(&tool.line("endpoint status -w json").ok());
    let id = |name: &str| status[0]["Status"]["header"][name].as_u64().expect("an id");
    (id("cluster_id"), id("member_id"))
}

#[test]
fn keys_and_values_in_every_format() {
    let server = Server::start();
    let tool = Tool::ours(&server.endpoint);
    let (cluster, member) = ids(&tool);
    assert_eq!(tool.line("put a 1").ok(), "OK\n");
    assert_eq!(tool.run(&["put", "a"], b"2\n").ok(), "OK\n", "the value is taken as it comes");
    assert_eq!(tool.line("put a 3 --prev-kv").ok(), "OK\na\n2\n\n");
    assert_eq!(tool.line("get a").ok(), "a\n3\n");
    assert_eq!(tool.line("get a --hex").ok(), "\\x61\n\\x33\n");
    let header = json(&tool.line("get a -w json").ok())["header"].clone();
    let (revision, term) = (&header["revision"], &header["raft_term"]);
    let fields = format!(
        "\"ClusterID\" : {cluster}\n\"MemberID\" : {member}\n\"Revision\" : {revision}\n\"RaftTerm\" : {term}\n\
         \"Key\" : \"a\"\n\"CreateRevision\" : 2\n\"ModRevision\" : 4\n\"Version\" : 3\n\"Value\" : \"3\"\n\
         \"Lease\" : 0\n\"More\" : false\n\"Count\" : 1\n"
    );
    assert_eq!(tool.line("get a -w fields").ok(), fields);
    let line = format!(
        "{{\"header\":{{\"cluster_id\":{cluster},\"member_id\":{member},\"revision\":{revision},\"raft_term\":{term}}},\
         \"kvs\":[{{\"key\":\"YQ==\",\"create_revision\":2,\"mod_revision\":4,\"version\":3,\"value\":\"Mw==\"}}],\
         \"count\":1}}\n"
    );
    assert_eq!(tool.line("get a -w json").ok(), line);
    assert!(tool.line("get a -w protobuf").out.ends_with(b"\x12\x0c\n\x01a\x10\x02\x18\x04 \x03*\x013 \x01"));
    assert_eq!(tool.line("get a -w table").failure(), (4, "Error: table not supported as output format"));
    assert_eq!(tool.line("get a --stream").ok(), "a\n3\n");
    assert_eq!(tool.line("del a --prev-kv").ok(), "1\na\n3\n");
    assert_eq!(tool.line("get a").ok(), "");
}

#[test]
fn transactions() {
    let server = Server::start();
    let tool = Tool::ours(&server.endpoint);
    tool.line("put k old").ok();
    let txn = |text: &str| tool.run(&["txn"], text.as_bytes());
    let input = "val(\"k\") = \"old\"\n\nput k 'new one'\nget k\ndel none\n\nput k never\n\n";
    assert_eq!(txn(input).ok(), "SUCCESS\n\nOK\n\nk\nnew one\n\n0\n");
    assert_eq!(txn("ver(\"k\") > \"9\"\n\nput k never\n\nget k\n\n").ok(), "FAILURE\n\nk\nnew one\n");
    assert_eq!(txn("nonsense\n").failure(), (3, "Error: malformed comparison: nonsense"));
    assert_eq!(txn("\nput k 1\n").failure(), (3, "Error: EOF"));
    let asked = tool.run(&["txn", "-i"], b"\nget k\n\n\n").ok();
    let prompts =
        "compares:\nsuccess requests (get, put, del):\nfailure requests (get, put, del):\nSUCCESS\n\nk\nnew one\n";
    assert_eq!(asked, prompts);
}

#[test]
fn leases() {
    let server = Server::start();
    let tool = Tool::ours(&server.endpoint);
    let granted = tool.line("lease grant 600").ok();
    let id = granted.split(' ').nth(1).expect("an id").to_owned();
    assert_eq!(granted, format!("lease {id} granted with TTL(600s)\n"));
    assert_eq!(id.len(), 16);
    tool.run(&["put", "leased", "v", "--lease", &id], b"").ok();
    let left = tool.run(&["lease", "timetolive", "--keys", &id], b"").ok();
    assert!(left.starts_with(&format!("lease {id} granted with TTL(600s), remaining(")), "{left}");
    assert!(left.ends_with("s), attached keys([leased])\n"), "{left}");
    assert_eq!(tool.line("lease list").ok(), format!("found 1 leases\n{id}\n"));
    let kept = format!("lease {id} keepalived with TTL(600)\n");
    assert_eq!(tool.run(&["lease", "keep-alive", "--once", &id], b"").ok(), kept);
    assert_eq!(tool.run(&["lease", "revoke", &id], b"").ok(), format!("lease {id} revoked\n"));
    assert_eq!(tool.line("get leased").ok(), "");
    assert_eq!(tool.run(&["lease", "timetolive", &id], b"").ok(), format!("lease {id} already expired\n"));
    assert_eq!(tool.run(&["lease", "keep-alive", &id], b"").ok(), format!("lease {id} expired or revoked.\n"));
    let failed = tool.run(&["lease", "revoke", &id], b"");
    assert_eq!(failed.failure(), (1, "Error: failed to revoke lease (etcdserver: requested lease not found)"));
}

#[test]
fn members_endpoints_and_alarms() {
    let server = Server::start();
    let tool = Tool::ours(&server.endpoint);
    let (cluster, member) = ids(&tool);
    let row = format!("{member:x}, started, test, http://127.0.0.1:2380, http://test.example:2379, false\n");
    assert_eq!(tool.line("member list").ok(), row);
    let hex = json(&tool.line("member list -w json --hex").ok());
    assert_eq!(hex["header"]["cluster_id"], format!("{cluster:x}"));
    assert_eq!(hex["members"][0]["ID"], format!("{member:x}"));
    let endpoint = &server.endpoint;
    let health = tool.line("endpoint health").ok();
    assert!(health.starts_with(&format!("{endpoint} is healthy: successfully committed proposal: took = ")));
    let status = tool.line("endpoint status").ok();
    let columns: Vec<&str> = status.trim_end().split(", ").collect();
    let id = format!("{member:x}");
    assert_eq!(columns[..4], [endpoint.as_str(), id.as_str(), "3.7.1", columns[3]]);
    assert_eq!((columns.len(), columns[8], columns[9]), (16, "true", "false"), "{status}");
    let table = tool.line("endpoint status -w table").ok();
    assert_eq!(table.lines().count(), 5, "{table}");
    tool.line("put k v").ok();
    let hash = json(&tool.line("endpoint hashkv -w json").ok());
    let (hash, revision) = (&hash[0]["HashKV"]["hash"], &hash[0]["HashKV"]["hash_revision"]);
    assert_eq!(tool.line("endpoint hashkv").ok(), format!("{endpoint}, {hash}, {revision}\n"));
    assert_eq!(tool.line("alarm list").ok(), "");
    assert_eq!(tool.line("alarm disarm -w json").ok(), "{}\n");
    let defrag = tool.line("defrag").ok();
    assert!(defrag.starts_with(&format!("Finished defragmenting etcd member[{endpoint}]. took ")), "{defrag}");
}

#[test]
fn what_is_refused_and_how() {
    let server = Server::start();
    let tool = Tool::ours(&server.endpoint);
    for (line, code, text) in [
        ("get", 128, "Error: get command needs one argument as key and an optional argument as range_end"),
        ("get k -w nonsense", 4, "Error: unsupported output format"),
        ("get k --order x", 4, "Error: bad sort order x"),
        ("get k --rev 100", 1, "Error: etcdserver: mvcc: required revision is a future revision"),
        ("compaction x", 1, "Error: strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("compaction 100", 1, "Error: etcdserver: mvcc: required revision is a future revision"),
        ("member add", 128, "Error: member name not provided"),
        ("member remove", 128, "Error: member ID is not provided"),
        ("move-leader", 128, "Error: move-leader command needs 1 argument"),
        ("elect e", 128, "Error: no proposal argument but -l not set"),
        (
            "lease timetolive x",
            128,
            "Error: bad lease ID arg (strconv.ParseInt: parsing \"x\": invalid syntax), expecting ID in Hex",
        ),
        ("get k --cert ", 1, ""),
        ("get k --cert x", 128, "Error: KeyFile and CertFile must both be present[key: , cert: x]"),
        ("get k --cacert /nonexistent", 128, "Error: open /nonexistent: no such file or directory"),
    ] {
        let ran = tool.line(line);
        match text {
            "" => assert_eq!(ran.code, Some(code), "{line}: {ran:?}"),
            _ => assert_eq!(ran.failure(), (code, text), "{line}"),
        }
        assert!(ran.out.is_empty(), "{line}: {ran:?}");
    }
    let unknown = tool.line("nonsense");
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.starts_with("Error: unknown command \"nonsense\" for \"etcdctl\"\n"), "{unknown:?}");
    assert!(tool.line("get k --nonsense").err.starts_with("Error: unknown flag: --nonsense\n"));
    assert!(tool.line("member").ok().contains("promote"), "a group without a command shows its commands");
}

#[test]
fn by_the_name_of_a_link() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in [
        ("etcdctl", "etcdctl version: 3.7.1\nAPI version: 3.7\n"),
        ("etcdutl", "etcdutl version: 3.7.1\nAPI version: 3.7\n"),
    ] {
        let link = folder.path().join(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_plinth"), &link).expect("a link");
        assert_eq!(Tool::named(&link, "").line("version").ok(), text);
    }
    assert_eq!(Tool::ours("").line("version").ok(), "etcdctl version: 3.7.1\nAPI version: 3.7\n");
}

#[test]
fn settings_from_the_environment() {
    let server = Server::start();
    let tool = Tool::ours("").with("ETCDCTL_ENDPOINTS", &server.endpoint);
    tool.line("put k v").ok();
    assert_eq!(tool.clone().with("ETCDCTL_HEX", "true").line("get k").ok(), "\\x6b\n\\x76\n");
    assert_eq!(tool.clone().with("ETCDCTL_HEX", "").line("get k").ok(), "k\nv\n");
    let both = tool.clone().with("ETCDCTL_HEX", "true").line("get k --hex");
    assert_eq!(both.code, Some(1));
    assert!(both.err.contains("ETCDCTL_HEX"), "{both:?}");
    let old = tool.with("ETCDCTL_API", "3").line("get k");
    assert!(old.err.contains("unrecognized environment variable"), "{old:?}");
    assert_eq!(old.ok(), "k\nv\n");
}

#[test]
fn scripts_and_lists_of_flags() {
    let tool = Tool::ours("");
    for (shell, part) in
        [("bash", "_etcdctl()"), ("zsh", "#compdef etcdctl"), ("fish", "__fish"), ("powershell", "Register")]
    {
        let script = tool.line(&format!("completion {shell}")).ok();
        assert!(script.contains(part) && script.contains("move-leader"), "{shell}");
    }
    assert_eq!(tool.line("completion").failure().0, 1);
    let options = tool.line("options").ok();
    assert!(options.starts_with("The following options can be passed to any command:\n\n"), "{options}");
    assert!(options.contains("--command-timeout") && options.contains("-w, --write-out"), "{options}");
}
