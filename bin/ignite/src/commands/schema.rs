//! `ignite schema`: JSON Schema of a kind of manifest, for editors and linters.

use crate::commands::print;
use crate::render::document::{self, Format};
use crate::report::UsageError;
use ignite_api::schema::{KINDS, schema_of};

/// Flags of `schema`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of the manifest
    #[arg(value_parser = KINDS, ignore_case = true)]
    pub kind: String,
}

/// Prints the schema.
pub fn run(args: Args) -> anyhow::Result<u8> {
    let kind = args.kind.to_ascii_lowercase();
    let schema = schema_of(&kind).ok_or_else(|| UsageError(format!("there is no schema of {kind:?}")))?;
    print(&document::render(&schema, Format::Json)?)?;
    Ok(0)
}
