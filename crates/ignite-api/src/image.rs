//! The Image object: an OCI image whose base disk has been made.

use crate::meta::{ObjectMeta, null_is_default};
use crate::size::Size;
use crate::vm::OciSource;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An imported image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Image {
    /// Always [`crate::API_VERSION`] once decoded.
    pub api_version: String,
    /// `Image`.
    pub kind: String,
    /// Name (the familiar reference) and uid.
    #[serde(default, deserialize_with = "null_is_default")]
    pub metadata: ObjectMeta,
    /// Source.
    #[serde(default, deserialize_with = "null_is_default")]
    pub spec: OciSource,
    /// What was imported.
    #[serde(default, deserialize_with = "null_is_default")]
    pub status: ImageStatus,
}

impl Image {
    /// An imported image.
    pub fn new(metadata: ObjectMeta, spec: OciSource, status: ImageStatus) -> Image {
        let kind = <Image as crate::ApiObject>::KIND.to_owned();
        Image { api_version: crate::API_VERSION.to_owned(), kind, metadata, spec, status }
    }
}

/// `status` of an Image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ImageStatus {
    /// Digest and size of the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oci_source: Option<OciSourceStatus>,
    /// Digest of the manifest, `sha256:...`.
    pub manifest_digest: String,
    /// Digest of the configuration, `sha256:...`.
    pub config_digest: String,
    /// Diff ids of the layers, lowest first.
    pub diff_ids: Vec<String>,
    /// Key of the base disk (see `ignite-disk`): equal for equal layers whatever the source.
    pub base_key: String,
    /// Digest of the base disk, `sha256:...`: equal for equal layers whatever the source.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub base_digest: String,
    /// Bytes of the base disk.
    pub base_size: Size,
    /// What the image says should run.
    pub config: ImageConfig,
    /// True when the image has `/sbin/init`.
    pub has_init: bool,
    /// What it is made for, `linux/amd64`, where it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
}

/// Digest and size of what was imported.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OciSourceStatus {
    /// Weave Ignite's form: `oci://NAME@sha256:...`.
    pub id: String,
    /// Bytes of the uncompressed layers.
    pub size: Size,
}

/// The part of the OCI image configuration that decides what runs (OCI image-spec 1.1, config.md).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ImageConfig {
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env`, each `NAME=value`.
    pub env: Vec<String>,
    /// `User`.
    pub user: String,
    /// `WorkingDir`.
    pub working_dir: String,
    /// `ExposedPorts`, each `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// `Labels`.
    pub labels: BTreeMap<String, String>,
    /// `StopSignal`, e.g. `SIGTERM` or `15`.
    pub stop_signal: String,
    /// Docker's `Healthcheck`; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<crate::health::HealthCheck>,
}
