//! `ignite stop`: a graceful end, or, after a time, one that is not.

use crate::commands::many::for_each_vm;
use crate::context::Context;
use crate::report;
use crate::signals::interruptible;
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
    /// All VMs that run
    #[arg(short, long, conflicts_with = "vms")]
    pub all: bool,
    /// Because the host shuts down: restart policies bring them back when it starts
    #[arg(long, conflicts_with = "force_kill", hide_short_help = true)]
    pub host_shutdown: bool,
    /// Name or id
    #[arg(required_unless_present = "all", value_name = "VM")]
    pub vms: Vec<String>,
}

/// Prints what was stopped.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let timeout = args.timeout.map(Duration::from_secs);
    let vms = if args.all { running(context).await? } else { args.vms };
    for_each_vm(&vms, context, async |engine, uid| {
        match (args.force_kill, args.host_shutdown) {
            (true, _) => engine.kill(uid, None).await,
            (false, true) => engine.stop_for_shutdown(uid, timeout).await,
            (false, false) => engine.stop(uid, timeout).await,
        }
        .map(drop)
    })
    .await
}

/// The ids of the VMs that run.
async fn running(context: &Context) -> anyhow::Result<Vec<String>> {
    let listing = interruptible(context.engine()?.list()).await?;
    listing.warnings.iter().for_each(|warning| report::warning(warning));
    let live = listing.vms.into_iter().filter(|vm| vm.status.phase.is_live());
    Ok(live.filter_map(|vm| vm.metadata.uid).map(|uid| uid.to_string()).collect())
}
