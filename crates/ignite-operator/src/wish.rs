//! What a VM's `spec` asks for: Ignite's own object, and what only Kubernetes knows, taken apart.
//!
//! ```text
//!  spec of the custom resource = VmSpec of ignite-api
//!                              + nodeSelector, tolerations, ... of the Pod                       (PodWishes)
//!                              + running
//!                              + storage.volumes[] of persistentVolumeClaim, configMap, secret  (VolumeSource)
//! ```

use crate::objects::{GROUP, VERSION};
use ignite_api::depends_on::Dependency;
use ignite_api::restart_policy::RestartPolicy;
use ignite_api::vm::{BlockDevice, DiskFile, DiskFormat, Ssh, Volume};
use ignite_api::{Size, Vm, validation};
use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use k8s_openapi::api::core::v1::{Affinity, KeyToPath, LocalObjectReference, ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use thiserror::Error;

/// Where the disks of claims with a file system are in the Pod.
pub const VOLUME_DIR: &str = "/ignite/volumes";
/// Where the devices of claims without one are in the Pod.
pub const DEVICE_DIR: &str = "/ignite/devices";
/// Where ConfigMaps and Secrets are in the Pod.
pub const FILES_DIR: &str = "/ignite/files";
/// The mode of network that gives a guest its Pod's own address.
pub const POD_NETWORK: &str = "pod";

/// Why a `spec` is not accepted; its text is the message of the condition.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// What a VM of Kubernetes asks for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Wish {
    /// The VM as Ignite starts it in the Pod.
    pub vm: Vm,
    /// What concerns the Pod.
    pub pod: PodWishes,
    /// Disks and files that Kubernetes brings.
    pub volumes: Vec<VolumeSource>,
    /// ConfigMaps and Secrets in the guest: volume and directory.
    pub files: Vec<(String, String)>,
    /// What has to run before it is started.
    pub depends_on: Vec<Dependency>,
    /// Its own policy; in the Pod it is Kubernetes' (see `Wish::restarts_in_pod`).
    pub restart_policy: RestartPolicy,
    /// It goes when it has ended.
    pub auto_remove: bool,
    /// It is not to run: `spec.running` is false.
    pub is_stopped: bool,
}

/// Fields that Kubernetes' Pod has under the same names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodWishes {
    /// Labels a node must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints that are tolerated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerations: Option<Vec<Toleration>>,
    /// Affinity to nodes and Pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How its Pods are spread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// Replaces what is computed from `cpus` and `memory`, name by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Service account of the Pod; the guest never sees its token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// Secrets with credentials of registries, for the guest's image and the Pod's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_secrets: Option<Vec<LocalObjectReference>>,
    /// Priority class of the Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Whether it may run in software where there is no KVM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_emulation: Option<bool>,
}

/// Names of the fields above, as they stand in `spec`.
pub const POD_FIELDS: [&str; 9] = [
    "nodeSelector",
    "tolerations",
    "affinity",
    "topologySpreadConstraints",
    "resources",
    "serviceAccountName",
    "imagePullSecrets",
    "priorityClassName",
    "allowEmulation",
];

/// A volume that Kubernetes brings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VolumeSource {
    /// Its name in `spec.storage.volumes`.
    pub name: String,
    /// The VM only reads it.
    pub read_only: bool,
    /// What it is.
    pub kind: VolumeKind,
}

/// What a volume of Kubernetes is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum VolumeKind {
    /// A claim that is a block device.
    Block {
        /// The claim.
        claim: String,
    },
    /// A claim with a file system, in which the disk is a file.
    File {
        /// The claim.
        claim: String,
    },
    /// Files of a ConfigMap.
    ConfigMap(FileSource),
    /// Files of a Secret.
    Secret(FileSource),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClaimField {
    claim_name: String,
    #[serde(default)]
    volume_mode: Option<String>,
    #[serde(default)]
    size: Option<Size>,
    #[serde(default)]
    format: Option<DiskFormat>,
}

/// Files of a ConfigMap or a Secret, with the fields of the Pod's volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileSource {
    /// The object.
    #[serde(alias = "secretName")]
    pub name: String,
    /// Only these keys, at these paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<KeyToPath>>,
    /// Mode of the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_mode: Option<i32>,
    /// The VM starts without it, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

impl Wish {
    /// Hash of everything that takes a new Pod when it changes; what an operator adds of its own is not in it, so that a
    /// newer operator restarts no VM.
    pub fn hash(&self) -> String {
        // Labels are changed in the running Pod.
        let mut vm = self.vm.clone();
        vm.metadata = ignite_api::ObjectMeta::default();
        let all = json!({ "vm": vm, "pod": self.pod, "volumes": self.volumes, "files": self.files,
            "restartPolicy": self.restart_policy });
        hex::encode(&Sha256::digest(all.to_string().as_bytes())[..8])
    }

