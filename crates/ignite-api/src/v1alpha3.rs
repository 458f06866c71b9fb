//! API version v1alpha3 (Weave Ignite 0.8 and 0.9): what v1alpha4 was without our extensions.

use crate::configuration::{Configuration, ConfigurationSpec};
use crate::meta::{ObjectMeta, null_is_default};
use crate::vm::{
    FileMapping, KernelSpec, NetworkSpec, NetworkStatus, OciSource, RuntimeStatus, SourceStatus, Ssh, StorageSpec, Vm,
    VmSpec, VmStatus,
};
use crate::{PortMapping, Size};
use serde::Deserialize;

/// `apiVersion` as it is written.
pub const API_VERSION: &str = "ignite.weave.works/v1alpha3";

/// A virtual machine.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct VmV1Alpha3 {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default, deserialize_with = "null_is_default")]
    metadata: ObjectMeta,
    #[serde(default, deserialize_with = "null_is_default")]
    spec: VmSpecV1Alpha3,
    #[serde(default, deserialize_with = "null_is_default")]
    status: VmStatusV1Alpha3,
}

/// `spec` of a VM, the same in v1alpha2 and v1alpha3.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct VmSpecV1Alpha3 {
    #[serde(deserialize_with = "null_is_default")]
    image: OciSource,
    #[serde(deserialize_with = "null_is_default")]
    kernel: KernelSpec,
    sandbox: Option<OciSource>,
    cpus: u32,
    memory: Size,
    disk_size: Size,
    #[serde(deserialize_with = "null_is_default")]
    network: NetworkSpecV1Alpha3,
    #[serde(deserialize_with = "null_is_default")]
    storage: StorageSpec,
    #[serde(deserialize_with = "null_is_default")]
    copy_files: Vec<FileMapping>,
    ssh: Option<Ssh>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct NetworkSpecV1Alpha3 {
    #[serde(deserialize_with = "null_is_default")]
    ports: Vec<PortMapping>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct VmStatusV1Alpha3 {
    running: bool,
    runtime: Option<RuntimeStatus>,
    start_time: Option<jiff::Timestamp>,
    network: Option<NetworkStatus>,
    image: Option<SourceStatus>,
    kernel: Option<SourceStatus>,
    id_prefix: Option<String>,
}

/// Defaults of a host; `registryConfigDir` came with v1alpha4.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ConfigurationV1Alpha3 {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default, deserialize_with = "null_is_default")]
    metadata: ObjectMeta,
    #[serde(default, deserialize_with = "null_is_default")]
    spec: ConfigurationSpecV1Alpha3,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ConfigurationSpecV1Alpha3 {
    runtime: Option<String>,
    network_plugin: Option<String>,
    vm_defaults: Option<VmSpecV1Alpha3>,
    id_prefix: Option<String>,
}

impl Default for VmSpecV1Alpha3 {
    fn default() -> VmSpecV1Alpha3 {
        let VmSpec { image, kernel, sandbox, cpus, memory, disk_size, storage, copy_files, ssh, .. } =
            VmSpec::default();
        let network = NetworkSpecV1Alpha3::default();
        VmSpecV1Alpha3 { image, kernel, sandbox, cpus, memory, disk_size, network, storage, copy_files, ssh }
    }
}

impl From<VmSpecV1Alpha3> for VmSpec {
    fn from(old: VmSpecV1Alpha3) -> VmSpec {
        VmSpec {
            image: old.image,
            kernel: old.kernel,
            sandbox: old.sandbox,
            cpus: old.cpus,
            memory: old.memory,
            disk_size: old.disk_size,
            network: NetworkSpec { ports: old.network.ports, ..NetworkSpec::default() },
            storage: old.storage,
            copy_files: old.copy_files,
            ssh: old.ssh,
            ..VmSpec::default()
        }
    }
}

impl From<VmStatusV1Alpha3> for VmStatus {
    fn from(old: VmStatusV1Alpha3) -> VmStatus {
        VmStatus {
            running: old.running,
            runtime: old.runtime,
            start_time: old.start_time,
            network: old.network,
            image: old.image,
            kernel: old.kernel,
            id_prefix: old.id_prefix,
            ..VmStatus::default()
        }
    }
}

impl From<VmV1Alpha3> for Vm {
    fn from(old: VmV1Alpha3) -> Vm {
        Vm { status: old.status.into(), ..Vm::new(old.metadata, old.spec.into()) }
    }
}

impl From<ConfigurationV1Alpha3> for Configuration {
    fn from(old: ConfigurationV1Alpha3) -> Configuration {
        let spec = ConfigurationSpec {
            runtime: old.spec.runtime,
            network_plugin: old.spec.network_plugin,
            vm_defaults: old.spec.vm_defaults.map(VmSpec::from),
            id_prefix: old.spec.id_prefix,
            ..ConfigurationSpec::default()
        };
        Configuration::new(old.metadata, spec)
    }
}
