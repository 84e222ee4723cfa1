//! What the store holds: `exists get gets getv getvs ls lsdir`.

use super::{add, map, string, strings, text, wrong};
use crate::keys::Keys;
use gotmpl::{FuncMap, Value};
use std::sync::Arc;

fn pair(key: &str, value: &str) -> Value {
    map([("Key", string(key)), ("Value", string(value))])
}

/// Adds them.
pub fn register(functions: &mut FuncMap, keys: &Arc<Keys>) {
    let missing = |key: &str| wrong(format!("key does not exist: {key}"));
    let all = Arc::clone(keys);
    add(functions, "exists", (1, 1), move |values| Ok(Value::Bool(all.get(text(&values[0])?).is_some())));
    let all = Arc::clone(keys);
    add(functions, "get", (1, 1), move |values| {
        let key = text(&values[0])?;
        all.get(key).map(|value| pair(key, value)).ok_or_else(|| missing(key))
    });
    let all = Arc::clone(keys);
    add(functions, "getv", (1, super::ANY), move |values| {
        let key = text(&values[0])?;
        match (all.get(key), values.get(1)) {
            (Some(value), _) => Ok(string(value)),
            (None, Some(default)) => Ok(string(text(default)?)),
            (None, None) => Err(missing(key)),
        }
    });
    let all = Arc::clone(keys);
    add(functions, "gets", (1, 1), move |values| {
        let found = all.matching(text(&values[0])?).map_err(wrong)?;
        Ok(Value::List(found.into_iter().map(|(key, value)| pair(key, value)).collect()))
    });
    let all = Arc::clone(keys);
    add(functions, "getvs", (1, 1), move |values| {
        let mut found: Vec<&str> =
            all.matching(text(&values[0])?).map_err(wrong)?.into_iter().map(|(_, value)| value).collect();
        found.sort_unstable();
        Ok(strings(found))
    });
    let all = Arc::clone(keys);
    add(functions, "ls", (1, 1), move |values| Ok(strings(all.list(text(&values[0])?))));
    let all = Arc::clone(keys);
    add(functions, "lsdir", (1, 1), move |values| Ok(strings(all.list_dir(text(&values[0])?))));
}
