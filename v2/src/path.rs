//! Paths: `/`, names and nothing else, as Go's `path.Clean` leaves them. Bytes, since a request may escape any.

/// The namespace of clients' keys. It is no part of what clients see.
pub const KEYS: &[u8] = b"/1";

/// The namespace of the cluster's own records. Nothing is kept there; its changes count.
pub const CLUSTER: &[u8] = b"/0";

/// The namespace of users and roles.
pub const AUTH: &[u8] = b"/2";

/// The path that `/` and `tail` mean together: no empty names, no `.`, and `..` takes a name away.
pub fn clean(tail: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(tail.len() + 1);
    for name in tail.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => out.truncate(out.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
            name => {
                out.push(b'/');
                out.extend_from_slice(name);
            }
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

/// The cleaned path of `tail` below a namespace, out of which no `..` leads.
pub fn join(namespace: &[u8], tail: &[u8]) -> Vec<u8> {
    match clean(tail).as_slice() {
        b"/" => namespace.to_vec(),
        tail => [namespace, tail].concat(),
    }
}

/// Whether a path is as [`clean`] leaves it, but for a `/` at its end.
pub fn is_clean(path: &[u8]) -> bool {
    let meant = clean(path);
    meant == path || (meant != b"/" && path.strip_suffix(b"/").is_some_and(|rest| rest == meant))
}

/// What a client sees of a path: nothing of the namespace of keys.
pub fn shown(path: &[u8]) -> &[u8] {
    path.strip_prefix(KEYS).unwrap_or(path)
}

/// The directory of a cleaned path, and the name in it.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let at = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    (&path[..at], path.get(at + 1..).unwrap_or_default())
}

/// Whether the last name begins with `_`.
pub fn is_hidden(path: &[u8]) -> bool {
    split(path).1.first() == Some(&b'_')
}

/// Whether `path` is below `directory`, and not the same.
pub fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| directory == b"/" || rest.first() == Some(&b'/'))
}

/// Whether something on the way from a watched path down to a changed one is hidden.
pub fn hides(watched: &[u8], changed: &[u8]) -> bool {
    changed.get(watched.len()..).is_some_and(|rest| {
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        rest.split(|byte| *byte == b'/').any(|name| name.first() == Some(&b'_'))
    })
}

/// The paths from the first name on, each longer by one: `/a`, `/a/b`, ... up to `path` itself.
pub fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.chain(Some(path.len()).filter(|end| *end > 0)).map(|end| &path[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        for (tail, expected) in [
            ("", "/1"),
            ("/", "/1"),
            ("foo", "/1/foo"),
            ("/foo/", "/1/foo"),
            ("//foo//bar", "/1/foo/bar"),
            ("/./foo/.", "/1/foo"),
            ("/foo/../bar", "/1/bar"),
            ("/foo/../../..", "/1"),
            ("/..", "/1"),
            ("/../2/enabled", "/1/2/enabled"),
        ] {
            assert_eq!(join(KEYS, tail.as_bytes()), expected.as_bytes(), "{tail}");
        }
        assert!([&b"/"[..], b"/a", b"/a/", b"/a/\xff"].into_iter().all(is_clean));
        assert!(![&b""[..], b"a", b"//", b"/a//", b"/a/../b", b"/\xff/..", b"/."].into_iter().any(is_clean));
        assert_eq!(shown(b"/1/foo"), b"/foo");
        assert_eq!(shown(b"/1"), b"");
        assert_eq!(split(b"/1/foo"), (&b"/1"[..], &b"foo"[..]));
        assert_eq!(prefixes(b"/1/a/b").collect::<Vec<_>>(), [&b"/1"[..], b"/1/a", b"/1/a/b"]);
    }

    #[test]
    fn what_is_hidden_from_whom() {
        for (watched, changed, hidden) in [
            ("/foo", "/foo/bar", false),
            ("/foo", "/foo/_bar", true),
            ("/foo", "/foo/_bar/baz", true),
            ("/_foo", "/_foo/bar", false),
            ("/foo/bar", "/foo", false),
            ("/foo", "/foo", false),
            ("/", "/_foo", true),
        ] {
            assert_eq!(hides(watched.as_bytes(), changed.as_bytes()), hidden, "{watched} {changed}");
        }
        assert!(is_below(b"/a/b", b"/a") && !is_below(b"/ab", b"/a") && !is_below(b"/a", b"/a"));
        assert!(is_hidden(b"/1/_a") && !is_hidden(b"/1/_a/b"));
    }
}
