//! `ignite rename`: another name for a VM.

use crate::context::Context;
use crate::signals::interruptible;

/// Flags of `rename`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or id
    pub vm: String,
    /// The new name; host name and network names follow at the next start
    pub new_name: String,
}

/// Prints nothing, as Docker's.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let uid = engine.find_vm(&args.vm)?;
    interruptible(engine.rename(&uid, &args.new_name)).await?;
    Ok(0)
}
