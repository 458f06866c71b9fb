//! `ignite network`: networks that VMs can be in.

mod inspect;
mod ls;
mod prune;

use crate::context::Context;
use clap::Subcommand;

/// Flags of `network`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// The command; absent: `ls`.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of `ls`.
    #[command(flatten)]
    pub ls: ls::Args,
}

/// The commands of the group.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the networks there are
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    /// Print a network and its VMs as JSON or YAML
    Inspect(inspect::Args),
    /// Remove what belongs to no VM: leftovers of crashes, idle bridges of our own
    Prune(prune::Args),
}

/// Does it.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    match args.command {
        None => ls::run(args.ls, context).await,
        Some(Command::Ls(args)) => ls::run(args, context).await,
        Some(Command::Inspect(args)) => inspect::run(args, context).await,
        Some(Command::Prune(args)) => prune::run(args, context).await,
    }
}
