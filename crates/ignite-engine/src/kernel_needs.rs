//! What a VM needs of its kernel, and what to do where the kernel has it not.

use ignite_api::vm::RootDisk;
use ignite_api::{KernelFeature, KernelStatus};
use ignite_disk::{FeatureState, KernelFeatures};
use std::collections::BTreeMap;

/// What of a VM decides which features it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs<'a> {
    /// Its root disk.
    pub root_disk: RootDisk,
    /// The VMM that runs it, where that is known.
    pub vmm: Option<&'a str>,
    /// Whether machines are described by ACPI and enter an ELF kernel by PVH (x86-64), or by a device tree.
    pub is_x86: bool,
}

/// A feature that a kernel certainly lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lack {
    /// For people, with the option of the kernel's configuration.
    pub feature: &'static str,
    /// What to do.
    pub hint: &'static str,
}

const OTHER: &str = "choose another: ignite kernel ls, then --kernel NAME; or import it again with its modules \
    (ignite kernel import --modules DIR)";
const REBUILD: &str = "choose another: ignite kernel ls, then --kernel NAME; or build it with that option set to y";
const OVERLAY: &str = "use --root-disk private, or another --kernel; where overlayfs is a module of it, import it again \
    with --modules DIR";

/// What `needs` names and the kernel lacks, the first things a boot would meet first. What is not known is not refused.
pub(crate) fn lacks(features: &KernelFeatures, needs: Needs<'_>) -> Vec<Lack> {
    let qemu = needs.vmm == Some("qemu");
    let firecracker = needs.vmm == Some("firecracker");
    let rows = [
        (features.pvh, qemu && needs.is_x86, "PVH entry for QEMU (CONFIG_PVH)", REBUILD),
        (features.initramfs, true, "support for an initramfs (CONFIG_BLK_DEV_INITRD)", REBUILD),
        (features.devtmpfs, true, "devtmpfs (CONFIG_DEVTMPFS)", REBUILD),
        (features.acpi, qemu && needs.is_x86, "ACPI, by which QEMU describes virtio-mmio (CONFIG_ACPI)", REBUILD),
        (features.virtio_mmio, qemu || firecracker, "virtio-mmio (CONFIG_VIRTIO_MMIO)", OTHER),
        (features.virtio_console, qemu, "virtio-console, QEMU's agent channel (CONFIG_VIRTIO_CONSOLE)", OTHER),
        (features.virtio_vsock, firecracker, "vsock, Firecracker's agent channel (CONFIG_VIRTIO_VSOCKETS)", OTHER),
        (features.virtio_blk, true, "virtio-blk (CONFIG_VIRTIO_BLK)", OTHER),
        (features.ext4, true, "ext4 (CONFIG_EXT4_FS)", OTHER),
        (features.overlay, needs.root_disk == RootDisk::Overlay, "overlayfs (CONFIG_OVERLAY_FS)", OVERLAY),
    ];
    let missing = rows.into_iter().filter(|(state, is_needed, ..)| *is_needed && *state == FeatureState::Absent);
    missing.map(|(_, _, feature, hint)| Lack { feature, hint }).collect()
}

/// Whether this build's guests are x86-64.
pub(crate) const IS_X86: bool = cfg!(target_arch = "x86_64");

/// As the object tells it.
pub(crate) fn told(features: &KernelFeatures) -> BTreeMap<String, KernelFeature> {
    let told = features.named().into_iter().map(|(name, state)| {
        let state = match state {
            FeatureState::Builtin => KernelFeature::Builtin,
            FeatureState::Module => KernelFeature::Module,
            FeatureState::Absent => KernelFeature::Absent,
            FeatureState::Unknown => KernelFeature::Unknown,
        };
        (name.to_owned(), state)
    });
    told.collect()
}

