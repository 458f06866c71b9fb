//! `ignite kernel ls`.

use crate::commands::{print, print_line};
use crate::context::Context;
use crate::render::document::{self, Format};
use crate::render::{table, vm_table};
use ignite_api::Kernel;
use jiff::Timestamp;

/// Flags of `kernel ls`.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Print the objects
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
}

/// Prints the table, the objects, or the ids.
pub fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let kernels = context.engine()?.list_kernels()?;
    if context.is_quiet() {
        for uid in kernels.iter().filter_map(|kernel| kernel.metadata.uid.as_ref()) {
            print_line(uid)?;
        }
        return Ok(0);
    }
    print(&match args.output {
        Some(format) => document::render(&kernels, format)?,
        None => render(&kernels, Timestamp::now()),
    })?;
    Ok(0)
}

fn render(kernels: &[Kernel], now: Timestamp) -> String {
    let row = |kernel: &Kernel| {
        [
            kernel.metadata.uid.as_ref().map(ToString::to_string).unwrap_or_default(),
            kernel.metadata.name.clone(),
            vm_table::age(kernel.metadata.created, now),
            kernel.status.oci_source.as_ref().map(|source| source.size.human()).unwrap_or_default(),
            kernel.status.version.clone(),
            if kernel.status.default { "yes" } else { "" }.to_owned(),
        ]
    };
    table::render(["KERNEL ID", "NAME", "CREATED", "SIZE", "VERSION", "DEFAULT"], kernels.iter().map(row).collect())
}
