//! The VM object: what is wanted (`spec`) and what is (`status`).

use crate::lifecycle::Phase;
pub use crate::machine_options::HugePages;
use crate::meta::ObjectMeta;
use crate::meta::null_is_default;
pub use crate::network::NetworkSpec;
use crate::network::{DnsConfig, HostAlias};
use crate::reference::ImageSource;
use crate::restart_policy::RestartPolicy;
use crate::size::Size;
pub use crate::storage::{BlockDevice, DiskFile, DiskFormat, DiskLimits, StorageSpec, Volume, VolumeMount};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A virtual machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vm {
    /// Always [`crate::API_VERSION`] once decoded.
    pub api_version: String,
    /// `VM`.
    pub kind: String,
    /// Name, uid, labels.
    #[serde(default, deserialize_with = "null_is_default")]
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default, deserialize_with = "null_is_default")]
    pub spec: VmSpec,
    /// What is.
    #[serde(default, deserialize_with = "null_is_default")]
    pub status: VmStatus,
}

impl Vm {
    /// A VM that has been decided and does not exist yet.
    pub fn new(metadata: ObjectMeta, spec: VmSpec) -> Vm {
        Vm {
            api_version: crate::API_VERSION.to_owned(),
            kind: <Vm as crate::ApiObject>::KIND.to_owned(),
            metadata,
            spec,
            status: VmStatus::default(),
        }
    }

    /// Host name the guest gets: `spec.hostname`, else one made from the VM's name.
    pub fn hostname(&self) -> String {
        self.spec.hostname.clone().unwrap_or_else(|| crate::names::hostname_of(&self.metadata.name))
    }
}

/// `spec` of a VM. Fields marked *extension* are ours; the others are Weave Ignite's v1alpha4.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VmSpec {
    /// Image of the root file system.
    #[serde(deserialize_with = "null_is_default")]
    pub image: OciSource,
    /// Kernel.
    #[serde(deserialize_with = "null_is_default")]
    pub kernel: KernelSpec,
    /// Weave Ignite's sandbox image: read, kept, and without effect here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<OciSource>,
    /// Virtual CPUs, 1 to 32.
    pub cpus: u32,
    /// Guest memory.
    pub memory: Size,
    /// Apparent size of the writable disk.
    pub disk_size: Size,
    /// Networking.
    #[serde(deserialize_with = "null_is_default")]
    pub network: NetworkSpec,
    /// Extra disks.
    #[serde(deserialize_with = "null_is_default")]
    pub storage: StorageSpec,
    /// Host files copied into the guest before it runs.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub copy_files: Vec<FileMapping>,
    /// Generated or given ssh key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<Ssh>,

    /// *Extension.* Replaces the image's ENTRYPOINT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// *Extension.* Replaces the image's CMD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// *Extension.* Added to the image's ENV.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub env: Vec<EnvVar>,
    /// *Extension.* Files that the guest has before anything runs in it.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub files: Vec<crate::secret::GuestFile>,
    /// *Extension.* Replaces the image's WORKDIR.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// *Extension.* Replaces the image's USER.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::optional_text_of_scalar"))]
    pub user: Option<String>,
    /// *Extension.* Host name; default: the VM's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// *Extension.* Further lines of the guest's `/etc/hosts`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub host_aliases: Vec<HostAlias>,
    /// *Extension.* How the guest resolves names; absent: as its network says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_config: Option<DnsConfig>,
    /// *Extension.* Task or machine.
    #[serde(skip_serializing_if = "InitMode::is_auto")]
    pub init: InitMode,
    /// *Extension.* Shared base with a writable layer, or a disk of its own.
    #[serde(skip_serializing_if = "RootDisk::is_overlay")]
    pub root_disk: RootDisk,
    /// *Extension.* How the VMM is kept from the host.
    #[serde(skip_serializing_if = "Isolation::is_auto")]
    pub isolation: Isolation,
    /// *Extension.* What its memory is made of.
    #[serde(skip_serializing_if = "HugePages::is_none")]
    pub huge_pages: HugePages,
    /// *Extension.* What it sees of the processor: the name of a CPU template of Firecracker's, or the path of a file with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_template: Option<String>,
    /// *Extension.* The task gets a terminal.
    #[serde(skip_serializing_if = "is_false")]
    pub tty: bool,
    /// *Extension.* The task's standard input is kept open.
    #[serde(skip_serializing_if = "is_false")]
    pub stdin: bool,
    /// *Extension.* Seconds a stop waits before it kills (default 10, as Docker).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout_seconds: Option<u32>,
    /// *Extension.* The VM and its disks are removed when it ends.
    #[serde(skip_serializing_if = "is_false")]
    pub auto_remove: bool,
    /// *Extension.* VMs of the same set that have to be ready before this one is started.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub depends_on: Vec<crate::depends_on::Dependency>,
    /// *Extension.* How it is found out whether it does its work; absent: by the image's `HEALTHCHECK`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<crate::health::HealthCheck>,
    /// *Extension.* Whether it is started again when it has ended.
    #[serde(skip_serializing_if = "RestartPolicy::is_no", deserialize_with = "null_is_default")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<RestartPolicy>"))]
    pub restart_policy: RestartPolicy,
    /// *Extension.* VMM to use; absent: chosen at the first start and kept in `status.vmm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vmm: Option<String>,
}

