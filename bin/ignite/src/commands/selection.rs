//! `--filter` and `--template`: which objects are listed, and what is printed of each.

use crate::commands::print;
use crate::render::text::sanitize;
use crate::report::{Hinted, UsageError};
use anyhow::Context as _;
use ignite_template::{Template, TemplateError, Value};
use std::io::IsTerminal;

/// Flags of commands that list objects.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Selection {
    /// Show only those that match all of TERM[,TERM...]: {{.Go.Field}}=VALUE, name=, id=, status= or
    /// label=KEY[=VALUE], with =, ==, !=, =~ (contains) or !~ (may be repeated)
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// What is printed of them.
    #[command(flatten)]
    pub form: Form,
}

/// `--template`.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Form {
    /// Print a line made by a Go template, such as '{{.ObjectMeta.Name}}' or '{{json .}}', instead of --output
    #[arg(short, long, visible_alias = "format", value_name = "TEMPLATE")]
    pub template: Option<String>,
}

impl Form {
    /// The template, read.
    pub fn parse(&self) -> anyhow::Result<Option<Template>> {
        let Some(text) = &self.template else { return Ok(None) };
        match text.trim() {
            "" => Err(UsageError("the template is empty; it is a Go template such as {{.Name}}".into()).into()),
            "json" => Ok(Some(Template::parse("{{json .}}").map_err(explained)?)),
            table if table == "table" || table.starts_with("table ") || table.starts_with("table\\t") => {
                let hint = "leave the word out, and write \\t between fields".to_owned();
                Err(Hinted { message: "a template that begins with \"table\" is not supported".into(), hint }.into())
            }
            _ => Ok(Some(Template::parse(text).map_err(explained)?)),
        }
    }
}

/// Prints one line for each of the values.
pub fn print_each(template: &Template, values: impl IntoIterator<Item = Value>) -> anyhow::Result<()> {
    let is_terminal = std::io::stdout().is_terminal();
    for value in values {
        let text = template.render(&value).map_err(explained)? + "\n";
        print(&if is_terminal { harmless(&text) } else { text })?;
    }
    Ok(())
}

/// For a terminal: what moves the cursor elsewhere than tabs and line feeds do is written as an escape.
fn harmless(text: &str) -> String {
    text.split_inclusive(['\t', '\n'])
        .map(|piece| match piece.strip_suffix(['\t', '\n']) {
            Some(body) => sanitize(body) + &piece[body.len()..],
            None => sanitize(piece),
        })
        .collect()
}

fn explained(error: TemplateError) -> anyhow::Error {
    match error.hint() {
        Some(hint) => Hinted { message: error.to_string(), hint }.into(),
        None => error.into(),
    }
}

/// `--filter`, read.
#[derive(Debug)]
pub struct Filter {
    kind: &'static str,
    terms: Vec<Term>,
}

#[derive(Debug)]
struct Term {
    key: Key,
    comparison: Comparison,
    value: String,
}

#[derive(Debug)]
enum Key {
    Template(Template),
    Name,
    Id,
    Status,
    Label(String),
    HasLabel(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Contains,
    ContainsNot,
}

const COMPARISONS: [(&str, Comparison); 5] = [
    ("==", Comparison::Equal),
    ("=~", Comparison::Contains),
    ("!=", Comparison::NotEqual),
    ("!~", Comparison::ContainsNot),
    ("=", Comparison::Equal),
];

/// Docker's word for a state, and ours.
const STATES: [(&str, &str); 8] = [
    ("created", "Created"),
    ("starting", "Starting"),
    ("running", "Running"),
    ("paused", "Paused"),
    ("stopping", "Stopping"),
    ("stopped", "Stopped"),
    ("exited", "Stopped"),
    ("failed", "Failed"),
];

impl Filter {
    /// Reads the terms of all lists; `kind` is what the objects are called in messages.
    pub fn parse(kind: &'static str, lists: &[String]) -> anyhow::Result<Filter> {
        let mut terms = Vec::new();
        for list in lists {
            for text in split(list) {
                let term = term(kind, text)?.ok_or_else(|| Hinted {
                    message: format!("failed to extract keys-values from filter list [{list}]"),
                    hint: "a filter is written like '{{.ObjectMeta.Name}}=my-vm,{{.Spec.CPUs}}!=3' or name=my-vm"
                        .into(),
                })?;
                terms.push(term);
            }
        }
        Ok(Filter { kind, terms })
    }

