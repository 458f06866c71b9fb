//! `ignite stack down`: the end of a stack.

use super::vms_of;
use crate::commands::delete::remove_in_waves;
use crate::context::Context;
use crate::report::Hinted;
use ignite_reconcile::owner_of;

/// Flags of `stack down`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kill VMs that run instead of stopping them
    #[arg(long)]
    pub force: bool,
    /// Name of the stack
    pub stack: String,
}

/// Prints what was removed. A stack that `ignited` keeps is left to it: it would make it again.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let vms = vms_of(&args.stack, context).await?;
    if let Some(owner) = vms.iter().filter_map(owner_of).find(|owner| owner.as_str().starts_with("ignited/")) {
        let message = format!("the stack {} is kept by {owner}, which would make it again", args.stack);
        return Err(Hinted { message, hint: "remove its manifests where ignited reads them".into() }.into());
    }
    remove_in_waves(vms, args.force, context).await
}
