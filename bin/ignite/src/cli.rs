//! The table of commands, one row each, and the flags that all of them share.

use crate::commands::{
    apply, attach, completion, cp, create, delete, diff, doctor, events, exec, generate, image, inspect, kernel, kill,
    login, logout, logs, manual, network, pause, proxy, ps, rename, restart, restore, rm, run, schema, ssh, stack,
    start, stats, stop, system, unpause, update, version, vm, wait,
};
use crate::context::Context;
use crate::report::Caller;
use clap::{CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Exit codes:
  0        done
  1        an error, or at least one of several objects failed
  2        a usage error
  125      `run`, `exec`: an error before the command was started
  126      `run`, `exec`: the command cannot be executed
  127      `run`, `exec`: the command was not found
  128+N    interrupted by signal N, or the command was killed by it
  any      `run`, `exec`, `attach`: the exit code of the command itself

Files:
  /etc/ignite/config.yaml                        defaults (kind: Configuration)
  /var/lib/ignite, /run/ignite                   objects and sockets of root
  $XDG_DATA_HOME/ignite, $XDG_RUNTIME_DIR/ignite the same of any other user";

/// Turns any OCI image into a microVM.
#[derive(Debug, Parser)]
#[command(
    name = "ignite",
    version,
    about = "Turns any OCI image into a microVM: as a task that runs a command, or as a machine that boots its own init",
    after_help = AFTER_HELP,
    max_term_width = 120,
    // As in Weave Ignite: the last of a flag counts.
    args_override_self = true
)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: GlobalFlags,
    /// The command; absent: help.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Flags of every command, before or after its name.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalFlags {
    /// Directory of all objects [env: IGNITE_DATA_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Directory of the sockets of live VMs [env: IGNITE_RUN_DIR]
    #[arg(long, global = true, value_name = "DIR", hide = true)]
    pub run_dir: Option<PathBuf>,
    /// Configuration file [env: IGNITE_CONFIG] [default: /etc/ignite/config.yaml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub ignite_config: Option<PathBuf>,
    /// What is logged: trace, debug, info, warn, error or off [env: IGNITE_LOG_LEVEL] [default: warn]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Print only ids [env: IGNITE_QUIET]
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Firecracker to use [env: IGNITE_FIRECRACKER] [default: the first in bin of the data directory, or in PATH]
    #[arg(long, global = true, value_name = "PROGRAM", hide_short_help = true)]
    pub firecracker: Option<PathBuf>,
    /// Speak plain http to this registry (may be repeated) [env: IGNITE_PLAIN_HTTP]
    #[arg(long, global = true, value_name = "HOST[:PORT]", hide_short_help = true)]
    pub plain_http: Vec<String>,
    /// Trust the certificate authorities of this PEM file (may be repeated) [env: IGNITE_CA_CERTIFICATE]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub ca_certificate: Vec<String>,
    /// Directory of Docker's config.json, for credentials [env: IGNITE_REGISTRY_CONFIG_DIR] [default: ~/.docker]
    #[arg(long, global = true, value_name = "DIR", hide_short_help = true)]
    pub registry_config_dir: Option<PathBuf>,
    /// Socket of containerd, for containerd:REF [env: IGNITE_CONTAINERD_ADDRESS] [default: /run/containerd/containerd.sock]
    #[arg(long, global = true, value_name = "SOCKET", hide_short_help = true)]
    pub containerd_address: Option<String>,
    /// Namespace of containerd [env: IGNITE_CONTAINERD_NAMESPACE] [default: ignite]
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    pub containerd_namespace: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create and start a VM: in the foreground if it runs a command, in the background if it boots an init
    Run(run::Args),
    /// Create a VM without starting it
    Create(create::Args),
    /// Start VMs
    Start(start::Args),
    /// Stop VMs gracefully, killing them after a time
    Stop(stop::Args),
    /// End VMs at once, or send a signal to their task
    Kill(kill::Args),
    /// Stop and start VMs
    Restart(restart::Args),
    /// Stop executing VMs; memory and connections are kept
    Pause(pause::Args),
    /// Let paused VMs go on, their clocks set right
    Unpause(unpause::Args),
    /// Start the VMs that their restart policies want to run, after the host has started
    Restore(restore::Args),
    /// Print files for other programs, such as systemd
    Generate(generate::Args),
    /// Remove VMs and their disks
    Rm(rm::Args),
    /// List VMs
    Ps(ps::Args),
    /// Print what a VM has written
    Logs(logs::Args),
    /// Connect to a task's streams or to a machine's console
    Attach(attach::Args),
    /// Run a command in a running VM
    Exec(exec::Args),
    /// Log in to a VM with ssh, through its agent channel
    Ssh(ssh::Args),
    /// Standard input and output as a connection to a TCP port on a VM's loopback
    #[command(hide = true)]
    Proxy(proxy::Args),
    /// Copy files between a VM and this host
    Cp(cp::Args),
    /// Print an object as JSON or YAML
    Inspect(inspect::Args),
    /// Print what happens to VMs, as it happens
    Events(events::Args),
    /// Wait until VMs have ended and print their exit codes
    Wait(wait::Args),
    /// Show what running VMs use
    Stats(stats::Args),
    /// Change some of what is wanted of VMs
    Update(update::Args),
    /// Give a VM another name
    Rename(rename::Args),
    /// Make VMs as manifests say
    Apply(apply::Args),
    /// Show what `apply` would do, and why
    Diff(diff::Args),
    /// Remove the VMs that manifests name
    Delete(delete::Args),
    /// Manage stacks: the VMs of a directory, in the order of what they depend on
    #[command(visible_alias = "stacks")]
    Stack(stack::Args),
    /// Manage images
    #[command(visible_alias = "images")]
    Image(image::Args),
    /// Remove images; the same as `image rm`
    #[command(hide = true)]
    Rmi(image::rm::Args),
    /// Log in to a registry: the credentials are tried, and kept for pulls
    Login(login::Args),
    /// Log out of a registry
    Logout(logout::Args),
    /// Manage kernels
    #[command(visible_alias = "kernels")]
    Kernel(kernel::Args),
    /// Remove kernels; the same as `kernel rm`
    #[command(hide = true)]
    Rmk(kernel::rm::Args),
    /// Show networks and what is left in them
    #[command(visible_alias = "networks")]
    Network(network::Args),
    /// Manage VMs; every command of it is also a command of its own
    #[command(visible_alias = "vms")]
    Vm(vm::Args),
    /// Show and free the space that Ignite uses
    System(system::Args),
    /// Check whether this host can run VMs
    Doctor(doctor::Args),
    /// Print the JSON Schema of a kind of manifest
    Schema(schema::Args),
    /// Print the version
    Version(version::Args),
    /// Print a completion script for a shell
    Completion(completion::Args),
    /// Write manual pages
    #[command(hide = true)]
    Manual(manual::Args),
}

