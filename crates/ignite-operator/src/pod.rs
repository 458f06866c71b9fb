//! The Pod that runs a VM: pure.
//!
//! ```text
//!  init  cache     makes the node's cache the VM's own to write            root, CHOWN           only with a cache
//!  init  prepare   fetches image and kernel                                non-root
//!  init  network   hands eth0 over to a tap of the VM's user               root, NET_ADMIN       network "pod" only
//!        vm        ignited pod run: the supervisor, the VMM, the guest     non-root, nothing
//! ```
//!
//! The address is the Pod's until `network` has run, and the guest's from then on: what needs the network comes before.

use crate::objects::{GROUP, VirtualMachine};
use crate::pod_metadata::remember_keys;
use crate::pod_options::{DeviceAccess, PodOptions};
use crate::pod_resources::{Needs, resources_of};
use crate::pod_volumes::{Storage, storage_of};
use crate::wish::{Refusal, Wish};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, ContainerPort, EnvVar, ExecAction, Pod, PodSecurityContext, PodSpec, Probe,
    SeccompProfile, SecurityContext, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::collections::BTreeMap;

/// Label of every Pod of ours, and its value.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "ignite");
/// Label of a Pod: the VM it runs.
pub const VM_LABEL: &str = "ignite.weave.works/vm";
/// Annotation of a Pod: hash of the wish it was made from.
pub const HASH_ANNOTATION: &str = "ignite.weave.works/spec-hash";
/// Annotation of a Pod: the VM as Ignite starts it, which the Pod finds as a file.
pub const MANIFEST_ANNOTATION: &str = "ignite.weave.works/vm-manifest";
/// Name of the container that is the VM.
pub const VM_CONTAINER: &str = "vm";
/// Exit code of `ignited pod prepare` on a node whose KVM cannot be used (`EX_CONFIG`).
pub const NO_KVM_EXIT_CODE: i32 = 78;

const PROGRAM: &str = "/usr/bin/ignited";
pub(crate) const DATA_DIR: &str = "/ignite/data";
pub(crate) const RUN_DIR: &str = "/ignite/run";
pub(crate) const MANIFEST_DIR: &str = "/ignite/manifest";
pub(crate) const SECRETS_DIR: &str = "/ignite/pull-secrets";
/// What a stop of the guest leaves to its supervisor for undoing everything.
const UNDO_SECONDS: i64 = 20;
/// As in Docker and in Ignite.
const STOP_SECONDS: i64 = 10;
/// A guest under software emulation on a busy node needs most of it.
const BOOT_PROBES: i32 = 90;
const BOOT_PROBE_SECONDS: i32 = 2;
/// Longest annotations of an object, in bytes, less what others may want (`TotalAnnotationSizeLimitB`).
const MAX_MANIFEST_LEN: usize = 200 << 10;

/// The Pod of a VM.
pub fn pod_for(object: &VirtualMachine, wish: &Wish, options: &PodOptions) -> Result<Pod, Refusal> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let needs = Needs::of(wish, options);
    let storage = storage_of(wish, options, &needs);
    let resources = resources_of(wish, options, &needs)?;
    let stop = i64::from(wish.vm.spec.stop_timeout_seconds.map_or(STOP_SECONDS as u32, |seconds| seconds));
    let builder = Builder { wish, options, needs: &needs, storage: &storage };
    let mut init: Vec<Container> = Vec::new();
    if options.cache_dir.is_some() {
        init.push(builder.cache());
    }
    init.push(builder.prepare());
    if needs.is_pod_network {
        init.push(builder.network());
    }
    for container in &mut init {
        container.resources = Some(resources.for_init.clone());
    }
    if let Some(network) = init.iter_mut().find(|container| container.name == "network") {
        network.resources = Some(resources.for_network.clone());
    }
    let mut vm = builder.vm();
    vm.resources = Some(resources.for_vm);
    Ok(Pod {
        metadata: metadata_of(object, &name, wish)?,
        spec: Some(PodSpec {
            affinity: affinity_of(wish, options, &needs),
            // A token of the API server is nothing for a VMM, let alone its guest.
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            containers: vec![vm],
            hostname: None,
            image_pull_secrets: wish.pod.image_pull_secrets.clone(),
            init_containers: Some(init),
            node_selector: wish.pod.node_selector.clone(),
            priority_class_name: wish.pod.priority_class_name.clone(),
            restart_policy: Some(wish.restarts_in_pod().to_owned()),
            security_context: Some(PodSecurityContext {
                fs_group: options.user,
                seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..Default::default() }),
                supplemental_groups: options.kvm_group.map(|group| vec![group]),
                ..Default::default()
            }),
            service_account_name: wish.pod.service_account_name.clone(),
            termination_grace_period_seconds: Some(stop + UNDO_SECONDS),
            tolerations: wish.pod.tolerations.clone(),
            topology_spread_constraints: wish.pod.topology_spread_constraints.clone(),
            volumes: Some(storage.volumes),
            ..PodSpec::default()
        }),
        status: None,
    })
}

