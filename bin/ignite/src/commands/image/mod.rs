//! `ignite image`: images that VMs are made from.

pub mod history;
pub mod import;
pub mod inspect;
pub mod load;
pub mod ls;
pub mod prune;
pub mod rm;
pub mod save;
pub mod tag;
pub mod verify;

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
    /// Give an image one more name
    Tag(tag::Args),
    /// Show how an image was built
    History(history::Args),
    /// Write images to an archive
    Save(save::Args),
    /// Import images of an archive
    Load(load::Args),
    /// Read what is stored of images again and compare it with its digests
    Verify(verify::Args),
}

/// Does it.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    match args.command {
        None => ls::run(args.ls, context).await,
        Some(Command::Ls(args)) => ls::run(args, context).await,
        Some(Command::Import(args)) => import::run(args, context).await,
        Some(Command::Rm(args)) => rm::run(args, context).await,
        Some(Command::Prune(args)) => prune::run(args, context).await,
        Some(Command::Inspect(args)) => inspect::run(args, context),
        Some(Command::Tag(args)) => tag::run(args, context).await,
        Some(Command::History(args)) => history::run(args, context).await,
        Some(Command::Save(args)) => save::run(args, context).await,
        Some(Command::Load(args)) => load::run(args, context).await,
        Some(Command::Verify(args)) => verify::run(args, context).await,
    }
}
