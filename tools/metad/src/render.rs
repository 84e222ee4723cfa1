//! Answers as the client wants them: text, JSON or YAML, by its `Accept`.

use crate::tree::Value;
use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};
use plinth_companion::listen::{Answer, answer};
use serde::Serialize;
use std::fmt::Write;

/// The ways of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
    Yaml,
}

/// What is offered, the preferred first.
const OFFERS: [(&str, Format); 6] = [
    ("text/plain", Format::Text),
    ("application/json", Format::Json),
    ("application/yaml", Format::Yaml),
    ("application/x-yaml", Format::Yaml),
    ("text/yaml", Format::Yaml),
    ("text/x-yaml", Format::Yaml),
];

impl Format {
    /// What the client likes best: by weight, then by how exactly it says so, then in our order.
    pub fn wanted(headers: &HeaderMap) -> Format {
        let accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let ranges: Vec<(&str, f64)> = accepts.flat_map(|value| value.split(',')).map(range).collect();
        let mut best = (0.0, 0, Format::Text);
        for (kind, format) in OFFERS {
            for (range, weight) in &ranges {
                let exact = match *range {
                    "*/*" => 1,
                    range if range == kind => 3,
                    range => match range.strip_suffix("/*") {
                        Some(group) if kind.split('/').next() == Some(group) => 2,
                        _ => continue,
                    },
                };
                if *weight > best.0 || *weight == best.0 && *weight > 0.0 && exact > best.1 {
                    best = (*weight, exact, format);
                }
            }
        }
        best.2
    }

    fn kind(self) -> &'static str {
        match self {
            Format::Text => "text/plain",
            Format::Json => "application/json",
            Format::Yaml => "application/yaml",
        }
    }
}

/// A media range and its weight.
fn range(text: &str) -> (&str, f64) {
    let mut parts = text.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
    (kind, weight)
}

/// What was asked for.
pub fn success<V: Serialize>(format: Format, pretty: bool, value: &V, text: impl FnOnce(&V) -> String) -> Answer {
    let body = match format {
        Format::Text => Ok(text(value)),
        Format::Json if pretty => serde_json::to_string_pretty(value).map_err(|error| error.to_string()),
        Format::Json => serde_json::to_string(value).map_err(|error| error.to_string()),
        Format::Yaml => serde_yaml_ng::to_string(value).map_err(|error| error.to_string()),
    };
    match body {
        Ok(body) => answer(StatusCode::OK, format.kind(), body),
        Err(error) => failure(format, StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

/// A value as lines of path, tab and text; a text alone is itself.
pub fn lines(value: &Value) -> String {
    let Value::Map(_) = value else {
        return value.leaves().into_iter().map(|(_, text)| text.to_owned()).collect();
    };
    let mut leaves = value.leaves();
    leaves.sort();
    leaves.into_iter().fold(String::new(), |mut text, (path, value)| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{path}\t{value}");
        text
    })
}

/// Done; there is nothing to show.
pub fn done(format: Format) -> Answer {
    #[derive(Serialize)]
    struct Done {
        code: u16,
        r#type: &'static str,
    }
    success(format, false, &Done { code: 200, r#type: "OK" }, |_| "OK".to_owned())
}

/// Why not.
pub fn failure(format: Format, status: StatusCode, message: &str) -> Answer {
    #[derive(Serialize)]
    struct Failed<'a> {
        code: u16,
        message: &'a str,
        r#type: &'static str,
    }
    let value = Failed { code: status.as_u16(), message, r#type: "ERROR" };
    let mut failed = success(format, false, &value, |value| format!("{}\n", value.message));
    *failed.status_mut() = status;
    failed
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn clients_say_what_they_like() {
        let wanted = |accept: &str| {
            let headers = [(ACCEPT, accept.parse().expect("text"))].into_iter().collect();
            Format::wanted(&headers)
        };
        for (accept, format) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("application/json", Format::Json),
            ("application/*", Format::Json),
            ("text/yaml, */*;q=0.5", Format::Yaml),
            ("text/plain;q=0.2, application/x-yaml;q=0.8", Format::Yaml),
            ("text/*, application/json", Format::Json),
            ("text/html", Format::Text),
            ("application/json;q=0", Format::Text),
        ] {
            assert_eq!(wanted(accept), format, "{accept}");
        }
        assert_eq!(Format::wanted(&HeaderMap::new()), Format::Text);
    }

    #[test]
    fn text_is_a_line_for_each_value() {
        let text = |text: &str| Value::Text(text.to_owned());
        let map = |pairs: Vec<(&str, Value)>| {
            Value::Map(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>())
        };
        let value = map(vec![("a", map(vec![("x", text("1"))])), ("a-b", text("2"))]);
        assert_eq!(lines(&value), "/a-b\t2\n/a/x\t1\n", "sorted as whole paths");
        assert_eq!(lines(&text("alone")), "alone");
        assert_eq!(lines(&Value::empty()), "");
    }
}
