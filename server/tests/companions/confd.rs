//! confd: what it renders, when, and what it does around that.

use super::common::{PATIENCE, Port, Process};
use super::http::{get, send};
use super::server::Server;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A folder of resources and templates.
pub struct Confdir(TempDir);

impl Confdir {
    /// With nothing in it.
    pub fn new() -> Confdir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["conf.d", "templates"] {
            std::fs::create_dir(folder.path().join(name)).expect("made");
        }
        Confdir(folder)
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A resource whose target is the file of that name.
    pub fn add(&self, name: &str, template: &str, more: &str) {
        let dest = self.path(name);
        let text = format!("[template]\nsrc = \"{name}.tmpl\"\ndest = \"{}\"\n{more}\n", dest.display());
        std::fs::write(self.path(&format!("conf.d/{name}.toml")), text).expect("written");
        std::fs::write(self.path(&format!("templates/{name}.tmpl")), template).expect("written");
    }

    /// What a target is, if it is there.
    pub fn target(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path(name)).ok()
    }

    fn wait_for(&self, name: &str, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.target(name).as_deref() != Some(text) {
            assert!(Instant::now() < deadline, "{name} never became {text:?}, it is {:?}", self.target(name));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn confd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plinth"));
    command.arg("confd");
    command
}

/// One round.
pub fn once(confdir: &Confdir, words: &[&str]) -> Output {
    confd().arg("-onetime").arg("-confdir").arg(confdir.0.path()).args(words).output().expect("it runs")
}

fn ctl(server: &Server, words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plinth"));
    let output = command.args(["ctl", "--endpoints", &server.endpoint]).args(words).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn put(server: &Server, pairs: &[(&str, &str)]) {
    pairs.iter().for_each(|(key, value)| drop(ctl(server, &["put", key, value])));
}

#[test]
fn one_round_renders_and_says_how_it_went() {
    let server = Server::start();
    put(
        &server,
        &[
            ("/app/db/host", "h1"),
            ("/app/db/port", "5432"),
            ("/app/dbx", "not meant"),
            ("/app/up/a", "1.1.1.1"),
            ("/app/up/b", "2.2.2.2"),
        ],
    );
    let confdir = Confdir::new();
    confdir.add(
        "db",
        "host={{getv \"/db/host\"}} {{exists \"/dbx\"}}\n",
        "prefix = '/app'\nkeys = ['/db']\nmode = '0600'",
    );
    confdir.add(
        "up",
        "{{range gets \"/up/*\"}}server {{base .Key}} {{.Value}};{{end}}",
        "keys = ['/up']\nprefix = 'app'\ncheck_cmd = 'grep -q 2.2.2.2 {{.src}}'",
    );
    let words = ["-backend", "etcdv3", "-node", &server.endpoint];
    let output = once(&confdir, &words);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(confdir.target("db").as_deref(), Some("host=h1 false\n"));
    assert_eq!(confdir.target("up").as_deref(), Some("server a 1.1.1.1;server b 2.2.2.2;"));
    let mode = |name| std::fs::metadata(confdir.path(name)).expect("there").permissions().mode() & 0o7777;
    assert_eq!((mode("db"), mode("up")), (0o600, 0o644));

    put(&server, &[("/app/up/b", "3.3.3.3")]);
    confdir.add("broken", "{{getv \"/none\"}}", "keys = ['/']");
    std::fs::write(confdir.path("conf.d/sub.toml"), "nonsense").expect("written");
    let output = once(&confdir, &[&words[..], &["-log-level", "debug"]].concat());
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "some have failed: {log}");
    for text in [
        "Config check failed: exit status: 1",
        "key does not exist: /none",
        "Cannot process template resource",
        "db in sync",
    ] {
        assert!(log.contains(text), "{text}: {log}");
    }
    assert!(!log.contains("3.3.3.3") && !log.contains("h1"), "values are in no log: {log}");
    assert_eq!(
        confdir.target("up").as_deref(),
        Some("server a 1.1.1.1;server b 2.2.2.2;"),
        "what is not sound replaces nothing"
    );
    let left: Vec<_> = std::fs::read_dir(confdir.0.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".up")), "{left:?}");

    let output = once(&confdir, &[&words[..], &["-noop", "-prefix", "x"]].concat());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Noop mode enabled."), "{output:?}");
    assert_eq!(confdir.target("db").as_deref(), Some("host=h1 false\n"));
    let output = once(&confdir, &["-backend", "consul"]);
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stderr).contains("consul is not supported")),
        (Some(1), true)
    );
}

