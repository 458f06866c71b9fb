//! `ignited`: makes what manifests say so, and keeps it so.

mod cli;
mod commands;
mod guest_command;
mod keeper;
mod metrics;
mod server;
mod service;
mod status_file;
mod vm_defaults;
#[cfg(test)]
mod weave_tests;

use clap::Parser;
use cli::Cli;
use ignite::program;
use ignite::report::{self, Caller};
use ignite::settings::Settings;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(guest_command::meant(std::env::args_os().collect())) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(report::usage(&error, Caller::Other)),
    };
    let Some(command) = cli.command else {
        return ExitCode::from(report::usage(&cli::help(), Caller::Other));
    };
    let adjust = |settings: &mut Settings| cli.defaults.apply(settings);
    program::run(&cli.global, command.caller(), adjust, async |context| command.run(context).await)
}
