//! `ignite rm`: a VM and its disk.

use crate::commands::manifest::read_vm_names;
use crate::commands::many::for_each_vm;
use crate::context::Context;
use crate::report::UsageError;
use std::path::PathBuf;

/// Flags of `rm`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// End VMs that run
    #[arg(short, long)]
    pub force: bool,
    /// Name or id
    #[arg(value_name = "VM")]
    pub vms: Vec<String>,
    /// Remove the VMs of a manifest, by their uids or names; - for standard input
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Prints what was removed.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let vms = match (&args.config, args.vms.is_empty()) {
        (None, false) => args.vms,
        (Some(path), true) => read_vm_names(path)?,
        (Some(_), false) => return Err(UsageError("cannot use both config flag and vm argument".into()).into()),
        (None, true) => return Err(UsageError("need at least one vm identifier as argument".into()).into()),
    };
    for_each_vm(&vms, context, async |engine, uid| engine.remove(uid, args.force).await).await
}
