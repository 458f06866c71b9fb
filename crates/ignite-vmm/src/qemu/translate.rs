//! A [`BootSpec`] as QEMU's arguments: pure, no path and no secret in them.

use super::arch::Arch;
use crate::boot_spec::{AGENT_PORT_NAME, Accelerator, BootSpec, Drive, IsolationWanted, NicBackend};
use std::os::fd::RawFd;

/// What the driver found out or decided about the host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostFacts {
    pub(crate) accelerator: Accelerator,
    /// Rate of the time stamp counter, where it is known.
    pub(crate) tsc_khz: Option<u32>,
}

/// Numbers under which QEMU inherits its descriptors.
#[derive(Debug, Clone, Default)]
pub(crate) struct Descriptors {
    pub(crate) kernel: RawFd,
    pub(crate) initramfs: RawFd,
    pub(crate) qmp: RawFd,
    pub(crate) agent: RawFd,
    pub(crate) console: RawFd,
    /// In the order of [`BootSpec::drives`].
    pub(crate) drives: Vec<DriveDescriptor>,
    /// In the order of [`BootSpec::nics`].
    pub(crate) nics: Vec<RawFd>,
}

/// An open drive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DriveDescriptor {
    pub(crate) fd: RawFd,
    pub(crate) is_block_device: bool,
}

/// A buffer for translated code of at most 256 MiB: QEMU's own default may take 1 GiB of the host per machine.
const TCG: &str = "tcg,thread=multi,tb-size=256";

/// Virtio devices every machine has: serial, rng, balloon.
pub(crate) const FIXED_VIRTIO_DEVICES: usize = 3;

/// QEMU's arguments. The machine starts stopped: `cont` comes over QMP, so that no event can be missed.
pub(crate) fn translate(spec: &BootSpec, arch: &Arch, host: HostFacts, fds: &Descriptors) -> Vec<String> {
    let mut argv = Argv::default();
    argv.flag("-nodefaults").flag("-no-user-config").flag("-no-reboot").flag("-S");
    argv.option("-name", &spec.id).option("-display", "none");
    add_machine(&mut argv, spec, arch);
    // Virtio 1 as every current guest speaks it; QEMU's default for mmio still is the draft before it.
    argv.option("-global", "virtio-mmio.force-legacy=false");
    add_processor(&mut argv, spec, arch, host);
    if spec.isolation != IsolationWanted::None {
        argv.option("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    }
    if let Some(firmware) = arch.firmware {
        argv.option("-bios", firmware);
    }
    argv.option("-kernel", format!("/proc/self/fd/{}", fds.kernel));
    argv.option("-initrd", format!("/proc/self/fd/{}", fds.initramfs));
    argv.option("-append", kernel_arguments(spec, arch, host));
    argv.option("-chardev", format!("socket,id=qmp,fd={}", fds.qmp));
    argv.option("-mon", "chardev=qmp,mode=control");
    argv.option("-chardev", format!("socket,id=console,fd={}", fds.console));
    argv.option("-serial", "chardev:console");
    add_agent(&mut argv, fds);
    add_drives(&mut argv, spec, fds);
    add_nics(&mut argv, spec, fds);
    argv.option("-device", "virtio-rng-device");
    if !spec.has_huge_pages {
        argv.option("-device", "virtio-balloon-device,free-page-reporting=on,deflate-on-oom=on");
    }
    if arch.has_isa_pvpanic {
        argv.option("-device", "pvpanic");
    }
    argv.0
}

/// The kernel's command line: the caller's optional arguments first, so that what boot needs has the last word.
pub(crate) fn kernel_arguments(spec: &BootSpec, arch: &Arch, host: HostFacts) -> String {
    let mut words: Vec<String> = spec.cmdline.split_ascii_whitespace().map(str::to_owned).collect();
    words.extend(arch.kernel_arguments.iter().map(|word| (*word).to_owned()));
    if host.accelerator == Accelerator::Tcg {
        words.extend(arch.tcg_kernel_arguments.iter().map(|word| (*word).to_owned()));
        // Without its rate the guest calibrates the counter against an emulated timer, and hangs or runs with a wrong
        // clock when the host is busy. Under TCG the guest's counter is the host's.
        if let (true, Some(khz)) = (arch.has_tsc, host.tsc_khz) {
            words.push(format!("tsc_early_khz={khz}"));
            words.push("tsc=reliable".to_owned());
        }
    }
    words.join(" ")
}

#[derive(Default)]
struct Argv(Vec<String>);

impl Argv {
    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.to_owned());
        self
    }

    fn option(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.0.push(name.to_owned());
        self.0.push(value.into());
        self
    }
}

