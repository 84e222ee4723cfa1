//! Paths as Go's package `path` sees them: slashes alone, no file system.

/// `path.Clean`.
pub fn clean(path: &str) -> String {
    let is_rooted = path.starts_with('/');
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." if names.last().is_some_and(|last| *last != "..") => drop(names.pop()),
            ".." if is_rooted => {}
            name => names.push(name),
        }
    }
    match (is_rooted, names.join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".to_owned(),
        (false, path) => path,
    }
}

/// `path.Join`.
pub fn join(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { String::new() } else { clean(&parts.join("/")) }
}

/// `path.Base`.
pub fn base(path: &str) -> String {
    match path.trim_end_matches('/').rsplit('/').next() {
        _ if path.is_empty() => ".".to_owned(),
        Some("") | None => "/".to_owned(),
        Some(name) => name.to_owned(),
    }
}

/// `path.Dir`.
pub fn dir(path: &str) -> String {
    clean(path.rfind('/').map_or("", |at| &path[..=at]))
}

/// `path.Match`: `*`, `?`, `[a-z]`, `[^a]` and `\x`; none of them takes a slash but a class that names it.
///
/// # Errors
/// If the pattern is malformed as far as it is read.
pub fn matches(pattern: &str, name: &str) -> Result<bool, String> {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Where to go on if what follows the last star does not match: that star takes one more.
    let (mut p, mut n, mut star) = (0, 0, None);
    loop {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, n));
            p += 1;
            continue;
        }
        let step = match (pattern.get(p), name.get(n)) {
            (None, None) => return Ok(true),
            (None, Some(_)) => None,
            (Some(_), char) => one(&pattern[p..], char.copied())?,
        };
        match (step, star) {
            (Some(length), _) => (p, n) = (p + length, n + 1),
            (None, Some((at, from))) if name.get(from).is_some_and(|char| *char != '/') => {
                star = Some((at, from + 1));
                (p, n) = (at + 1, from + 1);
            }
            (None, _) => return rest_is_sound(&pattern[p.min(pattern.len())..]).map(|()| false),
        }
    }
}

/// Whether one character is what the pattern's first element says; how long that element is.
fn one(pattern: &[char], char: Option<char>) -> Result<Option<usize>, String> {
    let bad = || "syntax error in pattern".to_owned();
    match pattern[0] {
        '?' => Ok(char.filter(|char| *char != '/').map(|_| 1)),
        '\\' => {
            let wanted = pattern.get(1).ok_or_else(bad)?;
            Ok((char == Some(*wanted)).then_some(2))
        }
        '[' => {
            let is_negated = pattern.get(1) == Some(&'^');
            let (mut at, mut is_in, mut ranges) = (1 + usize::from(is_negated), false, 0);
            let read = |at: &mut usize| {
                let char = *pattern.get(*at).ok_or_else(bad)?;
                *at += 1;
                match char {
                    '-' | ']' => Err(bad()),
                    '\\' => {
                        *at += 1;
                        pattern.get(*at - 1).copied().ok_or_else(bad)
                    }
                    char => Ok(char),
                }
            };
            while !(pattern.get(at) == Some(&']') && ranges > 0) {
                let low = read(&mut at)?;
                let mut high = low;
                if pattern.get(at) == Some(&'-') {
                    at += 1;
                    high = read(&mut at)?;
                }
                is_in |= char.is_some_and(|char| low <= char && char <= high);
                ranges += 1;
            }
            Ok((char.is_some() && is_in != is_negated).then_some(at + 1))
        }
        wanted => Ok((char == Some(wanted)).then_some(1)),
    }
}

/// A pattern that is malformed behind what has not matched is malformed all the same.
fn rest_is_sound(mut pattern: &[char]) -> Result<(), String> {
    while let Some(first) = pattern.first() {
        let length = match first {
            '[' => {
                let mut length = 0;
                // Which character is asked for does not matter: the element is read whole.
                for probe in ['a', '\u{0}', '/'] {
                    length = length.max(one(pattern, Some(probe))?.unwrap_or(0));
                }
                length.max(1)
            }
            '\\' => one(pattern, None).map(|_| 2)?,
            _ => 1,
        };
        pattern = &pattern[length.min(pattern.len())..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_in_go() {
        for (path, wanted) in [
            ("", "."),
            ("/", "/"),
            ("a//b/", "a/b"),
            ("/../a", "/a"),
            ("a/../..", ".."),
            ("/a/./b/..", "/a"),
            ("../../x", "../../x"),
        ] {
            assert_eq!(clean(path), wanted, "{path}");
        }
        assert_eq!((join(&["/", "a", "", "b"]), join(&["", ""])), ("/a/b".to_owned(), String::new()));
        for (path, of_base, of_dir) in [
            ("", ".", "."),
            ("/", "/", "/"),
            ("/a/b", "b", "/a"),
            ("a", "a", "."),
            ("/a/b/", "b", "/a/b"),
            ("//", "/", "/"),
        ] {
            assert_eq!((base(path).as_str(), dir(path).as_str()), (of_base, of_dir), "{path}");
        }
    }

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, name, wanted) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[x\\-]", "-", true),
            ("[^x\\-]", "a", true),
            ("*x", "xxx", true),
            ("", "", true),
            ("/a/*", "/a/", true),
        ] {
            assert_eq!(matches(pattern, name), Ok(wanted), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("[]a]", "]"),
            ("[-]", "-"),
            ("[x-]", "x"),
            ("[-x]", "x"),
            ("\\", "a"),
            ("[a-b-c]", "a"),
            ("[", "a"),
            ("[^", "a"),
            ("a[", "a"),
            ("a[", "ab"),
        ] {
            assert!(matches(pattern, name).is_err(), "{pattern} {name}");
        }
    }
}
