//! A line that compares: `mod("key") > "0"`.

use crate::failure::{Exit, Failure};
use crate::quote::{parse_int, quoted, unquote};
use plinth_api::proto::etcdserverpb::Compare;
use plinth_api::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

/// What could be read of a line.
#[derive(Default)]
struct Parts {
    key: Vec<u8>,
    operator: String,
    value: Vec<u8>,
    whole: bool,
}

/// Reads a line.
pub fn parse(line: &str) -> Result<Compare, Failure> {
    let malformed = |why: String| Failure::new(Exit::InvalidInput, format!("malformed comparison: {line}{why}"));
    let (target, rest) = line.split_once('(').ok_or_else(|| malformed(String::new()))?;
    let Parts { key, operator, value, whole } = parts(rest);
    if !whole {
        let got = format!("; got {target}({}) {operator} {}", quoted(&key), quoted(&value));
        return Err(malformed(got));
    }
    let number = || {
        let invalid = || Failure::new(Exit::InvalidInput, format!("invalid txn compare request: {line}"));
        let text = std::str::from_utf8(&value).map_err(|_| invalid())?;
        parse_int(text, 10).map_err(|_| invalid())
    };
    let (target, union) = match target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number()?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.into())),
        "lease" => return Err(malformed(" (leases cannot be compared)".to_owned())),
        _ => return Err(malformed(format!(" (unknown target {target})"))),
    };
    let result = match operator.as_str() {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        _ => return Err(malformed(format!(" (unknown operator {operator})"))),
    };
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        target_union: Some(union),
        ..Compare::default()
    })
}

/// Behind the parenthesis: a quoted key, a parenthesis, a space, an operator, a space, a quoted value. What follows
/// is not looked at.
fn parts(text: &str) -> Parts {
    let mut parts = Parts::default();
    let Some((key, rest)) = any_quoted(text.trim_start_matches(' ')) else { return parts };
    parts.key = key;
    let Some(rest) = rest.strip_prefix(')').filter(|rest| rest.starts_with([' ', '\t'])) else { return parts };
    let rest = rest.trim_start();
    let (operator, rest) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
    parts.operator = operator.to_owned();
    if let Some((value, _)) = any_quoted(rest.trim_start()) {
        parts.value = value;
        parts.whole = true;
    }
    parts
}

/// A string in double quotes, with escapes, or in back quotes, without.
fn any_quoted(text: &str) -> Option<(Vec<u8>, &str)> {
    match text.strip_prefix('`') {
        Some(raw) => raw.split_once('`').map(|(value, rest)| (value.as_bytes().to_vec(), rest)),
        None => unquote(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons() {
        for line in [r#"mod("k") > "7""#, r#"m( "k")  >   "7" rest"#, "mod(`k`) > `7`"] {
            let compare = parse(line).expect(line);
            assert_eq!((compare.result(), compare.target()), (CompareResult::Greater, CompareTarget::Mod));
            assert_eq!((&compare.key[..], compare.target_union), (&b"k"[..], Some(TargetUnion::ModRevision(7))));
        }
        let compare = parse(r#"val("a(b") != "x\ty""#).expect("value");
        assert_eq!(compare.result(), CompareResult::NotEqual);
        assert_eq!(compare.target_union, Some(TargetUnion::Value("x\ty".into())));
    }

    #[test]
    fn what_is_said_of_broken_ones() {
        for (line, text) in [
            (r#"mod "k""#, r#"malformed comparison: mod "k""#),
            (r#"mod("k")> "0""#, r#"malformed comparison: mod("k")> "0"; got mod("k")  """#),
            (r#"mod("k") >"0""#, r#"malformed comparison: mod("k") >"0"; got mod("k") >"0" """#),
            (r#"mod(k) > "0""#, r#"malformed comparison: mod(k) > "0"; got mod("")  """#),
            (r#"foo("k") > "0""#, r#"malformed comparison: foo("k") > "0" (unknown target foo)"#),
            (r#"mod("k") > "x""#, r#"invalid txn compare request: mod("k") > "x""#),
            (r#"mod("k") ~ "0""#, r#"malformed comparison: mod("k") ~ "0" (unknown operator ~)"#),
        ] {
            assert_eq!(parse(line), Err(Failure::new(Exit::InvalidInput, text)));
        }
    }
}
