//! `ignite`: parses, calls one verb of the engine, renders.

use clap::Parser;
use ignite::cli::{self, Cli};
use ignite::report::{self, Caller};
use ignite::{program, terminal};
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    terminal::restore_on_panic();
    let cli = match Cli::try_parse_from(&argv) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(report::usage(&error, cli::caller_of(&argv))),
    };
    let Some(command) = cli.command else {
        return ExitCode::from(report::usage(&cli::help(), Caller::Other));
    };
    let caller = command.caller();
    program::run(&cli.global, caller, async |context| command.run(context).await)
}