/// Lines for who has just imported a kernel: what will not work with it.
pub(crate) fn warnings(name: &str, status: &KernelStatus, features: &KernelFeatures) -> Vec<String> {
    let of = |root_disk, vmm| lacks(features, Needs { root_disk, vmm, is_x86: IS_X86 });
    let mut lines: Vec<String> = Vec::new();
    for lack in [of(RootDisk::Overlay, None), of(RootDisk::Overlay, Some("qemu"))].concat() {
        let line = format!("kernel {name} ({}) has no {}: {}", status.version, lack.feature, lack.hint);
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use FeatureState::{Absent, Builtin, Unknown};

    fn whole() -> KernelFeatures {
        KernelFeatures {
            initramfs: Builtin,
            devtmpfs: Builtin,
            acpi: Builtin,
            ext4: Builtin,
            overlay: FeatureState::Module,
            virtio_mmio: Builtin,
            virtio_mmio_cmdline: Absent,
            virtio_pci: Absent,
            virtio_blk: Builtin,
            virtio_net: Absent,
            virtio_console: Builtin,
            virtio_vsock: Builtin,
            virtio_pmem: Absent,
            fs_dax: Absent,
            fuse: Absent,
            pvh: Builtin,
        }
    }

    #[test]
    fn each_need_is_asked_where_it_is_one() {
        let of = |features: &KernelFeatures, root_disk, vmm, is_x86| {
            let found = lacks(features, Needs { root_disk, vmm, is_x86 });
            found.into_iter().map(|lack| lack.feature.split([' ', ',']).next().unwrap_or_default()).collect::<Vec<_>>()
        };
        let (overlay, private) = (RootDisk::Overlay, RootDisk::Private);
        let (qemu, firecracker) = (Some("qemu"), Some("firecracker"));
        let without = |change: fn(&mut KernelFeatures)| {
            let mut features = whole();
            change(&mut features);
            features
        };
        for (features, root_disk, vmm, is_x86, expected) in [
            (whole(), overlay, qemu, true, vec![]),
            (whole(), overlay, firecracker, true, vec![]),
            (without(|f| f.overlay = Absent), overlay, None, true, vec!["overlayfs"]),
            (without(|f| f.overlay = Absent), private, qemu, true, vec![]),
            (without(|f| f.overlay = Unknown), overlay, qemu, true, vec![]),
            (without(|f| f.ext4 = Absent), private, None, true, vec!["ext4"]),
            (without(|f| f.virtio_blk = Absent), private, firecracker, false, vec!["virtio-blk"]),
            (without(|f| f.virtio_mmio = Absent), overlay, qemu, true, vec!["virtio-mmio"]),
            (without(|f| f.virtio_mmio = Absent), overlay, firecracker, true, vec!["virtio-mmio"]),
            (without(|f| f.virtio_mmio = Absent), overlay, None, true, vec![]),
            (without(|f| f.acpi = Absent), overlay, qemu, true, vec!["ACPI"]),
            (without(|f| f.acpi = Absent), overlay, qemu, false, vec![]),
            (without(|f| f.acpi = Absent), overlay, firecracker, true, vec![]),
            (without(|f| f.pvh = Absent), overlay, qemu, true, vec!["PVH"]),
            (without(|f| f.pvh = Absent), overlay, qemu, false, vec![]),
            (without(|f| f.pvh = Absent), overlay, firecracker, true, vec![]),
            (without(|f| f.virtio_console = Absent), overlay, qemu, true, vec!["virtio-console"]),
            (without(|f| f.virtio_console = Absent), overlay, firecracker, true, vec![]),
            (without(|f| f.virtio_vsock = Absent), overlay, firecracker, true, vec!["vsock"]),
            (without(|f| f.virtio_vsock = Absent), overlay, qemu, true, vec![]),
            (without(|f| f.initramfs = Absent), private, None, false, vec!["support"]),
            (without(|f| f.devtmpfs = Absent), private, None, false, vec!["devtmpfs"]),
            (KernelFeatures::default(), overlay, qemu, true, vec![]),
        ] {
            assert_eq!(of(&features, root_disk, vmm, is_x86), expected, "{root_disk:?} {vmm:?} {is_x86} {features:?}");
        }
    }

    #[test]
    fn an_import_warns_of_each_lack_once() {
        let features = KernelFeatures { overlay: Absent, virtio_console: Absent, ..whole() };
        let status = KernelStatus { version: "6.6.6".into(), ..KernelStatus::default() };
        let lines = warnings("mine", &status, &features);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].starts_with("kernel mine (6.6.6) has no overlayfs") && lines[0].contains("--root-disk private")
        );
        assert_eq!(told(&features)["overlay"], KernelFeature::Absent);
    }
}
