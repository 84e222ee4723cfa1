//! Locks and elections: who holds them, who waits, and how they are let go.

use super::server::Server;
use super::tool::{Tool, until};

/// How many hold or want the lock.
fn keys(tool: &Tool) -> usize {
    tool.line("get --prefix l/ --keys-only").ok().lines().filter(|line| !line.is_empty()).count()
}

#[test]
fn a_lock_is_held_by_one() {
    let server = Server::start();
    let tool = Tool::ours(&server.endpoint);
    let first = tool.start("lock l");
    let held = first.lines(2);
    assert!(held[0].starts_with("l/") && held[1].is_empty(), "{held:?}");
    let second = tool.start("lock l");
    // The second one's key is there, so it waits its turn.
    until("two keys", || keys(&tool) == 2);
    assert_eq!(tool.line("get --prefix l/ --sort-by CREATE --limit 1").ok(), format!("{}\n\n", held[0]));
    first.signal("TERM");
    assert_eq!(first.end(), (Some(0), String::new()));
    let held = second.lines(2);
    assert_eq!(tool.line("get --prefix l/").ok(), format!("{}\n\n", held[0]));
    second.signal("INT");
    assert_eq!(second.end(), (Some(0), String::new()));
    assert_eq!(tool.line("get --prefix l/").ok(), "");
    assert_eq!(tool.line("lease list").ok(), "found 0 leases\n");
}

#[test]
fn a_command_runs_under_a_lock() {
    let server = Server::start();
    let tool = Tool::ours(&server.endpoint);
    let key = tool.line("lock l printenv ETCD_LOCK_KEY").ok();
    assert!(key.starts_with("l/"), "{key}");
    assert_eq!(tool.run(&["lock", "l", "--", "sh", "-c", "exit 7"], b"").failure(), (7, "Error: exit status 7"));
    let missing = "Error: exec: \"no-such-command\": executable file not found in $PATH";
    assert_eq!(tool.line("lock l no-such-command").failure(), (1, missing));
    assert_eq!(tool.line("lock l -- echo -n x").ok(), "x");
    assert_eq!(tool.line("get --prefix l/").ok(), "");
}

#[test]
fn a_lock_that_is_waited_for_can_be_given_up() {
    let server = Server::start();
    let tool = Tool::ours(&server.endpoint);
    tool.line("put l/0 other").ok();
    let waiting = tool.start("lock l");
    until("two keys", || keys(&tool) == 2);
    waiting.signal("TERM");
    assert_eq!(waiting.end(), (Some(1), "Error: context canceled\n".to_owned()));
    assert_eq!(tool.line("get --prefix l/ --keys-only").ok(), "l/0\n\n");
}

#[test]
fn an_election() {
    let server = Server::start();
    let tool = Tool::ours(&server.endpoint);
    let listener = tool.start("elect -l e");
    let leader = tool.start("elect e one");
    let elected = leader.lines(2);
    assert_eq!(elected[1], "one");
    assert_eq!(listener.lines(2), elected);
    let next = tool.start("elect e two");
    leader.signal("INT");
    assert_eq!(leader.end().0, Some(0));
    let elected = next.lines(2);
    assert_eq!(elected[1], "two");
    assert_eq!(listener.lines(2), elected);
    listener.signal("TERM");
    assert_eq!(listener.end(), (Some(0), String::new()));
}