fn add_processor(argv: &mut Argv, spec: &BootSpec, arch: &Arch, host: HostFacts) {
    let (accelerator, cpu) = match host.accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        Accelerator::Tcg => (TCG, arch.tcg_cpu),
    };
    argv.option("-accel", accelerator).option("-cpu", cpu);
    argv.option("-smp", spec.vcpu_count.to_string());
    argv.option("-m", format!("{}M", spec.mem_size_mib));
}

/// Huge pages are all taken at once (`prealloc`): a guest that met the end of the pool would be killed.
fn add_machine(argv: &mut Argv, spec: &BootSpec, arch: &Arch) {
    if !spec.has_huge_pages {
        argv.option("-machine", arch.machine);
        return;
    }
    let size = spec.mem_size_mib;
    argv.option("-object", format!("memory-backend-memfd,id=ram,size={size}M,hugetlb=on,hugetlbsize=2M,prealloc=on"));
    argv.option("-machine", format!("{},memory-backend=ram", arch.machine));
}

fn add_agent(argv: &mut Argv, fds: &Descriptors) {
    argv.option("-device", "virtio-serial-device");
    argv.option("-chardev", format!("socket,id=agent,fd={}", fds.agent));
    argv.option("-device", format!("virtserialport,chardev=agent,name={AGENT_PORT_NAME}"));
}

fn add_drives(argv: &mut Argv, spec: &BootSpec, fds: &Descriptors) {
    for (index, (drive, opened)) in spec.drives.iter().zip(&fds.drives).enumerate() {
        argv.option("-add-fd", format!("fd={},set={index}", opened.fd));
        let driver = if opened.is_block_device { "host_device" } else { "file" };
        let access = if drive.is_read_only {
            "read-only=on,auto-read-only=off"
        } else {
            "read-only=off,discard=unmap,detect-zeroes=unmap"
        };
        // The lock is on the open file itself: a second machine is refused a writable disk, read-only ones are shared.
        argv.option(
            "-blockdev",
            format!(
                "driver=raw,node-name=drive{index},{access},file.driver={driver},file.filename=/dev/fdset/{index},\
                 file.locking=on{}",
                if drive.is_read_only { ",file.read-only=on,file.auto-read-only=off" } else { ",file.discard=unmap" }
            ),
        );
        let node = limited(argv, index, drive).unwrap_or_else(|| format!("drive{index}"));
        argv.option("-device", format!("virtio-blk-device,drive={node},serial={}", drive.id));
    }
}

/// The node above a drive's that keeps the guest to its limits, where it has some.
fn limited(argv: &mut Argv, index: usize, drive: &Drive) -> Option<String> {
    let limits = [("iops", drive.limits.operations), ("bps", drive.limits.bytes)];
    let limits: String =
        limits.iter().filter_map(|(name, rate)| rate.map(|rate| format!(",x-{name}-total={rate}"))).collect();
    if limits.is_empty() {
        return None;
    }
    argv.option("-object", format!("throttle-group,id=limit{index}{limits}"));
    let access = if drive.is_read_only { "read-only=on,auto-read-only=off" } else { "read-only=off,discard=unmap" };
    let node = format!("limited{index}");
    argv.option(
        "-blockdev",
        format!("driver=throttle,node-name={node},throttle-group=limit{index},{access},file=drive{index}"),
    );
    Some(node)
}

