//! `ignite image rm`.

use crate::commands::many::finish_all;
use crate::commands::print_line;
use crate::context::Context;
use crate::signals::interruptible;
use ignite_engine::EngineError;

/// Flags of `image rm`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove the VMs that use it too, even if they run
    #[arg(short, long)]
    pub force: bool,
    /// Name or id
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// Prints the ids of what was removed.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let remove = async |query: &String| {
        let uid = engine.find_image(query)?;
        engine.remove_image(&uid, args.force).await?;
        Ok::<_, EngineError>(uid)
    };
    interruptible(finish_all(args.images.iter().map(remove).collect(), print_line)).await
}
