//! Flags that describe a new VM, and the VM they describe.

use crate::commands::health_flags::HealthFlags;
use crate::commands::limit_flags::LimitFlags;
use crate::commands::machine_flags::MachineFlags;
use crate::commands::manifest::read_vms;
use crate::commands::network_flags::NetworkFlags;
use crate::commands::pull_source::Runtime;
use crate::commands::volume_flags::parse_volumes;
use crate::env_file::{HostEnv, parse_env_flag, read_env_file};
use crate::report::UsageError;
use crate::settings::{Settings, VmOverrides};
use ignite_api::restart_policy::RestartPolicy;
use ignite_api::validation::check_id_prefix;
use ignite_api::vm::{FileMapping, InitMode, Isolation, OciSource, RootDisk, Ssh, StorageSpec};
use ignite_api::{ImageSource, ObjectMeta, PortMapping, Size, Vm, VmSpec};
use ignite_engine::{Platform, PullPolicy};
use std::path::{Path, PathBuf};

/// Flags of `run` and `create`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct VmFlags {
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Remove the VM and its disk when it ends
    #[arg(long)]
    pub rm: bool,
    /// Name of the VM [default: a random one]
    #[arg(short, long)]
    pub name: Option<String>,
    /// Set an environment variable; NAME alone takes the value it has here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Working directory of the command
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User of the command: NAME|UID[:GROUP|GID]
    #[arg(short, long)]
    pub user: Option<String>,
    /// Replace the ENTRYPOINT of the image; empty: none
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Host name in the VM [default: its name]
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Virtual CPUs, 1 to 32 [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=32))]
    pub cpus: Option<u32>,
    /// Memory [default: 512MB]
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// Size of the writable disk [default: 4GB]
    #[arg(short, long, value_name = "SIZE")]
    pub size: Option<Size>,
    /// Shared base with a writable layer (overlay), or a disk of its own (private) [default: overlay]
    #[arg(long, value_name = "KIND", value_enum)]
    pub root_disk: Option<RootDiskFlag>,
    /// Keep the VMM from the host as well as the host allows, wholly or not at all [default: auto]
    #[arg(long, value_name = "HOW", value_enum)]
    pub isolation: Option<IsolationFlag>,
    /// Kernel: name or id of an imported one, or a reference of a kernel image [default: the default kernel]
    #[arg(short, long, alias = "kernel-image", value_name = "KERNEL")]
    pub kernel: Option<String>,
    /// Replace the optional kernel arguments; what boot needs is always added
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    pub kernel_args: Option<String>,
    /// Who is PID 1: the init of the image, or none: a command runs as a task [default: auto]
    #[arg(long, value_enum, value_name = "MODE")]
    pub init: Option<InitFlag>,
    /// Networking: user, none, or what this host offers [default: auto]
    #[arg(long, alias = "network-plugin", value_name = "MODE")]
    pub network: Option<String>,
    /// Publish ports: [IP:]HOST_PORT:VM_PORT[/tcp|udp], ranges allowed
    #[arg(short, long, alias = "publish", value_name = "SPEC", value_delimiter = ',')]
    pub ports: Vec<String>,
    /// How it is connected, and what names it knows.
    #[command(flatten)]
    pub connection: NetworkFlags,
    /// Label the VM
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Log in with ssh: generates a key for `ignite ssh`, or takes the public key FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ssh: Option<String>,
    /// Copies a file or directory of the host into the guest before it runs, both paths absolute; at most 4 MB in all
    #[arg(short = 'f', long, value_name = "HOST:GUEST", value_delimiter = ',')]
    pub copy_files: Vec<String>,
    /// When it is started again after it has ended: no, on-failure[:MAX], always or unless-stopped [default: no]
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<RestartPolicy>,
    /// Disks: HOST[:GUEST][:ro][:size=SIZE][:format=ext4], a block device or a file, mounted at GUEST; with a size a missing file
    /// is made; what is blank gets the file system, what holds anything never
    #[arg(short, long, alias = "volume", value_name = "SPEC", value_delimiter = ',')]
    pub volumes: Vec<String>,
    /// What its memory and its processor are.
    #[command(flatten)]
    pub machine: MachineFlags,
    /// What it may do with its disks and its network.
    #[command(flatten)]
    pub limits: LimitFlags,
    /// Whether it does its work.
    #[command(flatten)]
    pub health: HealthFlags,
    /// Seconds `stop` waits before it kills [default: 10]
    #[arg(long, value_name = "SECONDS")]
    pub stop_timeout: Option<u32>,
    /// VMM: auto, firecracker or qemu [default: auto]
    #[arg(long, value_name = "VMM")]
    pub vmm: Option<String>,
    /// When to pull the image
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub pull: PullFlag,
    /// What the image is to be made for: OS/ARCHITECTURE[/VARIANT] [default: this host's]
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<Platform>,
    /// Where bare image references are pulled from [default: registry]
    #[arg(long, value_enum, value_name = "SOURCE")]
    pub runtime: Option<Runtime>,
    /// Refuse to make up a name
    #[arg(long)]
    pub require_name: bool,
    /// Kept as status.idPrefix, as Weave Ignite did; its containers and device mapper names are gone
    #[arg(long, value_name = "PREFIX", hide_short_help = true)]
    pub id_prefix: Option<String>,
    /// Kept as spec.sandbox, without effect: there is no sandbox container
    #[arg(long, value_name = "IMAGE", hide_short_help = true)]
    pub sandbox_image: Option<String>,
    /// Manifest (YAML or JSON) of one VM, or of several, below the flags; - for standard input
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Image, and what to run instead of its CMD
    ///
    /// The image is a reference in a registry, or docker-daemon:REF, containerd:REF, oci:PATH[:TAG],
    /// oci-archive:PATH[:TAG], docker-archive:PATH[:REF], or - for an archive on standard input. Everything after it
    /// belongs to the command.
    #[arg(value_name = "IMAGE", trailing_var_arg = true, required_unless_present = "config")]
    pub image_and_command: Vec<String>,
}

