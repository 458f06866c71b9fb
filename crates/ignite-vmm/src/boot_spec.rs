//! What is to be booted: plain data, decided before the host is touched.

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
    /// Drives in the guest's order.
    pub drives: Vec<Drive>,
    /// Network interfaces in the guest's order.
    pub nics: Vec<Nic>,
    /// How the VMM is isolated.
    pub isolation: IsolationWanted,
    /// Force an accelerator; absent: what the host can really do.
    pub accelerator: Option<Accelerator>,
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
}

/// How the guest finds a drive of this VMM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriveLocator {
    /// By its id, which is the virtio serial.
    Serial,
    /// By its position in [`BootSpec::drives`].
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
}

/// What carries a NIC's frames.
#[derive(Debug, Clone)]
pub enum NicBackend {
    /// An existing tap device.
    Tap {
        /// Its name in the VMM's network namespace.
        name: String,
    },
    /// A connected stream socket on which each frame is preceded by its length as u32 BE (passt's and QEMU's format).
    Stream(Arc<OwnedFd>),
}

/// How the VMM should be kept from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsolationWanted {
    /// Everything the host allows; what could not be applied is reported.
    BestEffort,
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
