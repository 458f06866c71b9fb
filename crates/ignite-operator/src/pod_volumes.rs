//! Volumes of a VM's Pod, and which container sees which.

use crate::pod::{DATA_DIR, MANIFEST_ANNOTATION, MANIFEST_DIR, RUN_DIR, SECRETS_DIR};
use crate::pod_options::{DeviceAccess, PodOptions};
use crate::pod_resources::Needs;
use crate::wish::{DEVICE_DIR, FILES_DIR, FileSource, VOLUME_DIR, VolumeKind, Wish};
use ignite_api::Size;
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, DownwardAPIVolumeFile, DownwardAPIVolumeSource, EmptyDirVolumeSource, HostPathVolumeSource,
    KeyToPath, ObjectFieldSelector, PersistentVolumeClaimVolumeSource, SecretVolumeSource, Volume, VolumeDevice,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Where the `cache` container finds the node's cache.
const CACHE_DIR: &str = "/ignite/cache";
/// What VMs of a node share of a data directory: blobs of images, and the disks made from them.
const SHARED: [&str; 2] = ["oci", "base"];
/// Logs, records and the kernel, beside the disk.
const DATA_OVERHEAD: Size = Size::gib(1);

/// Volumes, and the mounts of each container.
pub(crate) struct Storage {
    pub(crate) volumes: Vec<Volume>,
    pub(crate) devices: Vec<VolumeDevice>,
    pub(crate) for_cache: Vec<VolumeMount>,
    pub(crate) for_prepare: Vec<VolumeMount>,
    pub(crate) for_network: Vec<VolumeMount>,
    pub(crate) for_vm: Vec<VolumeMount>,
}

pub(crate) fn storage_of(wish: &Wish, options: &PodOptions, needs: &Needs) -> Storage {
    let own = [mount("manifest", MANIFEST_DIR, true), mount("data", DATA_DIR, false), mount("run", RUN_DIR, false)];
    let tmp = mount("run", "/tmp", false);
    let mut storage = Storage {
        volumes: own_volumes(wish),
        devices: Vec::new(),
        for_cache: Vec::new(),
        for_prepare: own.iter().cloned().chain([tmp.clone()]).collect(),
        for_network: vec![mount("run", RUN_DIR, false)],
        for_vm: own.iter().cloned().chain([tmp]).collect(),
    };
    if let Some(dir) = &options.cache_dir {
        storage.volumes.push(host_path("cache", dir, "DirectoryOrCreate"));
        storage.for_cache.push(mount("cache", CACHE_DIR, false));
        for part in SHARED {
            let of = |read_only| VolumeMount {
                sub_path: Some(part.to_owned()),
                ..mount("cache", &format!("{DATA_DIR}/{part}"), read_only)
            };
            storage.for_prepare.push(of(false));
            // Who breaks out of a guest must not write what other guests boot from.
            storage.for_vm.push(of(true));
        }
    }
    let kvm_kind = if needs.is_kvm_required { "CharDevice" } else { "" };
    if needs.kvm == Some(DeviceAccess::HostPath) {
        storage.volumes.push(host_path("kvm", "/dev/kvm", kvm_kind));
        storage.for_prepare.push(mount("kvm", "/dev/kvm", false));
        storage.for_vm.push(mount("kvm", "/dev/kvm", false));
    }
    if needs.is_pod_network && options.tun == DeviceAccess::HostPath {
        storage.volumes.push(host_path("tun", "/dev/net/tun", "CharDevice"));
        storage.for_network.push(mount("tun", "/dev/net/tun", false));
        storage.for_vm.push(mount("tun", "/dev/net/tun", false));
    }
    // A volume's name is shorter than a secret's may be, and has no dots.
    for (index, secret) in wish.pod.image_pull_secrets.iter().flatten().enumerate() {
        let name = format!("pull-secret-{index}");
        let source = SecretVolumeSource {
            secret_name: Some(secret.name.clone()),
            // Pods start without a pull secret that is not there, as the kubelet has it.
            optional: Some(true),
            items: Some(vec![KeyToPath { key: ".dockerconfigjson".into(), path: "config.json".into(), mode: None }]),
            ..Default::default()
        };
        storage.for_prepare.push(mount(&name, &format!("{SECRETS_DIR}/{}", secret.name), true));
        storage.volumes.push(Volume { name, secret: Some(source), ..Volume::default() });
    }
    add_wanted(wish, &mut storage);
    storage
}

fn own_volumes(wish: &Wish) -> Vec<Volume> {
    let manifest = DownwardAPIVolumeFile {
        path: "vm.json".to_owned(),
        field_ref: Some(ObjectFieldSelector {
            field_path: format!("metadata.annotations['{MANIFEST_ANNOTATION}']"),
            api_version: None,
        }),
        ..Default::default()
    };
    let limit = wish.vm.spec.disk_size.as_bytes() + DATA_OVERHEAD.as_bytes();
    vec![
        Volume {
            name: "manifest".to_owned(),
            downward_api: Some(DownwardAPIVolumeSource { items: Some(vec![manifest]), default_mode: None }),
            ..Volume::default()
        },
        Volume {
            name: "data".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity(format!("{}Mi", limit.div_ceil(1 << 20)))),
                medium: None,
            }),
            ..Volume::default()
        },
        Volume {
            name: "run".to_owned(),
            // Sockets and the launch file, which holds the guest's secrets: never on a disk.
            empty_dir: Some(EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                size_limit: Some(Quantity("64Mi".to_owned())),
            }),
            ..Volume::default()
        },
    ]
}

/// What the VM's own `storage` names. Names of a VM's volumes are freer than those of a Pod's.
fn add_wanted(wish: &Wish, storage: &mut Storage) {
    for (index, wanted) in wish.volumes.iter().enumerate() {
        let name = format!("volume-{index}");
        let claimed = |claim: &String| PersistentVolumeClaimVolumeSource {
            claim_name: claim.clone(),
            // The server drops `false`: what is sent must be what comes back.
            read_only: Some(true).filter(|_| wanted.read_only),
        };
        let volume = Volume { name: name.clone(), ..Volume::default() };
        storage.volumes.push(match &wanted.kind {
            VolumeKind::Block { claim } => {
                storage.devices.push(VolumeDevice { name, device_path: format!("{DEVICE_DIR}/{}", wanted.name) });
                Volume { persistent_volume_claim: Some(claimed(claim)), ..volume }
            }
            VolumeKind::File { claim } => {
                storage.for_vm.push(mount(&name, &format!("{VOLUME_DIR}/{}", wanted.name), wanted.read_only));
                Volume { persistent_volume_claim: Some(claimed(claim)), ..volume }
            }
            VolumeKind::ConfigMap(files) => {
                storage.for_vm.push(mount(&name, &format!("{FILES_DIR}/{}", wanted.name), true));
                let FileSource { name, items, default_mode, optional } = files.clone();
                Volume { config_map: Some(ConfigMapVolumeSource { name, items, default_mode, optional }), ..volume }
            }
            VolumeKind::Secret(files) => {
                storage.for_vm.push(mount(&name, &format!("{FILES_DIR}/{}", wanted.name), true));
                let FileSource { name, items, default_mode, optional } = files.clone();
                let secret_name = Some(name);
                Volume { secret: Some(SecretVolumeSource { secret_name, items, default_mode, optional }), ..volume }
            }
        });
    }
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn host_path(name: &str, path: &str, kind: &str) -> Volume {
    let source = HostPathVolumeSource { path: path.to_owned(), type_: Some(kind.to_owned()) };
    Volume { name: name.to_owned(), host_path: Some(source), ..Volume::default() }
}
