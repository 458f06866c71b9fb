//! `ignite stop`: a graceful end, or, after a time, one that is not.

use crate::commands::many::for_each_vm;
use crate::context::Context;
use std::time::Duration;

/// Flags of `stop`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seconds to wait before killing [default: what the VM says, else 10]
    #[arg(short, long, visible_alias = "time", value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Do not wait: the same as `kill`
    #[arg(short, long, conflicts_with = "timeout")]
    pub force_kill: bool,
    /// Name or id
    #[arg(required = true, value_name = "VM")]
    pub vms: Vec<String>,
}

/// Prints what was stopped.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let timeout = args.timeout.map(Duration::from_secs);
    for_each_vm(&args.vms, context, async |engine, uid| {
        if args.force_kill { engine.kill(uid, None).await.map(drop) } else { engine.stop(uid, timeout).await.map(drop) }
    })
    .await
}
