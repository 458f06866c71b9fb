//! `ignite rm`: a VM and its disk.

use crate::commands::many::for_each_vm;
use crate::context::Context;

/// Flags of `rm`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// End VMs that run
    #[arg(short, long)]
    pub force: bool,
    /// Name or id
    #[arg(required = true, value_name = "VM")]
    pub vms: Vec<String>,
}

/// Prints what was removed.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    for_each_vm(&args.vms, context, async |engine, uid| engine.remove(uid, args.force).await).await
}
