//! `ignite kill`: an end without asking, or a signal.

use crate::commands::many::for_each_vm;
use crate::context::Context;
use crate::signals::{SIGKILL, parse_signal};

/// Flags of `kill`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Send this signal to the task; KILL ends the VM itself
    #[arg(short, long, value_parser = parse_signal, default_value = "KILL", allow_hyphen_values = true)]
    pub signal: u8,
    /// Name or id
    #[arg(required = true, value_name = "VM")]
    pub vms: Vec<String>,
}

/// Prints what got it.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let signal = (args.signal != SIGKILL).then_some(args.signal);
    for_each_vm(&args.vms, context, async |engine, uid| engine.kill(uid, signal).await.map(drop)).await
}
