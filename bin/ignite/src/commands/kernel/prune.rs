//! `ignite kernel prune`.

use crate::commands::print_line;
use crate::context::Context;
use crate::render::text::sanitize;
use crate::report;
use crate::signals::interruptible;

/// Flags of `kernel prune`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints what was removed, and how much that gave back.
pub async fn run(_args: Args, context: &Context) -> anyhow::Result<u8> {
    let pruned = interruptible(context.engine()?.prune_kernels()).await?;
    for name in &pruned.removed {
        print_line(sanitize(name))?;
    }
    if !context.is_quiet() {
        report::note(&format!("Total reclaimed space: {}", pruned.freed.human()));
    }
    Ok(0)
}
