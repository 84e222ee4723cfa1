//! Watches: from history and live, with a command for each event, from standard input, and across a restart.
//!
//! All of them begin at a given revision, so nothing depends on who is first.

use super::server::Server;
use super::tool::Tool;

#[test]
fn prints_what_happens() {
    let server = Server::start();
    let tool = Tool::ours(&server.endpoint);
    tool.line("put w/a 1").ok();
    let watch = tool.start("watch --prefix w/ --rev 1 --prev-kv");
    assert_eq!(watch.lines(3), ["PUT", "w/a", "1"]);
    tool.line("put w/a 2").ok();
    tool.line("put x 2").ok();
    tool.line("del w/a").ok();
    assert_eq!(watch.lines(10), ["PUT", "w/a", "1", "w/a", "2", "DELETE", "w/a", "2", "w/a", ""]);
    let json = tool.start("watch w/a --rev 2 -w json").lines(1).remove(0);
    assert!(json.contains("\"Events\":[{\"kv\":{\"key\":\"dy9h\",\"create_revision\":2,"), "{json}");
    assert!(json.ends_with("\"CompactRevision\":0,\"Canceled\":false,\"Created\":false,\"CancelReason\":\"\"}"));
}

#[test]
fn ends_when_its_past_is_gone() {
    let server = Server::start();
    let tool = Tool::ours(&server.endpoint);
    tool.line("put w 1").ok();
    tool.line("put w 2").ok();
    tool.line("compaction 3").ok();
    let ran = tool.line("watch w --rev 1");
    assert_eq!(ran.failure(), (5, "Error: watch is canceled by the server"));
    let reason = "watch was canceled (etcdserver: mvcc: required revision has been compacted)\n";
    assert!(ran.err.starts_with(reason), "{ran:?}");
}

#[test]
fn runs_a_command_for_each_event() {
    let server = Server::start();
    let tool = Tool::ours(&server.endpoint);
    tool.line("put w 1").ok();
    tool.line("del w").ok();
    let watch = tool.start("watch w --rev 1 -- printenv ETCD_WATCH_EVENT_TYPE ETCD_WATCH_KEY ETCD_WATCH_VALUE");
    // Commands run behind the answer that brings their events, which may be one or two.
    let mut printed = watch.lines(12);
    let (shown, told): (Vec<_>, Vec<_>) = printed.drain(..).partition(|line| !line.starts_with('"'));
    assert_eq!(shown, ["PUT", "w", "1", "DELETE", "w", ""]);
    assert_eq!(told, ["\"PUT\"", "\"w\"", "\"1\"", "\"DELETE\"", "\"w\"", "\"\""]);
    let ran = tool.line("watch w --rev 1 -- false");
    assert_eq!(ran.failure(), (1, "command [\"false\"] error (exit status 1)"));
    let missing = "Error: bad number of arguments (found separator --, but no commands)";
    assert_eq!(tool.line("watch w --").failure(), (128, missing));
    let conflict = "Error: bad number of arguments (found conflicting environment key)";
    assert_eq!(tool.with("ETCDCTL_WATCH_KEY", "w").line("watch w").failure(), (128, conflict));
}

#[test]
fn takes_watches_from_its_input() {
    let server = Server::start();
    let tool = Tool::ours(&server.endpoint);
    tool.line("put w 1").ok();
    let mut watch = tool.start("watch -i");
    watch.write("nonsense\nwatch --rev 1 w\n");
    assert_eq!(watch.lines(3), ["PUT", "w", "1"]);
    tool.line("put w 2").ok();
    assert_eq!(watch.lines(3), ["PUT", "w", "2"]);
    watch.write("progress\n");
    assert_eq!(watch.lines(1), ["progress notify: 3"]);
    let (code, err) = watch.end();
    assert_eq!(code, Some(3));
    let said = "Invalid command nonsense (only support watch)\nError: error reading watch request line: EOF\n";
    assert_eq!(err, said);
}

#[test]
fn prints_what_came_before_its_input_ended() {
    let server = Server::start();
    let tool = Tool::ours(&server.endpoint);
    tool.line("put w 1").ok();
    let ran = tool.run(&["watch", "-i"], b"watch --rev 1 w\n");
    assert_eq!(String::from_utf8_lossy(&ran.out), "PUT\nw\n1\n");
    assert_eq!(ran.failure(), (3, "Error: error reading watch request line: EOF"));
}

#[test]
fn outlives_the_server() {
    let mut server = Server::start();
    let tool = Tool::ours(&server.endpoint);
    let watch = tool.start("watch w --rev 1");
    for value in ["1", "2", "3"] {
        tool.run(&["put", "w", value], b"").ok();
        assert_eq!(watch.lines(3), ["PUT", "w", value]);
        server.kill();
        server.restart();
    }
}

#[test]
fn a_mirror_follows() {
    let (server, other) = (Server::start(), Server::start());
    let (tool, there) = (Tool::ours(&server.endpoint), Tool::ours(&other.endpoint));
    tool.line("put m/a 1").ok();
    tool.line("put m/b 2").ok();
    tool.line("put x 3").ok();
    let _mirror = tool.start(&format!("make-mirror --prefix m/ --dest-prefix copy/ {}", other.endpoint));
    let watch = there.start("watch --rev 1 --prefix copy/");
    assert_eq!(watch.lines(6), ["PUT", "copy/a", "1", "PUT", "copy/b", "2"]);
    tool.line("put m/a 4").ok();
    tool.line("del m/b").ok();
    assert_eq!(watch.lines(6), ["PUT", "copy/a", "4", "DELETE", "copy/b", ""]);
    assert_eq!(there.line("get x").ok(), "");
}
