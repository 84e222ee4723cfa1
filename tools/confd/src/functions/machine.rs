//! The machine and its surroundings: environment, files, names, addresses.

use super::{add, map, string, strings, text};
use gotmpl::{FuncMap, Value};
use plinth_ctl::services::{self, Service};
use std::net::{IpAddr, ToSocketAddrs};

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

/// Services of a name, sorted as texts of all they say; none if nobody knows any.
fn services(name: &str) -> Vec<Value> {
    let mut found = services::lookup(&services::name_servers(), name).unwrap_or_default();
    found.sort_by_cached_key(|Service { target, port, priority, weight }| format!("{target}{port}{priority}{weight}"));
    let shown = |Service { target, port, priority, weight }: Service| {
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
