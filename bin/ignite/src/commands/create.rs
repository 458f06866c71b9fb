//! `ignite create`: a VM that is not started.

use crate::commands::print_line;
use crate::commands::vm_flags::{Surroundings, VmFlags};
use crate::context::Context;
use crate::render::progress::ProgressBars;
use crate::signals::interruptible;
use ignite_api::{Uid, Vm};
use ignite_engine::CreateRequest;

/// Flags of `create`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "ignite create [OPTIONS] IMAGE [COMMAND] [ARG]...")]
pub struct Args {
    /// The VM.
    #[command(flatten)]
    pub vm: VmFlags,
}

/// Prints the id of each new VM.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let progress = context.progress();
    for wish in wishes(&args.vm, context)? {
        let vm = interruptible_create(wish, &args.vm, context, &progress).await?;
        progress.finish();
        print_line(uid_of(&vm)?)?;
    }
    Ok(0)
}

/// The VMs that the flags and their manifest describe.
pub fn wishes(flags: &VmFlags, context: &Context) -> anyhow::Result<Vec<Vm>> {
    let working_dir = std::env::current_dir()?;
    let env = |name: &str| std::env::var(name).ok();
    flags.to_vms(&Surroundings { env: &env, working_dir: &working_dir, settings: &context.settings })
}

/// Creates a VM; dropped and undone when we are asked to end.
pub async fn interruptible_create(
    vm: Vm,
    flags: &VmFlags,
    context: &Context,
    progress: &ProgressBars,
) -> anyhow::Result<Vm> {
    let is_stdin = vm.spec.image.oci.as_ref().is_some_and(|source| source.is_stdin());
    let stdin: Option<Box<dyn std::io::Read + Send>> = if is_stdin { Some(Box::new(std::io::stdin())) } else { None };
    let request = CreateRequest { vm, pull: flags.pull.into(), platform: flags.platform.clone(), stdin };
    interruptible(context.engine()?.create(request, progress.listener())).await
}

/// The uid of a VM that the engine has handed out.
pub fn uid_of(vm: &Vm) -> anyhow::Result<&Uid> {
    vm.metadata.uid.as_ref().ok_or_else(|| anyhow::anyhow!("the engine returned a VM without uid"))
}
