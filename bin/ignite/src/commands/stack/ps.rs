//! `ignite stack ps`: the VMs of a stack.

use super::vms_of;
use crate::commands::{print, print_line};
use crate::context::Context;
use crate::render::vm_table;
use jiff::Timestamp;

/// Flags of `stack ps`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the stack
    pub stack: String,
}

/// Prints the table of VMs, or their ids.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let vms = vms_of(&args.stack, context).await?;
    if context.is_quiet() {
        for uid in vms.iter().filter_map(|vm| vm.metadata.uid.as_ref()) {
            print_line(uid)?;
        }
        return Ok(0);
    }
    print(&vm_table::render(&vms, Timestamp::now(), false))?;
    Ok(0)
}
