//! What templates are rendered from, and how Go prints it.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A value; copies are cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing at all: the key that a map lacks. Prints `<no value>`.
    Null,
    /// A nil pointer. Prints `<nil>`.
    Nil,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A text.
    String(Arc<str>),
    /// Something that prints in its own way, such as a size.
    Printed {
        /// How it prints.
        text: Arc<str>,
        /// How it is written as JSON.
        json: Arc<str>,
    },
    /// A list. Prints `[a b]`.
    List(Arc<[Value]>),
    /// A list that prints in its own way, such as addresses with commas.
    PrintedList {
        /// How it prints.
        text: Arc<str>,
        /// What `range` and `index` see.
        values: Arc<[Value]>,
    },
    /// Texts by key. Prints `map[a:b c:d]`, sorted.
    Map(Arc<BTreeMap<String, String>>),
    /// Named fields, in order. Prints `{a b}`.
    Record(Arc<Record>),
}

/// An object with fields.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    /// Names and values, in the order in which they print.
    pub fields: Vec<(&'static str, Value)>,
    /// Fields that can be named but do not print a second time: those that Go promotes from an embedded struct.
    pub promoted: Vec<(&'static str, Value)>,
    /// The object as one line of JSON.
    pub json: String,
}

impl Value {
    /// A text.
    pub fn text(text: impl AsRef<str>) -> Value {
        Value::String(text.as_ref().into())
    }

    /// A list of texts.
    pub fn texts<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Value {
        Value::list(texts.into_iter().map(Value::text))
    }

    /// A list.
    pub fn list(values: impl IntoIterator<Item = Value>) -> Value {
        Value::List(values.into_iter().collect())
    }

    /// A list that prints its elements with a comma and a space between them.
    pub fn comma_list(values: impl IntoIterator<Item = Value>) -> Value {
        let values: Arc<[Value]> = values.into_iter().collect();
        let text = values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ").into();
        Value::PrintedList { text, values }
    }

    /// An object without promoted fields; `json` is the object as one line of JSON.
    pub fn record(json: String, fields: Vec<(&'static str, Value)>) -> Value {
        Value::Record(Arc::new(Record { fields, promoted: Vec::new(), json }))
    }

    /// The value or, where there is none, a nil pointer.
    pub fn or_nil(value: Option<Value>) -> Value {
        value.unwrap_or(Value::Nil)
    }

    /// Whether `if` takes it for true: it is not empty, zero, false or nil.
    pub fn is_true(&self) -> bool {
        match self {
            Value::Null | Value::Nil => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::String(text) | Value::Printed { text, .. } => !text.is_empty(),
            Value::List(values) | Value::PrintedList { values, .. } => !values.is_empty(),
            Value::Map(map) => !map.is_empty(),
            Value::Record(_) => true,
        }
    }

    /// Name of its type in messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "no value",
            Value::Nil => "nil",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::String(_) | Value::Printed { .. } => "string",
            Value::List(_) | Value::PrintedList { .. } => "list",
            Value::Map(_) => "map",
            Value::Record(_) => "struct",
        }
    }

    /// The value as one line of JSON.
    pub fn to_json(&self) -> String {
        match self {
            Value::Null | Value::Nil => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::String(text) => json_text(text),
            Value::Printed { json, .. } => json.to_string(),
            Value::List(values) | Value::PrintedList { values, .. } => {
                format!("[{}]", values.iter().map(Value::to_json).collect::<Vec<_>>().join(","))
            }
            Value::Map(map) => {
                let entries = map.iter().map(|(key, value)| format!("{}:{}", json_text(key), json_text(value)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
            }
            Value::Record(record) => record.json.clone(),
        }
    }
}

fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Null => f.write_str("<no value>"),
            Value::Nil => f.write_str("<nil>"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::String(text) | Value::Printed { text, .. } | Value::PrintedList { text, .. } => f.write_str(text),
            Value::List(values) => spaced(f, "[", values.iter(), "]"),
            Value::Map(map) => spaced(f, "map[", map.iter().map(|(key, value)| format!("{key}:{value}")), "]"),
            Value::Record(record) => spaced(f, "{", record.fields.iter().map(|(_, value)| value), "}"),
        }
    }
}

fn spaced<T: std::fmt::Display>(
    f: &mut std::fmt::Formatter<'_>,
    open: &str,
    items: impl Iterator<Item = T>,
    close: &str,
) -> std::fmt::Result {
    f.write_str(open)?;
    for (position, item) in items.enumerate() {
        if position > 0 {
            f.write_str(" ")?;
        }
        write!(f, "{item}")?;
    }
    f.write_str(close)
}
