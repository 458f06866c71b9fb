//! `ignite manual`: manual pages, for `make install`.

use crate::cli::Cli;
use anyhow::Context;
use clap::CommandFactory;
use std::path::PathBuf;

/// Flags of `manual`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Existing directory that gets a page for every command
    pub dir: PathBuf,
}

/// Writes `ignite.1`, `ignite-run.1`, ...
pub fn run(args: Args) -> anyhow::Result<u8> {
    let command = Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, &args.dir)
        .with_context(|| format!("could not write manual pages to {}", args.dir.display()))?;
    Ok(0)
}
