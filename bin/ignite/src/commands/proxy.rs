//! `ignite proxy`: standard input and output as a TCP connection to a port on a VM's loopback; what `ssh` goes through.

use crate::context::Context;
use crate::session::{Ending, Relay, SignalPath};
use crate::signals::interruptible;

/// Flags of `proxy`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or id
    pub vm: String,
    /// TCP port on the VM's loopback
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
}

/// Relays until the VM's side closes.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let uid = engine.find_vm(&args.vm)?;
    let session = interruptible(engine.connect(&uid, args.port)).await?;
    let relay = Relay { stdin: true, tty: false, detach_keys: None, signals: SignalPath::Us };
    match relay.run(session).await? {
        Ending::Exited(exit) => Ok(exit.exit_code()),
        Ending::Detached => Ok(0),
        Ending::Abandoned(interrupted) => Err(interrupted.into()),
    }
}
