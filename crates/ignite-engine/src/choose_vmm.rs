//! Which VMM runs a VM here.

use crate::engine::{Engine, title};
use crate::error::EngineError;
use crate::start::network_mode;
use ignite_api::network::Bandwidth;
use ignite_api::vm::HugePages;
use ignite_api::{Uid, Vm};
use ignite_disk::FeatureState;
use ignite_supervisor::guest_network;
use ignite_vmm::choice::{self, Choice, Needs};
use ignite_vmm::drivers::Programs;

/// Directory of the data directory into which programs are fetched for Ignite.
pub(crate) const PROGRAM_DIR: &str = "bin";

impl Engine {
    /// Where VMMs may be.
    pub(crate) fn vmm_programs(&self) -> Programs {
        let mut directories = vec![self.paths.data().join(PROGRAM_DIR)];
        directories.extend(self.settings.program_dirs.iter().cloned());
        Programs { firecracker: self.settings.firecracker.clone(), directories }
    }

    /// The VMM of a VM's life, once it has one; else the one that is wanted, or the first that can run it.
    pub(crate) fn choose_vmm(&self, vm: &Vm, uid: &Uid, kernel: &Uid) -> Result<Choice, EngineError> {
        let mode = network_mode(vm);
        let network = ignite_network::plugins::find(&mode)
            .map_err(|source| EngineError::Network { name: title(vm), source: Box::new(source) })?;
        let features = self.kernel_info(kernel)?.features;
        let needs = Needs {
            limits_traffic: self.vmm_limits_traffic(vm, uid, network.as_ref()),
            why_no_tap: network.why_no_tap(),
            carriers: guest_network::carriers(network.as_ref()),
            network: mode,
            huge_pages: vm.spec.huge_pages == HugePages::TwoMib,
            cpu_template: vm.spec.cpu_template.is_some(),
            lacks_vsock: features.virtio_vsock == FeatureState::Absent,
            lacks_mmio_cmdline: features.virtio_mmio_cmdline == FeatureState::Absent,
        };
        let wanted = vm.status.vmm.as_ref().or(vm.spec.vmm.as_ref());
        Ok(choice::choose(wanted.map(String::as_str), &self.vmm_programs(), &needs)?)
    }

    /// Whether the VM's traffic is to be limited, and not by its network.
    pub(crate) fn vmm_limits_traffic(&self, vm: &Vm, uid: &Uid, network: &dyn ignite_network::Plugin) -> bool {
        let is_limited = vm.spec.network.bandwidth.is_some_and(|bandwidth| bandwidth != Bandwidth::default());
        is_limited && !network.limits_traffic(&self.attach_request(vm, uid))
    }
}
