//! Extra disks of a VM: block devices, files that are disks, and where they are mounted.

use crate::meta::null_is_default;
use crate::size::Size;
use serde::{Deserialize, Serialize};

/// Extra disks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StorageSpec {
    /// Disks.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub volumes: Vec<Volume>,
    /// Where they are mounted.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub volume_mounts: Vec<VolumeMount>,
    /// *Extension.* What the VM may do with each of its disks, the root disk among them.
    #[serde(skip_serializing_if = "DiskLimits::is_none", deserialize_with = "null_is_default")]
    pub limits: DiskLimits,
}

/// *Extension.* What a VM may do with a disk in a second, reading and writing taken together; absent: as much as it can. What
/// was left of a tenth of a second may be used at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DiskLimits {
    /// Operations per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iops: Option<u64>,
    /// Bytes per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
}

impl DiskLimits {
    fn is_none(&self) -> bool {
        *self == DiskLimits::default()
    }
}

/// An extra disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volume {
    /// Name that a mount refers to.
    pub name: String,
    /// Block device of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_device: Option<BlockDevice>,
    /// *Extension.* A file of the host that is a disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<DiskFile>,
    /// *Extension.* The VM cannot write to it; several VMs may have it at once.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
}

impl Volume {
    /// Path of the host that it is: of its device, or of its file.
    pub fn host_path(&self) -> Option<&str> {
        let device = self.block_device.as_ref().map(|device| device.path.as_str());
        device.or(self.file.as_ref().map(|file| file.path.as_str()))
    }
}

/// *Extension.* A file of the host that is a disk, raw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DiskFile {
    /// Absolute path.
    pub path: String,
    /// Size with which it is made at the VM's start when it is missing, sparse; absent: it has to be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// File system that a missing or blank file gets; absent: none. A file with anything in it is never formatted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<DiskFormat>,
}

/// File systems that a disk can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum DiskFormat {
    /// ext4.
    Ext4,
}

/// A block device of the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BlockDevice {
    /// Absolute path.
    pub path: String,
    /// *Extension.* File system that a blank device gets at the VM's start; absent: none. One with anything in it is never
    /// formatted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<DiskFormat>,
}

/// Where a volume is mounted in the guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeMount {
    /// Volume.
    pub name: String,
    /// Absolute guest path.
    pub mount_path: String,
    /// *Extension.* Mounted read-only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
}

fn is_false(b: &bool) -> bool {
    !*b
}
