//! `ignite system df`.

use crate::commands::print;
use crate::context::Context;
use crate::render::document::{self, Format};
use crate::render::table;

/// Flags of `system df`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the numbers, in bytes
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
}

/// Prints the table; what several images share is counted once.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let usage = context.engine()?.system_usage().await?;
    if let Some(format) = args.output {
        print(&document::render(&usage, format)?)?;
        return Ok(0);
    }
    let rows =
        [("Images", usage.images), ("Base disks", usage.base_disks), ("Kernels", usage.kernels), ("VMs", usage.vms)];
    let row = |(kind, usage): (&str, ignite_engine::SpaceUsage)| {
        [
            kind.to_owned(),
            usage.total.to_string(),
            usage.active.to_string(),
            usage.size.human(),
            usage.reclaimable.human(),
        ]
    };
    print(&table::render(["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"], rows.map(row).to_vec()))?;
    Ok(0)
}
