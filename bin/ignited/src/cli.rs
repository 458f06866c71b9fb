//! The table of commands of `ignited`, one row each.

use crate::commands::{completion, daemon, gitops, operator, pod, status, systemd, version};
use crate::vm_defaults::VmDefaults;
use clap::{CommandFactory, Parser, Subcommand};
use ignite::cli::GlobalFlags;
use ignite::context::Context;
use ignite::report::Caller;

/// Keeps microVMs as manifests say.
#[derive(Debug, Parser)]
#[command(
    name = "ignited",
    version,
    about = "Keeps microVMs as manifests say: those of a directory, or of a Git repository",
    max_term_width = 120
)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: GlobalFlags,
    /// What manifests leave open.
    #[command(flatten)]
    pub defaults: VmDefaults,
    /// The command; absent: help.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep the VMs of a directory of manifests
    Daemon(daemon::Args),
    /// Keep the VMs of Git repositories
    Gitops(Box<gitops::Args>),
    /// Run VMs in a Kubernetes cluster, each in a Pod
    Operator(operator::Args),
    /// Run a VM in a Kubernetes Pod: what the Pod's containers call
    #[command(hide = true)]
    Pod(pod::Args),
    /// Show how everything stands, and why something does not
    Status(status::Args),
    /// Print a systemd unit that runs a daemon
    Systemd(systemd::Args),
    /// Print the version
    Version(version::Args),
    /// Print a completion script for a shell
    Completion(completion::Args),
}

impl Command {
    /// Whose its exit code is.
    pub fn caller(&self) -> Caller {
        match self {
            Command::Pod(args) => args.caller(),
            _ => Caller::Other,
        }
    }

    /// Does it; the answer is the exit code.
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        match self {
            Command::Daemon(args) => daemon::run(args, context).await,
            Command::Gitops(args) => gitops::run(*args, context).await,
            Command::Operator(args) => operator::run(args, context).await,
            Command::Pod(args) => pod::run(args, context).await,
            Command::Status(args) => status::run(args, context).await,
            Command::Systemd(args) => systemd::run(args, context),
            Command::Version(args) => version::run(args),
            Command::Completion(args) => completion::run(args),
        }
    }
}

/// The help that `--help` prints.
pub fn help() -> clap::Error {
    let mut command = Cli::command();
    let text = command.render_help();
    command.error(clap::error::ErrorKind::DisplayHelp, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