fn metadata_of(object: &VirtualMachine, name: &str, wish: &Wish) -> Result<ObjectMeta, Refusal> {
    let manifest = serde_json::to_string(&wish.vm).map_err(|error| Refusal(format!("spec: {error}")))?;
    if manifest.len() > MAX_MANIFEST_LEN {
        let what = "command, args, env and the rest are more than a Pod's annotation takes; use a configMap";
        return Err(Refusal(format!("spec: Invalid value: {} bytes: {what}", manifest.len())));
    }
    let mut annotations = annotations_of(object);
    annotations.insert(HASH_ANNOTATION.to_owned(), wish.hash());
    annotations.insert(MANIFEST_ANNOTATION.to_owned(), manifest);
    let mut metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: object.metadata.namespace.clone(),
        labels: Some(labels_of(object)),
        annotations: Some(annotations),
        // An object that is in no cluster has no identity, and owns nothing.
        owner_references: object.metadata.uid.clone().map(|uid| {
            vec![OwnerReference {
                api_version: object.api_version.clone(),
                kind: object.kind.clone(),
                name: name.to_owned(),
                uid,
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]
        }),
        ..ObjectMeta::default()
    };
    remember_keys(&mut metadata);
    Ok(metadata)
}

/// Labels of a VM's Pod: the VM's own, so that Services select VMs, and ours.
pub fn labels_of(object: &VirtualMachine) -> BTreeMap<String, String> {
    let mut labels = object.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    // A label is shorter than a name may be.
    let name: String = object.metadata.name.clone().unwrap_or_default().chars().take(63).collect();
    labels.insert(VM_LABEL.to_owned(), name.trim_end_matches(['.', '-', '_']).to_owned());
    labels
}

/// Annotations of a VM that its Pod gets, too: all but those of clients and ours.
pub fn annotations_of(object: &VirtualMachine) -> BTreeMap<String, String> {
    let all = object.metadata.annotations.clone().unwrap_or_default();
    let is_for_pod = |key: &String| !key.starts_with("kubectl.kubernetes.io/") && !key.starts_with(GROUP);
    all.into_iter().filter(|(key, _)| is_for_pod(key)).collect()
}

/// Nodes that are known to have no KVM are avoided where KVM is asked of the node and not of a device plugin.
fn affinity_of(wish: &Wish, options: &PodOptions, needs: &Needs) -> Option<Affinity> {
    let mut affinity = wish.pod.affinity.clone();
    let Some(label) = options.kvm_node_label.as_ref().filter(|_| needs.is_kvm_required) else { return affinity };
    let term = k8s_openapi::api::core::v1::NodeSelectorRequirement {
        key: label.clone(),
        operator: "In".to_owned(),
        values: Some(vec!["true".to_owned()]),
    };
    let node = affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    let required = node.required_during_scheduling_ignored_during_execution.get_or_insert_default();
    if required.node_selector_terms.is_empty() {
        required.node_selector_terms.push(Default::default());
    }
    for one in &mut required.node_selector_terms {
        one.match_expressions.get_or_insert_default().push(term.clone());
    }
    affinity
}

struct Builder<'a> {
    wish: &'a Wish,
    options: &'a PodOptions,
    needs: &'a Needs,
    storage: &'a Storage,
}

