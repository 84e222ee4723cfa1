//! Paths and queries of requests, read as Go's `net/url` reads them.

/// The pairs of a query, decoded. Pairs that cannot be read are left out, as `URL.Query` does.
pub(super) fn pairs(query: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Some((decode(name, true)?, decode(value, true)?))
    };
    query.split('&').filter(|part| !part.is_empty() && !part.contains(';')).filter_map(pair).collect()
}

/// A path without its percent escapes. The decoder of requests has checked them; what is not UTF-8 matches nothing.
pub(super) fn decode_path(path: &str) -> String {
    decode(path, false).unwrap_or_default()
}

/// The path that one with empty parts, `.` or `..` means; nothing if it has none. As Go's `ServeMux` cleans it.
pub(super) fn cleaned(path: &str) -> Option<String> {
    let rest = path.strip_prefix('/')?;
    let is_clean = |part: &str| !matches!(part, "" | "." | "..");
    let (parts, last) = rest.rsplit_once('/').map_or((None, rest), |(parts, last)| (Some(parts), last));
    let mut before = parts.into_iter().flat_map(|parts| parts.split('/'));
    if before.all(is_clean) && !matches!(last, "." | "..") {
        return None;
    }
    let mut kept: Vec<&str> = Vec::new();
    for part in rest.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            part => kept.push(part),
        }
    }
    let end = if rest.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    Some(format!("/{}{end}", kept.join("/")))
}

/// A path with escapes where a header or a URL needs them.
pub(super) fn encode_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/:@!$&'()*+,;=".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn decode(text: &str, plus_is_blank: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        bytes.push(match first {
            b'+' if plus_is_blank => b' ',
            b'%' => {
                let [high, low, behind @ ..] = rest else { return None };
                rest = behind;
                let digit = |byte: &u8| (*byte as char).to_digit(16);
                (digit(high)? * 16 + digit(low)?) as u8
            }
            other => *other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_as_go_reads_them() {
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        const CASES: &[(&str, &[(&str, &str)])] = &[
            ("", &[]),
            ("verbose", &[("verbose", "")]),
            ("a=1&a=2&&b=", &[("a", "1"), ("a", "2"), ("b", "")]),
            ("a%20b=c+d%2B", &[("a b", "c d+")]),
            ("a=%zz&b=1&c=%4", &[("b", "1")]),
            ("a=1;b=2&c=3", &[("c", "3")]),
            ("a=%ff", &[]),
        ];
        for (query, expected) in CASES {
            assert_eq!(pairs(query), owned(expected), "{query}");
        }
        assert_eq!(decode_path("/%68ealth+x"), "/health+x");
    }

    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        for (path, expected) in [
            ("/v3/kv/range", None),
            ("/", None),
            ("/a/", None),
            ("*", None),
            ("//", Some("/")),
            ("/v3//kv/range", Some("/v3/kv/range")),
            ("/a/./b/", Some("/a/b/")),
            ("/a/b/..", Some("/a")),
            ("/../../a", Some("/a")),
            ("/a//", Some("/a/")),
        ] {
            assert_eq!(cleaned(path).as_deref(), expected, "{path}");
        }
        assert_eq!(encode_path("/a b\r\n%/é"), "/a%20b%0D%0A%25/%C3%A9");
    }
}
