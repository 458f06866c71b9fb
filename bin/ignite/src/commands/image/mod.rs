//! `ignite image`: images that VMs are made from.

pub mod import;
pub mod inspect;
pub mod ls;
pub mod prune;
pub mod rm;

use crate::context::Context;
use clap::Subcommand;

/// Flags of `image`.
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
    /// List images
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    /// Import an image, so that VMs of it start at once
    #[command(visible_alias = "pull")]
    Import(import::Args),
    /// Remove images
    Rm(rm::Args),
    /// Remove the images that no VM uses, and everything left of pulls
    Prune(prune::Args),
    /// Print an image as JSON or YAML
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
