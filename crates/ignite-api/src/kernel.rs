//! The Kernel object: a bootable kernel with its modules.

use crate::meta::{ObjectMeta, null_is_default};
use crate::size::Size;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An imported kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kernel {
    /// Always [`crate::API_VERSION`] once decoded.
    pub api_version: String,
    /// `Kernel`.
    pub kind: String,
    /// Name and uid.
    #[serde(default, deserialize_with = "null_is_default")]
    pub metadata: ObjectMeta,
    /// Source.
    #[serde(default, deserialize_with = "null_is_default")]
    pub spec: KernelSource,
    /// What was imported.
    #[serde(default, deserialize_with = "null_is_default")]
    pub status: KernelStatus,
}

impl Kernel {
    /// An imported kernel.
    pub fn new(metadata: ObjectMeta, spec: KernelSource, status: KernelStatus) -> Kernel {
        let kind = <Kernel as crate::ApiObject>::KIND.to_owned();
        Kernel { api_version: crate::API_VERSION.to_owned(), kind, metadata, spec, status }
    }
}

/// `spec` of a Kernel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KernelSource {
    /// What it was imported from: an image reference, a path of a `.deb`, vmlinux or bzImage.
    pub oci: String,
}

/// `status` of a Kernel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KernelStatus {
    /// Digest and size of the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oci_source: Option<crate::image::OciSourceStatus>,
    /// Release, e.g. `6.1.0-56-cloud-amd64`.
    pub version: String,
    /// Bytes of the modules disk; 0: no modules.
    pub modules_size: Size,
    /// Bytes of the initrd that came with it, unpacked; its VMs' initramfs begins with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd_size: Option<Size>,
    /// True for the kernel that VMs get when they name none.
    pub default: bool,
    /// What it offers of the things VMs may need, told by its configuration or its modules.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub features: BTreeMap<String, KernelFeature>,
}

/// How a kernel offers a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum KernelFeature {
    /// Compiled in.
    Builtin,
    /// A module that came with the kernel.
    Module,
    /// Neither: a VM that needs it is refused.
    Absent,
    /// Nothing that came with the kernel tells.
    Unknown,
}
