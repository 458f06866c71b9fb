//! `ignited completion`: a script for a shell.

use crate::cli::Cli;
use clap::CommandFactory;
pub use ignite::commands::completion::Args;
use std::io::Write;

/// Prints the script.
pub fn run(args: Args) -> anyhow::Result<u8> {
    // The generator panics when its writer fails: it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(args.shell.generator(), &mut Cli::command(), "ignited", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(0)
}
