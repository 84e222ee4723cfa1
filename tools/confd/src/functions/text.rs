//! Texts: parts and cases, encodings, regular expressions.

use super::{ANY, add, list, string, strings, text, whole, wrong};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gotmpl::{FuncMap, Value};
use plinth_ctl::quote::quoted;
use regex::Regex;
use sha2::{Digest, Sha256};

/// Largest text that repeating may make.
const REPEATED_BYTES_MAX: usize = 16 << 20;

/// Adds them.
pub fn register(functions: &mut FuncMap) {
    let one = |functions: &mut FuncMap, name, change: fn(&str) -> String| {
        add(functions, name, (1, 1), move |values| Ok(string(change(text(&values[0])?))));
    };
    one(functions, "base", crate::paths::base);
    one(functions, "dir", crate::paths::dir);
    one(functions, "toUpper", |text| cased(text, |char| char.to_uppercase().collect()));
    one(functions, "toLower", |text| cased(text, |char| char.to_lowercase().collect()));
    one(functions, "base64Encode", |text| STANDARD.encode(text));
    one(functions, "quote", |text| quoted(text.as_bytes()));
    one(functions, "squote", |text| format!("'{}'", text.replace('\'', "''")));
    one(functions, "nospace", |text| text.split_whitespace().collect());
    one(functions, "snakecase", |text| words(text).join("_").to_lowercase());
    one(functions, "kebabcase", |text| words(text).join("-").to_lowercase());
    one(functions, "camelcase", camel);
    one(functions, "sha256sum", |text| Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect());
    add(functions, "base64Decode", (1, 1), |values| {
        let bytes =
            STANDARD.decode(text(&values[0])?).map_err(|error| wrong(format!("illegal base64 data: {error}")))?;
        String::from_utf8(bytes).map(string).map_err(|_| wrong("what is encoded is no text"))
    });
    add(functions, "split", (2, 2), |values| Ok(strings(split(text(&values[0])?, text(&values[1])?))));
    add(functions, "join", (2, 2), |values| {
        let parts = list(&values[0])?.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        Ok(string(parts.join(text(&values[1])?)))
    });
    add(functions, "replace", (4, 4), |values| {
        let (whole_text, old, new) = (text(&values[0])?, text(&values[1])?, text(&values[2])?);
        // A negative number is all of them.
        let number = usize::try_from(whole(&values[3])?).unwrap_or(usize::MAX);
        Ok(string(whole_text.replacen(old, new, number)))
    });
    add(functions, "contains", (2, 2), |values| Ok(Value::Bool(text(&values[0])?.contains(text(&values[1])?))));
    add(functions, "trimSuffix", (2, 2), |values| {
        let (whole, end) = (text(&values[0])?, text(&values[1])?);
        Ok(string(whole.strip_suffix(end).unwrap_or(whole)))
    });
    add(functions, "trimPrefix", (2, 2), |values| {
        let (whole, start) = (text(&values[0])?, text(&values[1])?);
        Ok(string(whole.strip_prefix(start).unwrap_or(whole)))
    });
    add(functions, "repeat", (2, 2), |values| {
        let (times, part) = (usize::try_from(whole(&values[0])?).unwrap_or(0), text(&values[1])?);
        match times.checked_mul(part.len()) {
            Some(bytes) if bytes <= REPEATED_BYTES_MAX => Ok(string(part.repeat(times))),
            _ => Err(wrong("the text would be too long")),
        }
    });
    add(functions, "indent", (2, 2), |values| Ok(string(indent(whole(&values[0])?, text(&values[1])?))));
    add(functions, "nindent", (2, 2), |values| {
        Ok(string(format!("\n{}", indent(whole(&values[0])?, text(&values[1])?))))
    });
    expressions(functions);
}

fn expressions(functions: &mut FuncMap) {
    let compiled = |pattern: &Value| {
        let pattern = text(pattern)?;
        Regex::new(pattern).map_err(|error| wrong(format!("error parsing regexp: {error}")))
    };
    add(functions, "regexMatch", (2, 2), move |values| {
        Ok(Value::Bool(compiled(&values[0])?.is_match(text(&values[1])?)))
    });
    add(functions, "regexFind", (2, 2), move |values| {
        Ok(string(compiled(&values[0])?.find(text(&values[1])?).map_or("", |found| found.as_str())))
    });
    add(functions, "regexReplaceAll", (3, 3), move |values| {
        Ok(string(compiled(&values[0])?.replace_all(text(&values[1])?, text(&values[2])?)))
    });
    // Texts, or pairs by their value.
    add(functions, "filter", (2, ANY), move |values| {
        let (pattern, Value::List(elements)) = (compiled(&values[0])?, &values[1]) else {
            return Err(wrong("filter only support slice or array."));
        };
        let value_of =
            |element: &Value| element.as_str().or_else(|| element.field("Value")?.as_str()).map(str::to_owned);
        let is_wanted = |element: &&Value| value_of(element).is_some_and(|value| pattern.is_match(&value));
        Ok(Value::List(elements.iter().filter(is_wanted).cloned().collect()))
    });
}

/// Letters that would become several stay as they are, as in Go.
fn cased(text: &str, change: fn(char) -> Vec<char>) -> String {
    let one = |char| match change(char).as_slice() {
        [changed] => *changed,
        _ => char,
    };
    text.chars().map(one).collect()
}

/// Without a separator, into characters.
fn split<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    match separator {
        "" => text.split("").filter(|part| !part.is_empty()).collect(),
        separator => text.split(separator).collect(),
    }
}

fn indent(spaces: i64, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let pad = " ".repeat(usize::try_from(spaces).unwrap_or(0).min(1 << 16));
    format!("{pad}{}", text.replace('\n', &format!("\n{pad}")))
}

/// Words end at a dash, an underscore or a blank, and before a capital that begins one.
fn words(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let (mut words, mut word) = (Vec::new(), String::new());
    for (at, char) in chars.iter().enumerate() {
        if matches!(char, '_' | '-' | ' ') {
            words.push(std::mem::take(&mut word));
            continue;
        }
        let is_before_lower = chars.get(at + 1).is_some_and(|next| next.is_lowercase());
        if char.is_uppercase() && !word.is_empty() && (is_before_lower || !chars[at - 1].is_uppercase()) {
            words.push(std::mem::take(&mut word));
        }
        word.push(*char);
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

fn camel(text: &str) -> String {
    let word = |(number, word): (usize, String)| {
        let lower = word.to_lowercase();
        let mut chars = lower.chars();
        match chars.next() {
            Some(first) if number > 0 => first.to_uppercase().chain(chars).collect(),
            _ => lower,
        }
    };
    words(text).into_iter().enumerate().map(word).collect()
}
