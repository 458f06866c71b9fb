//! `ignite image inspect`.

use crate::commands::{image, object_inspect};
use crate::context::Context;
use crate::render::template_value;

/// Flags of `image inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How it is shown.
    #[command(flatten)]
    pub inspect: object_inspect::Args,
    /// Name or id
    pub image: String,
}

/// Prints the image.
pub fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let find = || Ok(engine.inspect_image(&engine.find_image(&args.image)?)?);
    object_inspect::show(&args.inspect, find, template_value::image, image::ls::render)
}
