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

/// The table of them; `is_wide`: with more columns.
pub fn render(kernels: &[Kernel], now: Timestamp, is_wide: bool) -> String {
    if is_wide {
        return render_wide(kernels, now);
    }
    let rows = kernels.iter().map(|kernel| row(kernel, now)).collect();
    table::render(["KERNEL ID", "NAME", "CREATED", "SIZE", "VERSION", "DEFAULT"], rows)
}

/// The same, and where the kernel comes from.
fn render_wide(kernels: &[Kernel], now: Timestamp) -> String {
    let rows = kernels.iter().map(|kernel| {
        let [uid, name, created, size, version, default] = row(kernel, now);
        [uid, name, created, size, version, default, kernel.status.modules_size.human(), kernel.spec.oci.clone()]
    });
    let columns = ["KERNEL ID", "NAME", "CREATED", "SIZE", "VERSION", "DEFAULT", "MODULES", "SOURCE"];
    table::render(columns, rows.collect())
}

fn row(kernel: &Kernel, now: Timestamp) -> [String; 6] {
    [
        kernel.metadata.uid.as_ref().map(ToString::to_string).unwrap_or_default(),
        kernel.metadata.name.clone(),
        vm_table::age(kernel.metadata.created, now),
        kernel.status.oci_source.as_ref().map(|source| source.size.human()).unwrap_or_default(),
        kernel.status.version.clone(),
        if kernel.status.default { "yes" } else { "" }.to_owned(),
    ]
}
