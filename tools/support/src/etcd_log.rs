//! Lines of what takes the place of a program of etcd's: one JSON object each on standard error, with the members that
//! those who read etcd's log look for.

use serde_json::{Map, Value};
use std::time::SystemTime;

/// Writes a line: a message and what belongs to it.
pub fn line(level: &str, message: &str, fields: &[(&str, Value)]) {
    eprintln!("{}", shape(SystemTime::now(), level, message, fields));
}

fn shape(now: SystemTime, level: &str, message: &str, fields: &[(&str, Value)]) -> Value {
    let mut line = Map::new();
    line.insert("level".to_owned(), level.into());
    line.insert("ts".to_owned(), humantime::format_rfc3339_micros(now).to_string().into());
    line.insert("msg".to_owned(), message.into());
    line.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    Value::Object(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_object() {
        let line = shape(SystemTime::UNIX_EPOCH, "info", "ready", &[("endpoints", vec!["a:1"].into())]);
        let (ts, endpoints) = ("1970-01-01T00:00:00.000000Z", ["a:1"]);
        assert_eq!(line, serde_json::json!({"level": "info", "ts": ts, "msg": "ready", "endpoints": endpoints}));
    }
}
