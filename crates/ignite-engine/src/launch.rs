//! From a stored VM to what its supervisor is told: pure but for reading the VM's own records.

use crate::create::{BASE_LINK, IMAGE_RECORD};
use crate::engine::{Engine, title};
use crate::error::EngineError;
use crate::guest_files::read_copy_files;
use crate::pmem;
use crate::ssh_keys;
use crate::volumes;
use ignite_agent_protocol::message::{Configure, Disk, Dns, Process, Role as GuestRole, Root, WindowSize};
use ignite_api::health::HealthPlan;
use ignite_api::network::{DnsConfig, dhcp_interfaces};
use ignite_api::run_spec::{ProcessSpec, Role, decide_role};
use ignite_api::vm::{HugePages, RootDisk};
use ignite_api::{Image, Uid, Vm};
use ignite_disk::KernelFeatures;
use ignite_store::StoreError;
use ignite_supervisor::Launch;
use ignite_supervisor::launch::{LaunchBoot, LaunchDrive, LaunchNetwork};
use ignite_vmm::{Capabilities, DriveLocator};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Directories whose software stacks its own overlay there, which overlayfs cannot carry.
const DIRECT_DIRS: [&str; 5] =
    ["/var/lib/docker", "/var/lib/containerd", "/var/lib/rancher", "/var/lib/kubelet", "/var/lib/containers"];
/// What `spec.kernel.cmdLine` replaces: no kernel log on the console, where every byte costs an exit of the VM; a panic is
/// still shown.
const OPTIONAL_KERNEL_ARGUMENTS: &str = "quiet loglevel=3";
/// Seconds a stop waits unless told otherwise, as in Docker.
const DEFAULT_STOP_TIMEOUT_SECONDS: u32 = 10;
/// Time a guest has to come up; software emulation on a busy host needs most of it.
const BOOT_TIMEOUT_MS: u64 = 180_000;

/// What was decided on the host for this start.
pub(crate) struct Decided {
    pub(crate) driver: String,
    pub(crate) kernel_features: KernelFeatures,
    pub(crate) capabilities: Capabilities,
    pub(crate) network: String,
    pub(crate) is_limited_by_vmm: bool,
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    pub(crate) modules: Option<PathBuf>,
    pub(crate) is_foreground: bool,
    pub(crate) size: Option<WindowSize>,
}

impl Engine {
    /// The Image object as it was when the VM was made.
    pub(crate) fn image_of(&self, uid: &Uid) -> Result<Image, EngineError> {
        let path = self.paths.vm(uid).join(IMAGE_RECORD);
        let bytes = std::fs::read(&path).map_err(EngineError::file("read", &path))?;
        Ok(serde_json::from_slice(&bytes).map_err(|source| StoreError::Damaged { path, source })?)
    }

