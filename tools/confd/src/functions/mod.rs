//! The functions that templates have beside Go's own: those of confd, of the fork that lives on, and of the variant for
//! metad. Each is a function of values; what kinds it takes is looked at here, with the words of Go's package.
//!
//! - [`mod@keys`]: what the store holds; [`mod@text`]; [`mod@numbers`], and comparisons that take texts for numbers where that is
//!   wanted; [`lists`]: lists and maps; [`json`]; [`machine`]: environment, files, names and addresses; [`clock`]

pub mod clock;
pub mod json;
pub mod keys;
pub mod lists;
pub mod machine;
pub mod numbers;
pub mod text;

use gotmpl::{FuncMap, TemplateError, Value};
use std::sync::Arc;

/// What a function gives.
pub type Given = Result<Value, TemplateError>;

/// An error in words.
pub fn wrong(text: impl Into<String>) -> TemplateError {
    TemplateError::Exec(text.into())
}

/// Adds a function that takes between `least` and `most` values.
pub fn add(
    map: &mut FuncMap,
    name: &'static str,
    (least, most): (usize, usize),
    function: impl Fn(&[Value]) -> Given + Send + Sync + 'static,
) {
    let checked = move |values: &[Value]| match values.len() {
        number if (least..=most).contains(&number) => function(values).map_err(|error| match error {
            TemplateError::Exec(text) => wrong(format!("error calling {name}: {text}")),
            error => error,
        }),
        number if least == most => Err(wrong(format!("wrong number of args for {name}: want {least} got {number}"))),
        number => Err(wrong(format!("wrong number of args for {name}: want at least {least} got {number}"))),
    };
    map.insert(name.to_owned(), Arc::new(checked));
}

/// Any number of values.
pub const ANY: usize = usize::MAX;

/// A text.
pub fn text(value: &Value) -> Result<&str, TemplateError> {
    value.as_str().ok_or_else(|| wrong(format!("wrong type for value; expected string; got {}", value.type_name())))
}

/// A whole number.
pub fn whole(value: &Value) -> Result<i64, TemplateError> {
    let of_float = |float: f64| (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64);
    let number = match value {
        Value::Int(number) => Some(*number),
        Value::Float(float) => of_float(*float),
        Value::Uint(number) => i64::try_from(*number).ok(),
        _ => None,
    };
    number.ok_or_else(|| wrong(format!("wrong type for value; expected int; got {}", value.type_name())))
}

/// The elements of a list. Nothing is an empty one.
pub fn list(value: &Value) -> Result<&[Value], TemplateError> {
    match value {
        Value::List(list) => Ok(list),
        Value::Nil => Ok(&[]),
        other => Err(wrong(format!("wrong type for value; expected a list; got {}", other.type_name()))),
    }
}

/// A text as a value.
pub fn string(text: impl AsRef<str>) -> Value {
    Value::String(text.as_ref().into())
}

/// Texts as a list.
pub fn strings<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Value {
    Value::List(texts.into_iter().map(string).collect())
}

/// A map.
pub fn map(pairs: impl IntoIterator<Item = (impl AsRef<str>, Value)>) -> Value {
    Value::Map(Arc::new(pairs.into_iter().map(|(name, value)| (name.as_ref().into(), value)).collect()))
}
