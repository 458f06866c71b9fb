//! `ignite restore`: what a restart policy wants to run, after the host or a supervisor has gone down.

use crate::commands::print_line;
use crate::context::Context;
use crate::render::text::sanitize;
use crate::report::{self, SomeFailed};
use crate::signals::interruptible;
use ignite_engine::Occasion;

/// Flags of `restore`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only VMs whose supervisor has died; without it, also those that were stopped and have the policy `always`
    #[arg(long)]
    pub lost: bool,
}

/// Prints what was started.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let occasion = if args.lost { Occasion::SupervisorLost } else { Occasion::HostStarted };
    let progress = context.progress();
    let restored = interruptible(context.engine()?.restore(occasion, progress.listener())).await?;
    progress.finish();
    for warning in &restored.warnings {
        report::warning(warning);
    }
    for vm in &restored.started {
        let id = vm.metadata.uid.as_ref().map(ToString::to_string).unwrap_or_default();
        print_line(if context.is_quiet() { id } else { sanitize(&vm.metadata.name) })?;
    }
    let is_failed = !restored.failed.is_empty();
    for (_, error) in restored.failed {
        report::print(&error.into());
    }
    if is_failed { Err(SomeFailed.into()) } else { Ok(0) }
}
