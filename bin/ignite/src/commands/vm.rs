//! `ignite vm`: the commands for VMs, as Weave Ignite groups them.

use crate::commands::{
    attach, cp, create, exec, inspect, kill, logs, pause, ps, rename, restart, rm, run, ssh, start, stats, stop,
    unpause, update, wait,
};
use crate::context::Context;
use crate::report::Caller;
use clap::Subcommand;

/// Flags of `vm`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// The command; absent: `ls`.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of `ls`.
    #[command(flatten)]
    pub ls: ps::Args,
}

/// The commands of the group.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List all VMs
    #[command(visible_alias = "list")]
    Ls(ps::Args),
    /// List running VMs
    Ps(ps::Args),
    /// Create and start a VM
    Run(run::Args),
    /// Create a VM without starting it
    Create(create::Args),
    /// Start VMs
    Start(start::Args),
    /// Stop VMs gracefully
    Stop(stop::Args),
    /// End VMs at once, or send a signal to their task
    Kill(kill::Args),
    /// Stop and start VMs
    Restart(restart::Args),
    /// Stop executing VMs; memory and connections are kept
    Pause(pause::Args),
    /// Let paused VMs go on, their clocks set right
    Unpause(unpause::Args),
    /// Remove VMs and their disks
    Rm(rm::Args),
    /// Print what a VM has written
    Logs(logs::Args),
    /// Connect to a task's streams or to a machine's console
    Attach(attach::Args),
    /// Run a command in a running VM
    Exec(exec::Args),
    /// Log in to a VM with ssh, through its agent channel
    Ssh(ssh::Args),
    /// Copy files between a VM and this host
    Cp(cp::Args),
    /// Print a VM as JSON or YAML
    Inspect(inspect::Args),
    /// Wait until VMs have ended and print their exit codes
    Wait(wait::Args),
    /// Show what running VMs use
    Stats(stats::Args),
    /// Change some of what is wanted of VMs
    Update(update::Args),
    /// Give a VM another name
    Rename(rename::Args),
}

impl Args {
    /// What its exit codes mean.
    pub fn caller(&self) -> Caller {
        match self.command {
            Some(Command::Run(_)) => Caller::Run,
            Some(Command::Exec(_)) => Caller::Exec,
            _ => Caller::Other,
        }
    }
}

/// Does what the command of the same name does; `ls` shows all.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let Some(command) = args.command else {
        return ps::run(ps::Args { all: true, ..args.ls }, context).await;
    };
    match command {
        Command::Ls(args) => ps::run(ps::Args { all: true, ..args }, context).await,
        Command::Ps(args) => ps::run(args, context).await,
        Command::Run(args) => run::run(args, context).await,
        Command::Create(args) => create::run(args, context).await,
        Command::Start(args) => start::run(args, context).await,
        Command::Stop(args) => stop::run(args, context).await,
        Command::Kill(args) => kill::run(args, context).await,
        Command::Restart(args) => restart::run(args, context).await,
        Command::Pause(args) => pause::run(args, context).await,
        Command::Unpause(args) => unpause::run(args, context).await,
        Command::Rm(args) => rm::run(args, context).await,
        Command::Logs(args) => logs::run(args, context).await,
        Command::Attach(args) => attach::run(args, context).await,
        Command::Exec(args) => exec::run(args, context).await,
        Command::Ssh(args) => ssh::run(args, context).await,
        Command::Cp(args) => cp::run(args, context).await,
        Command::Inspect(args) => inspect::run(args, context).await,
        Command::Wait(args) => wait::run(args, context).await,
        Command::Stats(args) => stats::run(args, context).await,
        Command::Update(args) => update::run(args, context).await,
        Command::Rename(args) => rename::run(args, context).await,
    }
}
