//! `ignite delete`: removes the VMs that manifests name.

use crate::commands::many::finish_all;
use crate::commands::{manifests, print_line};
use crate::context::Context;
use crate::report::{self, SomeFailed};
use crate::signals::interruptible;
use ignite_api::Vm;
use ignite_engine::{Engine, EngineError};
use ignite_reconcile::{owner_of, removal_waves};
use std::path::PathBuf;

/// Flags of `delete`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Manifests: a file, a directory and what is below it, or - for standard input (may be repeated)
    #[arg(short, long, required = true, value_name = "FILE|DIR|-")]
    pub filename: Vec<PathBuf>,
    /// Kill VMs that run instead of stopping them
    #[arg(long)]
    pub force: bool,
}

/// Prints what was removed; a VM that is not there is no error.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let set = manifests::read(&args.filename, &context.settings)?;
    let is_broken = !set.problems.is_empty();
    let listing = interruptible(context.engine()?.list()).await?;
    let is_named = |vm: &Vm| {
        set.vms.iter().any(|wanted| match &wanted.vm.metadata.uid {
            Some(uid) => vm.metadata.uid.as_ref() == Some(uid),
            None => vm.metadata.name == wanted.name(),
        })
    };
    let vms: Vec<Vm> = listing.vms.into_iter().filter(is_named).collect();
    for (vm, owner) in vms.iter().filter_map(|vm| Some((vm, owner_of(vm)?))) {
        if owner.as_str().starts_with("ignited/") {
            let name = &vm.metadata.name;
            report::warning(&format!("{name} is kept by {owner}: it will be made again until its manifest is gone"));
        }
    }
    let code = remove_in_waves(vms, args.force, context).await;
    if is_broken { Err(SomeFailed.into()) } else { code }
}

/// Removes VMs, those that others depend on last.
pub async fn remove_in_waves(vms: Vec<Vm>, force: bool, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    for wave in removal_waves(vms) {
        let work = wave.iter().map(|vm| remove(engine, vm, force, context)).collect();
        interruptible(finish_all(work, print_line)).await?;
    }
    Ok(0)
}

async fn remove(engine: &Engine, vm: &Vm, force: bool, context: &Context) -> Result<String, EngineError> {
    let name = vm.metadata.name.clone();
    let Some(uid) = &vm.metadata.uid else { return Ok(name) };
    if !force {
        engine.stop(uid, None).await?;
    }
    engine.remove(uid, true).await?;
    Ok(if context.is_quiet() { uid.to_string() } else { format!("{name} removed") })
}
