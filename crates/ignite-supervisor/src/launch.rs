//! What the engine hands to `ignite-spawn`, and what comes back while it starts.

use ignite_agent_protocol::message::Configure;
use ignite_api::Uid;
use ignite_api::health::HealthPlan;
use ignite_api::network::{HostAlias, NetworkSpec};
use ignite_api::restart_policy::RestartPolicy;
use ignite_api::vm::{DiskLimits, Isolation};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Everything a supervisor needs; written to the run directory with mode 0600, read once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Launch {
    /// The VM.
    pub uid: Uid,
    /// Its name.
    pub name: String,
    /// Data directory of the store.
    pub data_dir: PathBuf,
    /// Run directory of the store.
    pub run_dir: PathBuf,
    /// Driver that boots it.
    pub driver: String,
    /// Its program.
    pub program: PathBuf,
    /// What is booted.
    pub boot: LaunchBoot,
    /// How it is connected.
    pub network: LaunchNetwork,
    /// What the guest becomes; interfaces, DNS, clock and entropy are filled in when it is sent.
    pub configure: Configure,
    /// The first attach is waited for (at most [`ATTACH_DEADLINE_MS`]) before the guest is configured, so that a foreground
    /// task's output and input are complete.
    pub is_foreground: bool,
    /// The object is removed when the VM ends.
    pub auto_remove: bool,
    /// Whether it is booted again when it has ended.
    pub restart_policy: RestartPolicy,
    /// How its health is looked at; absent: not at all.
    #[serde(default)]
    pub health: Option<HealthPlan>,
    /// Time a stop leaves the guest, unless the request says otherwise.
    pub stop_timeout_ms: u64,
    /// Time the guest has from power-on to `Configured`.
    pub boot_timeout_ms: u64,
}

/// Longest a foreground start waits for its attach.
pub const ATTACH_DEADLINE_MS: u64 = 10_000;

/// The machine to boot; NICs come from the network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LaunchBoot {
    /// ELF kernel.
    pub kernel: PathBuf,
    /// Initramfs with `ignite-init`.
    pub initramfs: PathBuf,
    /// Optional kernel arguments.
    pub cmdline: String,
    /// Virtual CPUs.
    pub vcpu_count: u8,
    /// Guest memory.
    pub mem_size_mib: u32,
    /// Its memory is of huge pages.
    #[serde(default)]
    pub has_huge_pages: bool,
    /// Name or file of a CPU template.
    #[serde(default)]
    pub cpu_template: Option<String>,
    /// Drives in guest order.
    pub drives: Vec<LaunchDrive>,
    /// How the VMM is kept from the host.
    pub isolation: Isolation,
}

/// A drive.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LaunchDrive {
    /// Its id, also the virtio serial.
    pub id: String,
    /// Raw image.
    pub path: PathBuf,
    /// The guest cannot write to it.
    pub is_read_only: bool,
    /// It is shown as persistent memory.
    #[serde(default)]
    pub is_pmem: bool,
    /// It is its owner's: locked while the VM lives.
    #[serde(default)]
    pub is_volume: bool,
    /// How much the guest may do with it.
    #[serde(default)]
    pub limits: DiskLimits,
}

/// How the VM is connected.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LaunchNetwork {
    /// Row of the plugin table.
    pub mode: String,
    /// What its owner wants of it.
    pub spec: NetworkSpec,
    /// The VMM keeps the traffic to the limits of `spec`, as the network does not.
    #[serde(default)]
    pub is_limited_by_vmm: bool,
    /// Names by which VMs of the same network find it.
    pub names: Vec<String>,
    /// Interfaces whose guest asks by DHCP.
    #[serde(default)]
    pub dhcp: Vec<String>,
    /// Further lines of the guest's `/etc/hosts`; [`ignite_api::network::HOST_GATEWAY`] is looked up in the network.
    pub host_aliases: Vec<HostAlias>,
    /// Where the host's Docker engine listens, for its bridge.
    #[serde(default)]
    pub docker_socket: PathBuf,
}

/// What the supervisor tells its starter, one JSON line each, over the ready pipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum ReadyEvent {
    /// The control socket accepts connections.
    Listening,
    /// The guest is configured and runs.
    Running,
    /// It did not come up; everything has been undone.
    Failed {
        /// The error with its causes.
        message: String,
        /// What to do next.
        hint: Option<String>,
        /// Docker's exit code for it: 125 unless the task itself could not be run.
        exit_code: u8,
    },
}
