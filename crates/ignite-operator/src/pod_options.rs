//! What an operator decides for all its VMs' Pods.

/// Options of Pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodOptions {
    /// The node image.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; absent: as Kubernetes decides by the tag.
    pub image_pull_policy: Option<String>,
    /// Where `/dev/kvm` comes from.
    pub kvm: DeviceAccess,
    /// Where `/dev/net/tun` comes from.
    pub tun: DeviceAccess,
    /// Label of nodes whose KVM can be used, with the value `true`; asked for where KVM is required.
    pub kvm_node_label: Option<String>,
    /// Whether every VM may run in software where there is no KVM.
    pub allow_emulation: bool,
    /// Directory of the node that keeps images and base disks for all VMs; absent: each Pod fetches its own.
    pub cache_dir: Option<String>,
    /// User (and group) of the VMM; absent: root.
    pub user: Option<i64>,
    /// Group of `/dev/kvm` on the nodes, where only it may open the device.
    pub kvm_group: Option<i64>,
    /// Memory of the VMM and its supervisor, in MiB, beside one hundredth of the guest's.
    pub overhead_memory_mib: u64,
    /// CPU of the VMM and its supervisor, in thousandths.
    pub overhead_cpu_millis: u64,
    /// Virtual CPUs that share one of a node.
    pub cpu_overcommit: u32,
}

/// How a container gets a device of its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceAccess {
    /// From a device plugin, by the name of its resource: the container needs no privileges.
    Resource(String),
    /// The node's own file; only a privileged container may open it.
    HostPath,
}

impl PodOptions {
    /// Memory of the VMM and its supervisor, in MiB, where nothing else is said.
    pub const OVERHEAD_MEMORY_MIB: u64 = 160;

    /// What is right for most clusters, with this node image.
    pub fn of_image(image: impl Into<String>) -> Self {
        PodOptions {
            image: image.into(),
            image_pull_policy: None,
            kvm: DeviceAccess::Resource("devices.kubevirt.io/kvm".to_owned()),
            tun: DeviceAccess::Resource("devices.kubevirt.io/tun".to_owned()),
            kvm_node_label: None,
            allow_emulation: false,
            cache_dir: Some("/var/lib/ignite-cache".to_owned()),
            user: Some(65532),
            kvm_group: None,
            overhead_memory_mib: Self::OVERHEAD_MEMORY_MIB,
            overhead_cpu_millis: 100,
            cpu_overcommit: 1,
        }
    }
}
