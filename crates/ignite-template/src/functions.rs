//! The functions of templates: Go's own, and those that Docker adds.

use crate::error::Problem;
use crate::printf;
use crate::value::Value;
use std::cmp::Ordering;

/// The functions there are.
pub(crate) const NAMES: [&str; 21] = [
    "and", "or", "not", "len", "index", "print", "printf", "println", "eq", "ne", "lt", "le", "gt", "ge", "json",
    "join", "split", "upper", "lower", "title", "truncate",
];

/// The function's value for its arguments; the last one is what a pipe hands over.
pub(crate) fn call(name: &str, arguments: &[Value]) -> Result<Value, Problem> {
    let count = || Problem::ArgumentCount { name: name.to_owned(), found: arguments.len() };
    match (name, arguments) {
        ("print", values) => Ok(Value::text(print(values, false))),
        ("println", values) => Ok(Value::text(print(values, true) + "\n")),
        ("printf", [format, values @ ..]) => Ok(Value::text(printf::format(text(name, format)?, values))),
        ("not", [value]) => Ok(Value::Bool(!value.is_true())),
        ("len", [value]) => len(value),
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |value, key| index(&value, key)),
        ("json", [value]) => Ok(Value::text(value.to_json())),
        ("join", [Value::List(values) | Value::PrintedList { values, .. }, separator]) => {
            let texts: Vec<String> = values.iter().map(Value::to_string).collect();
            Ok(Value::text(texts.join(text(name, separator)?)))
        }
        ("join", [Value::Nil | Value::Null, _]) => Ok(Value::text("")),
        ("join", [other, _]) => Err(argument_type(name, "a list", other)),
        ("split", [value, separator]) => split(text(name, value)?, text(name, separator)?),
        ("upper", [value]) => Ok(Value::text(text(name, value)?.to_uppercase())),
        ("lower", [value]) => Ok(Value::text(text(name, value)?.to_lowercase())),
        ("title", [value]) => Ok(Value::text(title(text(name, value)?))),
        ("truncate", [value, Value::Int(length)]) => {
            let length = usize::try_from(*length).unwrap_or(0);
            Ok(Value::text(text(name, value)?.chars().take(length).collect::<String>()))
        }
        ("truncate", [_, other]) => Err(argument_type(name, "a length", other)),
        ("eq", [first, others @ ..]) if !others.is_empty() => {
            for other in others {
                if is_equal(name, first, other)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        ("ne", [left, right]) => Ok(Value::Bool(!is_equal(name, left, right)?)),
        ("lt", [left, right]) => Ok(Value::Bool(order(name, left, right)?.is_lt())),
        ("le", [left, right]) => Ok(Value::Bool(order(name, left, right)?.is_le())),
        ("gt", [left, right]) => Ok(Value::Bool(order(name, left, right)?.is_gt())),
        ("ge", [left, right]) => Ok(Value::Bool(order(name, left, right)?.is_ge())),
        _ => Err(count()),
    }
}

fn argument_type(name: &str, expected: &'static str, value: &Value) -> Problem {
    Problem::ArgumentType { name: name.to_owned(), expected, kind: value.kind() }
}

fn text<'a>(name: &str, value: &'a Value) -> Result<&'a str, Problem> {
    match value {
        Value::String(text) | Value::Printed { text, .. } => Ok(text),
        other => Err(argument_type(name, "a text", other)),
    }
}

/// Go's `fmt.Sprint` puts a space between two operands neither of which is a string, `fmt.Sprintln` between all.
fn print(values: &[Value], is_line: bool) -> String {
    let mut out = String::new();
    for (position, value) in values.iter().enumerate() {
        let is_string = |value: &Value| matches!(value, Value::String(_));
        if position > 0 && (is_line || !(is_string(value) || is_string(&values[position - 1]))) {
            out.push(' ');
        }
        out.push_str(&printf::plain(value));
    }
    out
}

fn len(value: &Value) -> Result<Value, Problem> {
    let count = match value {
        Value::String(text) | Value::Printed { text, .. } => text.len(),
        Value::List(values) | Value::PrintedList { values, .. } => values.len(),
        Value::Map(map) => map.len(),
        Value::Nil => 0,
        other => return Err(argument_type("len", "a text, list or map", other)),
    };
    Ok(Value::Int(i64::try_from(count).unwrap_or(i64::MAX)))
}

fn index(value: &Value, key: &Value) -> Result<Value, Problem> {
    match (value, key) {
        (Value::Map(map), Value::String(key)) => Ok(Value::text(map.get(&**key).map_or("", String::as_str))),
        (Value::Map(_), other) => Err(argument_type("index", "a text as key of a map", other)),
        (Value::List(values) | Value::PrintedList { values, .. }, Value::Int(index)) => {
            let found = usize::try_from(*index).ok().and_then(|index| values.get(index));
            found.cloned().ok_or(Problem::IndexOutOfRange { index: *index, len: values.len() })
        }
        (Value::List(_) | Value::PrintedList { .. }, other) => {
            Err(argument_type("index", "a number as index of a list", other))
        }
        (Value::Nil, Value::Int(index)) => Err(Problem::IndexOutOfRange { index: *index, len: 0 }),
        (Value::Nil, _) => Ok(Value::Nil),
        (other, _) => Err(argument_type("index", "a list or map", other)),
    }
}

fn split(value: &str, separator: &str) -> Result<Value, Problem> {
    if separator.is_empty() {
        return Ok(Value::texts(value.chars().map(String::from)));
    }
    Ok(Value::texts(value.split(separator)))
}

/// Every word with a capital letter first, the rest as it is.
fn title(text: &str) -> String {
    let mut is_start = true;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_start {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        is_start = c.is_whitespace();
    }
    out
}

fn is_equal(name: &str, left: &Value, right: &Value) -> Result<bool, Problem> {
    match (left, right) {
        (Value::Nil | Value::Null, Value::Nil | Value::Null) => Ok(true),
        (Value::Nil | Value::Null, _) | (_, Value::Nil | Value::Null) => Ok(false),
        (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
        (Value::Int(left), Value::Int(right)) => Ok(left == right),
        (
            Value::String(left) | Value::Printed { text: left, .. },
            Value::String(right) | Value::Printed { text: right, .. },
        ) => Ok(left == right),
        _ => Err(incomparable(name, left, right)),
    }
}

fn order(name: &str, left: &Value, right: &Value) -> Result<Ordering, Problem> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => Ok(left.cmp(right)),
        (Value::String(left), Value::String(right)) => Ok(left.cmp(right)),
        _ => Err(incomparable(name, left, right)),
    }
}

fn incomparable(name: &str, left: &Value, right: &Value) -> Problem {
    Problem::Incomparable { name: name.to_owned(), left: left.kind(), right: right.kind() }
}
