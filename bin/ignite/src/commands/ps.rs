//! `ignite ps`: the VMs there are.

use crate::commands::selection::{Filter, Selection, print_each};
use crate::commands::{print, print_line};
use crate::context::Context;
use crate::render::document::Output;
use crate::render::{template_value, vm_table};
use crate::report;
use crate::signals::interruptible;
use ignite_api::Vm;
use jiff::Timestamp;

/// Flags of `ps`.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Show all VMs, not only those that run
    #[arg(short, long)]
    pub all: bool,
    /// How they are shown
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
    /// Which of them, and what is printed of each.
    #[command(flatten)]
    pub selection: Selection,
}

/// Prints the table, the objects, or the ids.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let filter = Filter::parse("VM", &args.selection.filter)?;
    let template = args.selection.form.parse()?;
    let listing = interruptible(context.engine()?.list()).await?;
    listing.warnings.iter().for_each(|warning| report::warning(warning));
    let mut vms = listing.vms;
    vms.retain(|vm| args.all || vm.status.phase.is_live());
    let now = Timestamp::now();
    let vms = filter.keep(vms, |vm| template_value::vm(vm, now))?;
    if let Some(template) = template {
        print_each(&template, vms.iter().map(|vm| template_value::vm(vm, now)))?;
        return Ok(0);
    }
    if context.is_quiet() {
        return print_ids(&vms);
    }
    print(&args.output.list(&vms, now, vm_table::render)?)?;
    Ok(0)
}

fn print_ids(vms: &[Vm]) -> anyhow::Result<u8> {
    for uid in vms.iter().filter_map(|vm| vm.metadata.uid.as_ref()) {
        print_line(uid)?;
    }
    Ok(0)
}
