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
}
