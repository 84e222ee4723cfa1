//! Asks the peer ports of a running cluster who its members are, before this member is one. All are asked at once, with
//! short timeouts; nothing that is received is trusted beyond its shape.

use super::member_list;
use crate::config::{Url, reason};
use crate::notify::Notify;
use futures_lite::FutureExt;
use plinth_net::rt::{self, sleep};
use plinth_net::transport::{Connector, Target, read_some, write_all};
use plinth_raft::Member;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// For one member: connecting, asking and answering.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A list of members is not longer than this.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What a cluster says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterView {
    /// Its id.
    pub cluster: u64,
    pub members: Vec<Member>,
}

/// Answers that have come and were not looked at.
#[derive(Default)]
struct Answers {
    new: RefCell<Vec<(Url, Result<ClusterView, String>)>>,
    come: Notify,
}

/// The first answer of any of `urls`, or why the last one gave none.
pub async fn cluster_view(connector: &Connector, urls: &[Url]) -> Result<ClusterView, String> {
    let answers = Rc::new(Answers::default());
    let ask_one = |url: &Url| {
        let (connector, url, answers) = (connector.clone(), url.clone(), answers.clone());
        rt::spawn(async move {
            let answer = ask(&connector, &url).await;
            answers.new.borrow_mut().push((url, answer));
            answers.come.notify();
        })
    };
    // Dropped, they ask no more.
    let asking: Vec<rt::Task<()>> = urls.iter().map(ask_one).collect();
    let (mut open, mut last) = (asking.len(), "there is nobody to ask".to_string());
    while open > 0 {
        answers.come.wait().await;
        for (url, answer) in answers.new.take() {
            open -= 1;
            match answer {
                Ok(view) => return Ok(view),
                Err(error) => {
                    last = format!("{url}: {error}");
                    tracing::warn!(address = %url, %error, "failed to get cluster response");
                }
            }
        }
    }
    Err(last)
}

/// What one member says. Errors are worded as those of etcd's runtime.
async fn ask(connector: &Connector, url: &Url) -> Result<ClusterView, String> {
    let (address, is_connected) = (url.address(), Cell::new(false));
    let exchanged = async {
        let mut stream = connector.connect(&Target::parse(url.as_str()), TIMEOUT).await?;
        is_connected.set(true);
        let question = format!("GET /members HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        write_all(&mut stream, question.as_bytes()).await?;
        let (mut answer, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
        loop {
            let count = read_some(&mut stream, &mut buffer).await?;
            if count == 0 || answer.len() + count > ANSWER_BYTES_MAX {
                return Ok(answer);
            }
            answer.extend_from_slice(&buffer[..count]);
        }
    };
    let too_late = async {
        sleep(TIMEOUT).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    let answer: io::Result<Vec<u8>> = exchanged.or(too_late).await;
    let answer = answer.map_err(|error| match (error.kind(), is_connected.get()) {
        (io::ErrorKind::TimedOut, false) => format!("dial tcp {address}: i/o timeout"),
        (io::ErrorKind::TimedOut, true) => format!("read tcp {address}: i/o timeout"),
        (_, false) => format!("dial tcp {address}: connect: {}", reason(&error)),
        (_, true) => format!("read tcp {address}: {}", reason(&error)),
    })?;
    parse(&answer)
}

fn parse(answer: &[u8]) -> Result<ClusterView, String> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or("no HTTP answer")?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| "no HTTP answer")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or("no HTTP answer")?;
    if status != "200" {
        return Err(format!("HTTP status {status}"));
    }
    let id = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("X-Etcd-Cluster-ID"))
        .and_then(|(_, value)| u64::from_str_radix(value.trim(), 16).ok());
    let cluster = id.ok_or("the answer does not name its cluster")?;
    let members = member_list::decode(&answer[end + 4..]).map_err(|error| error.to_string())?;
    Ok(ClusterView { cluster, members })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_silent_keeps_nobody_waiting_for_the_others() {
        let silent = [(); 4].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
        let mut urls: Vec<Url> = silent
            .iter()
            .map(|listener| Url::parse(&format!("http://{}", listener.local_addr().expect("bound"))).expect("a URL"))
            .collect();
        let answers = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let good = Url::parse(&format!("http://{}", answers.local_addr().expect("bound"))).expect("a URL");
        std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut stream, _) = answers.accept().expect("asked");
            let _ = stream.read(&mut [0; 1024]);
            stream.write_all(b"HTTP/1.1 200 OK\r\nX-Etcd-Cluster-ID: 1\r\n\r\n[]").expect("answered");
        });
        rt::block_on(async move {
            let connector = Connector::clear();
            let start = std::time::Instant::now();
            let error = cluster_view(&connector, &urls).await.expect_err("nobody answers");
            assert!(error.ends_with("i/o timeout"), "{error}");
            assert!(start.elapsed() < 2 * TIMEOUT, "all are asked at once: {:?}", start.elapsed());
            urls.push(good);
            let start = std::time::Instant::now();
            assert_eq!(cluster_view(&connector, &urls).await.map(|view| view.cluster), Ok(1));
            assert!(start.elapsed() < TIMEOUT, "the first answer counts: {:?}", start.elapsed());
            let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = nobody.local_addr().expect("bound").to_string();
            drop(nobody);
            let url = Url::parse(&format!("http://{address}")).expect("a URL");
            let error = cluster_view(&connector, &[url]).await.expect_err("nobody is there");
            assert_eq!(error, format!("http://{address}: dial tcp {address}: connect: connection refused"));
        });
    }

    #[test]
    fn answers_are_read_and_others_refused() {
        let answer =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-etcd-cluster-id: cdf818194e3a8c32\r\n\r\n[]";
        let view = parse(answer).expect("a good answer");
        assert_eq!(view, ClusterView { cluster: 0xcdf8_1819_4e3a_8c32, members: Vec::new() });
        for bad in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n\r\n[]",
            b"HTTP/1.1 404 Not Found\r\nX-Etcd-Cluster-ID: 1\r\n\r\n[]",
            b"HTTP/1.1 200 OK\r\nX-Etcd-Cluster-ID: 1\r\n\r\n[{]",
            b"SSH-2.0-OpenSSH\r\n\r\n",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
