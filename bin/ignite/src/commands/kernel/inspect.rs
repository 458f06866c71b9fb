//! `ignite kernel inspect`.

use crate::commands::selection::{Form, print_each};
use crate::commands::{kernel, print};
use crate::context::Context;
use crate::render::document::Output;
use crate::render::template_value;
use jiff::Timestamp;

/// Flags of `kernel inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How it is shown
    #[arg(short, long, value_enum, default_value = "json", value_name = "FORMAT")]
    pub output: Output,
    /// What is printed instead.
    #[command(flatten)]
    pub form: Form,
    /// Name or id
    pub kernel: String,
}

/// Prints the kernel.
pub fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let template = args.form.parse()?;
    let now = Timestamp::now();
    let engine = context.engine()?;
    let kernel = engine.inspect_kernel(&engine.find_kernel(&args.kernel)?)?;
    if let Some(template) = template {
        print_each(&template, [template_value::kernel(&kernel, now)])?;
        return Ok(0);
    }
    print(&args.output.one(&kernel, now, kernel::ls::render)?)?;
    Ok(0)
}
