//! The jail of a Firecracker process: what it sees of the host and what it may take.

use super::open::Opened;
use crate::boot_spec::{BootSpec, NicBackend};
use crate::host::KVM_DEVICE;
use crate::jail::{JailSpec, Limits, Network, Share, ShareAccess, system_libraries};
use crate::machine::{RunDir, VmmError};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// Firecracker's own memory, whatever the guest does.
const OVERHEAD_MIB: u64 = 64;
/// Per virtual CPU: its stack and what KVM keeps for it.
const VCPU_OVERHEAD_MIB: u64 = 8;
/// CPU time beside the virtual CPUs', in percent of one: I/O.
const OVERHEAD_CPU_PERCENT: u32 = 100;
/// Threads beside the virtual CPUs': the main loop and the API's.
const OVERHEAD_TASKS: u32 = 32;

/// The jail of this machine.
pub(super) fn jail(
    spec: &BootSpec,
    dir: &RunDir,
    program: &Path,
    opened: &Opened,
    config: &OwnedFd,
    console: RawFd,
) -> Result<JailSpec, VmmError> {
    let mut shares = system_libraries();
    shares.push(Share::same(KVM_DEVICE, ShareAccess::Device));
    shares.push(Share::same("/dev/urandom", ShareAccess::Device));
    if !spec.nics.is_empty() {
        shares.push(Share::same("/dev/net/tun", ShareAccess::Device));
    }
    shares.push(Share::same(opened.directory.clone(), ShareAccess::Write));
    shares.extend(opened.drives.iter().map(|drive| {
        let access = if drive.is_read_only { ShareAccess::Read } else { ShareAccess::Write };
        Share::same(drive.path.clone(), access)
    }));
    let mut inherited: Vec<RawFd> = opened.boot_files.iter().map(AsRawFd::as_raw_fd).collect();
    inherited.extend(opened.cpu_template.as_ref().map(AsRawFd::as_raw_fd));
    inherited.push(config.as_raw_fd());
    Ok(JailSpec {
        id: spec.id.clone(),
        program: program.to_owned(),
        arguments: arguments(spec, opened, config),
        reopened: inherited.clone(),
        inherited,
        stdio: Some(console),
        isolation: spec.isolation,
        run_dir: dir.0.clone(),
        shares,
        network: network(spec)?,
        limits: limits(spec),
    })
}

fn arguments(spec: &BootSpec, opened: &Opened, config: &OwnedFd) -> Vec<String> {
    let option = |name: &str, value: String| [name.to_owned(), value];
    [
        option("--id", spec.id.clone()),
        option("--api-sock", opened.api_socket().display().to_string()),
        option("--config-file", format!("/proc/self/fd/{}", config.as_raw_fd())),
        option("--log-path", opened.log.path().display().to_string()),
        option("--level", "Warning".to_owned()),
        option("--metrics-path", opened.metrics.path().display().to_string()),
    ]
    .concat()
}

/// The namespace of the machine's taps: one for all, because there is one process.
fn network(spec: &BootSpec) -> Result<Network, VmmError> {
    let mut namespaces: Vec<Option<&PathBuf>> = Vec::new();
    for nic in &spec.nics {
        match &nic.backend {
            NicBackend::Tap { netns, .. } if namespaces.contains(&netns.as_ref()) => {}
            NicBackend::Tap { netns, .. } => namespaces.push(netns.as_ref()),
            NicBackend::TapQueue(_) | NicBackend::Stream(_) => {
                return Err(VmmError::Unsupported {
                    what: "Firecracker has no network interface over a stream or an open queue".to_owned(),
                    hint: "use a CNI network (--network cni), or QEMU (--vmm qemu)".to_owned(),
                });
            }
        }
    }
    match namespaces[..] {
        [] => Ok(Network::Own),
        [None] => Ok(Network::Callers),
        [Some(path)] => Ok(Network::Machines(path.clone())),
        _ => Err(VmmError::Unsupported {
            what: "Firecracker's network interfaces must be in one network namespace".to_owned(),
            hint: "use QEMU (--vmm qemu)".to_owned(),
        }),
    }
}

fn limits(spec: &BootSpec) -> Limits {
    let vcpu_count = u32::from(spec.vcpu_count);
    let mib = u64::from(spec.mem_size_mib) + OVERHEAD_MIB + VCPU_OVERHEAD_MIB * u64::from(vcpu_count);
    Limits {
        memory_bytes: Some(mib << 20),
        cpu_percent: Some(vcpu_count * 100 + OVERHEAD_CPU_PERCENT),
        max_tasks: Some(vcpu_count + OVERHEAD_TASKS),
    }
}
