//! Services by DNS (SRV records): which servers a domain names. Asks the servers of `/etc/resolv.conf` in turn, each twice,
//! by UDP, and by TCP if the answer does not fit.

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// How long one server may take for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(3);
/// Rounds over all servers, and how many of them count, as in other resolvers.
const ROUNDS: usize = 2;
const SERVERS_MAX: usize = 3;
/// The port of name servers.
const PORT: u16 = 53;
/// Largest answer taken by UDP.
const DATAGRAM_BYTES_MAX: usize = 4096;

/// A server that offers a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// With a dot at its end.
    pub target: String,
    pub port: u16,
    pub priority: u16,
    pub weight: u16,
}

/// Why no services were found.
#[derive(Debug)]
pub struct LookupError {
    name: String,
    server: Option<SocketAddr>,
    reason: String,
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LookupError { name, server, reason } = self;
        match server {
            Some(server) => write!(f, "lookup {name} on {server}: {reason}"),
            None => write!(f, "lookup {name}: {reason}"),
        }
    }
}

/// The name servers of this machine.
pub fn name_servers() -> Vec<SocketAddr> {
    let config = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let address = |line: &str| line.strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok();
    config.lines().filter_map(address).map(|address| (address, PORT).into()).take(SERVERS_MAX).collect()
}

/// The services of a name, those first that are to be asked first.
///
/// # Errors
/// If no name server answers, or the name has none.
pub fn lookup(servers: &[SocketAddr], name: &str) -> Result<Vec<Service>, LookupError> {
    let name = name.trim_end_matches('.');
    let mut error = LookupError { name: name.to_owned(), server: None, reason: "no name server is known".to_owned() };
    for &server in std::iter::repeat_n(servers, ROUNDS).flatten() {
        let found = match ask(server, name) {
            Ok(found) => found,
            Err(reason) => {
                error = LookupError { server: Some(server), reason, ..error };
                continue;
            }
        };
        if found.is_empty() {
            return Err(LookupError { server: Some(server), reason: "no such host".to_owned(), ..error });
        }
        let mut found = found;
        found.sort_by_key(|service| (service.priority, u16::MAX - service.weight));
        return Ok(found);
    }
    Err(error)
}

fn ask(server: SocketAddr, name: &str) -> Result<Vec<Service>, String> {
    let id = RandomState::new().build_hasher().finish() as u16;
    let query = query(id, name)?;
    let answer = by_datagram(server, &query, id).map_err(|error| in_words(&error))?;
    let is_whole = |answer: &[u8]| Packet::parse(answer).is_ok_and(|packet| !packet.has_flags(PacketFlag::TRUNCATION));
    let answer = match is_whole(&answer) {
        true => answer,
        false => by_stream(server, &query).map_err(|error| in_words(&error))?,
    };
    services(&answer, id)
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    }
}

fn query(id: u16, name: &str) -> Result<Vec<u8>, String> {
    let name = Name::new(name).map_err(|_| "no such host")?;
    let mut query = Packet::new_query(id);
    query.set_flags(PacketFlag::RECURSION_DESIRED);
    query.questions.push(Question::new(name, TYPE::SRV.into(), CLASS::IN.into(), false));
    query.build_bytes_vec().map_err(|error| error.to_string())
}

/// What the server answers to this very question; datagrams of others are passed over.
fn by_datagram(server: SocketAddr, query: &[u8], id: u16) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(server)?;
    socket.send(query)?;
    let deadline = Instant::now() + ANSWER_TIME;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let length = socket.recv(&mut buffer)?;
        if buffer[..length].starts_with(&id.to_be_bytes()) {
            buffer.truncate(length);
            return Ok(buffer);
        }
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// The same by TCP, where a message has its length before it (RFC 1035, 4.2.2).
fn by_stream(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, ANSWER_TIME)?;
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    stream.set_write_timeout(Some(ANSWER_TIME))?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

