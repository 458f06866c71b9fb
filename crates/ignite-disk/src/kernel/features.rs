//! What a kernel offers, told by its configuration or by its modules.

use super::modules::Modules;
use super::{FeatureState, KernelFeatures};

/// Tells from the kernel's `.config` where there is one, else from its modules. What the configuration calls a module
/// counts only when it came with the kernel.
pub(super) fn detect(config: Option<&str>, modules: Option<&Modules>, has_pvh: bool) -> KernelFeatures {
    let of = |option: &str, module: &str| match config.map(|config| from_config(config, option)) {
        Some(FeatureState::Module) if !modules.is_some_and(|modules| modules.is_module(module)) => FeatureState::Absent,
        Some(state) => state,
        None => modules.map_or(FeatureState::Unknown, |modules| from_modules(modules, module)),
    };
    let builtin = |option: &str| config.map_or(FeatureState::Unknown, |config| from_config(config, option));
    KernelFeatures {
        initramfs: builtin("CONFIG_BLK_DEV_INITRD"),
        devtmpfs: builtin("CONFIG_DEVTMPFS"),
        acpi: builtin("CONFIG_ACPI"),
        ext4: of("CONFIG_EXT4_FS", "ext4"),
        overlay: of("CONFIG_OVERLAY_FS", "overlay"),
        virtio_mmio: of("CONFIG_VIRTIO_MMIO", "virtio_mmio"),
        virtio_mmio_cmdline: builtin("CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES"),
        virtio_pci: of("CONFIG_VIRTIO_PCI", "virtio_pci"),
        virtio_blk: of("CONFIG_VIRTIO_BLK", "virtio_blk"),
        virtio_net: of("CONFIG_VIRTIO_NET", "virtio_net"),
        virtio_console: of("CONFIG_VIRTIO_CONSOLE", "virtio_console"),
        virtio_vsock: of("CONFIG_VIRTIO_VSOCKETS", "vmw_vsock_virtio_transport"),
        // What it shows is a disk only with the driver for persistent memory.
        virtio_pmem: match (of("CONFIG_VIRTIO_PMEM", "virtio_pmem"), of("CONFIG_BLK_DEV_PMEM", "nd_pmem")) {
            (FeatureState::Builtin, FeatureState::Builtin) => FeatureState::Builtin,
            (FeatureState::Absent, _) | (_, FeatureState::Absent) => FeatureState::Absent,
            (FeatureState::Unknown, _) | (_, FeatureState::Unknown) => FeatureState::Unknown,
            _ => FeatureState::Module,
        },
        fs_dax: builtin("CONFIG_FS_DAX"),
        fuse: of("CONFIG_FUSE_FS", "fuse"),
        pvh: if has_pvh { FeatureState::Builtin } else { FeatureState::Absent },
    }
}

fn from_config(config: &str, option: &str) -> FeatureState {
    for line in config.lines() {
        match line.strip_prefix(option).and_then(|rest| rest.strip_prefix('=')) {
            Some("y") => return FeatureState::Builtin,
            Some("m") => return FeatureState::Module,
            _ => {}
        }
    }
    FeatureState::Absent
}

fn from_modules(modules: &Modules, name: &str) -> FeatureState {
    match name {
        _ if modules.is_module(name) => FeatureState::Module,
        _ if modules.is_builtin(name) => FeatureState::Builtin,
        _ if modules.knows_builtin() => FeatureState::Absent,
        _ => FeatureState::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_tells_three_states() {
        let config = "CONFIG_EXT4_FS=y\nCONFIG_OVERLAY_FS=m\n# CONFIG_FUSE_FS is not set\nCONFIG_VIRTIO_MMIO_X=y\n";
        let features = detect(Some(config), None, true);
        assert_eq!(features.ext4, FeatureState::Builtin);
        assert_eq!(features.overlay, FeatureState::Absent, "its module did not come with it");
        assert_eq!(features.fuse, FeatureState::Absent);
        assert_eq!(features.virtio_mmio, FeatureState::Absent);
        assert_eq!(features.pvh, FeatureState::Builtin);
        assert_eq!(features.initramfs, FeatureState::Absent);
        assert_eq!(detect(None, None, false).ext4, FeatureState::Unknown);
        assert_eq!(detect(None, None, false).acpi, FeatureState::Unknown);
    }

    #[test]
    fn persistent_memory_takes_two_drivers() {
        let of = |config| detect(Some(config), None, true).virtio_pmem;
        assert_eq!(of("CONFIG_VIRTIO_PMEM=y\nCONFIG_BLK_DEV_PMEM=y\n"), FeatureState::Builtin);
        assert_eq!(of("CONFIG_VIRTIO_PMEM=y\n"), FeatureState::Absent);
        assert_eq!(of("CONFIG_BLK_DEV_PMEM=y\n"), FeatureState::Absent);
        assert_eq!(detect(None, None, true).virtio_pmem, FeatureState::Unknown);
    }

    #[test]
    fn every_feature_has_the_name_it_has_in_json() {
        let features = detect(Some("CONFIG_FUSE_FS=y\n"), None, true);
        let named: std::collections::BTreeMap<_, _> = features.named().into();
        assert_eq!(serde_json::to_value(features).unwrap(), serde_json::to_value(named).unwrap());
    }
}
