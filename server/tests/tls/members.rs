//! Members that speak TLS with each other: certificates exchanged under load, members that are not let in, and
//! certificates of their own making.

use super::authority::{Authority, Pair, params};
use super::common::{PATIENCE, Port, Process};
use super::dial::Dialer;
use super::{folder, run};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// One of three members.
struct Seat {
    client: Port,
    peer: Port,
    process: Option<Process>,
    flags: Vec<String>,
}

/// Three members and their ports.
struct Three {
    seats: Vec<Seat>,
}

impl Three {
    /// Not started yet. `flags`: of each one.
    fn new(flags: impl Fn(usize) -> Vec<String>) -> Three {
        let seat =
            |number| Seat { client: Port::reserve(), peer: Port::reserve(), process: None, flags: flags(number) };
        Three { seats: (0..3).map(seat).collect() }
    }

    fn start(&mut self, number: usize, folder: &Path) {
        let urls: Vec<String> = self.seats.iter().map(|seat| format!("https://{}", seat.peer.address())).collect();
        let list: Vec<String> = urls.iter().enumerate().map(|(number, url)| format!("m{number}={url}")).collect();
        let seat = &mut self.seats[number];
        let url = format!("https://{}", seat.client.address());
        let mut command = Command::new(env!("CARGO_BIN_EXE_plinth"));
        command.args(["--name", &format!("m{number}"), "--data-dir"]).arg(folder.join(format!("data{number}")));
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", &urls[number], "--initial-advertise-peer-urls", &urls[number]]);
        command.args(["--initial-cluster", &list.join(",")]).args(&seat.flags);
        let log = folder.join(format!("log{number}"));
        seat.process = Some(Process::start(&mut command, &log).expect("the binary starts"));
    }

    fn start_all(&mut self, folder: &Path) {
        (0..3).for_each(|number| self.start(number, folder));
        (0..3).for_each(|number| self.process(number).wait_until_ready());
    }

    fn process(&mut self, number: usize) -> &mut Process {
        self.seats[number].process.as_mut().expect("it was started")
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Flags of a side that demands certificates: `prefix` is empty for clients.
fn mutual(prefix: &str, pair: &Pair, authority: &Authority) -> Vec<String> {
    [
        format!("--{prefix}cert-file={}", text(&pair.cert)),
        format!("--{prefix}key-file={}", text(&pair.key)),
        format!("--{prefix}client-cert-auth=true"),
        format!("--{prefix}trusted-ca-file={}", text(&authority.file)),
    ]
    .into()
}

#[test]
fn certificates_are_exchanged_under_load() {
    let (folder, authority) = folder();
    let hosts = &["localhost", "127.0.0.1"];
    let pairs: Vec<Pair> =
        (0..3).map(|number| authority.sign(&format!("m{number}"), params("member", hosts))).collect();
    let client = authority.sign("client", params("root", &[]));
    let mut three = Three::new(|number| {
        let mut flags = mutual("", &pairs[number], &authority);
        flags.extend(mutual("peer-", &pairs[number], &authority));
        flags.push("--peer-cert-allowed-cn=member,other".to_owned());
        flags
    });
    three.start_all(folder.path());
    run(async {
        let dialer = Dialer::new(&authority, Some(&client));
        let mut open = dialer.client(&three.seats[0].client).await.expect("connected");
        for round in 0..3 {
            for (number, pair) in pairs.iter().enumerate() {
                let next = authority.sign("next", params("member", hosts));
                next.replace(pair);
                for put in 0..50 {
                    open.put(format!("{round}/{number}/{put}"), "v", None).await.expect("put");
                }
                let mut new = dialer.client(&three.seats[number].client).await.expect("new connections are taken");
                new.put("k", "v", None).await.expect("put");
            }
            // A member that comes back meets the others with what is there now.
            three.process(2).kill();
            three.start(2, folder.path());
            three.process(2).wait_until_ready();
            let mut third = dialer.client(&three.seats[2].client).await.expect("connected");
            let answer = third.get(format!("{round}/2/49"), None).await.expect("got");
            assert_eq!(answer.kvs.len(), 1);
        }
    });
    // The third one's log begins with its last start.
    for number in 0..2 {
        let log = three.process(number).log();
        assert!(log.contains("\"msg\":\"starting with peer TLS\"") && log.contains("certificates were read again"));
    }
}

#[test]
fn members_that_are_not_let_in() {
    let (folder, authority) = folder();
    let hosts = &["localhost", "127.0.0.1"];
    let good = authority.sign("good", params("member", hosts));
    let stranger = authority.sign("stranger", params("stranger", hosts));
    let elsewhere = authority.sign("elsewhere", params("member", &["127.0.0.2"]));
    let mut three = Three::new(|number| {
        let mut flags = mutual("peer-", &good, &authority);
        flags.extend([format!("--cert-file={}", text(&good.cert)), format!("--key-file={}", text(&good.key))]);
        flags.push("--peer-cert-allowed-cn=member".to_owned());
        let dials_with = [None, Some(&stranger), Some(&elsewhere)][number];
        if let Some(pair) = dials_with {
            flags.push(format!("--peer-client-cert-file={}", text(&pair.cert)));
            flags.push(format!("--peer-client-key-file={}", text(&pair.key)));
        }
        flags
    });
    (0..3).for_each(|number| three.start(number, folder.path()));
    three.process(0).wait_for_log("client certificate authentication failed");
    three.process(0).wait_for_log("x509: certificate is valid for 127.0.0.2, not 127.0.0.1");
    three.process(0).wait_for_log("rejected connection on peer endpoint");
    three.process(1).wait_for_log("remote error: tls: bad certificate");
}

#[test]
fn certificates_of_their_own_making() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut three = Three::new(|_| vec!["--auto-tls".to_owned(), "--peer-auto-tls".to_owned()]);
    three.start_all(folder.path());
    let log = three.process(0).log();
    assert!(log.contains("automatically generate certificates") && log.contains("created key file"), "{log}");
    let cert = folder.path().join("data0/fixtures/client/cert.pem");
    let before = std::fs::read(&cert).expect("made");
    // Trusted by itself, it is as good as any.
    let ctl = |three: &Three, number: usize, words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plinth"));
        command.args(["ctl", "--endpoints", &three.seats[number].client.address()]).args(words);
        let output = command.output().expect("it runs");
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    assert_eq!(ctl(&three, 0, &["--cacert", &text(&cert), "put", "k", "v"]), (true, "OK\n".to_owned()));
    assert_eq!(
        ctl(&three, 1, &["--insecure-transport=false", "--insecure-skip-tls-verify", "get", "k"]),
        (true, "k\nv\n".to_owned())
    );
    let (_, refused) = ctl(&three, 1, &["--cacert", &text(&cert), "--command-timeout", "1s", "get", "k"]);
    assert!(refused.contains("signed by unknown authority") || refused.contains("deadline"), "{refused}");
    three.process(0).kill();
    three.start(0, folder.path());
    three.process(0).wait_until_ready();
    assert_eq!(std::fs::read(&cert).expect("kept"), before);
    let deadline = Instant::now() + PATIENCE;
    while !ctl(&three, 0, &["--cacert", &text(&cert), "get", "k"]).0 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
}
