//! `ignite update`: changes some of what is wanted of VMs.

use crate::commands::machine_flags::MachineFlags;
use crate::commands::many::for_each_vm;
use crate::commands::vm_flags::parse_label;
use crate::context::Context;
use crate::report::{Hinted, UsageError};
use ignite_api::Size;
use ignite_api::restart_policy::RestartPolicy;
use ignite_engine::Change;

/// Flags of `update`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "ignite update [OPTIONS] VM...   (at least one of what is to change)")]
pub struct Args {
    /// What is changed.
    #[command(flatten)]
    pub change: ChangeFlags,
    /// What is not.
    #[command(flatten)]
    pub fixed: FixedFlags,
    /// Name or id
    #[arg(required = true, value_name = "VM")]
    pub vms: Vec<String>,
}

/// What is changed: at least one of them.
#[derive(Debug, clap::Args)]
// Who gives only what cannot be changed is told so, not that something is missing.
// All are named: a struct with flattened flags brings none of its own into its group.
#[group(required = true, multiple = true, args = ["cpus", "memory", "hugepages", "cpu_template", "stop_timeout", "restart", "label", "label_rm", "size", "kernel", "kernel_args", "ports", "volumes", "network", "env"])]
pub struct ChangeFlags {
    /// Virtual CPUs, 1 to 32; of a running VM from its next start on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=32))]
    pub cpus: Option<u32>,
    /// Memory; of a running VM from its next start on
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// What its memory and its processor are.
    #[command(flatten)]
    pub machine: MachineFlags,
    /// Seconds `stop` waits before it kills
    #[arg(long, value_name = "SECONDS")]
    pub stop_timeout: Option<u32>,
    /// Start it again when it ends: no, on-failure[:MAX], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<RestartPolicy>,
    /// Set a label
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Remove a label
    #[arg(long, value_name = "KEY")]
    pub label_rm: Vec<String>,
}

/// Flags of `run` for what cannot be changed here: each is refused with the way there is.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct FixedFlags {
    /// Disk size
    #[arg(short, long, hide = true, value_name = "SIZE")]
    pub size: Option<String>,
    /// Kernel
    #[arg(short, long, alias = "kernel-image", hide = true, value_name = "KERNEL")]
    pub kernel: Option<String>,
    /// Kernel arguments
    #[arg(long, hide = true, value_name = "ARGS")]
    pub kernel_args: Option<String>,
    /// Published ports
    #[arg(short, long, alias = "publish", hide = true, value_name = "SPEC")]
    pub ports: Vec<String>,
    /// Disks
    #[arg(short, long, alias = "volume", hide = true, value_name = "SPEC")]
    pub volumes: Vec<String>,
    /// Network
    #[arg(long, alias = "network-plugin", hide = true, value_name = "MODE")]
    pub network: Option<String>,
    /// Environment
    #[arg(short, long, hide = true, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
}

impl FixedFlags {
    /// The first that was given, as an error.
    fn refuse(&self) -> Result<(), Hinted> {
        const DISK: &str = "it takes a new VM: create one with it, copy what is needed (ignite cp OLD:/path - | ignite cp - NEW:/path), \
                            remove the old one";
        const START: &str = "a manifest can, by a restart that keeps the disk: ignite inspect VM -o yaml > vm.yaml, change it, \
                             ignite apply -f vm.yaml";
        let flags = [
            (self.size.is_some(), "size", "the size of its disk", DISK),
            (self.kernel.is_some(), "kernel", "its kernel", DISK),
            (self.kernel_args.is_some(), "kernel-args", "its kernel arguments", START),
            (!self.ports.is_empty(), "ports", "its ports", START),
            (!self.volumes.is_empty(), "volumes", "its volumes", START),
            (self.network.is_some(), "network", "its network", START),
            (!self.env.is_empty(), "env", "its environment", START),
        ];
        match flags.into_iter().find(|(is_given, ..)| *is_given) {
            None => Ok(()),
            Some((_, flag, what, hint)) => {
                let message = format!("--{flag}: `update` cannot change {what}");
                Err(Hinted { message, hint: hint.to_owned() })
            }
        }
    }
}

/// Prints what was changed; what has to wait for the next start is said on standard error.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    args.fixed.refuse()?;
    let flags = args.change;
    let labels = flags.label.iter().map(|label| parse_label(label)).collect::<Result<_, UsageError>>()?;
    let working_dir = std::env::current_dir()?;
    let change = Change {
        cpus: flags.cpus,
        memory: flags.memory,
        huge_pages: flags.machine.huge_pages(),
        cpu_template: flags.machine.cpu_template(&working_dir),
        stop_timeout_seconds: flags.stop_timeout,
        restart_policy: flags.restart,
        labels,
        removed_labels: flags.label_rm,
    };
    for_each_vm(&args.vms, context, async |engine, uid| {
        let updated = engine.update(uid, change.clone()).await?;
        if !updated.from_next_start.is_empty() {
            let name = &updated.vm.metadata.name;
            let fields = updated.from_next_start.join(" and ");
            context.note(&format!(
                "{name} runs: the new {fields} will be there from its next start on (ignite restart {name})"
            ));
        }
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use crate::cli::Cli;
    use clap::Parser;

    #[test]
    fn each_change_is_enough_and_none_is_too_little() {
        let parses = |arguments: &[&str]| {
            Cli::try_parse_from(["ignite", "update"].iter().chain(arguments).chain(&["web"]))
                .map_err(|e| e.kind())
                .is_ok()
        };
        for change in [
            &["--cpus", "2"][..],
            &["--memory", "1GB"],
            &["--hugepages"],
            &["--cpu-template", "T2"],
            &["--stop-timeout", "1"],
            &["--restart", "always"],
            &["--label", "a=b"],
            &["--label-rm", "a"],
            &["--size", "1GB"],
        ] {
            assert!(parses(change), "{change:?}");
        }
        assert!(!parses(&[]));
    }
}