    /// The launch of a VM.
    pub(crate) fn launch_of(&self, vm: &Vm, uid: &Uid, decided: Decided) -> Result<Launch, EngineError> {
        let image = self.image_of(uid)?;
        let role = decide_role(&vm.spec, &image.status.config, image.status.has_init)
            .map_err(|source| EngineError::NothingToRun { image: image.metadata.name.clone(), source })?;
        let locator = &decided.capabilities.drive_locator;
        let drives = self.drives(vm, uid, &decided)?;
        let process = self.with_secret_env(vm)?.process_for(&image.status.config);
        let dir = self.paths.vm(uid);
        let mut files = read_copy_files(&vm.spec.copy_files)?;
        files.extend(self.given_files(vm)?);
        files.extend(ssh_keys::host_key_files(&dir)?);
        Ok(Launch {
            uid: uid.clone(),
            name: title(vm),
            data_dir: self.paths.data().to_owned(),
            run_dir: self.paths.run().to_owned(),
            driver: decided.driver,
            program: decided.capabilities.program.clone(),
            configure: Configure {
                hostname: hostname(vm),
                root: root_of(vm.spec.root_disk, &drives, locator),
                modules: locate("modules", &drives, locator),
                volumes: volumes::mounts(&vm.spec.storage, |id| locate(id, &drives, locator)),
                interfaces: Vec::new(),
                dns: vm.spec.dns_config.as_ref().map(dns),
                hosts: Vec::new(),
                peers: Vec::new(),
                files,
                ssh_authorized_keys: ssh_keys::authorized_keys(vm.spec.ssh.as_ref(), uid, &dir)?,
                unix_ns: 0,
                entropy: String::new(),
                role: guest_role(vm, role, process, &image, decided.size),
            },
            boot: LaunchBoot {
                kernel: decided.kernel,
                initramfs: decided.initramfs,
                cmdline: vm.spec.kernel.cmd_line.clone().unwrap_or_else(|| OPTIONAL_KERNEL_ARGUMENTS.to_owned()),
                vcpu_count: u8::try_from(vm.spec.cpus).unwrap_or(u8::MAX),
                mem_size_mib: u32::try_from(vm.spec.memory.as_mib()).unwrap_or(u32::MAX),
                has_huge_pages: vm.spec.huge_pages == HugePages::TwoMib,
                cpu_template: vm.spec.cpu_template.clone(),
                drives,
                isolation: vm.spec.isolation,
            },
            network: LaunchNetwork {
                mode: decided.network,
                spec: vm.spec.network.clone(),
                is_limited_by_vmm: decided.is_limited_by_vmm,
                names: network_names(vm),
                dhcp: dhcp_interfaces(&vm.metadata.annotations),
                host_aliases: vm.spec.host_aliases.clone(),
                docker_socket: self.settings.pull.docker_socket.clone(),
            },
            is_foreground: decided.is_foreground,
            auto_remove: vm.spec.auto_remove,
            restart_policy: vm.spec.restart_policy,
            health: HealthPlan::of(vm.spec.health_check.as_ref(), image.status.config.healthcheck.as_ref()),
            stop_timeout_ms: u64::from(vm.spec.stop_timeout_seconds.unwrap_or(DEFAULT_STOP_TIMEOUT_SECONDS)) * 1000,
            boot_timeout_ms: BOOT_TIMEOUT_MS,
        })
    }

    fn drives(&self, vm: &Vm, uid: &Uid, decided: &Decided) -> Result<Vec<LaunchDrive>, EngineError> {
        let limits = vm.spec.storage.limits;
        let drive = |id: &str, path, is_read_only| LaunchDrive {
            id: id.to_owned(),
            path,
            is_read_only,
            is_pmem: false,
            is_volume: false,
            limits,
        };
        let mut drives = Vec::new();
        if vm.spec.root_disk == RootDisk::Overlay {
            let link = self.paths.vm(uid).join(BASE_LINK);
            let base = std::fs::canonicalize(&link).map_err(EngineError::file("find the base disk", &link))?;
            let len = std::fs::metadata(&base).map_err(EngineError::file("find the base disk", &base))?.len();
            let is_pmem = pmem::is_for(vm, &decided.capabilities, &decided.kernel_features, len);
            drives.push(LaunchDrive { is_pmem, ..drive("base", base, true) });
        }
        drives.push(drive("disk", self.paths.vm_disk(uid), false));
        if let Some(path) = &decided.modules {
            drives.push(drive("modules", path.clone(), true));
        }
        drives.extend(volumes::drives(&vm.spec.storage)?);
        Ok(drives)
    }
}

fn hostname(vm: &Vm) -> String {
    vm.spec.hostname.clone().unwrap_or_else(|| ignite_api::names::hostname_of(&title(vm)))
}

