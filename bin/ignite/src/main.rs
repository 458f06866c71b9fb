//! `ignite`: parses, calls one verb of the engine, renders.

use clap::Parser;
use ignite::cli::{self, Cli};
use ignite::report::{self, Caller};
use ignite::{candidates, program, terminal, weave_order};
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    candidates::answer();
    let argv: Vec<OsString> = std::env::args_os().collect();
    terminal::restore_on_panic();
    let cli = match Cli::try_parse_from(&argv) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(report::usage(&error, cli::caller_of(&argv))),
    };
    let Some(command) = &cli.command else {
        return ExitCode::from(report::usage(&cli::help(), Caller::Other));
    };
    let caller = command.caller();
    let alternative = weave_order::alternative(&cli, &argv);
    let global = alternative.as_ref().unwrap_or(&cli).global.clone();
    program::run(&global, caller, |_| Ok(()), async |context| weave_order::run(cli, alternative, context).await)
}