#[test]
fn changes_are_acted_on_and_reloads_come_together() {
    let mut server = Server::start();
    put(&server, &[("/p/a", "1"), ("/p/b", "1")]);
    let confdir = Confdir::new();
    let reload = format!("keys = ['/']\nreload_cmd = 'echo x >> {}'", confdir.path("reloads").display());
    confdir.add("one", "{{getv \"/a\"}}", &reload);
    confdir.add("two", "{{getv \"/a\"}}{{getv \"/b\"}}", &reload);
    let metrics = Port::reserve();
    let mut command = confd();
    command.arg("-confdir").arg(confdir.0.path()).args(["-watch", "-node", &server.endpoint, "-prefix", "/p"]);
    command.args(["-debounce", "300ms", "-metrics-addr", &metrics.address(), "-log-level", "debug"]);
    let mut running = Process::start(&mut command, &confdir.path("log")).expect("it starts");
    confdir.wait_for("two", "11");
    confdir.wait_for("reloads", "x\n");
    put(&server, &[("/p/a", "s3cret"), ("/p/b", "2"), ("/other", "2")]);
    confdir.wait_for("two", "s3cret2");
    confdir.wait_for("reloads", "x\nx\n");
    assert_eq!(confdir.target("one").as_deref(), Some("s3cret"));
    assert!(get(&metrics.address(), "/metrics").body.contains("confd_reloads_total 2"));
    assert_eq!(get(&metrics.address(), "/ready").status, 200);

    server.kill();
    server.restart();
    put(&server, &[("/p/a", "3")]);
    for _ in 0..10 {
        put(&server, &[("/p/b", "x")]);
    }
    let last = ctl(&server, &["put", "/p/b", "last", "-w", "json"]);
    let last: serde_json::Value = serde_json::from_str(&last).expect("JSON");
    ctl(&server, &["compaction", &last["header"]["revision"].to_string()]);
    confdir.wait_for("two", "3last");
    ctl(&server, &["del", "/p/b"]);
    running.wait_for_log("key does not exist: /b");
    assert_eq!(confdir.target("two").as_deref(), Some("3last"), "what cannot be rendered stays");
    put(&server, &[("/p/b", "5")]);
    confdir.wait_for("two", "35");

    confdir.add("three", "{{getv \"/a\"}}!", "keys = ['/a']");
    running.signal("-HUP");
    confdir.wait_for("three", "3!");
    put(&server, &[("/p/a", "4")]);
    confdir.wait_for("three", "4!");
    assert!(running.terminate().success(), "an end that was asked for is none that failed");
    assert!(!running.log().contains("s3cret"), "values are in no log");
}

