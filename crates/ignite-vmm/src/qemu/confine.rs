//! The jail of a QEMU process: what it sees of the host and what it may take.

use super::open::Opened;
use crate::boot_spec::{Accelerator, BootSpec};
use crate::host::KVM_DEVICE;
use crate::jail::{JailSpec, Limits, Network, Share, ShareAccess, system_libraries};
use crate::machine::RunDir;
use std::os::fd::AsRawFd;
use std::path::Path;

/// QEMU's own memory, whatever the guest does: program, device models, I/O in flight.
const OVERHEAD_MIB: u64 = 192;
/// Per virtual CPU: its stacks and caches.
const VCPU_OVERHEAD_MIB: u64 = 8;
/// Translated code and what describes it: `tb-size` of the argument list, and half of that again.
const TCG_OVERHEAD_MIB: u64 = 384;
/// CPU time beside the virtual CPUs', in percent of one: I/O, and the main loop while a guest boots.
const OVERHEAD_CPU_PERCENT: u32 = 100;
/// Threads beside the virtual CPUs': 64 of the I/O pool, the main loop and its helpers.
const OVERHEAD_TASKS: u32 = 96;

/// Where QEMU's distributors put its firmware.
const FIRMWARE_DIRS: [&str; 8] = [
    "/usr/share/qemu",
    "/usr/local/share/qemu",
    "/usr/share/seabios",
    "/usr/share/ipxe",
    "/usr/share/qemu-efi-aarch64",
    "/usr/share/AAVMF",
    "/usr/share/edk2",
    "/usr/share/OVMF",
];

/// The jail of this machine: drives, boot files, network and channels are descriptors, so it needs none of their paths.
pub(super) fn jail(
    spec: &BootSpec,
    dir: &RunDir,
    program: &Path,
    accelerator: Accelerator,
    arguments: Vec<String>,
    opened: &Opened,
) -> JailSpec {
    let mut shares = system_libraries();
    shares.extend(FIRMWARE_DIRS.iter().map(|dir| Share::same(*dir, ShareAccess::Read)));
    if accelerator == Accelerator::Kvm {
        shares.push(Share::same(KVM_DEVICE, ShareAccess::Device));
    }
    JailSpec {
        id: spec.id.clone(),
        program: program.to_owned(),
        arguments,
        inherited: opened.inherited.iter().map(AsRawFd::as_raw_fd).collect(),
        reopened: vec![opened.numbers.kernel, opened.numbers.initramfs],
        stdio: None,
        isolation: spec.isolation,
        run_dir: dir.0.clone(),
        shares,
        network: Network::Own,
        limits: limits(spec, accelerator),
    }
}

fn limits(spec: &BootSpec, accelerator: Accelerator) -> Limits {
    let vcpu_count = u32::from(spec.vcpu_count);
    let mut mib = u64::from(spec.mem_size_mib) + OVERHEAD_MIB + VCPU_OVERHEAD_MIB * u64::from(vcpu_count);
    if accelerator == Accelerator::Tcg {
        mib += TCG_OVERHEAD_MIB;
    }
    Limits {
        memory_bytes: Some(mib << 20),
        cpu_percent: Some(vcpu_count * 100 + OVERHEAD_CPU_PERCENT),
        max_tasks: Some(vcpu_count + OVERHEAD_TASKS),
    }
}
