//! Whether peer URLs have the form servers want, so that a slip is told before anything is sent.

use crate::quote;

/// What is wrong with them, if anything.
pub fn check(urls: &[String]) -> Result<(), String> {
    urls.iter().try_for_each(|url| check_one(url.trim()))
}

fn check_one(url: &str) -> Result<(), String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (host, path) = match rest.find(['/', '?', '#']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    match scheme {
        "http" | "https" => {}
        "unix" | "unixs" => return Ok(()),
        _ => return Err(format!("URL scheme must be http, https, unix, or unixs: {url}")),
    }
    if let Some((_, port)) = split_port(host)
        && !port.chars().all(|digit| digit.is_ascii_digit())
    {
        let url = quote::quoted(url.as_bytes());
        let port = quote::quoted(format!(":{port}").as_bytes());
        return Err(format!("parse {url}: invalid port {port} after host"));
    }
    if split_port(host).is_none() {
        return Err(format!("URL address does not have the form \"host:port\": {url}"));
    }
    if path.starts_with('/') { Err(format!("URL must not contain a path: {url}")) } else { Ok(()) }
}

/// Host and port; an address with colons of its own stands in brackets.
fn split_port(host: &str) -> Option<(&str, &str)> {
    let (name, port) = host.rsplit_once(':')?;
    let bracketed = name.starts_with('[') && name.ends_with(']');
    (bracketed || !name.contains([':', '[', ']'])).then_some((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let check = |url: &str| check(&[url.to_owned()]);
        for good in ["http://h:1", "https://127.0.0.1:2380", " http://[::1]:1 ", "unix://x:1", "http://h:"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, text) in [
            ("h:1", "URL scheme must be http, https, unix, or unixs: h:1"),
            ("", "URL scheme must be http, https, unix, or unixs: "),
            ("http://h", "URL address does not have the form \"host:port\": http://h"),
            ("http://h:1/x", "URL must not contain a path: http://h:1/x"),
            ("http://h:x", "parse \"http://h:x\": invalid port \":x\" after host"),
        ] {
            assert_eq!(check(bad), Err(text.to_owned()));
        }
    }
}
