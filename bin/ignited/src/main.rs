//! `ignited`: makes what manifests say so, and keeps it so.

mod cli;
mod commands;
mod keeper;
mod metrics;
mod server;
mod service;
mod status_file;

use clap::Parser;
use cli::Cli;
use ignite::program;
use ignite::report::{self, Caller};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(report::usage(&error, Caller::Other)),
    };
    let Some(command) = cli.command else {
        return ExitCode::from(report::usage(&cli::help(), Caller::Other));
    };
    program::run(&cli.global, Caller::Other, async |context| command.run(context).await)
}