fn add_nics(argv: &mut Argv, spec: &BootSpec, fds: &Descriptors) {
    for (index, (nic, fd)) in spec.nics.iter().zip(&fds.nics).enumerate() {
        let backend = match nic.backend {
            NicBackend::Tap { .. } | NicBackend::TapQueue(_) => format!("tap,id=nic{index},fd={fd}"),
            NicBackend::Stream(_) => format!("stream,id=nic{index},server=off,addr.type=fd,addr.str={fd}"),
        };
        argv.option("-netdev", backend);
        let mtu = nic.mtu.map(|mtu| format!(",host_mtu={mtu}")).unwrap_or_default();
        argv.option("-device", format!("virtio-net-device,netdev=nic{index},mac={}{mtu}", nic.mac));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot_spec::{DriveLimits, Nic, TrafficLimits};
    use crate::qemu::arch;
    use std::fs::File;
    use std::sync::Arc;

    fn drive(id: &str, path: &str, is_read_only: bool) -> Drive {
        Drive { id: id.into(), path: path.into(), is_read_only, is_pmem: false, limits: DriveLimits::default() }
    }

    fn spec() -> BootSpec {
        BootSpec {
            id: "3f9c2b7de1a04856".into(),
            kernel: "/kernels/vmlinux".into(),
            initramfs: "/kernels/initramfs".into(),
            cmdline: "quiet loglevel=3".into(),
            vcpu_count: 2,
            mem_size_mib: 512,
            has_huge_pages: false,
            cpu_template: None,
            drives: vec![drive("base", "/images/base.ext4", true), drive("writable", "/dev/vg/writable", false)],
            nics: vec![
                Nic {
                    mac: "02:00:00:00:00:01".into(),
                    mtu: Some(65_520),
                    backend: NicBackend::Stream(Arc::new(File::open("/dev/null").unwrap().into())),
                    limits: TrafficLimits::default(),
                },
                Nic {
                    mac: "02:00:00:00:00:02".into(),
                    mtu: None,
                    backend: NicBackend::Tap { name: "vm_eth0".into(), netns: None },
                    limits: TrafficLimits::default(),
                },
            ],
            isolation: IsolationWanted::BestEffort,
            accelerator: None,
        }
    }

    fn descriptors() -> Descriptors {
        Descriptors {
            kernel: 10,
            initramfs: 11,
            qmp: 12,
            agent: 13,
            console: 14,
            drives: vec![
                DriveDescriptor { fd: 15, is_block_device: false },
                DriveDescriptor { fd: 16, is_block_device: true },
            ],
            nics: vec![17, 18],
        }
    }

    /// One option and its value on a line.
    fn shown(spec: &BootSpec, arch: &Arch, host: HostFacts) -> String {
        let argv = translate(spec, arch, host, &descriptors());
        argv.join(" ").replace(" -", "\n-")
    }

    #[test]
    fn x86_64_in_software() {
        let host = HostFacts { accelerator: Accelerator::Tcg, tsc_khz: Some(2_596_124) };
        insta::assert_snapshot!(shown(&spec(), &arch::X86_64, host));
    }

    #[test]
    fn x86_64_on_kvm() {
        let host = HostFacts { accelerator: Accelerator::Kvm, tsc_khz: None };
        insta::assert_snapshot!(shown(&spec(), &arch::X86_64, host));
    }

    #[test]
    fn aarch64_in_software() {
        let host = HostFacts { accelerator: Accelerator::Tcg, tsc_khz: None };
        insta::assert_snapshot!(shown(&spec(), &arch::AARCH64, host));
    }

    #[test]
    fn limits_are_kept_by_a_node_above_the_drives() {
        let host = HostFacts { accelerator: Accelerator::Kvm, tsc_khz: None };
        let mut spec = spec();
        spec.drives[0].limits = DriveLimits { operations: Some(100), bytes: Some(5_000_000) };
        spec.drives[1].limits = DriveLimits { operations: Some(1), bytes: None };
        let shown = shown(&spec, &arch::X86_64, host);
        let lines: Vec<&str> =
            shown.lines().filter(|line| line.contains("limit") || line.contains("virtio-blk-device")).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn no_path_is_ever_an_argument() {
        let host = HostFacts { accelerator: Accelerator::Tcg, tsc_khz: Some(1_000_000) };
        let argv = translate(&spec(), &arch::X86_64, host, &descriptors()).join(" ");
        for path in ["/kernels", "/images", "/dev/vg", "vm_eth0"] {
            assert!(!argv.contains(path), "{path} in {argv}");
        }
    }

    #[test]
    fn huge_pages_are_a_backend_of_their_own_without_a_balloon() {
        let host = HostFacts { accelerator: Accelerator::Kvm, tsc_khz: None };
        let shown = shown(&BootSpec { has_huge_pages: true, ..spec() }, &arch::X86_64, host);
        let lines: Vec<&str> = shown.lines().filter(|line| line.contains("ram") || line.starts_with("-m ")).collect();
        insta::assert_snapshot!(lines.join("\n"));
        assert!(!shown.contains("balloon"), "{shown}");
    }

    #[test]
    fn isolation_that_is_switched_off_leaves_the_sandbox_out() {
        let host = HostFacts { accelerator: Accelerator::Kvm, tsc_khz: None };
        let spec = BootSpec { isolation: IsolationWanted::None, ..spec() };
        assert!(!translate(&spec, &arch::X86_64, host, &descriptors()).contains(&"-sandbox".to_owned()));
    }

    #[test]
    fn the_users_kernel_arguments_cannot_take_back_what_boot_needs() {
        let host = HostFacts { accelerator: Accelerator::Tcg, tsc_khz: None };
        let spec = BootSpec { cmdline: " console=tty0   panic=0 ".into(), ..spec() };
        let line = kernel_arguments(&spec, &arch::X86_64, host);
        assert!(line.starts_with("console=tty0 panic=0 console=ttyS0 reboot=t panic=-1 "), "{line}");
        assert!(!line.contains("tsc"), "an unknown rate is not told");
    }
}
