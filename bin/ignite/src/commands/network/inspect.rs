//! `ignite network inspect`.

use crate::commands::print;
use crate::context::Context;
use crate::render::document::{self, Format};
use ignite_engine::NetworkCheck;

/// Flags of `network inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How it is shown
    #[arg(short, long, value_enum, default_value = "json", value_name = "FORMAT")]
    pub output: Format,
    /// Ask the plugins whether each VM's attachment is as they made it (CNI's CHECK); exits with 1 if one is not
    #[arg(long)]
    pub check: bool,
    /// As --network takes it, or the name of a CNI network
    pub network: String,
}

/// Prints the network.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let check = if args.check { NetworkCheck::Run } else { NetworkCheck::Skip };
    let network = context.engine()?.inspect_network(&args.network, check).await?;
    print(&document::render(&network, args.output)?)?;
    Ok(u8::from(network.problems.is_some_and(|problems| !problems.is_empty())))
}