fn is_false(b: &bool) -> bool {
    !*b
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Default for VmSpec {
    fn default() -> Self {
        VmSpec {
            image: OciSource::default(),
            kernel: KernelSpec::default(),
            sandbox: None,
            cpus: 1,
            memory: Size::mib(512),
            disk_size: Size::gib(4),
            network: NetworkSpec::default(),
            storage: StorageSpec::default(),
            copy_files: Vec::new(),
            ssh: None,
            command: None,
            args: None,
            env: Vec::new(),
            files: Vec::new(),
            working_dir: None,
            user: None,
            hostname: None,
            host_aliases: Vec::new(),
            dns_config: None,
            init: InitMode::Auto,
            root_disk: RootDisk::Overlay,
            isolation: Isolation::Auto,
            huge_pages: HugePages::None,
            cpu_template: None,
            tty: false,
            stdin: false,
            stop_timeout_seconds: None,
            auto_remove: false,
            depends_on: Vec::new(),
            health_check: None,
            restart_policy: RestartPolicy::No,
            vmm: None,
        }
    }
}

/// Where an image comes from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OciSource {
    /// Reference, with a transport where it is not a registry (`oci:/path`, `oci-archive:/path`, ...).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci: Option<ImageSource>,
}

/// Which kernel, with which arguments.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KernelSpec {
    /// Name of an imported kernel or a reference to a kernel image; absent: the default kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oci: Option<String>,
    /// Replaces our optional kernel arguments; what boot needs is always added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd_line: Option<String>,
}

/// A host file that is copied into the guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileMapping {
    /// Absolute host path.
    pub host_path: String,
    /// Absolute guest path.
    pub vm_path: String,
}

/// `ssh: true` generates a key; `ssh: /path` uses that public key.
///
/// `"true"` and `"false"` are read as the booleans; an empty text or an empty map, which Weave Ignite wrote for an unset
/// field, as `false`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Ssh {
    /// Generate a key pair (`true`); `false` is as if it were absent.
    Generate(bool),
    /// Path of a public key on the host.
    PublicKey(String),
}

impl<'de> Deserialize<'de> for Ssh {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ssh, D::Error> {
        deserializer.deserialize_any(SshVisitor)
    }
}

struct SshVisitor;

