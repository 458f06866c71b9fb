//! `ignite update`: changes some of what is wanted of VMs.

use crate::commands::many::for_each_vm;
use crate::commands::vm_flags::parse_label;
use crate::context::Context;
use crate::report::{self, UsageError};
use ignite_api::Size;
use ignite_api::restart_policy::RestartPolicy;
use ignite_engine::Change;

/// Flags of `update`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is changed.
    #[command(flatten)]
    pub change: ChangeFlags,
    /// Name or id
    #[arg(required = true, value_name = "VM")]
    pub vms: Vec<String>,
}

/// What is changed: at least one of them.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub struct ChangeFlags {
    /// Virtual CPUs, 1 to 32; of a running VM from its next start on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=32))]
    pub cpus: Option<u32>,
    /// Memory; of a running VM from its next start on
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<Size>,
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

/// Prints what was changed; what has to wait for the next start is said on standard error.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let flags = args.change;
    let labels = flags.label.iter().map(|label| parse_label(label)).collect::<Result<_, UsageError>>()?;
    let change = Change {
        cpus: flags.cpus,
        memory: flags.memory,
        stop_timeout_seconds: flags.stop_timeout,
        restart_policy: flags.restart,
        labels,
        removed_labels: flags.label_rm,
    };
    for_each_vm(&args.vms, context, async |engine, uid| {
        let updated = engine.update(uid, change.clone()).await?;
        if !updated.from_next_start.is_empty() && !context.is_quiet() {
            let name = &updated.vm.metadata.name;
            let fields = updated.from_next_start.join(" and ");
            report::note(&format!(
                "{name} runs: the new {fields} will be there from its next start on (ignite restart {name})"
            ));
        }
        Ok(())
    })
    .await
}