/// `--init`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum InitFlag {
    /// The image's init if it has one and no command is given
    Auto,
    /// The image's init
    Image,
    /// None: a task
    None,
}

/// `--root-disk`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RootDiskFlag {
    /// Shared read-only base and a private writable layer
    Overlay,
    /// A full disk of its own
    Private,
}

/// `--isolation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum IsolationFlag {
    /// Everything the host allows; `inspect` tells what that is
    Auto,
    /// Everything, or the VM is not started
    Strict,
    /// Nothing: the VMM runs with all rights of who starts it
    None,
}

/// `--pull`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum PullFlag {
    /// When it is not here
    #[default]
    Missing,
    /// Every time
    Always,
    /// Never
    Never,
}

impl From<PullFlag> for PullPolicy {
    fn from(flag: PullFlag) -> PullPolicy {
        match flag {
            PullFlag::Missing => PullPolicy::Missing,
            PullFlag::Always => PullPolicy::Always,
            PullFlag::Never => PullPolicy::Never,
        }
    }
}

/// What of the surroundings a VM's description depends on.
pub struct Surroundings<'a> {
    /// Environment, for `--env NAME`.
    pub env: HostEnv<'a>,
    /// Working directory, for relative paths.
    pub working_dir: &'a Path,
    /// What is configured: defaults below the manifest, the environment above it.
    pub settings: &'a Settings,
}

impl VmFlags {
    /// The VMs, mostly one: flags over the environment over the manifest over the configured defaults.
    pub fn to_vms(&self, around: &Surroundings<'_>) -> anyhow::Result<Vec<Vm>> {
        let defaults = &around.settings.vm_defaults;
        let vms = match &self.config {
            Some(path) => read_vms(&from(around.working_dir, path), defaults)?,
            None => vec![Vm::new(ObjectMeta::default(), defaults.clone())],
        };
        if vms.len() > 1 && self.name.is_some() {
            return Err(UsageError("--name names one VM, and the manifest has several".into()).into());
        }
        vms.into_iter().map(|vm| self.complete(vm, around)).collect()
    }

