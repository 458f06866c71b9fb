//! What is to be booted: plain data, decided before the host is touched.

use crate::huge_pages;
use crate::machine::VmmError;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// Name of the virtio-serial port that carries the agent's stream where the VMM has one: what the guest looks for in
/// `/sys/class/virtio-ports/*/name`. The same as `ignite_agent_protocol::SERIAL_PORT_NAME`.
pub const AGENT_PORT_NAME: &str = "org.ignite.agent.0";

/// A machine to boot.
#[derive(Debug, Clone)]
pub struct BootSpec {
    /// Identity for names and logs; at most 64 of `[a-z0-9-]`.
    pub id: String,
    /// Uncompressed kernel: ELF `vmlinux` on x86-64, `Image` on aarch64.
    pub kernel: PathBuf,
    /// The shared, read-only initramfs.
    pub initramfs: PathBuf,
    /// Optional kernel arguments; the driver adds what booting under it needs (console, reboot, clock).
    pub cmdline: String,
    /// Virtual CPUs, 1 to 32.
    pub vcpu_count: u8,
    /// Guest memory in MiB.
    pub mem_size_mib: u32,
    /// Its memory is of the host's huge pages of 2 MiB: it is all taken, and none of it given back before the end.
    pub has_huge_pages: bool,
    /// What of the host's processor the guest is shown; absent: as much as the VMM shows.
    pub cpu_template: Option<CpuTemplate>,
    /// Drives in the guest's order.
    pub drives: Vec<Drive>,
    /// Network interfaces in the guest's order.
    pub nics: Vec<Nic>,
    /// How the VMM is isolated.
    pub isolation: IsolationWanted,
    /// Force an accelerator; absent: what the host can really do.
    pub accelerator: Option<Accelerator>,
}

/// Most characters of a kernel command line (x86's `COMMAND_LINE_SIZE` is 2048; the driver's own arguments need room).
const MAX_CMDLINE: usize = 1536;
/// Most virtual CPUs of a machine.
pub const MAX_VCPU_COUNT: u8 = 32;

impl BootSpec {
    /// A machine of one CPU and 128 MiB, without drives and interfaces, isolated as well as the host can.
    pub fn new(id: impl Into<String>, kernel: impl Into<PathBuf>, initramfs: impl Into<PathBuf>) -> BootSpec {
        BootSpec {
            id: id.into(),
            kernel: kernel.into(),
            initramfs: initramfs.into(),
            cmdline: String::new(),
            vcpu_count: 1,
            mem_size_mib: 128,
            has_huge_pages: false,
            cpu_template: None,
            drives: Vec::new(),
            nics: Vec::new(),
            isolation: IsolationWanted::BestEffort,
            accelerator: None,
        }
    }

    /// Checks the rules its fields state. What passes cannot change the meaning of a VMM's option or configuration.
    pub fn validate(&self) -> Result<(), VmmError> {
        let invalid = |field: String, reason: &str| Err(VmmError::InvalidSpec { field, reason: reason.to_owned() });
        if !is_plain_name(&self.id, 64) {
            return invalid("id".into(), "must be 1 to 64 of a-z, 0-9 and -");
        }
        if self.vcpu_count == 0 || self.vcpu_count > MAX_VCPU_COUNT {
            return invalid("vcpu_count".into(), "must be 1 to 32");
        }
        if self.mem_size_mib == 0 {
            return invalid("mem_size_mib".into(), "must not be 0");
        }
        if self.has_huge_pages && !self.mem_size_mib.is_multiple_of(huge_pages::PAGE_MIB) {
            return invalid("mem_size_mib".into(), "must be even with huge pages of 2 MiB");
        }
        if let Some(CpuTemplate::Named(name)) = &self.cpu_template
            && !(1..=16).contains(&name.len())
        {
            return invalid("cpu_template".into(), "must be a name of 1 to 16 characters");
        }
        if self.cmdline.len() > MAX_CMDLINE || self.cmdline.contains(|c: char| c.is_control()) {
            return invalid("cmdline".into(), "must be at most 1536 bytes without control characters");
        }
        for (index, drive) in self.drives.iter().enumerate() {
            if !is_plain_name(&drive.id, 20) {
                return invalid(format!("drives[{index}].id"), "must be 1 to 20 of a-z, 0-9 and -");
            }
            if self.drives[..index].iter().any(|other| other.id == drive.id) {
                return invalid(format!("drives[{index}].id"), "must be unique");
            }
            if drive.is_pmem && (!drive.is_read_only || drive.limits != DriveLimits::default()) {
                return invalid(format!("drives[{index}].is_pmem"), "must be read-only and without limits");
            }
            if [drive.limits.operations, drive.limits.bytes].contains(&Some(0)) {
                return invalid(format!("drives[{index}].limits"), "must be at least 1 per second");
            }
        }
        for (index, nic) in self.nics.iter().enumerate() {
            if !is_mac_address(&nic.mac) {
                return invalid(format!("nics[{index}].mac"), "must be a unicast address like 52:54:00:12:34:56");
            }
            if nic.mtu.is_some_and(|mtu| !(68..=65_535).contains(&mtu)) {
                return invalid(format!("nics[{index}].mtu"), "must be 68 to 65535");
            }
            for limit in [nic.limits.receive, nic.limits.send].into_iter().flatten() {
                if limit.rate == 0 || limit.burst == 0 {
                    return invalid(format!("nics[{index}].limits"), "must be at least 1 byte (per second)");
                }
            }
        }
        Ok(())
    }
}

