//! `ignite kernel ls`.

use crate::commands::object_list;
use crate::context::Context;
use crate::render::{table, template_value, vm_table};
use ignite_api::Kernel;
use jiff::Timestamp;

pub use crate::commands::object_list::Args;

/// Prints the table, the objects, or the ids.
pub fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let kernels = context.engine()?.list_kernels()?;
    object_list::show(&args, context, "kernel", kernels, template_value::kernel, render)
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
