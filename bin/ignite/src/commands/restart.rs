//! `ignite restart`: stop, if it runs, and start.

use crate::commands::many::for_each_vm;
use crate::context::Context;
use std::time::Duration;

/// Flags of `restart`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seconds to wait before killing [default: what the VM says, else 10]
    #[arg(short, long, visible_alias = "time", value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Name or id
    #[arg(required = true, value_name = "VM")]
    pub vms: Vec<String>,
}

/// Prints what was restarted.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let timeout = args.timeout.map(Duration::from_secs);
    let progress = context.progress();
    for_each_vm(&args.vms, context, async |engine, uid| {
        let restarted = engine.restart(uid, timeout, progress.listener()).await;
        progress.finish();
        restarted.map(drop)
    })
    .await
}
