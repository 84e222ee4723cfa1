//! The machine and its surroundings: environment, files, names, addresses.

use super::{add, map, string, strings, text};
use gotmpl::{FuncMap, Value};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, Question, TYPE};
use std::net::{IpAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

/// How long a server of names may take.
const NAME_TIME: Duration = Duration::from_secs(3);

/// Adds them.
pub fn register(functions: &mut FuncMap) {
    add(functions, "getenv", (1, super::ANY), |values| {
        let found = std::env::var(text(&values[0])?).unwrap_or_default();
        match values.get(1) {
            Some(default) if found.is_empty() => Ok(string(text(default)?)),
            _ => Ok(string(found)),
        }
    });
    add(functions, "fileExists", (1, 1), |values| Ok(Value::Bool(std::path::Path::new(text(&values[0])?).exists())));
    add(functions, "hostname", (0, 0), |_| Ok(string(rustix::system::uname().nodename().to_string_lossy())));
    add(functions, "lookupIP", (1, 1), |values| Ok(strings(addresses(text(&values[0])?, |_| true))));
    add(functions, "lookupIPV4", (1, 1), |values| Ok(strings(addresses(text(&values[0])?, IpAddr::is_ipv4))));
    add(functions, "lookupIPV6", (1, 1), |values| Ok(strings(addresses(text(&values[0])?, IpAddr::is_ipv6))));
    add(functions, "lookupSRV", (3, 3), |values| {
        let name = match (text(&values[0])?, text(&values[1])?, text(&values[2])?) {
            ("", "", name) => name.to_owned(),
            (service, protocol, name) => format!("_{service}._{protocol}.{name}"),
        };
        Ok(Value::List(services(&name).into()))
    });
    let of_interface = |functions: &mut FuncMap, name, is_meant: fn(&IpAddr) -> bool| {
        add(functions, name, (1, 1), move |values| {
            let wanted = text(&values[0])?;
            let all = if_addrs::get_if_addrs().unwrap_or_default();
            let found = all.into_iter().filter(|one| one.name == wanted).map(|one| one.ip()).find(is_meant);
            Ok(string(found.map(|address| address.to_string()).unwrap_or_default()))
        });
    };
    of_interface(functions, "lookupIfaceIPV4", IpAddr::is_ipv4);
    of_interface(functions, "lookupIfaceIPV6", IpAddr::is_ipv6);
}

/// Addresses of a name, sorted as texts; none if it has none.
fn addresses(name: &str, is_meant: fn(&IpAddr) -> bool) -> Vec<String> {
    let found = (name, 0).to_socket_addrs().into_iter().flatten().map(|socket| socket.ip());
    let mut found: Vec<String> = found.filter(is_meant).map(|address| address.to_string()).collect();
    found.sort();
    found.dedup();
    found
}

/// Services of a name, sorted as texts of all they say.
fn services(name: &str) -> Vec<Value> {
    let config = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = config.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok());
    let answer = servers.take(3).find_map(|server| ask(server, name).ok().flatten());
    let mut found = answer.unwrap_or_default();
    found.sort_by_cached_key(|(target, port, priority, weight)| format!("{target}{port}{priority}{weight}"));
    let shown = |(target, port, priority, weight): (String, u16, u16, u16)| {
        let number = |number: u16| Value::Uint(number.into());
        map([
            ("Target", string(target)),
            ("Port", number(port)),
            ("Priority", number(priority)),
            ("Weight", number(weight)),
        ])
    };
    found.into_iter().map(shown).collect()
}

type Service = (String, u16, u16, u16);

/// Asks one server. Nothing if it does not answer this question.
fn ask(server: IpAddr, name: &str) -> Result<Option<Vec<Service>>, Box<dyn std::error::Error>> {
    let mut bytes = [0; 2];
    // Where the port of this socket is, nobody else knows either; the number need not be secret.
    bytes.copy_from_slice(&std::process::id().to_ne_bytes()[..2]);
    let id = u16::from_ne_bytes(bytes);
    let mut query = Packet::new_query(id);
    query.set_flags(simple_dns::PacketFlag::RECURSION_DESIRED);
    query.questions.push(Question::new(
        Name::new(name.trim_end_matches('.'))?,
        TYPE::SRV.into(),
        CLASS::IN.into(),
        false,
    ));
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(NAME_TIME))?;
    socket.connect((server, 53))?;
    socket.send(&query.build_bytes_vec()?)?;
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer)?;
    let answer = Packet::parse(&buffer[..length])?;
    if answer.id() != id {
        return Ok(None);
    }
    let service = |record: &simple_dns::ResourceRecord<'_>| match &record.rdata {
        RData::SRV(service) => Some((format!("{}.", service.target), service.port, service.priority, service.weight)),
        _ => None,
    };
    Ok(Some(answer.answers.iter().filter_map(service).collect()))
}