impl<'de> de::Visitor<'de> for SshVisitor {
    type Value = Ssh;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("true, false or the path of a public key")
    }

    fn visit_bool<E: de::Error>(self, generate: bool) -> Result<Ssh, E> {
        Ok(Ssh::Generate(generate))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Ssh, E> {
        Ok(match text {
            "true" => Ssh::Generate(true),
            "false" | "" => Ssh::Generate(false),
            path => Ssh::PublicKey(path.to_owned()),
        })
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Ssh, A::Error> {
        match map.next_key::<de::IgnoredAny>()? {
            None => Ok(Ssh::Generate(false)),
            Some(_) => Err(de::Error::invalid_type(de::Unexpected::Map, &self)),
        }
    }
}

/// An environment variable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvVar {
    /// Name.
    pub name: String,
    /// Value.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::text_of_scalar"))]
    pub value: String,
    /// In place of `value`: the file of the host that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<crate::secret::ValueFrom>,
}

/// Who is PID 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum InitMode {
    /// The image's init when it has one and no command is given, else a task.
    #[default]
    Auto,
    /// The image's init.
    Image,
    /// A task under `ignite-init`.
    None,
}

impl InitMode {
    fn is_auto(&self) -> bool {
        *self == InitMode::Auto
    }
}

/// How the root file system is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum RootDisk {
    /// Overlayfs of the image's shared read-only base and a private writable disk.
    #[default]
    Overlay,
    /// A full private ext4.
    Private,
}

impl RootDisk {
    fn is_overlay(&self) -> bool {
        *self == RootDisk::Overlay
    }
}

/// How a VM's VMM is kept from the host and from other VMs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Isolation {
    /// By everything the host allows; `status.isolation` tells what that is.
    #[default]
    Auto,
    /// By everything, or the VM is not started.
    Strict,
    /// Not at all.
    None,
}

impl Isolation {
    fn is_auto(&self) -> bool {
        *self == Isolation::Auto
    }
}

/// `status` of a VM.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VmStatus {
    /// True while the guest runs; kept for old readers, derived from `phase`.
    pub running: bool,
    /// Where the VM is in its life.
    pub phase: Phase,
    /// One line: why it is in that phase, when that is not obvious.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Exit code of the last run: the task's own, 137 when killed, 0 for a machine that powered off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// When the guest became ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<jiff::Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<jiff::Timestamp>,
    /// Which program runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeStatus>,
    /// Observed networking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkStatus>,
    /// Image the VM was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<SourceStatus>,
    /// Kernel it boots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<SourceStatus>,
    /// Prefix of host-side names; empty: `ignite`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_prefix: Option<String>,
    /// VMM chosen at the first start, kept for the VM's life: `qemu`, `firecracker`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vmm: Option<String>,
    /// Why that one: what the preferred ones lack, or that it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vmm_reason: Option<String>,
    /// `kvm` or `tcg` while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// What isolates the VMM from the host while it runs: each measure, applied or not.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub isolation: BTreeMap<String, String>,
    /// Whether it does its work, while it runs and has a health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<crate::health::HealthStatus>,
    /// Whether it runs as a `task` or a `machine`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Times the VM has been started by someone.
    pub starts: u32,
    /// Times its restart policy has started it again since then.
    #[serde(skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// Its last end was asked for by someone, so `unless-stopped` leaves it at rest.
    #[serde(skip_serializing_if = "is_false")]
    pub stopped_by_user: bool,
}

impl VmStatus {
    /// Forgets what is only true while it runs.
    pub fn forget_run(&mut self) {
        self.runtime = None;
        self.network = None;
        self.accelerator = None;
        self.isolation.clear();
        self.health = None;
    }
}

/// Which program runs a VM.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RuntimeStatus {
    /// Pid of the supervisor, in decimal.
    pub id: String,
    /// `ignite-spawn`.
    pub name: String,
}

/// Observed networking.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkStatus {
    /// `user`, `none`, `cni`.
    pub plugin: String,
    /// Guest addresses, without prefix length.
    #[serde(deserialize_with = "null_is_default")]
    pub ip_addresses: Vec<String>,
}

/// What an image or kernel was when the VM was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SourceStatus {
    /// Uid of our Image or Kernel object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<crate::Uid>,
    /// Content digest, e.g. `oci://docker.io/library/redis@sha256:...`.
    pub id: String,
    /// Bytes of the source.
    pub size: Size,
}
