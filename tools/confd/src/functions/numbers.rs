//! Numbers: arithmetic, which takes texts that are numbers too, and comparisons of that kind where they are wanted.

use super::{Given, add, text, whole, wrong};
use gotmpl::{FuncMap, TemplateError, Value};
use std::cmp::Ordering;

/// Longest sequence that `seq` makes.
const SEQUENCE_MAX: i64 = 1_000_000;

/// A number, whole as long as it can be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Whole(i64),
    Float(f64),
}

impl Number {
    fn of(value: &Value) -> Option<Number> {
        match value {
            Value::Int(number) => Some(Number::Whole(*number)),
            Value::Uint(number) => i64::try_from(*number).ok().map(Number::Whole),
            Value::Float(number) => Some(Number::Float(*number)),
            Value::String(text) => match text.parse() {
                Ok(number) => Some(Number::Whole(number)),
                Err(_) => text.parse().ok().map(Number::Float),
            },
            _ => None,
        }
    }

    fn float(self) -> f64 {
        match self {
            Number::Whole(number) => number as f64,
            Number::Float(number) => number,
        }
    }
}

fn both(values: &[Value]) -> Result<(Number, Number), TemplateError> {
    let number = |value: &Value| {
        Number::of(value).ok_or_else(|| wrong(format!("can't apply the operator to the value {value}")))
    };
    Ok((number(&values[0])?, number(&values[1])?))
}

fn arithmetic(
    functions: &mut FuncMap,
    name: &'static str,
    of_whole: fn(i64, i64) -> Option<i64>,
    of_floats: fn(f64, f64) -> f64,
) {
    add(functions, name, (2, 2), move |values| match both(values)? {
        (Number::Whole(_), Number::Whole(0)) if name == "div" => Err(wrong("division by zero")),
        (Number::Whole(left), Number::Whole(right)) => {
            of_whole(left, right).map(Value::Int).ok_or_else(|| wrong("the number is too large"))
        }
        (left, right) => Ok(Value::Float(of_floats(left.float(), right.float()))),
    });
}

/// Adds them; with `texts_are_numbers`, `eq` and its kin too.
pub fn register(functions: &mut FuncMap, texts_are_numbers: bool) {
    arithmetic(functions, "add", i64::checked_add, |left, right| left + right);
    arithmetic(functions, "sub", i64::checked_sub, |left, right| left - right);
    arithmetic(functions, "mul", i64::checked_mul, |left, right| left * right);
    arithmetic(functions, "div", i64::checked_div, |left, right| left / right);
    add(functions, "mod", (2, 2), |values| match both(values)? {
        (_, Number::Whole(0)) => Err(wrong("modulo by zero")),
        (Number::Whole(left), Number::Whole(right)) => Ok(Value::Int(left.wrapping_rem(right))),
        _ => Err(wrong("modulo operator can't be used with non integer value")),
    });
    for (name, wanted) in [("max", Ordering::Greater), ("min", Ordering::Less)] {
        add(functions, name, (2, 2), move |values| {
            let (left, right) = both(values)?;
            let chosen = if left.float().partial_cmp(&right.float()) == Some(wanted) { left } else { right };
            Ok(Value::Float(chosen.float()))
        });
    }
    add(functions, "seq", (2, 2), |values| {
        let (first, last) = (whole(&values[0])?, whole(&values[1])?);
        if last.saturating_sub(first) >= SEQUENCE_MAX {
            return Err(wrong(format!("a sequence has {SEQUENCE_MAX} numbers at most")));
        }
        Ok(Value::List((first..=last).map(Value::Int).collect()))
    });
    add(functions, "atoi", (1, 1), |values| {
        let text = text(&values[0])?;
        let invalid = || wrong(format!("strconv.Atoi: parsing {text:?}: invalid syntax"));
        text.parse().map(Value::Int).map_err(|_| invalid())
    });
    add(functions, "parseBool", (1, 1), |values| {
        let text = text(&values[0])?;
        let invalid = |_| wrong(format!("strconv.ParseBool: parsing {text:?}: invalid syntax"));
        plinth_ctl::quote::parse_bool(text).map(Value::Bool).map_err(invalid)
    });
    if texts_are_numbers {
        comparisons(functions);
    }
}

/// Comparisons for which `"3"` is 3. Texts that are no numbers are compared as texts; kinds that differ are unequal.
fn comparisons(functions: &mut FuncMap) {
    fn order(left: &Value, right: &Value) -> Option<Ordering> {
        match (Number::of(left), Number::of(right)) {
            (Some(left), Some(right)) => left.float().partial_cmp(&right.float()),
            _ => match (left, right) {
                (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
                (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
                _ => None,
            },
        }
    }
    let compare = |functions: &mut FuncMap, name, is_so: fn(Option<Ordering>) -> bool| {
        add(functions, name, (2, 2), move |values| -> Given { Ok(Value::Bool(is_so(order(&values[0], &values[1])))) });
    };
    add(functions, "eq", (2, super::ANY), |values| {
        Ok(Value::Bool(values[1..].iter().any(|value| order(&values[0], value) == Some(Ordering::Equal))))
    });
    compare(functions, "ne", |order| order != Some(Ordering::Equal));
    compare(functions, "lt", |order| order == Some(Ordering::Less));
    compare(functions, "le", |order| matches!(order, Some(Ordering::Less | Ordering::Equal)));
    compare(functions, "gt", |order| order == Some(Ordering::Greater));
    compare(functions, "ge", |order| matches!(order, Some(Ordering::Greater | Ordering::Equal)));
}
