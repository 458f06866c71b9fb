//! A program's way from its flags to its exit code: settings, log, runtime, command, report.

use crate::cli::GlobalFlags;
use crate::context::Context;
use crate::report::{self, Caller};
use crate::settings::Settings;
use crate::{settings, signals};
use std::process::ExitCode;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// Time that cancelled work (a pull, a half-written disk) has to clean up behind itself.
const CLEANUP_TIME: Duration = Duration::from_secs(2);

/// Merges the settings, does the command, and answers its exit code; an error is printed with its hint. `adjust` is for
/// flags of a program's own.
pub fn run(
    global: &GlobalFlags,
    caller: Caller,
    adjust: impl FnOnce(&mut Settings) -> anyhow::Result<()>,
    command: impl AsyncFnOnce(&Context) -> anyhow::Result<u8>,
) -> ExitCode {
    let code = try_run(global, adjust, command).unwrap_or_else(|error| report::failure(&error, caller));
    ExitCode::from(code)
}

fn try_run(
    global: &GlobalFlags,
    adjust: impl FnOnce(&mut Settings) -> anyhow::Result<()>,
    command: impl AsyncFnOnce(&Context) -> anyhow::Result<u8>,
) -> anyhow::Result<u8> {
    let mut settings = settings::resolve(global, &settings::Host::observe())?;
    adjust(&mut settings)?;
    start_log(settings.log_level);
    let context = Context::new(settings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(command(&context));
    match &result {
        Err(error) if error.is::<signals::Interrupted>() => {
            context.undo_imports(|| runtime.shutdown_timeout(CLEANUP_TIME));
        }
        // A thread may be blocked in a read of standard input: it must not hold up the end.
        _ => runtime.shutdown_background(),
    }
    result
}

/// What the libraries have to say goes to standard error, one line each.
fn start_log(level: LevelFilter) {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_ansi(false)
        .without_time()
        .with_target(level >= LevelFilter::DEBUG)
        .init();
}