    fn complete(&self, mut vm: Vm, around: &Surroundings<'_>) -> anyhow::Result<Vm> {
        if let Some(name) = &self.name {
            vm.metadata.name.clone_from(name);
        }
        for label in &self.label {
            let (name, value) = parse_label(label)?;
            vm.metadata.labels.insert(name, value);
        }
        self.set_image_and_command(&mut vm.spec, around)?;
        self.set_process(&mut vm.spec, around)?;
        self.set_machine(&mut vm.spec, around)?;
        if let Some(prefix) = self.id_prefix.as_ref().or(around.settings.id_prefix.as_ref()) {
            check_id_prefix(prefix).map_err(UsageError)?;
            vm.status.id_prefix = Some(prefix.clone());
        }
        if self.require_name && vm.metadata.name.is_empty() {
            return Err(UsageError(
                "--require-name: the VM has no name; give it one with --name or in its manifest".into(),
            )
            .into());
        }
        Ok(vm)
    }

    fn set_image_and_command(&self, spec: &mut VmSpec, around: &Surroundings<'_>) -> anyhow::Result<()> {
        let runtime = self.runtime.unwrap_or(around.settings.runtime);
        let Some((image, command)) = self.image_and_command.split_first() else {
            return match spec.image.oci.take() {
                Some(source) => {
                    spec.image.oci = Some(runtime.apply(source));
                    Ok(())
                }
                None => Err(UsageError("neither the manifest nor the command line names an image".into()).into()),
            };
        };
        let source: ImageSource = image.parse().map_err(|error| UsageError(format!("{error}")))?;
        let source = runtime.apply_to_argument(image, source).resolve_path(around.working_dir);
        spec.image = OciSource { oci: Some(source) };
        if !command.is_empty() {
            spec.args = Some(command.to_vec());
        }
        Ok(())
    }

    fn set_process(&self, spec: &mut VmSpec, around: &Surroundings<'_>) -> anyhow::Result<()> {
        if let Some(program) = &self.entrypoint {
            spec.command = Some(vec![program.clone()]);
        }
        // Files first: a flag overrides a file, wherever it stands.
        for path in &self.env_file {
            spec.env.extend(read_env_file(&around.working_dir.join(path), around.env)?);
        }
        for text in &self.env {
            let variable = parse_env_flag(text, around.env).map_err(|error| UsageError(error.to_string()))?;
            spec.env.extend(variable);
        }
        set(&mut spec.working_dir, self.workdir.as_ref());
        set(&mut spec.user, self.user.as_ref());
        set(&mut spec.hostname, self.hostname.as_ref());
        spec.stdin |= self.interactive;
        spec.tty |= self.tty;
        spec.auto_remove |= self.rm;
        spec.restart_policy = self.restart.unwrap_or(spec.restart_policy);
        if self.stop_timeout.is_some() {
            spec.stop_timeout_seconds = self.stop_timeout;
        }
        match self.init {
            Some(InitFlag::Auto) => spec.init = InitMode::Auto,
            Some(InitFlag::Image) => spec.init = InitMode::Image,
            Some(InitFlag::None) => spec.init = InitMode::None,
            None => {}
        }
        Ok(())
    }

