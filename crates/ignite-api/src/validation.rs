//! What makes an object invalid, as one list of all its field errors.
//!
//! Each error reads like Kubernetes' own: `spec.cpus: Invalid value: 64: must be between 1 and 32`.

mod depends_on;
mod health;
mod machine_options;
mod network;
mod secret;

use crate::configuration::Configuration;
use crate::names;
use crate::vm::{EnvVar, FileMapping, KernelSpec, Ssh, StorageSpec, Vm, VmSpec};
use crate::{ObjectMeta, Size};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

/// Virtual CPUs a VM can have; Firecracker's limit.
pub const CPUS: std::ops::RangeInclusive<u32> = 1..=32;
/// Least memory: a stock distribution kernel with its initramfs does not reach user space with less.
pub const MIN_MEMORY: Size = Size::mib(64);
/// Most memory.
pub const MAX_MEMORY: Size = Size::gib(4 << 10);
/// Least disk: an ext4 with a journal does not fit in less.
pub const MIN_DISK_SIZE: Size = Size::mib(16);
/// Most disk: what ext4 addresses with 32-bit numbers of 4 KiB blocks.
pub const MAX_DISK_SIZE: Size = Size::gib(16 << 10);
/// Highest limit of a disk's operations, and of its bytes, per second: less than VMMs count to.
pub const MAX_DISK_RATE: u64 = 1_000_000_000_000;
/// Longest kernel command line of the user, in bytes: x86-64 takes 2048, the driver's own arguments included.
pub const MAX_CMD_LINE_LEN: usize = 2048;
/// Longest wait for a stop: one day.
pub const MAX_STOP_TIMEOUT_SECONDS: u32 = 24 * 60 * 60;
/// Longest single argument or `NAME=value`, in bytes (Linux' `MAX_ARG_STRLEN`).
pub const MAX_WORD_LEN: usize = 128 * 1024 - 1;
/// Most bytes of command, arguments and environment together.
pub const MAX_WORDS_LEN: usize = 256 * 1024;
/// Longest path, in bytes (Linux' `PATH_MAX` without the final NUL).
pub const MAX_PATH_LEN: usize = 4095;
/// Most volumes, mounts, copied files or labels.
pub const MAX_ITEMS: usize = 256;
/// Most published ports, ranges counted port by port.
pub const MAX_PORTS: usize = 4096;
const MAX_LABEL_KEY_LEN: usize = 317;
const MAX_LABELS_LEN: usize = 256 * 1024;

