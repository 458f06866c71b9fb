//! `ignite kernel`: kernels that VMs boot.

pub mod import;
pub mod inspect;
pub mod ls;
pub mod prune;
pub mod rm;

use crate::context::Context;
use clap::Subcommand;

/// Flags of `kernel`.
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
    /// List kernels
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    /// Import a kernel
    #[command(visible_alias = "pull")]
    Import(import::Args),
    /// Remove kernels
    Rm(rm::Args),
    /// Remove the kernels that no VM uses, but for the default one
    Prune(prune::Args),
    /// Print a kernel as JSON or YAML
    Inspect(inspect::Args),
}

/// Does it.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    match args.command {
        None => ls::run(args.ls, context),
        Some(Command::Ls(args)) => ls::run(args, context),
        Some(Command::Import(args)) => import::run(args, context).await,
        Some(Command::Rm(args)) => rm::run(args, context).await,
        Some(Command::Prune(args)) => prune::run(args, context).await,
        Some(Command::Inspect(args)) => inspect::run(args, context),
    }
}
