//! The custom resources as the API server holds them.

use crate::status::{SetStatus, VmStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// API group of every object of ours.
pub const GROUP: &str = "ignite.weave.works";
/// The served version.
pub const VERSION: &str = "v1alpha4";

/// A `VM`: Ignite's object, with what only Kubernetes knows (see [`crate::wish`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachine {
    /// `ignite.weave.works/v1alpha4`; lists leave it out.
    #[serde(default = "api_version")]
    pub api_version: String,
    /// `VM`; lists leave it out.
    #[serde(default = "vm_kind")]
    pub kind: String,
    /// Kubernetes' metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is wanted, as it was written: what is wrong in it is said in the status, not by a watch that breaks.
    #[serde(default)]
    pub spec: Map<String, Value>,
    /// What is.
    #[serde(default, deserialize_with = "status_or_none", skip_serializing_if = "Option::is_none")]
    pub status: Option<VmStatus>,
}

/// A `VMSet`: so many equal VMs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineSet {
    /// `ignite.weave.works/v1alpha4`; lists leave it out.
    #[serde(default = "api_version")]
    pub api_version: String,
    /// `VMSet`; lists leave it out.
    #[serde(default = "set_kind")]
    pub kind: String,
    /// Kubernetes' metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is wanted, as it was written.
    #[serde(default)]
    pub spec: Map<String, Value>,
    /// What is.
    #[serde(default, deserialize_with = "status_or_none", skip_serializing_if = "Option::is_none")]
    pub status: Option<SetStatus>,
}

/// Reads a VM as it is written for `kubectl apply`: YAML or JSON.
pub fn parse_vm(text: &str) -> Result<VirtualMachine, crate::wish::Refusal> {
    let refused = |why: String| crate::wish::Refusal(why);
    let vm: VirtualMachine = serde_saphyr::from_str(text).map_err(|error| refused(error.to_string()))?;
    match (vm.kind.as_str(), vm.api_version.as_str()) {
        ("VM", found) if found == api_version() => Ok(vm),
        (kind, found) => Err(refused(format!("{found} {kind}: one object of kind VM, {}, is expected", api_version()))),
    }
}

fn api_version() -> String {
    format!("{GROUP}/{VERSION}")
}

fn vm_kind() -> String {
    "VM".to_owned()
}

fn set_kind() -> String {
    "VMSet".to_owned()
}

/// A status that somebody else has written into nonsense is none: it is written anew, and breaks no list.
fn status_or_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::de::DeserializeOwned,
{
    let value = Option::<Value>::deserialize(deserializer)?;
    Ok(value.and_then(|value| serde_json::from_value(value).ok()))
}

macro_rules! custom_resources {
    ($($object:ty => $kind:literal, $plural:literal),* $(,)?) => {$(
        impl kube::Resource for $object {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;

            fn kind(_: &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group(_: &()) -> Cow<'_, str> {
                GROUP.into()
            }

            fn version(_: &()) -> Cow<'_, str> {
                VERSION.into()
            }

            fn plural(_: &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    )*};
}

custom_resources! {
    VirtualMachine => "VM", "vms",
    VirtualMachineSet => "VMSet", "vmsets",
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nonsense_in_an_object_breaks_no_list() {
        let vm: VirtualMachine = serde_json::from_value(json!({
            "metadata": { "name": "web" }, "spec": { "cpus": "many" }, "status": { "conditions": 7 },
        }))
        .unwrap();
        assert_eq!((vm.kind.as_str(), vm.status.is_none()), ("VM", true));
        assert_eq!(vm.spec["cpus"], "many");
    }
}
