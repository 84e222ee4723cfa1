//! Whether a certificate belongs to the address that it was shown from, by the addresses and names it has; names are
//! looked up in both directions.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};

use super::crew;
use super::failure::name_words;
use super::{CertificateFacts, Failure};
use crate::sys;

/// Refuses a certificate that names hosts or addresses of which none is `from`. One that names none is good anywhere.
pub(crate) async fn check(facts: &CertificateFacts, from: IpAddr) -> Result<(), Failure> {
    let from = from.to_canonical();
    if facts.dns_names.is_empty() && facts.ip_addresses.is_empty() || facts.ip_addresses.contains(&from) {
        return Ok(());
    }
    if facts.dns_names.is_empty() {
        let addresses: Vec<String> = facts.ip_addresses.iter().map(ToString::to_string).collect();
        return Err(Failure::Address(format!("x509: {}", name_words(&from.to_string(), true, &addresses))));
    }
    let names = facts.dns_names.clone();
    match crew::run_aside(move || is_one_of(from, &names, sys::name_of, addresses_of)).await? {
        Ok(()) => Ok(()),
        Err(why) => {
            let names = facts.dns_names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" ");
            let text = format!("tls: \"{from}\" does not match any of DNSNames [{names}]{why}");
            Err(Failure::Address(text))
        }
    }
}

fn addresses_of(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|found| found.ip()).collect())
}

/// Looks up the address's name among the names, then the names' addresses. The error is what is to be told of a look-up
/// that failed.
fn is_one_of(
    from: IpAddr,
    names: &[String],
    name_of: impl Fn(IpAddr) -> io::Result<String>,
    addresses_of: impl Fn(&str) -> io::Result<Vec<IpAddr>>,
) -> Result<(), String> {
    let mut last = String::new();
    let told = |error: io::Error| format!(" ({error})");
    let (wildcards, names): (Vec<&str>, Vec<&str>) =
        names.iter().map(String::as_str).partition(|name| name.starts_with("*."));
    match name_of(from) {
        Ok(name) => {
            let name = name.strip_suffix('.').unwrap_or(&name);
            if names.contains(&name) || wildcards.iter().any(|wildcard| name.ends_with(&wildcard[1..])) {
                return Ok(());
            }
        }
        Err(error) => last = told(error),
    }
    for name in names {
        match addresses_of(name) {
            Ok(addresses) if addresses.contains(&from) => return Ok(()),
            Ok(_) => {}
            Err(error) => last = told(error),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_both_ways() {
        let here = IpAddr::from([10, 0, 0, 1]);
        let nobody = |_: IpAddr| Err(io::Error::other("no name"));
        let name_of = |_: IpAddr| Ok("a.b.example.".to_owned());
        let addresses_of = |name: &str| match name {
            "here.example" => Ok(vec![here]),
            "there.example" => Ok(vec![IpAddr::from([10, 0, 0, 2])]),
            _ => Err(io::Error::other("no address")),
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (list, good) in [
            (&["a.b.example"][..], true),
            (&["*.example"], true),
            (&["*.c.example"], false),
            (&["there.example"], false),
            (&["unknown.example", "here.example"], true),
        ] {
            assert_eq!(is_one_of(here, &names(list), name_of, addresses_of).is_ok(), good, "{list:?}");
        }
        let unknown = names(&["unknown.example"]);
        assert_eq!(is_one_of(here, &unknown, nobody, addresses_of), Err(" (no address)".to_owned()));
        assert_eq!(is_one_of(here, &names(&["there.example"]), nobody, addresses_of), Err(" (no name)".to_owned()));
        assert_eq!(is_one_of(here, &names(&["*.example"]), name_of, addresses_of), Ok(()));
    }
}
