//! A line of input as words: plain ones, 'single-quoted' ones, and "double-quoted" ones with Go's escapes.
//!
//! A quote in the middle of a plain word belongs to the word; one that is never closed is skipped.

use crate::failure::{Exit, Failure};
use crate::quote;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// The words of a line. They need not be UTF-8, as escapes can say anything.
pub fn split(line: &str) -> Result<Vec<OsString>, Failure> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let behind = &rest[first.len_utf8()..];
        rest = match first {
            '"' => match closing(behind) {
                Some(end) => {
                    let (value, _) =
                        quote::unquote(rest).ok_or_else(|| Failure::new(Exit::InvalidInput, "invalid syntax"))?;
                    words.push(OsString::from_vec(value));
                    &behind[end..]
                }
                None => behind,
            },
            '\'' => match behind.find('\'') {
                Some(end) => {
                    words.push(behind[..end].into());
                    &behind[end + 1..]
                }
                None => behind,
            },
            space if space.is_ascii_whitespace() => behind,
            _ => {
                let end = rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len());
                words.push(rest[..end].into());
                &rest[end..]
            }
        };
    }
    Ok(words)
}

/// Where the text behind the double quote that closes a word begins.
fn closing(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => return Some(at + 1),
            _ => escaped = c == '\\' && !escaped,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_line() {
        for (line, words) in [
            ("put a b", &["put", "a", "b"][..]),
            ("  put  'a b'  \"c\\t\\\"d\" ", &["put", "a b", "c\t\"d"]),
            ("a\"b c\"", &["a\"b", "c\""]),
            ("'open", &["open"]),
            ("\"open", &["open"]),
            ("'' \"\"", &["", ""]),
            ("", &[]),
        ] {
            assert_eq!(split(line).expect("well formed"), words, "{line}");
        }
        assert_eq!(split("\"\\xff\"").expect("well formed"), [OsString::from_vec(vec![0xff])]);
        assert_eq!(split("\"\\q\"").map_err(|failure| failure.exit), Err(Exit::InvalidInput));
    }
}
