//! `ignite stack`: the VMs of a directory, or of a repository that `ignited` follows, as one thing.

pub mod down;
pub mod logs;
pub mod ls;
pub mod ps;
pub mod up;

use crate::context::Context;
use crate::report::Hinted;
use clap::Subcommand;
use ignite_api::Vm;
use ignite_reconcile::STACK_LABEL;

/// Flags of `stack`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of the group.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the VMs of a directory as its manifests say, and remove what is in them no more
    Up(up::Args),
    /// Remove the VMs of a stack, those that others depend on last
    Down(down::Args),
    /// List stacks
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    /// List the VMs of a stack
    Ps(ps::Args),
    /// Print what the VMs of a stack have written
    Logs(logs::Args),
}

/// Does it.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    match args.command {
        Command::Up(args) => up::run(args, context).await,
        Command::Down(args) => down::run(args, context).await,
        Command::Ls(args) => ls::run(args, context).await,
        Command::Ps(args) => ps::run(args, context).await,
        Command::Logs(args) => logs::run(args, context).await,
    }
}

/// The stack that a VM belongs to.
fn stack_of(vm: &Vm) -> Option<&str> {
    vm.metadata.labels.get(STACK_LABEL).map(String::as_str)
}

/// The VMs of a stack, sorted by name; an error when there is none.
async fn vms_of(stack: &str, context: &Context) -> anyhow::Result<Vec<Vm>> {
    let listing = crate::signals::interruptible(context.engine()?.list()).await?;
    listing.warnings.iter().for_each(|warning| crate::report::warning(warning));
    let mut vms: Vec<Vm> = listing.vms.into_iter().filter(|vm| stack_of(vm) == Some(stack)).collect();
    if vms.is_empty() {
        let message = format!("there is no stack {stack:?}");
        return Err(Hinted { message, hint: "see what there is: ignite stack ls".into() }.into());
    }
    vms.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    Ok(vms)
}