/// Names by which VMs of the same network find this one: its own, its host name, and its aliases, each once.
pub(crate) fn network_names(vm: &Vm) -> Vec<String> {
    let mut names = vec![title(vm)];
    for name in std::iter::once(hostname(vm)).chain(vm.spec.network.aliases.iter().cloned()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn dns(wanted: &DnsConfig) -> Dns {
    Dns {
        servers: wanted.nameservers.clone(),
        search: wanted.searches.clone(),
        options: wanted.options.iter().map(ToString::to_string).collect(),
    }
}

fn locate(id: &str, drives: &[LaunchDrive], locator: &DriveLocator) -> Option<Disk> {
    let wanted = drives.iter().find(|drive| drive.id == id)?;
    // Disks and persistent memories are numbered apart.
    let alike = drives.iter().filter(|drive| drive.is_pmem == wanted.is_pmem);
    let index = u32::try_from(alike.take_while(|drive| drive.id != id).count()).ok()?;
    Some(match (locator, wanted.is_pmem) {
        (_, true) => Disk::Pmem(index),
        (DriveLocator::Serial, false) => Disk::Serial(id.to_owned()),
        (DriveLocator::Index, false) => Disk::Index(index),
    })
}

fn root_of(kind: RootDisk, drives: &[LaunchDrive], locator: &DriveLocator) -> Root {
    let disk = || locate("disk", drives, locator).unwrap_or(Disk::Index(0));
    match (kind, locate("base", drives, locator)) {
        (RootDisk::Overlay, Some(base)) => Root::Overlay {
            base,
            writable: disk(),
            direct_dirs: DIRECT_DIRS.iter().map(|dir| (*dir).to_owned()).collect(),
        },
        (RootDisk::Overlay, None) | (RootDisk::Private, _) => Root::Private { disk: disk() },
    }
}

fn guest_role(vm: &Vm, role: Role, process: ProcessSpec, image: &Image, size: Option<WindowSize>) -> GuestRole {
    match role {
        Role::Task { args } => GuestRole::Task(Process {
            args,
            env: env_map(&process),
            user: process.user,
            working_dir: process.working_dir,
            tty: vm.spec.tty,
            stdin: vm.spec.stdin,
            size,
            stop_signal: stop_signal(&image.status.config.stop_signal),
        }),
        Role::Machine { init } => GuestRole::Machine { args: init, env: env_map(&process) },
    }
}

/// The environment as the agent takes it.
pub(crate) fn env_map(process: &ProcessSpec) -> BTreeMap<String, String> {
    process.env.iter().map(|var| (var.name.clone(), var.value.clone())).collect()
}

/// The number of a `STOPSIGNAL` (`SIGQUIT`, `QUIT` or `3`); `None` where it is absent or unknown.
fn stop_signal(text: &str) -> Option<u8> {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.trim_start_matches("SIG");
    let known = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("TERM", 15),
        ("WINCH", 28),
        ("PWR", 30),
    ];
    if let Some((_, number)) = known.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let realtime = name.strip_prefix("RTMIN+").and_then(|offset| offset.parse::<u8>().ok());
    realtime.filter(|offset| *offset <= 30).map(|offset| 34 + offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ignite_api::vm::DiskLimits;

    #[test]
    fn stop_signals_are_names_or_numbers() {
        for (text, expected) in [
            ("", None),
            ("SIGTERM", Some(15)),
            ("QUIT", Some(3)),
            ("28", Some(28)),
            ("0", None),
            ("65", None),
            ("SIGRTMIN+3", Some(37)),
            ("SIGRTMIN+99", None),
            ("nonsense", None),
        ] {
            assert_eq!(stop_signal(text), expected, "{text:?}");
        }
    }

    #[test]
    fn drives_are_found_as_the_vmm_shows_them() {
        let drive = |id: &str| LaunchDrive {
            id: id.to_owned(),
            path: PathBuf::new(),
            is_read_only: true,
            is_pmem: false,
            is_volume: false,
            limits: DiskLimits::default(),
        };
        let drives = [drive("base"), drive("disk"), drive("modules")];
        assert_eq!(locate("disk", &drives, &DriveLocator::Serial), Some(Disk::Serial("disk".into())));
        assert_eq!(locate("disk", &drives, &DriveLocator::Index), Some(Disk::Index(1)));
        assert_eq!(locate("other", &drives, &DriveLocator::Index), None);
        assert!(matches!(
            root_of(RootDisk::Overlay, &drives, &DriveLocator::Index),
            Root::Overlay { base: Disk::Index(0), .. }
        ));
        let with_pmem = [LaunchDrive { is_pmem: true, ..drive("base") }, drive("disk"), drive("modules")];
        let found = ["base", "disk", "modules"].map(|id| locate(id, &with_pmem, &DriveLocator::Index));
        assert_eq!(found, [Some(Disk::Pmem(0)), Some(Disk::Index(0)), Some(Disk::Index(1))]);
        assert!(matches!(
            root_of(RootDisk::Private, &drives[1..], &DriveLocator::Index),
            Root::Private { disk: Disk::Index(0) }
        ));
    }
}
