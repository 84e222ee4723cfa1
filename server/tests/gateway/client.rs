//! Calls of the gateway.

pub use super::common::http::{Answer, Connection, ask};
use serde_json::Value;

/// Calls a path of the gateway.
pub fn call(address: &str, path: &str, body: &str) -> Answer {
    ask(address, "POST", path, "", body)
}

/// Calls it and expects success.
pub fn must(address: &str, path: &str, body: &str) -> Value {
    let answer = call(address, path, body);
    assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
    answer.json()
}
