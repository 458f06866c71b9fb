//! `ignite pause`: VMs whose guests are not executed for a while.

use crate::commands::many::for_each_vm;
use crate::context::Context;

/// Flags of `pause`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or id
    #[arg(required = true, value_name = "VM")]
    pub vms: Vec<String>,
}

/// Prints what does not run any more.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    for_each_vm(&args.vms, context, async |engine, uid| engine.pause(uid).await.map(drop)).await
}