    /// The Pod's `restartPolicy`. A bound of retries is kept by the VM's supervisor: Kubernetes has none.
    pub fn restarts_in_pod(&self) -> &'static str {
        match self.restart_policy {
            RestartPolicy::No | RestartPolicy::OnFailure { max_retries: Some(_) } => "Never",
            RestartPolicy::OnFailure { max_retries: None } => "OnFailure",
            RestartPolicy::Always | RestartPolicy::UnlessStopped => "Always",
        }
    }
}

/// Reads `spec`; what is wrong in it is said with its field.
pub fn wish_of(metadata: &ObjectMeta, spec: &Map<String, Value>) -> Result<Wish, Refusal> {
    let mut spec = spec.clone();
    let running: Option<bool> = decode("spec.running", spec.remove("running").unwrap_or_default())?;
    let pod = take_pod_wishes(&mut spec)?;
    let (volumes, files) = take_volumes(&mut spec)?;
    let name = metadata.name.clone().unwrap_or_default();
    let labels: Map<String, Value> =
        metadata.labels.iter().flatten().map(|(key, value)| (key.clone(), json!(value))).collect();
    let object = json!({ "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "VM",
        "metadata": { "name": name, "labels": labels }, "spec": spec });
    let mut vm: Vm = decode("", object)?;
    validation::validate_vm(&vm).map_err(|errors| Refusal(errors.to_string()))?;
    refuse_what_is_of_a_host(&vm)?;
    if vm.spec.image.oci.is_none() {
        return Err(Refusal("spec.image.oci: Required value".to_owned()));
    }
    let (restart_policy, auto_remove) = (vm.spec.restart_policy, vm.spec.auto_remove);
    vm.spec.auto_remove = false;
    vm.spec.restart_policy = match restart_policy {
        RestartPolicy::OnFailure { max_retries: Some(_) } => restart_policy,
        RestartPolicy::No
        | RestartPolicy::OnFailure { max_retries: None }
        | RestartPolicy::Always
        | RestartPolicy::UnlessStopped => RestartPolicy::No,
    };
    let depends_on = std::mem::take(&mut vm.spec.depends_on);
    if let Some(one) = depends_on.iter().find(|one| !one.ready.is_empty()) {
        let instead = "give that VM a healthCheck, and depend on condition: healthy";
        return Err(Refusal(format!("spec.dependsOn.ready: Forbidden: {}: {instead}", one.name)));
    }
    vm.spec.network.mode.get_or_insert_with(|| POD_NETWORK.to_owned());
    Ok(Wish { vm, pod, volumes, files, depends_on, restart_policy, auto_remove, is_stopped: running == Some(false) })
}

fn decode<T: serde::de::DeserializeOwned>(field: &str, value: Value) -> Result<T, Refusal> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let inner = error.path().to_string();
        let path = match (field, inner.as_str()) {
            ("", inner) => inner.to_owned(),
            (field, ".") => field.to_owned(),
            (field, inner) => format!("{field}.{inner}"),
        };
        Refusal(format!("{path}: {}", error.into_inner()))
    })
}

fn take_pod_wishes(spec: &mut Map<String, Value>) -> Result<PodWishes, Refusal> {
    let taken: Map<String, Value> =
        POD_FIELDS.iter().filter_map(|name| Some(((*name).to_owned(), spec.remove(*name)?))).collect();
    decode("spec", Value::Object(taken))
}

/// Volumes, and the directories of those that are files.
type FromKubernetes = (Vec<VolumeSource>, Vec<(String, String)>);

