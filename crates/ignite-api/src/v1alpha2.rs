//! API version v1alpha2 (Weave Ignite 0.5 to 0.7): addresses were at the top of `status`, a runtime had no name.

use crate::meta::{ObjectMeta, null_is_default};
use crate::v1alpha3::VmSpecV1Alpha3;
use crate::vm::{NetworkStatus, RuntimeStatus, SourceStatus, Vm, VmStatus};
use serde::Deserialize;

/// `apiVersion` as it is written.
pub const API_VERSION: &str = "ignite.weave.works/v1alpha2";

/// A virtual machine.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct VmV1Alpha2 {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default, deserialize_with = "null_is_default")]
    metadata: ObjectMeta,
    #[serde(default, deserialize_with = "null_is_default")]
    spec: VmSpecV1Alpha3,
    #[serde(default, deserialize_with = "null_is_default")]
    status: VmStatusV1Alpha2,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct VmStatusV1Alpha2 {
    running: bool,
    runtime: Option<RuntimeV1Alpha2>,
    start_time: Option<jiff::Timestamp>,
    #[serde(deserialize_with = "null_is_default")]
    ip_addresses: Vec<String>,
    image: Option<SourceStatus>,
    kernel: Option<SourceStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RuntimeV1Alpha2 {
    id: String,
}

impl From<VmStatusV1Alpha2> for VmStatus {
    fn from(old: VmStatusV1Alpha2) -> VmStatus {
        let ip_addresses = old.ip_addresses;
        VmStatus {
            running: old.running,
            runtime: old.runtime.map(|runtime| RuntimeStatus { id: runtime.id, ..RuntimeStatus::default() }),
            start_time: old.start_time,
            network: (!ip_addresses.is_empty()).then(|| NetworkStatus { ip_addresses, ..NetworkStatus::default() }),
            image: old.image,
            kernel: old.kernel,
            ..VmStatus::default()
        }
    }
}

impl From<VmV1Alpha2> for Vm {
    fn from(old: VmV1Alpha2) -> Vm {
        Vm { status: old.status.into(), ..Vm::new(old.metadata, old.spec.into()) }
    }
}
