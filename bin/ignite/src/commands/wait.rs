//! `ignite wait`: until VMs have ended.

use crate::commands::many::finish_all;
use crate::commands::print_line;
use crate::context::Context;
use crate::signals::interruptible;

/// Flags of `wait`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or id
    #[arg(required = true, value_name = "VM")]
    pub vms: Vec<String>,
}

/// Prints each VM's exit code, in the order they are named.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let wait = async |query: &String| engine.wait(&engine.find_vm(query)?).await;
    interruptible(finish_all(args.vms.iter().map(wait).collect(), print_line)).await
}