impl Command {
    /// Does it; the answer is the exit code.
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        match self {
            Command::Run(args) => run::run(args, context).await,
            Command::Create(args) => create::run(args, context).await,
            Command::Start(args) => start::run(args, context).await,
            Command::Stop(args) => stop::run(args, context).await,
            Command::Kill(args) => kill::run(args, context).await,
            Command::Restart(args) => restart::run(args, context).await,
            Command::Pause(args) => pause::run(args, context).await,
            Command::Unpause(args) => unpause::run(args, context).await,
            Command::Restore(args) => restore::run(args, context).await,
            Command::Generate(args) => generate::run(args, context),
            Command::Rm(args) => rm::run(args, context).await,
            Command::Ps(args) => ps::run(args, context).await,
            Command::Logs(args) => logs::run(args, context).await,
            Command::Attach(args) => attach::run(args, context).await,
            Command::Exec(args) => exec::run(args, context).await,
            Command::Ssh(args) => ssh::run(args, context).await,
            Command::Proxy(args) => proxy::run(args, context).await,
            Command::Cp(args) => cp::run(args, context).await,
            Command::Inspect(args) => inspect::run(args, context).await,
            Command::Events(args) => events::run(args, context).await,
            Command::Wait(args) => wait::run(args, context).await,
            Command::Stats(args) => stats::run(args, context).await,
            Command::Update(args) => update::run(args, context).await,
            Command::Rename(args) => rename::run(args, context).await,
            Command::Apply(args) => apply::run(args, context).await,
            Command::Diff(args) => diff::run(args, context).await,
            Command::Delete(args) => delete::run(args, context).await,
            Command::Stack(args) => stack::run(args, context).await,
            Command::Image(args) => image::run(args, context).await,
            Command::Rmi(args) => image::rm::run(args, context).await,
            Command::Login(args) => login::run(args, context).await,
            Command::Logout(args) => logout::run(args, context).await,
            Command::Kernel(args) => kernel::run(args, context).await,
            Command::Rmk(args) => kernel::rm::run(args, context).await,
            Command::Network(args) => network::run(args, context).await,
            Command::Vm(args) => Box::pin(vm::run(args, context)).await,
            Command::System(args) => system::run(args, context).await,
            Command::Doctor(args) => doctor::run(args, context).await,
            Command::Schema(args) => schema::run(args),
            Command::Version(args) => version::run(args),
            Command::Completion(args) => completion::run(args),
            Command::Manual(args) => manual::run(args),
        }
    }

    /// What its exit codes mean.
    pub fn caller(&self) -> Caller {
        match self {
            Command::Run(_) => Caller::Run,
            Command::Exec(_) => Caller::Exec,
            Command::Vm(args) => args.caller(),
            _ => Caller::Other,
        }
    }
}

/// The help that `--help` prints.
pub fn help() -> clap::Error {
    let mut command = Cli::command();
    let text = command.render_help();
    command.error(clap::error::ErrorKind::DisplayHelp, text)
}

/// Which command an invocation that cannot be parsed was meant for.
pub fn caller_of(argv: &[OsString]) -> Caller {
    let command = Cli::command();
    let takes_value =
        |flag: &str| command.get_arguments().any(|arg| arg.get_long() == Some(flag) && arg.get_action().takes_values());
    let mut words = argv.iter().skip(1).filter_map(|word| word.to_str());
    while let Some(word) = words.next() {
        match word {
            "run" => return Caller::Run,
            "exec" => return Caller::Exec,
            "vm" | "vms" => continue,
            _ => match word.strip_prefix("--") {
                Some(flag) if takes_value(flag) => drop(words.next()),
                Some(_) => {}
                None if word.starts_with('-') => {}
                None => return Caller::Other,
            },
        }
    }
    Caller::Other
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "weave_tests.rs"]
mod weave_tests;
