//! `ignite unpause`: paused VMs go on.

use crate::commands::many::for_each_vm;
use crate::context::Context;

/// Flags of `unpause`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or id
    #[arg(required = true, value_name = "VM")]
    pub vms: Vec<String>,
}

/// Prints what goes on.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    for_each_vm(&args.vms, context, async |engine, uid| engine.unpause(uid).await.map(drop)).await
}
