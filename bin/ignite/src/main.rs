//! `ignite`: parses, calls one verb of the engine, renders.

mod cli;
mod commands;
mod context;
mod detach_keys;
mod env_file;
mod render;
mod report;
mod session;
mod settings;
mod signals;
mod terminal;

use clap::Parser;
use cli::{Cli, Command};
use context::Context;
use report::Caller;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

/// Time that cancelled work (a pull, a half-written disk) has to clean up behind itself.
const CLEANUP_TIME: Duration = Duration::from_secs(2);

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
    let code = run(cli.global, command).unwrap_or_else(|error| report::failure(&error, caller));
    ExitCode::from(code)
}

fn run(global: cli::GlobalFlags, command: Command) -> anyhow::Result<u8> {
    let settings = settings::resolve(&global, &settings::Host::observe())?;
    start_log(settings.log_level);
    let context = Context::new(settings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(command.run(&context));
    match &result {
        Err(error) if error.is::<signals::Interrupted>() => runtime.shutdown_timeout(CLEANUP_TIME),
        // A thread may be blocked in a read of standard input: it must not hold up the end.
        _ => runtime.shutdown_background(),
    }
    result
}

/// What the libraries have to say goes to standard error, one line each.
fn start_log(level: tracing::level_filters::LevelFilter) {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_ansi(false)
        .without_time()
        .with_target(level >= tracing::level_filters::LevelFilter::DEBUG)
        .init();
}
