//! `ignite network prune`.

use crate::commands::print_line;
use crate::context::Context;
use crate::render::text::sanitize;
use crate::report;

/// Flags of `network prune`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints what was removed: VMs whose leftovers it was, and bridges.
pub async fn run(_args: Args, context: &Context) -> anyhow::Result<u8> {
    let pruned = context.engine()?.prune_networks().await?;
    for name in &pruned.removed {
        print_line(sanitize(name))?;
    }
    for warning in &pruned.warnings {
        report::warning(warning);
    }
    Ok(u8::from(!pruned.warnings.is_empty()))
}