    fn set_machine(&self, spec: &mut VmSpec, around: &Surroundings<'_>) -> anyhow::Result<()> {
        spec.cpus = self.cpus.unwrap_or(spec.cpus);
        spec.memory = self.memory.unwrap_or(spec.memory);
        spec.disk_size = self.size.unwrap_or(spec.disk_size);
        match self.root_disk {
            Some(RootDiskFlag::Overlay) => spec.root_disk = RootDisk::Overlay,
            Some(RootDiskFlag::Private) => spec.root_disk = RootDisk::Private,
            None => {}
        }
        match self.isolation {
            Some(IsolationFlag::Auto) => spec.isolation = Isolation::Auto,
            Some(IsolationFlag::Strict) => spec.isolation = Isolation::Strict,
            Some(IsolationFlag::None) => spec.isolation = Isolation::None,
            None => {}
        }
        let VmOverrides { network, vmm, kernel } = &around.settings.vm_overrides;
        set(&mut spec.kernel.oci, self.kernel.as_ref().or(kernel.as_ref()));
        set(&mut spec.kernel.cmd_line, self.kernel_args.as_ref());
        if let Some(image) = &self.sandbox_image {
            let source = image.parse().map_err(|error| UsageError(format!("--sandbox-image: {error}")))?;
            spec.sandbox = Some(OciSource { oci: Some(source) });
        }
        set_unless_auto(&mut spec.network.mode, self.network.as_ref().or(network.as_ref()));
        set_unless_auto(&mut spec.vmm, self.vmm.as_ref().or(vmm.as_ref()));
        self.connection.apply(spec)?;
        self.health.apply(spec)?;
        self.limits.apply(spec);
        self.machine.apply(spec, around.working_dir);
        if !self.ports.is_empty() {
            spec.network.ports = parse_ports(&self.ports)?;
        }
        if !self.volumes.is_empty() {
            let limits = spec.storage.limits;
            spec.storage = StorageSpec { limits, ..parse_volumes(&self.volumes, around.working_dir)? };
        }
        if let Some(ssh) = &self.ssh {
            spec.ssh = Some(parse_ssh(ssh, around.working_dir)?);
        }
        if !self.copy_files.is_empty() {
            spec.copy_files = self.copy_files.iter().map(|text| parse_copy_files(text)).collect::<Result<_, _>>()?;
        }
        Ok(())
    }
}

/// A path below the working directory; `-` is standard input.
fn from(working_dir: &Path, path: &Path) -> PathBuf {
    if path == Path::new("-") { path.to_owned() } else { working_dir.join(path) }
}

fn set(field: &mut Option<String>, flag: Option<&String>) {
    if flag.is_some() {
        *field = flag.cloned();
    }
}

fn set_unless_auto(field: &mut Option<String>, flag: Option<&String>) {
    if let Some(value) = flag {
        *field = (value != "auto").then(|| value.clone());
    }
}

fn parse_ports(specs: &[String]) -> Result<Vec<PortMapping>, UsageError> {
    let mut ports = Vec::new();
    for spec in specs {
        ports.extend(ignite_api::ports::parse_ports(spec).map_err(|error| UsageError(error.to_string()))?);
    }
    ignite_api::ports::check_conflicts(&ports).map_err(|error| UsageError(error.to_string()))?;
    Ok(ports)
}

fn parse_copy_files(text: &str) -> Result<FileMapping, UsageError> {
    let Some((host_path, vm_path)) = text.split_once(':') else {
        return Err(UsageError(format!(
            "invalid --copy-files {text:?}: --copy-files requires the /host/path:/vm/path form"
        )));
    };
    if !host_path.starts_with('/') || !vm_path.starts_with('/') {
        return Err(UsageError(format!("invalid --copy-files {text:?}: --copy-files path arguments must be absolute")));
    }
    Ok(FileMapping { host_path: host_path.to_owned(), vm_path: vm_path.to_owned() })
}

/// A public key may be named by its private one, to which `.pub` is added.
fn parse_ssh(text: &str, working_dir: &Path) -> Result<Ssh, UsageError> {
    match text {
        "true" => return Ok(Ssh::Generate(true)),
        "false" => return Ok(Ssh::Generate(false)),
        _ => {}
    }
    let mut path = working_dir.join(text);
    if path.extension() != Some("pub".as_ref()) {
        path.as_mut_os_string().push(".pub");
    }
    match (path.is_file(), path.to_str()) {
        (true, Some(path)) => Ok(Ssh::PublicKey(path.to_owned())),
        _ => Err(UsageError(format!("invalid SSH key: {} is not a file of public keys", path.display()))),
    }
}

/// `KEY=VALUE`, as `--label` takes it.
pub fn parse_label(text: &str) -> Result<(String, String), UsageError> {
    match text.split_once('=') {
        Some(("", _)) => Err(UsageError(format!("invalid label {text:?}, name empty"))),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(UsageError(format!("invalid label value {text:?}: supported syntax: --label <key>=<value>"))),
    }
}

#[cfg(test)]
#[path = "vm_flags_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "precedence_tests.rs"]
mod precedence_tests;