impl Builder<'_> {
    fn container(
        &self,
        name: &str,
        args: Vec<String>,
        mounts: Vec<VolumeMount>,
        security: SecurityContext,
    ) -> Container {
        Container {
            name: name.to_owned(),
            image: Some(self.options.image.clone()),
            image_pull_policy: self.options.image_pull_policy.clone(),
            command: Some(vec![PROGRAM.to_owned(), "pod".to_owned(), name_of_verb(name).to_owned()]),
            args: if args.is_empty() { None } else { Some(args) },
            env: Some(
                [("IGNITE_DATA_DIR", DATA_DIR), ("IGNITE_RUN_DIR", RUN_DIR), ("HOME", RUN_DIR)]
                    .map(|(name, value)| EnvVar {
                        name: name.to_owned(),
                        value: Some(value.to_owned()),
                        value_from: None,
                    })
                    .to_vec(),
            ),
            volume_mounts: Some(mounts),
            security_context: Some(security),
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            ..Container::default()
        }
    }

    fn cache(&self) -> Container {
        let args = vec![format!("--owner={}", self.options.user.unwrap_or(0))];
        self.container("cache", args, self.storage.for_cache.clone(), root_with(&["CHOWN", "FOWNER"]))
    }

    fn prepare(&self) -> Container {
        let mut args = vec![manifest_flag()];
        if self.needs.is_kvm_required {
            args.push("--require-kvm".to_owned());
        }
        let secrets = self.wish.pod.image_pull_secrets.iter().flatten();
        args.extend(secrets.map(|secret| format!("--pull-secret={SECRETS_DIR}/{}", secret.name)));
        let mut container = self.container("prepare", args, self.storage.for_prepare.clone(), self.unprivileged());
        container.volume_devices = None;
        if self.needs.kvm == Some(DeviceAccess::HostPath) {
            container.security_context = Some(privileged());
        }
        container
    }

    fn network(&self) -> Container {
        let args = vec![format!("--owner={}", self.options.user.unwrap_or(0))];
        let security = match self.options.tun {
            DeviceAccess::HostPath => privileged(),
            DeviceAccess::Resource(_) => root_with(&["NET_ADMIN"]),
        };
        self.container("network", args, self.storage.for_network.clone(), security)
    }

    fn vm(&self) -> Container {
        let mut args = vec![manifest_flag()];
        if self.needs.is_kvm_required {
            args.push("--require-kvm".to_owned());
        }
        let files = self.wish.files.iter();
        args.extend(files.map(|(volume, path)| format!("--files={}/{volume}={path}", crate::wish::FILES_DIR)));
        let needs_device = self.needs.kvm == Some(DeviceAccess::HostPath)
            || (self.needs.is_pod_network && self.options.tun == DeviceAccess::HostPath);
        let security = if needs_device { privileged() } else { self.unprivileged() };
        let ports = &self.wish.vm.spec.network.ports;
        Container {
            volume_devices: Some(self.storage.devices.clone()).filter(|devices| !devices.is_empty()),
            ports: Some(ports.iter().map(container_port).collect::<Vec<_>>()).filter(|ports| !ports.is_empty()),
            startup_probe: Some(Probe {
                period_seconds: Some(BOOT_PROBE_SECONDS),
                failure_threshold: Some(BOOT_PROBES),
                ..probe("ready")
            }),
            readiness_probe: Some(Probe { period_seconds: Some(5), failure_threshold: Some(2), ..probe("ready") }),
            liveness_probe: Some(Probe { period_seconds: Some(20), failure_threshold: Some(3), ..probe("alive") }),
            tty: Some(true).filter(|_| self.wish.vm.spec.tty),
            ..self.container(VM_CONTAINER, args, self.storage.for_vm.clone(), security)
        }
    }

    fn unprivileged(&self) -> SecurityContext {
        SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
            privileged: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_group: self.options.user,
            run_as_non_root: self.options.user.map(|user| user != 0),
            run_as_user: self.options.user,
            ..SecurityContext::default()
        }
    }
}

fn name_of_verb(container: &str) -> &str {
    if container == VM_CONTAINER { "run" } else { container }
}

fn manifest_flag() -> String {
    format!("--manifest={MANIFEST_DIR}/vm.json")
}

fn root_with(capabilities: &[&str]) -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            add: Some(capabilities.iter().map(|one| (*one).to_owned()).collect()),
            drop: Some(vec!["ALL".to_owned()]),
        }),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_user: Some(0),
        run_as_group: Some(0),
        ..SecurityContext::default()
    }
}

/// A device of the node that no device plugin hands out can be opened by nobody else.
fn privileged() -> SecurityContext {
    SecurityContext {
        privileged: Some(true),
        run_as_user: Some(0),
        run_as_group: Some(0),
        ..SecurityContext::default()
    }
}

fn probe(what: &str) -> Probe {
    let command = [PROGRAM, "pod", what].map(str::to_owned).to_vec();
    Probe { exec: Some(ExecAction { command: Some(command) }), timeout_seconds: Some(10), ..Probe::default() }
}

fn container_port(port: &ignite_api::PortMapping) -> ContainerPort {
    ContainerPort {
        container_port: i32::from(port.vm_port),
        protocol: Some(port.protocol.to_string().to_uppercase()),
        ..ContainerPort::default()
    }
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
