//! Going back to the release of etcd before, as `etcdctl downgrade` asks for it: what the cluster says of itself, and how
//! its snapshots look.

use super::common::client::*;
use super::server::Server;
use plinth_api::methods::{DOWNGRADE, SNAPSHOT};
use plinth_api::proto::etcdserverpb as pb;
use plinth_api::proto::etcdserverpb::downgrade_request::DowngradeAction;

async fn ask(client: &mut Client, action: i32, version: &str) -> Result<String, String> {
    let request = pb::DowngradeRequest { action, version: version.to_owned() };
    let answer = client.call(&DOWNGRADE, request).await.map_err(|error| error.to_string())?;
    assert_ne!(answer.header.expect("a full header").raft_term, 0);
    Ok(answer.version)
}

async fn told(client: &mut Client) -> (String, bool, String) {
    let status = client.status().await.expect("status");
    let downgrade = status.downgrade_info.expect("always there");
    (status.storage_version, downgrade.enabled, downgrade.target_version)
}

async fn snapshot_version(client: &mut Client) -> String {
    let mut pieces = client
        .server_stream(&SNAPSHOT, plinth_api::proto::plinthpb::SnapshotRequest::default())
        .await
        .expect("a snapshot");
    pieces.message().await.expect("a stream").expect("a piece").version
}

#[tokio::test]
async fn a_cluster_says_that_it_is_of_the_release_before_until_that_is_cancelled() {
    const VALIDATE: i32 = DowngradeAction::Validate as i32;
    const ENABLE: i32 = DowngradeAction::Enable as i32;
    const CANCEL: i32 = DowngradeAction::Cancel as i32;
    let mut server = Server::start(&[]);
    let mut client = server.client().await;
    for (version, refusal) in [
        ("3", "etcdserver: wrong downgrade target version format"),
        ("3.5", "etcdserver: invalid downgrade target version"),
        ("3.7", "etcdserver: invalid downgrade target version"),
    ] {
        for action in [VALIDATE, ENABLE] {
            let error = ask(&mut client, action, version).await.expect_err(version);
            assert!(error.contains(refusal), "{error}");
        }
    }
    let error = ask(&mut client, 7, "").await.expect_err("no such action");
    assert!(error.contains("etcdserver: unknown method"), "{error}");
    assert_eq!(ask(&mut client, VALIDATE, "3.6").await, Ok("3.7".to_owned()));
    assert_eq!(ask(&mut client, CANCEL, "").await, Ok("3.7".to_owned()), "nothing to cancel");
    assert_eq!(told(&mut client).await, ("3.7.0".to_owned(), false, String::new()));

    assert_eq!(ask(&mut client, ENABLE, "3.6.0").await, Ok("3.7".to_owned()));
    let error = ask(&mut client, ENABLE, "3.6").await.expect_err("under way");
    assert!(error.contains("etcdserver: cluster has a downgrade job in progress"), "{error}");
    server.terminate();
    server.restart();
    let mut client = server.client().await;
    assert_eq!(told(&mut client).await, ("3.6.0".to_owned(), true, "3.6.0".to_owned()));
    assert_eq!(snapshot_version(&mut client).await, "3.6.0");

    assert_eq!(ask(&mut client, CANCEL, "").await, Ok("3.6".to_owned()));
    assert_eq!(told(&mut client).await, ("3.7.0".to_owned(), false, String::new()));
    assert_eq!(snapshot_version(&mut client).await, "3.7.0");
}
