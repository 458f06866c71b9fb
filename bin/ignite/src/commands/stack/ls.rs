//! `ignite stack ls`: which stacks there are.

use super::stack_of;
use crate::commands::{print, print_line};
use crate::context::Context;
use crate::render::table;
use crate::report;
use crate::signals::interruptible;
use ignite_api::Phase;
use ignite_reconcile::owner_of;
use std::collections::BTreeMap;

/// Flags of `stack ls`.
#[derive(Debug, clap::Args)]
pub struct Args {}

#[derive(Default)]
struct Row {
    owner: String,
    vms: usize,
    running: usize,
    failed: usize,
}

/// Prints a table.
pub async fn run(_: Args, context: &Context) -> anyhow::Result<u8> {
    let listing = interruptible(context.engine()?.list()).await?;
    listing.warnings.iter().for_each(|warning| report::warning(warning));
    let mut stacks: BTreeMap<&str, Row> = BTreeMap::new();
    for vm in &listing.vms {
        let Some(stack) = stack_of(vm) else { continue };
        let row = stacks.entry(stack).or_default();
        row.owner = owner_of(vm).map(|owner| owner.to_string()).unwrap_or_default();
        row.vms += 1;
        row.running += usize::from(vm.status.phase.is_running());
        row.failed += usize::from(vm.status.phase == Phase::Failed);
    }
    if context.is_quiet() {
        for name in stacks.keys() {
            print_line(name)?;
        }
        return Ok(0);
    }
    let rows = stacks.into_iter().map(|(name, row)| {
        [name.to_owned(), row.owner, row.vms.to_string(), row.running.to_string(), row.failed.to_string()]
    });
    print(&table::render(["STACK", "KEPT BY", "VMS", "RUNNING", "FAILED"], rows.collect()))?;
    Ok(0)
}
