//! Lists and maps, and what stands in for a value that is not there.

use super::{ANY, add, list, map, strings, text, wrong};
use gotmpl::{FuncMap, TemplateError, Value};

/// The map behind a value. Nothing is an empty one.
fn entries(value: &Value) -> Result<Vec<(&str, &Value)>, TemplateError> {
    match value {
        Value::Map(map) => Ok(map.iter().map(|(name, value)| (name.as_ref(), value)).collect()),
        Value::Nil => Ok(Vec::new()),
        other => Err(wrong(format!("wrong type for value; expected a map; got {}", other.type_name()))),
    }
}

/// Names and values by turns.
fn from_turns(values: &[Value]) -> super::Given {
    if !values.len().is_multiple_of(2) {
        return Err(wrong("invalid map call"));
    }
    let pair = |pair: &[Value]| {
        let name = pair[0].as_str().ok_or_else(|| wrong("map keys must be strings"))?;
        Ok((name.to_owned(), pair[1].clone()))
    };
    Ok(map(values.chunks(2).map(pair).collect::<Result<Vec<_>, TemplateError>>()?))
}

/// Adds them.
pub fn register(functions: &mut FuncMap) {
    add(functions, "map", (0, ANY), from_turns);
    add(functions, "dict", (0, ANY), from_turns);
    add(functions, "list", (0, ANY), |values| Ok(Value::List(values.into())));
    add(functions, "reverse", (1, 1), |values| match &values[0] {
        Value::List(list) => Ok(Value::List(list.iter().rev().cloned().collect())),
        other => Ok(other.clone()),
    });
    add(functions, "sortByLength", (1, 1), |values| {
        let mut texts = list(&values[0])?.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        texts.sort_by_key(|text| text.len());
        Ok(strings(texts))
    });
    add(functions, "sortKVByLength", (1, 1), |values| {
        let mut pairs = list(&values[0])?.to_vec();
        pairs.sort_by_key(|pair| pair.field("Key").and_then(Value::as_str).map_or(0, str::len));
        Ok(Value::List(pairs.into()))
    });
    add(functions, "hasKey", (2, 2), |values| {
        let name = text(&values[1])?;
        Ok(Value::Bool(entries(&values[0])?.iter().any(|(other, _)| *other == name)))
    });
    add(functions, "keys", (1, 1), |values| Ok(strings(entries(&values[0])?.into_iter().map(|(name, _)| name))));
    add(functions, "values", (1, 1), |values| {
        Ok(Value::List(entries(&values[0])?.into_iter().map(|(_, value)| value.clone()).collect()))
    });
    add(functions, "append", (2, 2), |values| {
        Ok(Value::List(list(&values[0])?.iter().chain([&values[1]]).cloned().collect()))
    });
    add(functions, "pluck", (1, ANY), |values| {
        let name = text(&values[0])?;
        let mut found = Vec::new();
        for value in &values[1..] {
            found.extend(
                entries(value)?.into_iter().filter(|(other, _)| *other == name).map(|(_, value)| value.clone()),
            );
        }
        Ok(Value::List(found.into()))
    });
    add(functions, "default", (2, 2), |values| Ok(values[usize::from(values[1].is_truthy())].clone()));
    add(functions, "empty", (1, 1), |values| Ok(Value::Bool(!values[0].is_truthy())));
    add(functions, "coalesce", (0, ANY), |values| {
        Ok(values.iter().find(|value| value.is_truthy()).cloned().unwrap_or(Value::Nil))
    });
    add(functions, "ternary", (3, 3), |values| match values[2] {
        Value::Bool(is_so) => Ok(values[usize::from(!is_so)].clone()),
        ref other => Err(wrong(format!("wrong type for value; expected bool; got {}", other.type_name()))),
    });
}
