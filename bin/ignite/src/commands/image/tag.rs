//! `ignite image tag`.

use crate::commands::print_line;
use crate::context::Context;
use crate::signals::interruptible;

/// Flags of `image tag`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or id
    pub image: String,
    /// One more name for it
    #[arg(value_name = "NAME")]
    pub new_name: String,
}

/// Prints the id under the new name.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let uid = engine.find_image(&args.image)?;
    let image = interruptible(engine.tag_image(&uid, &args.new_name)).await?;
    if let Some(uid) = &image.metadata.uid {
        print_line(uid)?;
    }
    Ok(0)
}
