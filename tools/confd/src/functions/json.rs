//! JSON and YAML, as Go reads and writes them: numbers are floats, and written without an exponent where Go does so.

use super::{Given, add, map, string, text, wrong};
use gotmpl::{FuncMap, TemplateError, Value};

/// What JSON says.
pub fn read(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(is_so) => Value::Bool(*is_so),
        serde_json::Value::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => string(text),
        serde_json::Value::Array(list) => Value::List(list.iter().map(read).collect()),
        serde_json::Value::Object(object) => map(object.iter().map(|(name, value)| (name, read(value)))),
    }
}

/// A value as JSON.
///
/// # Errors
/// If it cannot be said in JSON.
pub fn write(value: &Value) -> Result<serde_json::Value, TemplateError> {
    Ok(match value {
        Value::Nil => serde_json::Value::Null,
        Value::Bool(is_so) => (*is_so).into(),
        Value::Int(number) => (*number).into(),
        Value::Uint(number) => (*number).into(),
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => (*number as i64).into(),
        Value::Float(number) => {
            serde_json::Number::from_f64(*number).ok_or_else(|| wrong("json: unsupported value"))?.into()
        }
        Value::String(text) => text.as_ref().into(),
        Value::List(list) => list.iter().map(write).collect::<Result<Vec<_>, _>>()?.into(),
        Value::Map(map) => {
            let pair = |(name, value): (&std::sync::Arc<str>, &Value)| Ok((name.to_string(), write(value)?));
            serde_json::Value::Object(map.iter().map(pair).collect::<Result<_, TemplateError>>()?)
        }
        other => return Err(wrong(format!("json: unsupported type: {}", other.type_name()))),
    })
}

/// What Go escapes besides, so that it may stand in HTML.
fn escaped(json: String) -> Given {
    let marks =
        [("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u{2028}", "\\u2028"), ("\u{2029}", "\\u2029")];
    Ok(string(marks.iter().fold(json, |json, (mark, code)| json.replace(mark, code))))
}

fn parsed(value: &Value) -> Result<serde_json::Value, TemplateError> {
    serde_json::from_str(text(value)?).map_err(|error| wrong(error.to_string()))
}

/// Adds them.
pub fn register(functions: &mut FuncMap) {
    add(functions, "json", (1, 1), |values| match parsed(&values[0])? {
        serde_json::Value::Null => Ok(map(std::iter::empty::<(&str, Value)>())),
        json @ serde_json::Value::Object(_) => Ok(read(&json)),
        _ => Err(wrong("json: cannot unmarshal into Go value of type map[string]interface {}")),
    });
    add(functions, "jsonArray", (1, 1), |values| match parsed(&values[0])? {
        serde_json::Value::Null => Ok(Value::List([].into())),
        json @ serde_json::Value::Array(_) => Ok(read(&json)),
        _ => Err(wrong("json: cannot unmarshal into Go value of type []interface {}")),
    });
    add(functions, "fromJson", (1, 1), |values| Ok(read(&parsed(&values[0])?)));
    add(functions, "toJson", (1, 1), |values| escaped(write(&values[0])?.to_string()));
    add(functions, "toPrettyJson", (1, 1), |values| {
        escaped(serde_json::to_string_pretty(&write(&values[0])?).map_err(|error| wrong(error.to_string()))?)
    });
    add(functions, "toYaml", (1, 1), |values| {
        serde_yaml_ng::to_string(&write(&values[0])?).map(string).map_err(|error| wrong(error.to_string()))
    });
}
