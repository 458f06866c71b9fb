//! `ignite kernel inspect`.

use crate::commands::{kernel, object_inspect};
use crate::context::Context;
use crate::render::template_value;

/// Flags of `kernel inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How it is shown.
    #[command(flatten)]
    pub inspect: object_inspect::Args,
    /// Name or id
    pub kernel: String,
}

/// Prints the kernel.
pub fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let find = || Ok(engine.inspect_kernel(&engine.find_kernel(&args.kernel)?)?);
    object_inspect::show(&args.inspect, find, template_value::kernel, kernel::ls::render)
}
