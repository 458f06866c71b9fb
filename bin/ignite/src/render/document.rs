//! Objects as documents, as a table or by their names: what `--output` takes.

use crate::render::text::sanitize;
use anyhow::Context;
use ignite_api::ApiObject;
use jiff::Timestamp;
use serde::Serialize;

/// How objects are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Indented JSON
    Json,
    /// YAML
    Yaml,
}

/// The object as text with a newline at its end.
pub fn render(value: &impl Serialize, format: Format) -> anyhow::Result<String> {
    let mut text = match format {
        Format::Json => serde_json::to_string_pretty(value).context("could not write JSON")?,
        Format::Yaml => serde_saphyr::to_string(value).context("could not write YAML")?,
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// `--output` of commands that show objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// A table
    #[default]
    Table,
    /// A table with more columns
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// The name, or the id of what has none, as a line
    Name,
}

impl Output {
    /// Several objects; the last argument of `table` asks for more columns.
    pub fn list<T: ApiObject + Serialize>(
        self,
        objects: &[T],
        now: Timestamp,
        table: impl Fn(&[T], Timestamp, bool) -> String,
    ) -> anyhow::Result<String> {
        Ok(match self {
            Output::Table => table(objects, now, false),
            Output::Wide => table(objects, now, true),
            Output::Json => render(&objects, Format::Json)?,
            Output::Yaml => render(&objects, Format::Yaml)?,
            Output::Name => objects.iter().map(|object| name_line(object)).collect(),
        })
    }

    /// One object: a document of it alone, or a list with one line.
    pub fn one<T: ApiObject + Serialize>(
        self,
        object: &T,
        now: Timestamp,
        table: impl Fn(&[T], Timestamp, bool) -> String,
    ) -> anyhow::Result<String> {
        match self {
            Output::Json => render(object, Format::Json),
            Output::Yaml => render(object, Format::Yaml),
            Output::Table | Output::Wide | Output::Name => self.list(std::slice::from_ref(object), now, table),
        }
    }
}

/// The name of an object, else its id, as a line.
fn name_line(object: &impl ApiObject) -> String {
    match (&object.metadata().uid, object.metadata().name.as_str()) {
        (Some(uid), "") => format!("{uid}\n"),
        (_, name) => format!("{}\n", sanitize(name)),
    }
}
