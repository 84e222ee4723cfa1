//! Asks the peer ports of a running cluster who its members are, before this member has a reactor. Blocking, with short
//! timeouts; nothing that is received is trusted beyond its shape.

use super::member_list;
use plinth_raft::Member;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::config::Url;

/// For connecting, and for each read and write.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A list of members is not longer than this.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What a cluster says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterView {
    /// Its id.
    pub cluster: u64,
    /// Its members.
    pub members: Vec<Member>,
}

/// The answer of the first of `urls` that gives one, or why the last one did not.
pub fn cluster_view<'a>(urls: impl IntoIterator<Item = &'a Url>) -> Result<ClusterView, String> {
    let mut last = "there is nobody to ask".to_string();
    for url in urls {
        match ask(url) {
            Ok(view) => return Ok(view),
            Err(error) => {
                last = format!("{url}: {error}");
                tracing::warn!(address = %url, %error, "failed to get cluster response");
            }
        }
    }
    Err(last)
}

fn ask(url: &Url) -> io::Result<ClusterView> {
    let mut addresses = url.address().to_socket_addrs()?;
    let address = addresses.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /members HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", url.address())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    parse(&answer).map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))
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