fn services(answer: &[u8], id: u16) -> Result<Vec<Service>, String> {
    let answer = Packet::parse(answer).map_err(|_| "cannot unmarshal DNS message")?;
    if answer.id() != id {
        return Err("an answer to another question".to_owned());
    }
    if !matches!(answer.rcode(), RCODE::NoError | RCODE::NameError) {
        return Err("server misbehaving".to_owned());
    }
    let service = |record: &simple_dns::ResourceRecord<'_>| match &record.rdata {
        RData::SRV(found) => Some(Service {
            target: format!("{}.", found.target),
            port: found.port,
            priority: found.priority,
            weight: found.weight,
        }),
        _ => None,
    };
    Ok(answer.answers.iter().filter_map(service).collect())
}

/// A name server for tests.
#[cfg(any(test, feature = "testing"))]
pub mod double {
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::SRV;
    use std::net::TcpListener;

    /// A name server on a port of loopback, for both protocols: says of each name what `records` says, and by UDP only that
    /// it does not fit if `only_by_stream`. Ends with the process.
    pub fn serve(records: &'static [(&str, u16, u16, &str)], only_by_stream: bool) -> SocketAddr {
        let answer = move |query: &[u8], is_cut: bool| {
            let query = Packet::parse(query).expect("a query");
            let question = &query.questions[0];
            let asked = question.qname.to_string();
            let mut answer = query.clone().into_reply();
            let found: Vec<_> = records.iter().filter(|(name, ..)| *name == asked).collect();
            if found.is_empty() {
                *answer.rcode_mut() = RCODE::NameError;
            }
            if is_cut {
                answer.set_flags(PacketFlag::TRUNCATION);
                return answer.build_bytes_vec().expect("bytes");
            }
            for &&(_, port, priority, target) in &found {
                let target = Name::new_unchecked(target);
                let data = RData::SRV(SRV { priority, weight: port % 7, port, target });
                answer.answers.push(ResourceRecord::new(question.qname.clone(), CLASS::IN, 60, data));
            }
            answer.build_bytes_vec().expect("bytes")
        };
        let stream = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = stream.local_addr().expect("bound");
        let socket = UdpSocket::bind(address).expect("the same port");
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                // Of somebody who guesses; then the answer.
                let _ = socket.send_to(b"\0\0forged", from);
                let _ = socket.send_to(&answer(&buffer[..length], only_by_stream), from);
            }
        });
        std::thread::spawn(move || {
            for client in stream.incoming().flatten() {
                let mut client = client;
                let mut length = [0; 2];
                client.read_exact(&mut length).expect("a length");
                let mut query = vec![0; u16::from_be_bytes(length).into()];
                client.read_exact(&mut query).expect("a query");
                let answer = answer(&query, false);
                let length = u16::try_from(answer.len()).expect("short").to_be_bytes();
                client.write_all(&[&length[..], &answer].concat()).expect("sent");
            }
        });
        address
    }
}

#[cfg(test)]
mod tests {
    use super::double::serve;
    use super::*;

    #[test]
    fn services_come_in_their_order_by_both_protocols() {
        let records =
            &[("_s._tcp.example.com", 1, 20, "late.example.com"), ("_s._tcp.example.com", 2, 10, "a.example.com")];
        for only_by_stream in [false, true] {
            let server = serve(records, only_by_stream);
            let found = lookup(&[server], "_s._tcp.example.com.").expect("found");
            let targets: Vec<_> = found.iter().map(|service| (service.target.as_str(), service.port)).collect();
            assert_eq!(targets, [("a.example.com.", 2), ("late.example.com.", 1)]);
        }
    }

    #[test]
    fn what_is_not_there_is_told() {
        let server = serve(&[], false);
        let error = lookup(&[server], "_s._tcp.none").expect_err("nothing");
        assert_eq!(error.to_string(), format!("lookup _s._tcp.none on {server}: no such host"));
        assert_eq!(lookup(&[], "x").expect_err("nobody").to_string(), "lookup x: no name server is known");
        // Where nobody listens the next one is asked.
        let nobody = UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
        let found = lookup(&[nobody, serve(&[("x", 1, 1, "y")], false)], "x").expect("the second knows");
        assert_eq!(found[0].target, "y.");
    }

    #[test]
    fn any_answer_is_survived() {
        let mut random = plinth_random::Random::new(7);
        let good = query(9, "_s._tcp.example.com").expect("a query");
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..=random.below(6) {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = random.bits() as u8;
            }
            bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
            let _ = services(&bytes, 9);
        }
    }
}
