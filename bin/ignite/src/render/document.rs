//! Objects as JSON or YAML.

use anyhow::Context;
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
