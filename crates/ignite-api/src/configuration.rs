//! The Configuration object: defaults of a host (`/etc/ignite/config.yaml`).

use crate::meta::{ObjectMeta, null_is_default};
use crate::vm::VmSpec;
use serde::{Deserialize, Serialize};

/// Defaults of a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Configuration {
    /// Always [`crate::API_VERSION`] once decoded.
    pub api_version: String,
    /// `Configuration`.
    pub kind: String,
    /// Name.
    #[serde(default, deserialize_with = "null_is_default")]
    pub metadata: ObjectMeta,
    /// Defaults.
    #[serde(default, deserialize_with = "null_is_default")]
    pub spec: ConfigurationSpec,
}

impl Configuration {
    /// Defaults of a host.
    pub fn new(metadata: ObjectMeta, spec: ConfigurationSpec) -> Configuration {
        let kind = <Configuration as crate::ApiObject>::KIND.to_owned();
        Configuration { api_version: crate::API_VERSION.to_owned(), kind, metadata, spec }
    }
}

/// `spec` of a Configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConfigurationSpec {
    /// Source of pulls: `registry` (default), `containerd`, `docker`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// `cni`, `user`, `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_plugin: Option<String>,
    /// Replaces the built-in defaults of a VM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm_defaults: Option<VmSpec>,
    /// Prefix of host-side names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_prefix: Option<String>,
    /// Docker client configuration directory for registry credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_config_dir: Option<String>,
}