#[test]
fn what_metad_says_of_this_machine_is_rendered() {
    let server = Server::start();
    let (data, manage) = (Port::reserve(), Port::reserve());
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_plinth"));
    command.args([
        "metad",
        "--nodes",
        &server.endpoint,
        "--listen",
        &data.address(),
        "--listen_manage",
        &manage.address(),
    ]);
    command.args(["--require_header", "X-Metad: yes"]);
    let mut metad = Process::start(&mut command, &folder.path().join("log")).expect("it starts");
    metad.wait_for_log("Listening on");
    let manage = |path: &str, body: &str| {
        let answer = super::http::send(&manage.address(), "PUT", path, "X-Metad: yes\r\n", body);
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    manage("/v1/data", r#"{"nodes":{"1":{"name":"node1","cpu":"4"}}}"#);
    manage("/v1/mapping", r#"{"127.0.0.1":{"host":"/nodes/1"}}"#);
    let confdir = Confdir::new();
    confdir.add("me", "{{getv \"/host/name\"}} {{if gt (getv \"/host/cpu\") 2}}big{{end}}", "keys = ['/']");
    let mut command = confd();
    command.arg("-confdir").arg(confdir.0.path()).args(["-watch", "-backend", "metad", "-node", &data.address()]);
    command.args(["-prefix", "/self", "-header", "X-Metad: yes"]);
    let mut running = Process::start(&mut command, &confdir.path("log")).expect("it starts");
    confdir.wait_for("me", "node1 big");
    manage("/v1/data/nodes/1/name", "\"renamed\"");
    confdir.wait_for("me", "renamed big");
    manage("/v1/data/nodes/1", r#"{"name":"again","cpu":"1"}"#);
    confdir.wait_for("me", "again ");
    assert!(running.terminate().success() && metad.terminate().success());
}

/// A mount cannot be replaced: it is written to.
#[test]
fn a_target_that_is_a_mount_is_written_in_place() {
    let confdir = Confdir::new();
    confdir.add("mounted", "{{getv \"/plinth/x\"}}", "keys = ['/plinth']\nmode = '0640'");
    for name in ["below", "mounted"] {
        std::fs::write(confdir.path(name), "old").expect("written");
    }
    let script = "mount --bind \"$1\" \"$2\" || exit 77; shift 2; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(confdir.path("below")).arg(confdir.path("mounted"));
    command
        .arg(env!("CARGO_BIN_EXE_plinth"))
        .args(["confd", "-onetime", "-backend", "env", "-confdir"])
        .arg(confdir.0.path());
    let Ok(output) = command.env("PLINTH_X", "new").output() else {
        eprintln!("skipped: no unshare");
        return;
    };
    if matches!(output.status.code(), Some(1 | 77)) && !output.stderr.windows(5).any(|part| part == b"confd") {
        eprintln!("skipped: nothing can be mounted here: {output:?}");
        return;
    }
    assert!(output.status.success(), "{output:?}");
    assert_eq!((confdir.target("below").as_deref(), confdir.target("mounted").as_deref()), (Some("new"), Some("old")));
    let mode = std::fs::metadata(confdir.path("below")).expect("there").permissions().mode() & 0o7777;
    assert_eq!(mode, 0o640);
}

/// Templates drawn at random over what is documented: both real ones and ours render the same, or nothing.
#[test]
fn the_originals_render_the_same() {
    let originals = [("PLINTH_CONFD_BIN", false), ("PLINTH_CONFD_FORK_BIN", true)];
    for (variable, is_fork) in originals {
        let Some(original) = std::env::var_os(variable) else {
            eprintln!("skipped: no {variable}");
            continue;
        };
        let mut random = plinth_random::Random::from_variable("PLINTH_CONFD_SEED", 1);
        for round in 0..4 {
            let (ours, theirs) = (Confdir::new(), Confdir::new());
            let templates: Vec<String> = (0..150).map(|_| super::templates::draw(&mut random, is_fork)).collect();
            for (number, template) in templates.iter().enumerate() {
                for confdir in [&ours, &theirs] {
                    confdir.add(&format!("t{number}"), template, "keys = ['/a', '/b', '/n', '/up', '/empty']");
                }
            }
            let words: &[&str] = if is_fork { &["env", "--onetime"] } else { &["-onetime", "-backend", "env"] };
            let run = |program: &Path, first: &[&str], confdir: &Confdir| {
                let mut command = Command::new(program);
                command.args(first).args(words).arg("--confdir").arg(confdir.0.path()).env_clear();
                for (name, value) in super::templates::VALUES {
                    command.env(name, value);
                }
                command.output().expect("it runs")
            };
            let (of_ours, of_theirs) = (
                run(Path::new(env!("CARGO_BIN_EXE_plinth")), &["confd"], &ours),
                run(Path::new(&original), &[], &theirs),
            );
            let mut rendered = 0;
            for (number, template) in templates.iter().enumerate() {
                let name = format!("t{number}");
                let (own, other) = (ours.target(&name), theirs.target(&name));
                rendered += usize::from(other.is_some());
                assert_eq!(
                    own,
                    other,
                    "{variable}, round {round}: {template}\n{}",
                    String::from_utf8_lossy(&of_theirs.stderr)
                );
            }
            assert_eq!(of_ours.status.code(), of_theirs.status.code());
            assert!(rendered > 75, "most templates are sound: {rendered}");
        }
    }
}

#[test]
fn keys_of_the_v2_api_are_rendered_and_followed() {
    let server = Server::start_with(&["--enable-v2", "--v2-history=10"]);
    let set = |key: &str, value: &str| {
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        let answer = send(&server.endpoint, "PUT", &format!("/v2/keys{key}"), form, &format!("value={value}"));
        assert!(answer.status < 300, "{answer:?}");
    };
    set("/app/up/a", "1");
    set("/application", "not meant");
    let confdir = Confdir::new();
    confdir.add("up", "{{range gets \"/up/*\"}}{{base .Key}}={{.Value}};{{end}}", "keys = ['/up']\nprefix = '/app'");
    let words = ["-backend", "etcd", "-node", &server.endpoint];
    let output = once(&confdir, &words);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(confdir.target("up").as_deref(), Some("a=1;"));
    let mut command = confd();
    command.arg("-watch").arg("-confdir").arg(confdir.0.path()).args(words);
    let process = Process::start(&mut command, &confdir.path("log")).expect("it starts");
    set("/app/up/b", "2");
    confdir.wait_for("up", "a=1;b=2;");
    // What is elsewhere moves the index on, beyond what the history has.
    (0..30).for_each(|number| set("/other", &number.to_string()));
    set("/app/up/a", "3");
    confdir.wait_for("up", "a=3;b=2;");
    drop(process);
}

#[test]
fn signals_are_heeded_and_systemd_is_told() {
    let confdir = Confdir::new();
    confdir.add("first", "{{getv \"/word\"}}", "keys = ['/word']");
    let socket = confdir.path("notify");
    let told = UnixDatagram::bind(&socket).expect("bound");
    told.set_read_timeout(Some(PATIENCE)).expect("set");
    let next = || {
        let mut text = [0; 64];
        let length = told.recv(&mut text).expect("systemd is told");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let mut command = confd();
    command.args(["-backend", "env", "-watch", "-systemd-notify", "-confdir"]).arg(confdir.0.path());
    command.env("NOTIFY_SOCKET", &socket).env("WORD", "hello");
    let mut process = Process::start(&mut command, &confdir.path("log")).expect("it starts");
    assert_eq!(next(), "READY=1");
    assert_eq!(confdir.target("first").as_deref(), Some("hello"));
    confdir.add("second", "{{toUpper (getv \"/word\")}}", "keys = ['/word']");
    process.signal("-HUP");
    confdir.wait_for("second", "HELLO");
    assert_eq!(process.terminate().code(), Some(0));
    assert_eq!(next(), "STOPPING=1");
}
