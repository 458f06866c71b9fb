//! `ignite kernel ls`.

use crate::commands::selection::{Filter, Selection, print_each};
use crate::commands::{print, print_line};
use crate::context::Context;
use crate::render::document::{self, Format};
use crate::render::{table, template_value, vm_table};
use ignite_api::Kernel;
use jiff::Timestamp;

/// Flags of `kernel ls`.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Print the objects
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// Which of them, and what is printed of each.
    #[command(flatten)]
    pub selection: Selection,
}

/// Prints the table, the objects, or the ids.
pub fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let filter = Filter::parse("kernel", &args.selection.filter)?;
    let template = args.selection.form.parse()?;
    let now = Timestamp::now();
    let kernels = filter.keep(context.engine()?.list_kernels()?, |kernel| template_value::kernel(kernel, now))?;
    if let Some(template) = template {
        print_each(&template, kernels.iter().map(|kernel| template_value::kernel(kernel, now)))?;
        return Ok(0);
    }
    if context.is_quiet() {
        for uid in kernels.iter().filter_map(|kernel| kernel.metadata.uid.as_ref()) {
            print_line(uid)?;
        }
        return Ok(0);
    }
    print(&match args.output {
        Some(format) => document::render(&kernels, format)?,
        None => render(&kernels, now),
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
