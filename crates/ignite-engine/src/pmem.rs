//! Whether a VM reads its image's base as persistent memory: the host's own pages, with no copy of its own.
//!
//! VMs of one image then read the same pages of memory, and by their timing could tell what of the image others read: those whose
//! isolation is strict have a disk instead (`docs/adr/base-as-persistent-memory.md`).

use ignite_api::Vm;
use ignite_api::vm::{DiskLimits, Isolation};
use ignite_disk::{FeatureState, KernelFeatures};
use ignite_vmm::Capabilities;

/// The guest keeps a record of 64 bytes for each page of 4 KiB.
const BYTES_PER_RECORD_BYTE: u64 = 64;
/// The part of the guest's memory that these may take.
const LARGEST_PART: u64 = 16;

/// By what the VMM can, the kernel has, and the VM is: limits of disks hold for what is read by requests only, and a base that is
/// large beside the memory costs more of it than it saves.
pub(crate) fn is_for(vm: &Vm, capabilities: &Capabilities, kernel: &KernelFeatures, base_len: u64) -> bool {
    let has = |feature| matches!(feature, FeatureState::Builtin | FeatureState::Module);
    capabilities.has_pmem
        && has(kernel.virtio_pmem)
        && has(kernel.fs_dax)
        && vm.spec.isolation != Isolation::Strict
        && vm.spec.storage.limits == DiskLimits::default()
        && base_len / BYTES_PER_RECORD_BYTE <= vm.spec.memory.as_bytes() / LARGEST_PART
}

#[cfg(test)]
mod tests {
    use super::*;
    use ignite_api::{ObjectMeta, Size, VmSpec};
    use ignite_vmm::{Accelerator, DriveLocator};

    #[test]
    fn it_takes_vmm_kernel_and_a_vm_that_gains_by_it() {
        let capabilities = |has_pmem| Capabilities {
            accelerator: Accelerator::Kvm,
            accelerator_note: None,
            program: "/usr/bin/firecracker".into(),
            drive_locator: DriveLocator::Index,
            carriers: Vec::new(),
            needs_vsock: true,
            describes_devices: true,
            limits_traffic: true,
            has_pmem,
            has_huge_pages: true,
            has_cpu_templates: true,
            max_vcpu_count: 32,
        };
        let kernel = |virtio_pmem, fs_dax| KernelFeatures { virtio_pmem, fs_dax, ..KernelFeatures::default() };
        let vm = |memory, iops| {
            let mut spec = VmSpec { memory, ..VmSpec::default() };
            spec.storage.limits.iops = iops;
            Vm::new(ObjectMeta::default(), spec)
        };
        let (module, builtin, absent) = (FeatureState::Module, FeatureState::Builtin, FeatureState::Absent);
        let small = vm(Size::mib(256), None);
        let mut strict = small.clone();
        strict.spec.isolation = Isolation::Strict;
        for (vm, has_pmem, features, base, expected) in [
            (&small, true, kernel(module, builtin), Size::mib(100), true),
            (&small, true, kernel(builtin, builtin), Size::gib(1), true),
            (&small, true, kernel(builtin, builtin), Size::mib(1025), false),
            (&strict, true, kernel(builtin, builtin), Size::mib(100), false),
            (&small, false, kernel(builtin, builtin), Size::mib(100), false),
            (&small, true, kernel(absent, builtin), Size::mib(100), false),
            (&small, true, kernel(module, absent), Size::mib(100), false),
            (&small, true, KernelFeatures::default(), Size::mib(100), false),
            (&vm(Size::mib(256), Some(100)), true, kernel(builtin, builtin), Size::mib(100), false),
        ] {
            assert_eq!(
                is_for(vm, &capabilities(has_pmem), &features, base.as_bytes()),
                expected,
                "{features:?} {base}"
            );
        }
    }
}
