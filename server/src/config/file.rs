//! The configuration file: YAML, of which JSON is a part.
//!
//! As in etcd: unknown keys are ignored, keys match without regard to case, an absent value (`key:`) says nothing,
//! durations are integers of nanoseconds, and where a text is wanted a number or boolean is taken as its text.

use serde_yaml_ng::{Mapping, Value as Yaml};

use super::legacy::OLD_FLAGS;
use super::notice::Notice;
use super::recorded::{Recorded, SetError};
use super::registry::{self, FLAGS, Flag};
use super::value::{Kind, Value};

/// Reads the text of a configuration file. The error says which key is wrong and why.
pub fn read(text: &str, recorded: &mut Recorded) -> Result<(), String> {
    let root: Yaml =
        serde_yaml_ng::from_str(text).map_err(|error| format!("error converting YAML to JSON: {error}"))?;
    let root = match root {
        Yaml::Null => return Ok(()),
        Yaml::Mapping(root) => root,
        _ => return Err("error unmarshaling JSON: the configuration is not a map of keys".to_owned()),
    };
    for flag in FLAGS {
        let found = match flag.yaml {
            registry::Yaml::None => None,
            registry::Yaml::Top => get(&root, flag.name),
            registry::Yaml::At(path) => descend(&root, path)?,
        };
        let Some(found) = found.filter(|found| !found.is_null()) else { continue };
        let key = match flag.yaml {
            registry::Yaml::At(path) => path.join("."),
            _ => flag.name.to_owned(),
        };
        set(flag, &key, found, recorded)?;
    }
    for old in OLD_FLAGS {
        let Some(text) = get(&root, old.name).and_then(scalar_text) else { continue };
        set_old(old.name, &text, recorded)?;
    }
    Ok(())
}

fn get<'a>(map: &'a Mapping, key: &str) -> Option<&'a Yaml> {
    map.get(key).or_else(|| {
        map.iter()
            .find(|(found, _)| found.as_str().is_some_and(|found| found.eq_ignore_ascii_case(key)))
            .map(|(_, v)| v)
    })
}

fn descend<'a>(root: &'a Mapping, path: &[&str]) -> Result<Option<&'a Yaml>, String> {
    let (last, parents) = path.split_last().expect("paths are not empty");
    let mut map = root;
    for parent in parents {
        match get(map, parent) {
            None | Some(Yaml::Null) => return Ok(None),
            Some(Yaml::Mapping(inner)) => map = inner,
            Some(_) => return Err(format!("invalid {parent}")),
        }
    }
    Ok(get(map, last))
}

/// Sets a flag from a value of the file.
fn set(flag: &'static Flag, key: &str, found: &Yaml, recorded: &mut Recorded) -> Result<(), String> {
    let mismatch = |wanted: &str| {
        format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into {key} of type {wanted}",
            type_name(found)
        )
    };
    let value = match flag.kind {
        Kind::Bool => Value::Bool(found.as_bool().ok_or_else(|| mismatch("bool"))?),
        Kind::Uint(bits) => {
            let number = found.as_u64().filter(|&number| bits == 64 || number <= u64::from(u32::MAX));
            Value::Uint(number.ok_or_else(|| mismatch("uint"))?)
        }
        Kind::Int => Value::Int(found.as_i64().ok_or_else(|| mismatch("int"))?),
        Kind::Duration => Value::Duration(found.as_i64().ok_or_else(|| mismatch("time.Duration (nanoseconds)"))?),
        Kind::Set | Kind::List if found.is_sequence() => Value::List(texts(found).ok_or_else(|| mismatch("[]string"))?),
        _ => {
            let text = scalar_text(found).ok_or_else(|| mismatch("string"))?;
            // For the file the empty text is an absent one.
            if text.is_empty() && flag.kind != Kind::Text {
                return Ok(());
            }
            match flag.kind {
                // Any word is taken here and checked with the rest, whose words for it are others.
                Kind::Choice(_) => Value::Text(text),
                // Unlike the command line, the file keeps duplicates.
                Kind::Urls => Value::Urls(
                    super::url::parse_urls(text.split(','))
                        .map_err(|reason| format!("unexpected error setting up {key}: {reason}"))?,
                ),
                _ => return recorded.set_text(flag.name, &text).map_err(|error| message(key, &text, error)),
            }
        }
    };
    recorded.set_value(flag, value);
    Ok(())
}

/// etcd ignores old keys in files without a word. Here they work as old flags do, but what would be refused as a flag
/// (etcd's own sample file has such keys) only earns a warning.
fn set_old(name: &str, text: &str, recorded: &mut Recorded) -> Result<(), String> {
    // Durations are nanoseconds in files, under their old names too.
    let is_duration = super::legacy::find(name).is_some_and(|old| match old.meaning {
        super::legacy::Meaning::Renamed(to) => registry::find(to).is_some_and(|flag| flag.kind == Kind::Duration),
        _ => false,
    });
    let text = if is_duration { format!("{text}ns") } else { text.to_owned() };
    match recorded.set_text(name, &text) {
        Ok(()) => Ok(()),
        Err(SetError::Gone(what)) => {
            recorded.notices.push(Notice::warn(format!("configuration key {name} is ignored: {what}")));
            Ok(())
        }
        Err(error) => Err(message(name, &text, error)),
    }
}

fn message(key: &str, text: &str, error: SetError) -> String {
    match error {
        SetError::BadValue(reason) | SetError::Gone(reason) => format!("invalid value {text:?} for {key}: {reason}"),
        SetError::Unknown => unreachable!("the keys come from the tables"),
    }
}

fn texts(sequence: &Yaml) -> Option<Vec<String>> {
    sequence.as_sequence()?.iter().map(scalar_text).collect()
}

fn scalar_text(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) => Some(text.clone()),
        Yaml::Number(number) => Some(number.to_string()),
        Yaml::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

fn type_name(value: &Yaml) -> &'static str {
    match value {
        Yaml::Null => "null",
        Yaml::Bool(_) => "bool",
        Yaml::Number(_) => "number",
        Yaml::String(_) => "string",
        Yaml::Sequence(_) => "array",
        Yaml::Mapping(_) | Yaml::Tagged(_) => "object",
    }
}
