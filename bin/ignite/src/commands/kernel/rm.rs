//! `ignite kernel rm`.

use crate::commands::many::finish_all;
use crate::commands::print_line;
use crate::context::Context;
use crate::signals::interruptible;
use ignite_engine::EngineError;

/// Flags of `kernel rm`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove the VMs that use it too, even if they run
    #[arg(short, long)]
    pub force: bool,
    /// Name or id
    #[arg(required = true, value_name = "KERNEL")]
    pub kernels: Vec<String>,
}

/// Prints the ids of what was removed.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let remove = async |query: &String| {
        let uid = engine.find_kernel(query)?;
        engine.remove_kernel(&uid, args.force).await?;
        Ok::<_, EngineError>(uid)
    };
    interruptible(finish_all(args.kernels.iter().map(remove).collect(), print_line)).await
}
