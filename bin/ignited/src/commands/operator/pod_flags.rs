//! Flags that say what Pods look like.

use ignite_operator::pod_options::{DeviceAccess, PodOptions};

/// In the place of a device plugin's resource: the node's own file.
const HOST_PATH: &str = "host-path";

/// Flags of Pods.
#[derive(Debug, clap::Args)]
pub struct PodFlags {
    /// Node image: the programs and the kernel that run in Pods
    #[arg(long, env = "IGNITE_NODE_IMAGE", value_name = "REF")]
    pub node_image: String,
    /// When nodes fetch the node image: Always, IfNotPresent or Never
    #[arg(long, value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub node_image_pull_policy: Option<String>,
    /// Resource of the device plugin that gives /dev/kvm, or host-path, which takes privileged Pods
    #[arg(long, value_name = "RESOURCE", default_value = "devices.kubevirt.io/kvm")]
    pub kvm: String,
    /// Resource of the device plugin that gives /dev/net/tun, or host-path, which takes privileged Pods
    #[arg(long, value_name = "RESOURCE", default_value = "devices.kubevirt.io/tun")]
    pub tun: String,
    /// Only nodes with this label, of value "true", run VMs that need KVM
    #[arg(long, value_name = "LABEL")]
    pub kvm_node_label: Option<String>,
    /// Run every VM in software where there is no KVM (slow), not only those with spec.allowEmulation
    #[arg(long)]
    pub allow_emulation: bool,
    /// Directory of the nodes in which VMs share images and base disks; empty: none
    #[arg(long, value_name = "DIR", default_value = "/var/lib/ignite-cache")]
    pub node_cache: String,
    /// User id of VMMs; 0: root
    #[arg(long, value_name = "UID", default_value_t = 65532)]
    pub vmm_user: u32,
    /// Group id that may open /dev/kvm on the nodes
    #[arg(long, value_name = "GID")]
    pub kvm_group: Option<u32>,
    /// Memory that is asked for beside each guest's, in MiB
    #[arg(long, value_name = "MIB", default_value_t = PodOptions::OVERHEAD_MEMORY_MIB)]
    pub overhead_memory: u64,
    /// Virtual CPUs that share one CPU of a node
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub cpu_overcommit: u32,
}

impl PodFlags {
    /// The options.
    pub fn options(&self) -> PodOptions {
        PodOptions {
            image_pull_policy: self.node_image_pull_policy.clone(),
            kvm: access(&self.kvm),
            tun: access(&self.tun),
            kvm_node_label: self.kvm_node_label.clone(),
            allow_emulation: self.allow_emulation,
            cache_dir: Some(self.node_cache.clone()).filter(|dir| !dir.is_empty()),
            user: Some(i64::from(self.vmm_user)).filter(|user| *user != 0),
            kvm_group: self.kvm_group.map(i64::from),
            overhead_memory_mib: self.overhead_memory,
            cpu_overcommit: self.cpu_overcommit,
            ..PodOptions::of_image(&self.node_image)
        }
    }
}

fn access(text: &str) -> DeviceAccess {
    if text == HOST_PATH { DeviceAccess::HostPath } else { DeviceAccess::Resource(text.to_owned()) }
}
