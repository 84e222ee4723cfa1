//! Several endpoints, and endpoints where nobody is.

use super::common::Port;
use super::server::Server;
use super::tool::Tool;

#[test]
fn another_endpoint_serves() {
    let server = Server::start();
    let port = Port::reserve();
    let dead = port.address();
    let tool = Tool::ours(&format!("{dead},http://{}", server.endpoint));
    tool.line("put k v").ok();
    assert_eq!(tool.line("get k").ok(), "k\nv\n");
    assert_eq!(tool.line("lock l echo held").ok(), "held\n");
    let health = tool.line("endpoint health --command-timeout 3s");
    assert_eq!(health.failure(), (1, "Error: unhealthy cluster"));
    let line = format!("{dead} is unhealthy: failed to commit proposal: context deadline exceeded");
    assert!(health.err.contains(&line), "{health:?}");
    assert!(String::from_utf8_lossy(&health.out).contains(" is healthy: "), "{health:?}");
    let status = tool.line("endpoint status --command-timeout 3s -w json");
    assert_eq!(status.code, Some(1));
    assert!(status.err.contains(&format!("Failed to get the status of endpoint {dead} (context deadline exceeded)")));
    assert!(status.out.starts_with(b"[{\"Endpoint\":\"http://"), "{status:?}");
}

/// A stopped process still takes connections, but answers nothing.
#[test]
fn a_stopped_endpoint_holds_nobody_up() {
    let (stopped, good) = (Server::start(), Server::start());
    stopped.signal("-STOP");
    let tool = Tool::ours(&format!("{},{}", stopped.endpoint, good.endpoint));
    tool.line("put k v").ok();
    assert_eq!(tool.line("get k").ok(), "k\nv\n");
    stopped.signal("-CONT");
}

#[test]
fn without_a_command_the_help_is_a_success() {
    for line in ["", "--hex"] {
        let out = Tool::ours("").line(line).ok();
        assert!(out.contains("Usage: etcdctl"), "{line}: {out}");
    }
}

#[test]
fn nobody_answers() {
    let port = Port::reserve();
    let tool = Tool::ours(&port.address());
    let deadline = "Error: context deadline exceeded";
    for (line, code) in [("get k", 1), ("put k v", 1), ("member list", 1), ("lease list", 2)] {
        let ran = tool.line(&format!("{line} --command-timeout 300ms"));
        assert_eq!(ran.failure(), (code, deadline), "{line}");
    }
    let ran = tool.line("lease grant 5 --command-timeout 300ms");
    assert_eq!(ran.failure(), (1, "Error: failed to grant lease (context deadline exceeded)"));
    let ran = Tool::ours(",").line("get k");
    assert_eq!(ran.failure(), (2, "Error: etcdclient: no available endpoints"));
}
