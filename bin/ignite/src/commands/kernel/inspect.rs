//! `ignite kernel inspect`.

use crate::commands::print;
use crate::context::Context;
use crate::render::document::{self, Format};

/// Flags of `kernel inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How it is shown
    #[arg(short, long, value_enum, default_value = "json", value_name = "FORMAT")]
    pub output: Format,
    /// Name or id
    pub kernel: String,
}

/// Prints the kernel.
pub fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    print(&document::render(&engine.inspect_kernel(&engine.find_kernel(&args.kernel)?)?, args.output)?)?;
    Ok(0)
}
