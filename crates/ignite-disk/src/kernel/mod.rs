//! Kernels made ready to boot, from wherever they come.

mod blocks;
mod deb;
mod decompress;
mod depmod;
mod features;
mod find;
mod ikconfig;
mod image;
mod import;
mod lzop;
mod module;
mod modules;
mod tree_files;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::LayerSource;

pub(crate) use decompress::{Compression, read_up_to};
pub use import::import_kernel;
pub(crate) use import::{BOOT_MODULES, BOOT_ORDER};

/// How a kernel offers a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureState {
    /// Compiled in.
    Builtin,
    /// A module that came with the kernel.
    Module,
    /// Neither.
    Absent,
    /// Nothing that came with the kernel tells.
    #[default]
    Unknown,
}

impl FeatureState {
    /// Whether a guest may count on the feature.
    pub fn is_available(self) -> bool {
        matches!(self, FeatureState::Builtin | FeatureState::Module)
    }
}

/// What a kernel offers of the things a VM may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KernelFeatures {
    /// An initramfs is read, `ignite-init`'s way into a guest.
    pub initramfs: FeatureState,
    /// devtmpfs, where the disks appear.
    pub devtmpfs: FeatureState,
    /// ACPI, by which QEMU's microvm describes its devices on x86-64.
    pub acpi: FeatureState,
    /// ext4, the file system of every disk.
    pub ext4: FeatureState,
    /// overlayfs, needed for shared bases.
    pub overlay: FeatureState,
    /// virtio over memory-mapped registers.
    pub virtio_mmio: FeatureState,
    /// virtio-mmio devices named on the command line (else ACPI must describe them).
    pub virtio_mmio_cmdline: FeatureState,
    /// virtio over PCI.
    pub virtio_pci: FeatureState,
    /// Block devices.
    pub virtio_blk: FeatureState,
    /// Network devices.
    pub virtio_net: FeatureState,
    /// Serial ports, QEMU's agent channel.
    pub virtio_console: FeatureState,
    /// vsock, Firecracker's agent channel.
    pub virtio_vsock: FeatureState,
    /// Persistent memory as a disk, which a VMM maps from a file.
    pub virtio_pmem: FeatureState,
    /// File systems that read persistent memory in place.
    pub fs_dax: FeatureState,
    /// FUSE, for shared host directories.
    pub fuse: FeatureState,
    /// The PVH entry, by which QEMU boots a vmlinux.
    pub pvh: FeatureState,
}

impl KernelFeatures {
    /// Each feature with its name, as it is written in JSON.
    pub fn named(&self) -> [(&'static str, FeatureState); 16] {
        [
            ("initramfs", self.initramfs),
            ("devtmpfs", self.devtmpfs),
            ("acpi", self.acpi),
            ("ext4", self.ext4),
            ("overlay", self.overlay),
            ("virtioMmio", self.virtio_mmio),
            ("virtioMmioCmdline", self.virtio_mmio_cmdline),
            ("virtioPci", self.virtio_pci),
            ("virtioBlk", self.virtio_blk),
            ("virtioNet", self.virtio_net),
            ("virtioConsole", self.virtio_console),
            ("virtioVsock", self.virtio_vsock),
            ("virtioPmem", self.virtio_pmem),
            ("fsDax", self.fs_dax),
            ("fuse", self.fuse),
            ("pvh", self.pvh),
        ]
    }
}

/// What is known of an imported kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelInfo {
    /// The release, such as `6.1.0-56-cloud-amd64`: `uname -r` in the guest.
    pub version: String,
    /// Bytes of `modules.ext4`; 0 when the kernel came without modules.
    pub modules_size: u64,
    /// What it offers.
    pub features: KernelFeatures,
}

/// Where a kernel comes from.
#[derive(Clone, Copy)]
pub enum KernelInput<'a> {
    /// A Debian package file that holds `/boot/vmlinuz-*` and `/lib/modules/*`.
    Deb(&'a Path),
    /// A kernel image and, optionally, what belongs to it.
    File {
        /// A vmlinux (ELF), a bzImage, or an arm64 Image.
        image: &'a Path,
        /// A `lib/modules/<release>` directory.
        modules: Option<&'a Path>,
        /// The kernel's `.config`.
        config: Option<&'a Path>,
    },
    /// An OCI kernel image: `/boot/vmlinux*` or `/boot/vmlinuz*`, and `/lib/modules`.
    Layers(&'a [&'a dyn LayerSource]),
    /// A running system's own kernel files.
    HostBoot {
        /// Usually `/boot`.
        boot_dir: &'a Path,
        /// Usually `/lib/modules`.
        modules_root: &'a Path,
        /// Which release; the newest when `None`.
        release: Option<&'a str>,
    },
}
