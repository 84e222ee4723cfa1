//! Mappings that managers want to set: clients, each with names for absolute paths, or for more names.

use crate::tree::names;
use crate::who::Identity;
use serde_json::Value;

/// Looks at what shall be at a path of the mappings.
///
/// # Errors
/// In words for the manager; they are the original's.
pub fn check(path: &str, value: &Value, identity: &Identity) -> Result<(), String> {
    let client = |name: &str| match identity.may_be(name) {
        true => Ok(()),
        false => Err(format!("mapping's first level key should be {} .", identity.kind())),
    };
    let names: Vec<&str> = names(path).collect();
    match (names.as_slice(), value) {
        ([], Value::Object(clients)) => clients.iter().try_for_each(|(name, value)| {
            client(name)?;
            folder(value)
        }),
        ([], _) => Err(NO_OBJECT.to_owned()),
        ([name], value) => {
            client(name)?;
            folder(value)
        }
        ([name, ..], value) => {
            client(name)?;
            entry(value)
        }
    }
}

const NO_OBJECT: &str = "mapping data should be json object.";

fn folder(value: &Value) -> Result<(), String> {
    let Value::Object(map) = value else { return Err(NO_OBJECT.to_owned()) };
    map.iter().try_for_each(|(name, value)| match name.contains('/') {
        true => Err("mapping key should not be path.".to_owned()),
        false => entry(value),
    })
}

fn entry(value: &Value) -> Result<(), String> {
    match value {
        Value::Object(_) => folder(value),
        Value::String(path) if path.starts_with('/') => Ok(()),
        _ => Err("mapping's value should be path .".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_looked_at() {
        let identity = Identity::Address { proxies: Vec::new() };
        let check = |path: &str, json: &str| check(path, &serde_json::from_str(json).expect("JSON"), &identity);
        let wrong = |text: &str| Err(text.to_owned());
        assert_eq!(check("/", r#"{"10.0.0.1":{"node":"/nodes/1","dir":{"n1":"/nodes/1"}}}"#), Ok(()));
        assert_eq!(check("/10.0.0.1", r#"{"node":"/nodes/1"}"#), Ok(()));
        assert_eq!(check("/10.0.0.1/node", r#""/nodes/1""#), Ok(()));
        assert_eq!(check("/fd00::1/dir", r#"{"n":"/x"}"#), Ok(()));
        assert_eq!(check("/", r#"{"host":{}}"#), wrong("mapping's first level key should be ip ."));
        assert_eq!(check("/host/node", r#""/x""#), wrong("mapping's first level key should be ip ."));
        assert_eq!(check("/", r#"["x"]"#), wrong("mapping data should be json object."));
        assert_eq!(check("/10.0.0.1", r#""/x""#), wrong("mapping data should be json object."));
        assert_eq!(check("/10.0.0.1", r#"{"a/b":"/x"}"#), wrong("mapping key should not be path."));
        assert_eq!(check("/10.0.0.1", r#"{"a":"x"}"#), wrong("mapping's value should be path ."));
        assert_eq!(check("/10.0.0.1/a", "[1]"), wrong("mapping's value should be path ."));
        let named = super::check("/node-1", &serde_json::json!({"a": "/x"}), &Identity::Certificate);
        assert_eq!(named, Ok(()), "names, where certificates tell who is who");
    }
}
