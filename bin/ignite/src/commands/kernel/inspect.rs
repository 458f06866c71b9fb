//! `ignite kernel inspect`.

use crate::commands::print;
use crate::commands::selection::{Form, print_each};
use crate::context::Context;
use crate::render::document::{self, Format};
use crate::render::template_value;
use jiff::Timestamp;

/// Flags of `kernel inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How it is shown
    #[arg(short, long, value_enum, default_value = "json", value_name = "FORMAT")]
    pub output: Format,
    /// What is printed instead.
    #[command(flatten)]
    pub form: Form,
    /// Name or id
    pub kernel: String,
}

/// Prints the kernel.
pub fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let template = args.form.parse()?;
    let engine = context.engine()?;
    let kernel = engine.inspect_kernel(&engine.find_kernel(&args.kernel)?)?;
    if let Some(template) = template {
        print_each(&template, [template_value::kernel(&kernel, Timestamp::now())])?;
        return Ok(0);
    }
    print(&document::render(&kernel, args.output)?)?;
    Ok(0)
}
