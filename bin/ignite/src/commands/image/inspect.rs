//! `ignite image inspect`.

use crate::commands::print;
use crate::context::Context;
use crate::render::document::{self, Format};

/// Flags of `image inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How it is shown
    #[arg(short, long, value_enum, default_value = "json", value_name = "FORMAT")]
    pub output: Format,
    /// Name or id
    pub image: String,
}

/// Prints the image.
pub fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    print(&document::render(&engine.inspect_image(&engine.find_image(&args.image)?)?, args.output)?)?;
    Ok(0)
}
