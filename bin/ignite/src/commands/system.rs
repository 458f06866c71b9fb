//! `ignite system`: what Ignite keeps on this host.

pub mod df;
pub mod prune;

use crate::context::Context;
use clap::Subcommand;

/// Flags of `system`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of the group.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show how much space is used, and how much a prune would free
    Df(df::Args),
    /// Remove what nothing refers to; with --all also images and kernels that no VM uses
    Prune(prune::Args),
}

/// Does it.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    match args.command {
        Command::Df(args) => df::run(args, context).await,
        Command::Prune(args) => prune::run(args, context).await,
    }
}
