//! `ignite system prune`.

use crate::commands::print_line;
use crate::context::Context;
use crate::render::text::sanitize;
use crate::report;
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
        for pruned in [interruptible(engine.prune_images()).await?, interruptible(engine.prune_kernels()).await?] {
            for name in &pruned.removed {
                print_line(sanitize(name))?;
            }
            freed += pruned.freed.as_bytes();
        }
    }
    freed += interruptible(engine.sweep_space()).await?.as_bytes();
    if !context.is_quiet() {
        report::note(&format!("Total reclaimed space: {}", Size::bytes(freed).human()));
    }
    Ok(0)
}