fn is_plain_name(name: &str, longest: usize) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= longest && name.bytes().all(is_plain)
}

fn is_mac_address(text: &str) -> bool {
    let octets: Vec<Option<u8>> = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).ok().filter(|_| octet.len() == 2 && !octet.starts_with('+')))
        .collect();
    octets.len() == 6 && octets.iter().all(Option::is_some) && octets[0].is_some_and(|first| first & 1 == 0)
}

/// What a guest sees of the processor, in Firecracker's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CpuTemplate {
    /// One of the VMM's own.
    Named(String),
    /// A file with a template in JSON.
    File(PathBuf),
}

impl CpuTemplate {
    /// A name, or an absolute path.
    pub fn parse(text: &str) -> CpuTemplate {
        if text.starts_with('/') { CpuTemplate::File(text.into()) } else { CpuTemplate::Named(text.to_owned()) }
    }
}

/// A raw disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// Name, at most 20 of `[a-z0-9-]`: the virtio serial where the VMM can set one.
    pub id: String,
    /// Raw image or block device. The driver opens it with the caller's rights and hands over a descriptor.
    pub path: PathBuf,
    /// The guest cannot write to it.
    pub is_read_only: bool,
    /// The guest has it as persistent memory, from which it reads the host's own pages: read-only and without limits.
    pub is_pmem: bool,
    /// How much the guest may do with it.
    pub limits: DriveLimits,
}

/// What a guest may do with a drive, reading and writing taken together; absent: as much as it can.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DriveLimits {
    /// Operations per second, at least 1.
    pub operations: Option<u64>,
    /// Bytes per second, at least 1.
    pub bytes: Option<u64>,
}

/// How the guest finds a drive of this VMM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriveLocator {
    /// By its id, which is the virtio serial.
    Serial,
    /// By its position among those of [`BootSpec::drives`] that are disks, or among those that are persistent memory.
    Index,
}

/// A network interface.
#[derive(Debug, Clone)]
pub struct Nic {
    /// Guest MAC address, `aa:bb:cc:dd:ee:ff`.
    pub mac: String,
    /// Maximum transmission unit.
    pub mtu: Option<u32>,
    /// What carries the frames.
    pub backend: NicBackend,
    /// How much the guest may receive and send.
    pub limits: TrafficLimits,
}

/// Limits of a NIC's traffic; absent: as much as comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrafficLimits {
    /// To the guest.
    pub receive: Option<TrafficLimit>,
    /// From the guest.
    pub send: Option<TrafficLimit>,
}

/// A limit of a NIC's traffic in one direction: a token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrafficLimit {
    /// Bytes per second, at least 1.
    pub rate: u64,
    /// Bytes that may go at once, at least 1.
    pub burst: u64,
}

/// A kind of [`NicBackend`]: what a VMM takes, and a network gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// A tap that the VMM opens by its name.
    Tap,
    /// An open queue of a tap.
    TapQueue,
    /// A stream socket.
    Stream,
}

