//! One line of the log, in the shape etcd's logger gives it.
//!
//! ```text
//! {"level":"info","ts":"2026-01-02T15:04:05.000000Z","caller":"logging/line.rs:7","msg":"...","name":"value",...}
//! 2026-01-02T15:04:05.000000Z<tab>info<tab>logging/line.rs:7<tab>...<tab>{"name": "value"}
//! ```
//!
//! Values keep their type. A field whose name ends in `[]` holds JSON already (a list of texts, see [`list`]), and
//! loses the suffix.

use std::fmt::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::LogFormat;

/// The longest message and the longest value that are written whole; beyond it, they are cut. Keeps one line within
/// the writer's bound.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// A line that is being put together.
#[derive(Debug)]
pub(super) struct Line {
    format: LogFormat,
    message: String,
    /// `"name":value`, comma separated.
    fields: String,
    /// Replaces the level, for those that only etcd knows.
    level: Option<String>,
}

impl Line {
    pub(super) fn new(format: LogFormat) -> Self {
        Line { format, message: String::new(), fields: String::new(), level: None }
    }

    pub(super) fn message(&mut self, message: &str) {
        self.message.push_str(cut(message));
    }

    /// Adds a text. `level` and `[]` are special, see above.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        if name == "level" {
            self.level = Some(value.to_owned());
        } else if let Some(name) = name.strip_suffix("[]") {
            self.name(name);
            self.fields.push_str(value);
        } else {
            self.name(name);
            push_json_string(&mut self.fields, cut(value));
        }
    }

    /// Adds a number or boolean.
    pub(super) fn raw(&mut self, name: &str, value: fmt::Arguments<'_>) {
        self.name(name);
        self.fields.write_fmt(value).expect("writing to memory cannot fail");
    }

    fn name(&mut self, name: &str) {
        if !self.fields.is_empty() {
            self.fields.push(',');
        }
        push_json_string(&mut self.fields, name);
        self.fields.push(':');
        if self.format == LogFormat::Console {
            self.fields.push(' ');
        }
    }

    /// The finished line with its line end.
    pub(super) fn finish(self, level: &str, caller: Caller<'_>, now: SystemTime) -> String {
        let level = self.level.as_deref().unwrap_or(level);
        let mut out = String::with_capacity(128 + self.message.len() + self.fields.len());
        let Caller { file, line } = caller;
        let file = short(file);
        let written = match self.format {
            LogFormat::Json => {
                out.push_str("{\"level\":");
                push_json_string(&mut out, level);
                let head = write!(out, ",\"ts\":\"{}\",\"caller\":\"{file}:{line}\",\"msg\":", timestamp(now));
                push_json_string(&mut out, &self.message);
                if !self.fields.is_empty() {
                    out.push(',');
                    out.push_str(&self.fields);
                }
                out.push('}');
                head
            }
            LogFormat::Console => {
                let message = self.message.replace('\n', "\\n");
                let head = write!(out, "{}\t{level}\t{file}:{line}\t{message}", timestamp(now));
                if !self.fields.is_empty() {
                    out.push_str("\t{");
                    out.push_str(&self.fields);
                    out.push('}');
                }
                head
            }
        };
        written.expect("writing to memory cannot fail");
        out.push('\n');
        out
    }
}

/// Where an event comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'a> {
    pub(super) file: &'a str,
    pub(super) line: u32,
}

/// Folder and file, without what is before them.
fn short(file: &str) -> &str {
    let second_last = file.rmatch_indices('/').nth(1);
    second_last.map_or(file, |(at, _)| &file[at + 1..])
}

/// At most [`TEXT_BYTES_MAX`] bytes of a text.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Appends a text as a JSON string.
pub fn push_json_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => {
                write!(out, "\\u{:04x}", control as u32).expect("writing to memory cannot fail");
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// A list of texts as JSON, for a field whose name ends in `[]`:
/// `info!("listen-client-urls[]" = %list(&urls), "configuring client listeners")`.
pub fn list<T: AsRef<str>>(texts: &[T]) -> String {
    let mut out = String::from("[");
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_json_string(&mut out, text.as_ref());
    }
    out.push(']');
    out
}

/// A time as lines show it: UTC with microseconds, as etcd writes it.
pub fn timestamp(time: SystemTime) -> String {
    // A clock that stands before 1970 is shown as that.
    humantime::format_rfc3339_micros(time.max(UNIX_EPOCH)).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn line(format: LogFormat) -> String {
        let mut line = Line::new(format);
        line.message("ready \"now\"\n");
        line.text("data-dir", "/a\\b\u{1}");
        line.raw("count", format_args!("{}", 7));
        line.raw("ok", format_args!("{}", true));
        line.text("urls[]", &list(&["http://a:1", "b\""]));
        let caller = Caller { file: "server/src/logging/line.rs", line: 9 };
        line.finish("info", caller, UNIX_EPOCH + Duration::from_micros(1_767_366_245_000_042))
    }

    #[test]
    fn json_lines_have_etcds_shape() {
        let expected = concat!(
            r#"{"level":"info","ts":"2026-01-02T15:04:05.000042Z","caller":"logging/line.rs:9","msg":"ready \"now\"\n","#,
            r#""data-dir":"/a\\b\u0001","count":7,"ok":true,"urls":["http://a:1","b\""]}"#,
            "\n"
        );
        assert_eq!(line(LogFormat::Json), expected);
        let parsed: serde_json::Value = serde_json::from_str(expected).expect("JSON");
        assert_eq!(parsed["data-dir"], "/a\\b\u{1}");
    }

    #[test]
    fn console_lines_have_etcds_columns() {
        let expected = concat!(
            "2026-01-02T15:04:05.000042Z\tinfo\tlogging/line.rs:9\tready \"now\"\\n\t",
            r#"{"data-dir": "/a\\b\u0001","count": 7,"ok": true,"urls": ["http://a:1","b\""]}"#,
            "\n"
        );
        assert_eq!(line(LogFormat::Console), expected);
    }

    #[test]
    fn a_line_can_have_a_level_of_its_own_and_no_fields() {
        let mut line = Line::new(LogFormat::Json);
        line.text("level", "fatal");
        let text = line.finish("error", Caller { file: "main.rs", line: 1 }, UNIX_EPOCH);
        assert_eq!(
            text,
            "{\"level\":\"fatal\",\"ts\":\"1970-01-01T00:00:00.000000Z\",\"caller\":\"main.rs:1\",\"msg\":\"\"}\n"
        );
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = "é".repeat(TEXT_BYTES_MAX);
        let mut line = Line::new(LogFormat::Json);
        line.message(&long);
        line.text("x", &format!("a{long}"));
        let text = line.finish("info", Caller { file: "a", line: 1 }, UNIX_EPOCH);
        assert!(text.len() < 2 * TEXT_BYTES_MAX + 200);
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }
}
