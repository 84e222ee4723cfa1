//! `datetime`: the time it is, and `datetime.Format`, whose layout is the moment Mon Jan 2 15:04:05 MST 2006.

use super::{add, map, string, text};
use gotmpl::FuncMap;
use jiff::Zoned;

/// Elements of a layout, the longer before those they begin with, and how `strftime` calls them.
const ELEMENTS: [(&str, &str); 31] = [
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "%Z"),
    ("2006", "%Y"),
    ("002", "%j"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("-07:00:00", "%::z"),
    ("-07:00", "%:z"),
    ("-0700", "%z"),
    ("Z07:00", ""),
    ("Z0700", ""),
    (".000000000", ".%9f"),
    (".000000", ".%6f"),
    (".000", ".%3f"),
    (".999999999", "%.f"),
    ("_2", "%e"),
    ("PM", "%p"),
    ("pm", "%P"),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
    ("4", "%-M"),
    ("5", "%-S"),
];

/// A time by a layout of Go's.
pub fn format(now: &Zoned, layout: &str) -> String {
    let (mut rest, mut shown) = (layout, String::new());
    while let Some(first) = rest.chars().next() {
        // A month's name is none within a longer word: Go wants no small letter behind `Jan`.
        let is_here = |(element, _): &&(&str, &str)| {
            let behind = rest.strip_prefix(element);
            behind
                .is_some_and(|behind| *element != "Jan" || !behind.starts_with(|char: char| char.is_ascii_lowercase()))
        };
        match ELEMENTS.iter().find(is_here) {
            Some((element, code)) => {
                shown += &match *element {
                    "Z07:00" | "Z0700" if now.offset().seconds() == 0 => "Z".to_owned(),
                    "Z07:00" => now.strftime("%:z").to_string(),
                    "Z0700" => now.strftime("%z").to_string(),
                    _ => now.strftime(code).to_string(),
                };
                rest = &rest[element.len()..];
            }
            None => {
                shown.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    shown
}

/// Adds it. `datetime.Format "layout"` reaches the function as `datetime "layout"`, and wants its field `Format`.
pub fn register(functions: &mut FuncMap) {
    add(functions, "datetime", (0, 1), |values| {
        let now = Zoned::now();
        match values.first() {
            None => Ok(string(format(&now, "2006-01-02 15:04:05.999999999 -0700 MST"))),
            Some(layout) => Ok(map([("Format", string(format(&now, text(layout)?)))])),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_go_s() {
        let now: Zoned = "2026-03-09T07:05:04.123456789+01:30[+01:30]".parse().expect("a time");
        for (layout, wanted) in [
            ("Jan 2, 2006 at 3:04pm (-0700)", "Mar 9, 2026 at 7:05am (+0130)"),
            ("2006-01-02T15:04:05Z07:00", "2026-03-09T07:05:04+01:30"),
            ("Mon, 02 Jan 2006 15:04:05 -0700", "Mon, 09 Mar 2026 07:05:04 +0130"),
            ("Monday January _2 06 03 PM", "Monday March  9 26 07 AM"),
            ("15:04:05.000 x 002", "07:05:04.123 x 068"),
            ("January Janus", "March Janus"),
        ] {
            assert_eq!(format(&now, layout), wanted, "{layout}");
        }
    }
}
