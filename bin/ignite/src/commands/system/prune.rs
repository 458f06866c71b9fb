//! `ignite system prune`.

use crate::commands::pruned;
use crate::context::Context;
use crate::signals::interruptible;
use ignite_api::Size;

/// Flags of `system prune`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also images and kernels that no VM uses, but for the default kernel
    #[arg(short, long)]
    pub all: bool,
}

/// Prints what was removed, and how much that gave back. No VM loses anything.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let mut freed = 0;
    if args.all {
        for report in [interruptible(engine.prune_images()).await?, interruptible(engine.prune_kernels()).await?] {
            pruned::list(&report)?;
            freed += report.freed.as_bytes();
        }
    }
    freed += interruptible(engine.sweep_space()).await?.as_bytes();
    pruned::tell_freed(Size::bytes(freed), context);
    Ok(0)
}