/// One thing that is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct FieldError {
    /// Field, e.g. `spec.network.ports[1].hostPort`.
    pub path: String,
    /// What is wrong with it.
    pub problem: FieldProblem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldProblem {
    /// A mandatory field is empty.
    #[error("Required value: {0}")]
    Required(String),
    /// The value is not valid; shown with control characters escaped and shortened.
    #[error("Invalid value: {value}: {reason}")]
    Invalid {
        /// The value.
        value: String,
        /// What it must be.
        reason: String,
    },
    /// The value is already there and has to be unique.
    #[error("Duplicate value: {0}")]
    Duplicate(String),
    /// The value refers to something that is not there.
    #[error("Not found: {0}")]
    NotFound(String),
    /// There is more than allowed.
    #[error("Too many: {found}: must have at most {limit}")]
    TooMany {
        /// How many there are.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
}

/// Everything that is wrong with an object, never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", list(.0))]
pub struct ValidationError(pub Vec<FieldError>);

fn list(errors: &[FieldError]) -> String {
    match errors {
        [error] => error.to_string(),
        errors => format!("[{}]", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// Checks a VM that is about to be made: its name is set and its image given.
pub fn validate_vm(vm: &Vm) -> Result<(), ValidationError> {
    let mut check = Check::default();
    check.metadata(&vm.metadata);
    match vm.metadata.name.as_str() {
        "" => check.required("metadata.name", "a VM has a name"),
        name => check.name("metadata.name", name, names::check_vm_name(name)),
    }
    if vm.spec.image.oci.is_none() {
        check.required("spec.image.oci", "an image to run");
    }
    check.spec("spec", &vm.spec);
    check.finish()
}

const ID_PREFIX_RULE: &str = "must be at most 32 lower-case letters, digits or '-', the last two not at its ends";

fn is_id_prefix(prefix: &str) -> bool {
    prefix.len() <= 32 && names::check_vm_name(prefix).is_ok() && !prefix.contains('.')
}

/// Checks a prefix of host-side names, as `--id-prefix` gives it.
pub fn check_id_prefix(prefix: &str) -> Result<(), String> {
    if is_id_prefix(prefix) { Ok(()) } else { Err(format!("invalid id prefix {}: {ID_PREFIX_RULE}", quoted(prefix))) }
}

/// Checks a host's Configuration.
pub fn validate_configuration(configuration: &Configuration) -> Result<(), ValidationError> {
    let mut check = Check::default();
    check.metadata(&configuration.metadata);
    let spec = &configuration.spec;
    if let Some(runtime) = &spec.runtime {
        let is_known = ["registry", "containerd", "docker"].contains(&runtime.as_str());
        check.invalid_unless(is_known, "spec.runtime", quoted(runtime), "must be registry, containerd or docker");
    }
    if let Some(plugin) = &spec.network_plugin {
        check.mode("spec.networkPlugin", plugin);
    }
    if let Some(prefix) = &spec.id_prefix {
        check.invalid_unless(is_id_prefix(prefix), "spec.idPrefix", quoted(prefix), ID_PREFIX_RULE);
    }
    if let Some(dir) = &spec.registry_config_dir {
        check.path("spec.registryConfigDir", dir);
    }
    if let Some(defaults) = &spec.vm_defaults {
        check.spec("spec.vmDefaults", defaults);
    }
    check.finish()
}

#[derive(Default)]
struct Check {
    errors: Vec<FieldError>,
}

impl Check {
    fn finish(self) -> Result<(), ValidationError> {
        if self.errors.is_empty() { Ok(()) } else { Err(ValidationError(self.errors)) }
    }

    fn push(&mut self, path: impl Display, problem: FieldProblem) {
        self.errors.push(FieldError { path: path.to_string(), problem });
    }

    fn required(&mut self, path: impl Display, what: &str) {
        self.push(path, FieldProblem::Required(what.to_owned()));
    }

    fn invalid(&mut self, path: impl Display, value: String, reason: impl Display) {
        self.push(path, FieldProblem::Invalid { value, reason: reason.to_string() });
    }

    fn invalid_unless(&mut self, is_valid: bool, path: impl Display, value: String, reason: impl Display) {
        if !is_valid {
            self.invalid(path, value, reason);
        }
    }

    fn name(&mut self, path: &str, name: &str, outcome: Result<(), names::InvalidName>) {
        if let Err(error) = outcome {
            self.invalid(path, quoted(name), error.reason);
        }
    }

    /// False when there are so many that looking at each would be in vain.
    fn at_most(&mut self, limit: usize, path: impl Display, found: usize) -> bool {
        if found > limit {
            self.push(path, FieldProblem::TooMany { found, limit });
        }
        found <= limit
    }

    fn unique<'a>(&mut self, seen: &mut BTreeSet<&'a str>, path: impl Display, value: &'a str) {
        if !seen.insert(value) {
            self.push(path, FieldProblem::Duplicate(quoted(value)));
        }
    }

    fn path(&mut self, path: impl Display, value: &str) {
        if let Some(reason) = why_not_a_path(value) {
            self.invalid(path, quoted(value), reason);
        }
    }

    /// The shape of a network mode; which modes exist is known by whoever attaches networks.
    fn mode(&mut self, path: impl Display, mode: &str) {
        let (plugin, name) = mode.split_once(':').unwrap_or((mode, "default"));
        let is_mode = names::check_vm_name(plugin).is_ok() && name.split(',').all(is_word);
        self.invalid_unless(
            is_mode,
            path,
            quoted(mode),
            "must be MODE or MODE:NAME[,NAME], such as user, none or cni:bridge",
        );
    }

    fn metadata(&mut self, metadata: &ObjectMeta) {
        self.labels("metadata.labels", &metadata.labels);
        self.labels("metadata.annotations", &metadata.annotations);
        self.interface_annotations("metadata.annotations", &metadata.annotations);
    }

    fn labels(&mut self, path: &str, labels: &BTreeMap<String, String>) {
        if !self.at_most(MAX_ITEMS, path, labels.len()) {
            return;
        }
        for (key, value) in labels {
            let is_key = !key.is_empty()
                && key.len() <= MAX_LABEL_KEY_LEN
                && !key.chars().any(|c| c.is_control() || c.is_whitespace() || c == '=');
            let reason = "a key must be 1 to 317 characters without white space, control characters and '='";
            self.invalid_unless(is_key, path, quoted(key), reason);
            let is_value = !value.chars().any(|c| c.is_control() && c != '\n' && c != '\t');
            self.invalid_unless(is_value, Key(path, key), quoted(value), "must not have control characters");
        }
        let len: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.invalid_unless(len <= MAX_LABELS_LEN, path, format!("{len} bytes"), "must be at most 256 KB in all");
    }

    fn spec(&mut self, path: &str, spec: &VmSpec) {
        let at = |field: &str| format!("{path}.{field}");
        self.kernel(path, &spec.kernel);
        self.invalid_unless(CPUS.contains(&spec.cpus), at("cpus"), spec.cpus.to_string(), "must be between 1 and 32");
        self.size(at("memory"), spec.memory, MIN_MEMORY, MAX_MEMORY, "a kernel does not boot with less");
        self.size(at("diskSize"), spec.disk_size, MIN_DISK_SIZE, MAX_DISK_SIZE, "an ext4 does not fit in less");
        self.machine_options(path, spec);
        self.network(&at("network"), &spec.network);
        self.host_aliases(&at("hostAliases"), &spec.host_aliases);
        if let Some(dns) = &spec.dns_config {
            self.dns_config(&at("dnsConfig"), dns);
        }
        self.storage(&at("storage"), &spec.storage);
        self.depends_on(&at("dependsOn"), &spec.depends_on);
        if let Some(check) = &spec.health_check {
            self.health_check(&at("healthCheck"), check);
        }
        self.copy_files(&at("copyFiles"), &spec.copy_files);
        if let Some(Ssh::PublicKey(key)) = &spec.ssh {
            self.path(at("ssh"), key);
        }
        self.words(path, spec);
        self.env(&at("env"), &spec.env);
        self.files(&at("files"), &spec.files);
        if let Some(dir) = spec.working_dir.as_deref().filter(|dir| !dir.is_empty()) {
            self.path(at("workingDir"), dir);
        }
        if let Some(user) = &spec.user {
            let parts = user.split(':').count();
            let is_user = user.len() <= 256 && parts <= 2 && !user.chars().any(|c| c.is_control() || c.is_whitespace());
            self.invalid_unless(is_user, at("user"), quoted(user), "must be USER or USER:GROUP, as names or numbers");
        }
        if let Some(hostname) = &spec.hostname {
            self.name(&at("hostname"), hostname, names::check_hostname(hostname));
        }
        if let Some(seconds) = spec.stop_timeout_seconds {
            let is_timeout = seconds <= MAX_STOP_TIMEOUT_SECONDS;
            let reason = "must be at most 86400, which is a day";
            self.invalid_unless(is_timeout, at("stopTimeoutSeconds"), seconds.to_string(), reason);
        }
        if spec.auto_remove {
            let (policy, reason) = (spec.restart_policy, "a VM that is removed when it ends is not started again");
            self.invalid_unless(policy.is_no(), at("restartPolicy"), policy.to_string(), reason);
        }
        if let Some(vmm) = &spec.vmm {
            let is_vmm = names::check_vm_name(vmm).is_ok() && vmm.len() <= 32;
            self.invalid_unless(is_vmm, at("vmm"), quoted(vmm), "must be a name such as qemu or firecracker");
        }
    }

    fn kernel(&mut self, path: &str, kernel: &KernelSpec) {
        if let Some(oci) = &kernel.oci {
            self.name(&format!("{path}.kernel.oci"), oci, names::check_object_name(oci));
        }
        if let Some(cmd_line) = &kernel.cmd_line {
            let is_printable = cmd_line.bytes().all(|b| (b' '..=b'~').contains(&b));
            let is_cmd_line = is_printable && cmd_line.len() <= MAX_CMD_LINE_LEN;
            let reason = "must be printable ASCII of at most 2048 characters";
            self.invalid_unless(is_cmd_line, format!("{path}.kernel.cmdLine"), quoted(cmd_line), reason);
        }
    }

    fn size(&mut self, path: String, size: Size, min: Size, max: Size, why: &str) {
        let reason = match size {
            _ if size < min => format!("must be at least {min}: {why}"),
            _ if size > max => format!("must be at most {max}"),
            _ => return,
        };
        self.invalid(path, size.to_string(), reason);
    }

    fn storage(&mut self, path: &str, storage: &StorageSpec) {
        for (field, rate) in [("iops", storage.limits.iops), ("bytesPerSecond", storage.limits.bytes_per_second)] {
            let Some(rate) = rate else { continue };
            let is_rate = (1..=MAX_DISK_RATE).contains(&rate);
            let reason = format!("must be between 1 and {MAX_DISK_RATE}; without it there is no limit");
            self.invalid_unless(is_rate, format!("{path}.limits.{field}"), rate.to_string(), reason);
        }
        let (volumes, mounts) = (format!("{path}.volumes"), format!("{path}.volumeMounts"));
        if !self.at_most(MAX_ITEMS, &volumes, storage.volumes.len())
            || !self.at_most(MAX_ITEMS, &mounts, storage.volume_mounts.len())
        {
            return;
        }
        let (mut names, mut devices) = (BTreeSet::new(), BTreeSet::new());
        for (index, volume) in storage.volumes.iter().enumerate() {
            let at = |field: &str| format!("{volumes}[{index}].{field}");
            self.name(&at("name"), &volume.name, names::check_vm_name(&volume.name));
            self.unique(&mut names, at("name"), &volume.name);
            match (&volume.block_device, &volume.file) {
                (None, None) => {
                    self.required(at("blockDevice"), "a volume is a block device of the host, or a file");
                }
                (Some(_), Some(_)) => self.invalid(at("file"), quoted(&volume.name), "not together with blockDevice"),
                (Some(device), None) => {
                    self.path(at("blockDevice.path"), &device.path);
                    self.unique(&mut devices, at("blockDevice.path"), &device.path);
                }
                (None, Some(file)) => {
                    self.path(at("file.path"), &file.path);
                    self.unique(&mut devices, at("file.path"), &file.path);
                    if let Some(size) = file.size {
                        self.size(at("file.size"), size, Size::mib(1), MAX_DISK_SIZE, "a file system needs room");
                    }
                }
            }
        }
        let (mut mounted, mut paths) = (BTreeSet::new(), BTreeSet::new());
        for (index, mount) in storage.volume_mounts.iter().enumerate() {
            let at = |field: &str| format!("{mounts}[{index}].{field}");
            if !names.contains(mount.name.as_str()) {
                self.push(at("name"), FieldProblem::NotFound(quoted(&mount.name)));
            }
            self.unique(&mut mounted, at("name"), &mount.name);
            self.path(at("mountPath"), &mount.mount_path);
            let is_root = !mount.mount_path.is_empty() && mount.mount_path.bytes().all(|b| b == b'/');
            self.invalid_unless(!is_root, at("mountPath"), quoted(&mount.mount_path), "must not be the root directory");
            self.unique(&mut paths, at("mountPath"), mount.mount_path.trim_end_matches('/'));
        }
    }

    fn copy_files(&mut self, path: &str, files: &[FileMapping]) {
        if !self.at_most(MAX_ITEMS, path, files.len()) {
            return;
        }
        let mut targets = BTreeSet::new();
        for (index, file) in files.iter().enumerate() {
            self.path(format!("{path}[{index}].hostPath"), &file.host_path);
            self.path(format!("{path}[{index}].vmPath"), &file.vm_path);
            self.unique(&mut targets, format!("{path}[{index}].vmPath"), &file.vm_path);
        }
    }

    fn words(&mut self, path: &str, spec: &VmSpec) {
        for (field, words) in [("command", &spec.command), ("args", &spec.args)] {
            for (index, word) in words.iter().flatten().enumerate() {
                let reason = "must be less than 128 KB without NUL";
                self.invalid_unless(is_exec_word(word), format!("{path}.{field}[{index}]"), quoted(word), reason);
            }
        }
        let words = spec.command.iter().chain(&spec.args).flatten().map(|word| word.len() + 1);
        let env = spec.env.iter().map(|var| var.name.len() + var.value.len() + 2);
        let len: usize = words.chain(env).sum();
        let reason = "command, args and env must be at most 256 KB together";
        self.invalid_unless(len <= MAX_WORDS_LEN, path, format!("{len} bytes"), reason);
    }

    fn env(&mut self, path: &str, env: &[EnvVar]) {
        for (index, var) in env.iter().enumerate() {
            let at = |field: &str| format!("{path}[{index}].{field}");
            let is_name = !var.name.is_empty() && !var.name.contains(['=', '\0']) && var.name.len() <= MAX_PATH_LEN;
            self.invalid_unless(is_name, at("name"), quoted(&var.name), "must not be empty nor have '=' or NUL");
            let reason = "must be less than 128 KB without NUL";
            self.invalid_unless(is_exec_word(&var.value), at("value"), "(hidden)".to_owned(), reason);
            self.value_from(&at("valueFrom"), var.value_from.as_ref(), var.value.is_empty(), "value");
        }
    }
}

/// Path of a map's entry: `metadata.labels[tier]`.
struct Key<'a>(&'a str, &'a str);

impl Display for Key<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.0, shorten(self.1))
    }
}

fn why_not_a_path(path: &str) -> Option<&'static str> {
    match path {
        "" => Some("must not be empty"),
        _ if !path.starts_with('/') => Some("must be an absolute path"),
        _ if path.len() > MAX_PATH_LEN => Some("must be at most 4095 characters"),
        _ if path.chars().any(char::is_control) => Some("must not have control characters"),
        _ if path.split('/').any(|part| part == "..") => Some("must not have '..'"),
        _ => None,
    }
}

fn is_exec_word(word: &str) -> bool {
    word.len() <= MAX_WORD_LEN && !word.contains('\0')
}

fn is_word(text: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !text.is_empty() && text.len() <= 128 && text.bytes().all(is_allowed)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", shorten(text))
}

fn shorten(text: &str) -> String {
    let mut shown: String = text.chars().take(64).flat_map(char::escape_debug).collect();
    if text.chars().nth(64).is_some() {
        shown.push('…');
    }
    shown
}
