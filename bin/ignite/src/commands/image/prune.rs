//! `ignite image prune`.

use crate::commands::pruned;
use crate::context::Context;
use crate::signals::interruptible;

/// Flags of `image prune`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints what was removed, and how much that gave back.
pub async fn run(_args: Args, context: &Context) -> anyhow::Result<u8> {
    let report = interruptible(context.engine()?.prune_images()).await?;
    pruned::tell(&report, context)?;
    Ok(0)
}