    /// Those of the objects that match; `value_of` says how a template sees them.
    pub fn keep<T>(&self, objects: Vec<T>, value_of: impl Fn(&T) -> Value) -> anyhow::Result<Vec<T>> {
        if self.terms.is_empty() {
            return Ok(objects);
        }
        let mut kept = Vec::new();
        for object in objects {
            let is_match = self.matches(&value_of(&object));
            if is_match
                .with_context(|| format!("failed to apply filtering on {}, the filter might be incorrect", self.kind))?
            {
                kept.push(object);
            }
        }
        Ok(kept)
    }

    fn matches(&self, value: &Value) -> anyhow::Result<bool> {
        for term in &self.terms {
            if !term.matches(value)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Term {
    fn matches(&self, value: &Value) -> anyhow::Result<bool> {
        let of =
            |template: &str| Template::parse(template).and_then(|template| template.render(value)).map_err(explained);
        let found = match &self.key {
            Key::Template(template) => template.render(value).map_err(explained)?,
            Key::Name => of("{{.Name}}")?,
            Key::Status => of("{{.Status.Phase}}")?,
            Key::Label(name) => of(&format!("{{{{index .Labels {}}}}}", serde_json::Value::from(name.as_str())))?,
            Key::HasLabel(name) => {
                let keys = of("{{range $key, $value := .Labels}}{{$key}}\n{{end}}")?;
                return Ok(keys.lines().any(|key| key == name) == (self.comparison == Comparison::Equal));
            }
            Key::Id => {
                let is_prefix = of("{{.UID}}")?.starts_with(&self.value);
                return Ok(is_prefix == (self.comparison == Comparison::Equal));
            }
        };
        Ok(match self.comparison {
            Comparison::Equal => found == self.value,
            Comparison::NotEqual => found != self.value,
            Comparison::Contains => found.contains(&self.value),
            Comparison::ContainsNot => !found.contains(&self.value),
        })
    }
}

/// The terms of a list: commas inside `{{...}}` do not separate.
fn split(list: &str) -> Vec<&str> {
    let (mut terms, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                terms.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&list[start..]);
    terms
}

/// None where the text is no term at all.
fn term(kind: &str, text: &str) -> anyhow::Result<Option<Term>> {
    let text = text.trim_start();
    let key_length = match text.strip_prefix("{{") {
        Some(inner) => match inner.find("}}") {
            Some(end) => end + 4,
            None => return Ok(None),
        },
        None => text.find(['=', '!']).unwrap_or(text.len()),
    };
    let (key, rest) = text.split_at(key_length);
    let Some((sign, comparison)) = COMPARISONS.into_iter().find(|(sign, _)| rest.starts_with(sign)) else {
        return Ok(None);
    };
    let mut value = rest[sign.len()..].to_owned();
    if value.is_empty() {
        return Ok(None);
    }
    let key = match key {
        "name" => Key::Name,
        "id" if is_equality(comparison) => Key::Id,
        "status" if kind == "VM" && is_equality(comparison) => {
            value = state(&value)?;
            Key::Status
        }
        "label" if is_equality(comparison) => {
            match value.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())) {
                Some((name, wanted)) => {
                    value = wanted;
                    Key::Label(name)
                }
                None => Key::HasLabel(std::mem::take(&mut value)),
            }
        }
        _ if key.starts_with("{{") => Key::Template(Template::parse(key).map_err(explained)?),
        _ => return Ok(None),
    };
    Ok(Some(Term { key, comparison, value }))
}

fn is_equality(comparison: Comparison) -> bool {
    matches!(comparison, Comparison::Equal | Comparison::NotEqual)
}

fn state(word: &str) -> anyhow::Result<String> {
    let found = STATES.iter().find(|(known, _)| known.eq_ignore_ascii_case(word));
    let known = || STATES.map(|(known, _)| known).join(", ");
    let found = found.ok_or_else(|| Hinted {
        message: format!("there is no status {word:?}"),
        hint: format!("it is one of {}", known()),
    })?;
    Ok(found.1.to_owned())
}

#[cfg(test)]
#[path = "selection_tests.rs"]
mod tests;