/// Takes what Kubernetes brings out of `storage`; what Ignite mounts itself stays, with its path in the Pod.
fn take_volumes(spec: &mut Map<String, Value>) -> Result<FromKubernetes, Refusal> {
    let Some(storage) = spec.get_mut("storage").and_then(Value::as_object_mut) else { return Ok(Default::default()) };
    let mut sources = Vec::new();
    let mut kept = Vec::new();
    let volumes = storage.get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
    for (index, mut volume) in volumes.into_iter().enumerate() {
        let at = |field: &str| format!("spec.storage.volumes[{index}].{field}");
        let Some(fields) = volume.as_object_mut() else { continue };
        let present = ["persistentVolumeClaim", "configMap", "secret"].map(|field| (field, fields.remove(field)));
        let present: Vec<_> = present.into_iter().filter_map(|(field, value)| Some((field, value?))).collect();
        let (field, value) = match &present[..] {
            [only] => only,
            [] => {
                let wanted = "in Kubernetes a volume is a persistentVolumeClaim, a configMap or a secret";
                return Err(Refusal(format!("{}: Required value: {wanted}", at("persistentVolumeClaim"))));
            }
            [(first, _), (second, _), ..] => return Err(Refusal(format!("{}: not together with {first}", at(second)))),
        };
        if let Some(host) = ["blockDevice", "file"].iter().find(|field| fields.contains_key(**field)) {
            return Err(Refusal(format!("{}: not together with {field}", at(host))));
        }
        let name = fields.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let read_only = fields.get("readOnly") == Some(&Value::Bool(true));
        let kind = match *field {
            "persistentVolumeClaim" => {
                let claim: ClaimField = decode(&at(field), value.clone())?;
                let (kind, disk) =
                    claimed_disk(&name, read_only, claim).map_err(|why| Refusal(format!("{}.{why}", at(field))))?;
                kept.push(serde_json::to_value(disk).unwrap_or_default());
                kind
            }
            "configMap" => VolumeKind::ConfigMap(decode(&at(field), value.clone())?),
            _ => VolumeKind::Secret(decode(&at(field), value.clone())?),
        };
        if sources.iter().any(|source: &VolumeSource| source.name == name) {
            return Err(Refusal(format!("{}: Duplicate value: {name:?}", at("name"))));
        }
        sources.push(VolumeSource { name, read_only, kind });
    }
    let mut files = Vec::new();
    let of_files = |name: &str| {
        sources.iter().any(|source| {
            source.name == name && matches!(source.kind, VolumeKind::ConfigMap(_) | VolumeKind::Secret(_))
        })
    };
    if let Some(mounts) = storage.get_mut("volumeMounts").and_then(Value::as_array_mut) {
        let (taken, rest): (Vec<Value>, Vec<Value>) =
            mounts.drain(..).partition(|mount| mount["name"].as_str().is_some_and(of_files));
        for mount in taken {
            let path = mount["mountPath"].as_str().unwrap_or_default();
            let is_path = path.starts_with('/')
                && path.len() <= validation::MAX_PATH_LEN
                && !path.split('/').any(|part| part == "..")
                && !path.chars().any(|c| c.is_control() || c == '=');
            if !is_path {
                return Err(Refusal(format!(
                    "spec.storage.volumeMounts: Invalid value: {path:?}: must be an absolute path without '..'"
                )));
            }
            files.push((mount["name"].as_str().unwrap_or_default().to_owned(), path.to_owned()));
        }
        *mounts = rest;
    }
    storage.insert("volumes".to_owned(), Value::Array(kept));
    Ok((sources, files))
}

fn claimed_disk(name: &str, read_only: bool, claim: ClaimField) -> Result<(VolumeKind, Volume), String> {
    let ClaimField { claim_name, volume_mode, size, format } = claim;
    let mut volume = Volume { name: name.to_owned(), block_device: None, file: None, read_only };
    let kind = match volume_mode.as_deref() {
        Some("Block") => {
            if size.is_some() || format.is_some() {
                return Err("size: is that of the device, which is never formatted".to_owned());
            }
            volume.block_device = Some(BlockDevice { path: format!("{DEVICE_DIR}/{name}"), format: None });
            VolumeKind::Block { claim: claim_name }
        }
        None | Some("Filesystem") => {
            if size.is_none() && !read_only {
                return Err("size: Required value: how large the disk in the claim is to be, such as 9GB".to_owned());
            }
            volume.file = Some(DiskFile {
                path: format!("{VOLUME_DIR}/{name}/disk.img"),
                size,
                format: if read_only { None } else { format.or(Some(DiskFormat::Ext4)) },
            });
            VolumeKind::File { claim: claim_name }
        }
        Some(other) => return Err(format!("volumeMode: Unsupported value: {other:?}: Block and Filesystem are known")),
    };
    Ok((kind, volume))
}

/// What names files or networks of the machine under the Pod: a VM must not reach them through its operator.
fn refuse_what_is_of_a_host(vm: &Vm) -> Result<(), Refusal> {
    let refused = |field: &str, why: &str| Err(Refusal(format!("spec.{field}: Forbidden: {why}")));
    if vm.spec.stdin {
        return refused("stdin", "a VM in a Pod is given no standard input");
    }
    if !vm.spec.copy_files.is_empty() {
        return refused("copyFiles", "a node's files are not a VM's; use a volume that is a configMap or a secret");
    }
    if !vm.spec.secrets().is_empty() {
        return refused("env and spec.files", "valueFrom names a node's file; use a volume that is a secret");
    }
    if vm.spec.cpu_template.as_ref().is_some_and(|template| template.starts_with('/')) {
        return refused("cpuTemplate", "a node's files are not a VM's; use one of Firecracker's own, by its name");
    }
    if let Some(Ssh::PublicKey(_)) = vm.spec.ssh {
        return refused("ssh", "a node's files are not a VM's; put the key into the guest by a secret");
    }
    if vm.spec.image.oci.as_ref().is_some_and(|source| !matches!(source, ignite_api::ImageSource::Registry(_))) {
        return refused("image.oci", "in Kubernetes an image comes from a registry");
    }
    match vm.spec.network.mode.as_deref() {
        None | Some("pod" | "user" | "none") => {}
        Some(_) => return refused("network.mode", "in Kubernetes it is pod, user or none"),
    }
    if !vm.spec.network.ips.is_empty() || vm.spec.network.mac.is_some() {
        return refused("network.ips", "the guest has its Pod's address, which the cluster's network gives");
    }
    if vm.spec.network.bandwidth.is_some() {
        return refused(
            "network.bandwidth",
            "set the Pod annotations kubernetes.io/ingress-bandwidth and egress-bandwidth instead",
        );
    }
    Ok(())
}

#[cfg(test)]
#[path = "wish_tests.rs"]
mod tests;