/// What carries a NIC's frames.
#[derive(Debug, Clone)]
pub enum NicBackend {
    /// An existing tap device.
    Tap {
        /// Its name in its network namespace.
        name: String,
        /// Path of that namespace; absent: the caller's.
        netns: Option<PathBuf>,
    },
    /// An open queue of a tap device, wherever that is, each frame after a `virtio_net_hdr` (`IFF_VNET_HDR`).
    TapQueue(Arc<OwnedFd>),
    /// A connected stream socket on which each frame is preceded by its length as u32 BE (passt's and QEMU's format).
    Stream(Arc<OwnedFd>),
}

/// How the VMM should be kept from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsolationWanted {
    /// Everything the host allows; what could not be applied is reported.
    BestEffort,
    /// Everything, or the machine is not started.
    Strict,
    /// Nothing: `--isolation none`.
    None,
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// Hardware virtualisation.
    Kvm,
    /// QEMU's software emulation.
    Tcg,
}

impl Accelerator {
    /// `kvm` or `tcg`.
    pub fn as_str(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> BootSpec {
        BootSpec {
            id: "vm-1".into(),
            kernel: "vmlinux".into(),
            initramfs: "initramfs".into(),
            cmdline: "quiet".into(),
            vcpu_count: 1,
            mem_size_mib: 128,
            has_huge_pages: false,
            cpu_template: None,
            drives: vec![Drive {
                id: "base".into(),
                path: "a".into(),
                is_read_only: true,
                is_pmem: false,
                limits: DriveLimits::default(),
            }],
            nics: vec![Nic {
                mac: "52:54:00:12:34:56".into(),
                mtu: Some(1500),
                backend: NicBackend::Tap { name: "tap0".into(), netns: None },
                limits: TrafficLimits::default(),
            }],
            isolation: IsolationWanted::BestEffort,
            accelerator: None,
        }
    }

    #[test]
    fn a_plain_spec_is_valid() {
        spec().validate().unwrap();
    }

    #[test]
    fn what_could_change_an_options_meaning_is_refused() {
        type Change = fn(&mut BootSpec);
        let cases: [(&str, Change); 20] = [
            ("id", |spec| spec.id.clear()),
            ("id", |spec| spec.id = "a,process=x".into()),
            ("id", |spec| spec.id = "a".repeat(65)),
            ("vcpu_count", |spec| spec.vcpu_count = 0),
            ("vcpu_count", |spec| spec.vcpu_count = 33),
            ("mem_size_mib", |spec| spec.mem_size_mib = 0),
            ("mem_size_mib", |spec| (spec.has_huge_pages, spec.mem_size_mib) = (true, 129)),
            ("cpu_template", |spec| spec.cpu_template = Some(CpuTemplate::Named("T".repeat(17)))),
            ("cmdline", |spec| spec.cmdline = "a\nb".into()),
            ("cmdline", |spec| spec.cmdline = "a".repeat(1537)),
            ("drives[0].id", |spec| spec.drives[0].id = "x,serial=y".into()),
            ("drives[1].id", |spec| spec.drives.push(spec.drives[0].clone())),
            ("drives[0].limits", |spec| spec.drives[0].limits.operations = Some(0)),
            ("drives[0].is_pmem", |spec| (spec.drives[0].is_pmem, spec.drives[0].is_read_only) = (true, false)),
            ("drives[0].is_pmem", |spec| (spec.drives[0].is_pmem, spec.drives[0].limits.bytes) = (true, Some(1))),
            ("nics[0].limits", |spec| spec.nics[0].limits.send = Some(TrafficLimit { rate: 1, burst: 0 })),
            ("nics[0].mac", |spec| spec.nics[0].mac = "52:54:00:12:34:56,x=y".into()),
            ("nics[0].mac", |spec| spec.nics[0].mac = "53:54:00:12:34:56".into()),
            ("nics[0].mac", |spec| spec.nics[0].mac = "+2:54:00:12:34:56".into()),
            ("nics[0].mtu", |spec| spec.nics[0].mtu = Some(67)),
        ];
        for (named, change) in cases {
            let mut changed = spec();
            change(&mut changed);
            match changed.validate() {
                Err(VmmError::InvalidSpec { field, .. }) => assert_eq!(field, named),
                other => panic!("{named}: {other:?}"),
            }
        }
    }
}
