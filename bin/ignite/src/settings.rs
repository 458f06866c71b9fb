//! The one place where configuration is merged: flag, then environment, then VM file, then configuration file, then default.
//! The VM file comes in where a VM is described (`commands/vm_flags.rs`): over `vm_defaults`, below `vm_overrides`.
//!
//! ```text
//!  what                flag                    environment                  configuration file    default
//!  data directory      --data-dir              IGNITE_DATA_DIR                                    /var/lib/ignite (root)
//!                                                                                                 $XDG_DATA_HOME/ignite
//!  run directory       --run-dir               IGNITE_RUN_DIR                                     /run/ignite (root)
//!                                                                                                 $XDG_RUNTIME_DIR/ignite
//!  configuration       --ignite-config         IGNITE_CONFIG                                      /etc/ignite/config.yaml
//!  log level           --log-level             IGNITE_LOG_LEVEL                                   warn
//!  quiet               --quiet                 IGNITE_QUIET                                       no
//!  plain http hosts    --plain-http            IGNITE_PLAIN_HTTP (commas)                         loopback only
//!  extra CAs           --ca-certificate        IGNITE_CA_CERTIFICATE (commas)                     none
//!  proxies                                     http_proxy, https_proxy,                           none
//!                                              no_proxy; upper case too
//!  credentials         --registry-config-dir   IGNITE_REGISTRY_CONFIG_DIR,  registryConfigDir     ~/.docker
//!                                              DOCKER_CONFIG
//!                                              REGISTRY_AUTH_FILE                                 containers/auth.json
//!  mirrors, aliases                            CONTAINERS_REGISTRIES_CONF                         /etc/containers/registries.conf{,.d},
//!                                                                                                 ~/.config/containers/ the same
//!  insecure hosts                              IGNITE_CONTAINERD_INSECURE_REGISTRIES (commas)     none
//!  containerd          --containerd-address    IGNITE_CONTAINERD_ADDRESS                          /run/containerd/containerd.sock
//!                      --containerd-namespace  IGNITE_CONTAINERD_NAMESPACE                        ignite
//!                                              IGNITE_CONTAINERD_HOSTS_DIR                        /etc/containerd/certs.d
//!  Docker engine                               DOCKER_HOST                                        /var/run/docker.sock
//!  network             --network               IGNITE_NETWORK               networkPlugin         by what the host allows
//!  kernel              --kernel                IGNITE_KERNEL                vmDefaults.kernel     the default kernel
//!  source of pulls     --runtime               IGNITE_RUNTIME               runtime               registry
//!  id prefix           --id-prefix             IGNITE_ID_PREFIX             idPrefix              ignite
//!  VMM                 --vmm                   IGNITE_VMM                   vmDefaults.vmm        by what the host allows
//!  Firecracker         --firecracker           IGNITE_FIRECRACKER                                 <data dir>/bin, PATH, /usr/…
//!  its releases                                IGNITE_FIRECRACKER_RELEASES                        https://github.com/firecracker-…
//!  secrets                                     IGNITE_SECRETS_DIR                                 /etc/ignite/secrets
//!                                                                                                 $XDG_CONFIG_HOME/ignite/secrets
//!  VM defaults         flags of run, create                                 vmDefaults            1 CPU, 512MB, 4GB
//! ```
//!
//! A data directory of one's own moves the run directory too, so that two of them never meet: `<data dir>/run`, or, where
//! a socket's path in it would be too long for the kernel, a directory named after it below the default run directory.

use crate::cli::GlobalFlags;
use crate::commands::pull_source::Runtime;
use crate::pull_settings::pull_options;
use crate::report::Hinted;
use anyhow::Context;
use clap::ValueEnum;
use ignite_api::VmSpec;
use ignite_api::configuration::{Configuration, ConfigurationSpec};
use ignite_engine::PullOptions;
use rustix::fs::{Mode, Uid};
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tracing::level_filters::LevelFilter;

const SYSTEM_CONFIG: &str = "/etc/ignite/config.yaml";
/// Name of the supervisor program, which lies next to ours.
const SPAWN_PROGRAM: &str = "ignite-spawn";
/// Longest path of a Unix socket, without its NUL (unix(7)).
const MAX_SOCKET_PATH: usize = 107;
/// What the engine adds to the run directory at most: `/vm/`, a uid, and a socket's name.
const RUN_SUFFIX_LEN: usize = "/vm/0123456789abcdef/".len() + 24;
/// Longest configuration file, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// What flags, environment and configuration file say together.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where objects live.
    pub data_dir: PathBuf,
    /// Where sockets of live VMs are.
    pub run_dir: PathBuf,
    /// What of the libraries' log is shown.
    pub log_level: LevelFilter,
    /// Only ids are wanted.
    pub quiet: bool,
    /// Defaults of a new VM: what is below its file.
    pub vm_defaults: VmSpec,
    /// What the environment says of a new VM: above its file, below the flags.
    pub vm_overrides: VmOverrides,
    /// Where bare image references are pulled from.
    pub runtime: Runtime,
    /// Prefix of a new VM's names on the host; absent: `ignite`.
    pub id_prefix: Option<String>,
    spawn_program: PathBuf,
    firecracker: Option<PathBuf>,
    releases_url: Option<String>,
    program_dirs: Vec<PathBuf>,
    secrets_dir: PathBuf,
    is_root: bool,
    pull: PullOptions,
}

impl Settings {
    /// The part that the engine wants.
    pub fn engine(&self) -> ignite_engine::Settings {
        ignite_engine::Settings {
            data_dir: self.data_dir.clone(),
            run_dir: self.run_dir.clone(),
            spawn_program: self.spawn_program.clone(),
            is_root: self.is_root,
            firecracker: self.firecracker.clone(),
            releases_url: self.releases_url.clone(),
            program_dirs: self.program_dirs.clone(),
            secrets_dir: self.secrets_dir.clone(),
            pull: self.pull.clone(),
            boot_dir: PathBuf::from("/boot"),
            modules_dir: PathBuf::from("/lib/modules"),
        }
    }
}

/// What the environment says of a new VM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmOverrides {
    /// Network mode.
    pub network: Option<String>,
    /// VMM.
    pub vmm: Option<String>,
    /// Kernel.
    pub kernel: Option<String>,
}

/// What of the host decides: observed once, given by tests.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Environment.
    pub env: HashMap<String, OsString>,
    /// Effective user.
    pub uid: u32,
    /// Our own program.
    pub program: PathBuf,
    /// Working directory.
    pub working_dir: PathBuf,
    /// Directory for what has no better place.
    pub temp_dir: PathBuf,
    /// Configuration file of the host, read when it exists.
    pub system_config: PathBuf,
}

impl Host {
    /// The host as it is.
    pub fn observe() -> Host {
        Host {
            env: std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect(),
            uid: rustix::process::geteuid().as_raw(),
            program: std::env::current_exe().unwrap_or_default(),
            working_dir: std::env::current_dir().unwrap_or_default(),
            temp_dir: PathBuf::from("/tmp"),
            system_config: PathBuf::from(SYSTEM_CONFIG),
        }
    }

    /// A variable that is set and not empty.
    pub(crate) fn var(&self, name: &str) -> Option<&OsString> {
        self.env.get(name).filter(|value| !value.is_empty())
    }

    pub(crate) fn text(&self, name: &'static str) -> anyhow::Result<Option<String>> {
        let Some(value) = self.var(name) else { return Ok(None) };
        let text =
            value.clone().into_string().map_err(|_| anyhow::anyhow!("environment variable {name} is not UTF-8"))?;
        Ok(Some(text))
    }

    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.var(name).map(|value| self.working_dir.join(value))
    }

    /// A variable of the XDG specification: relative paths in it are to be ignored.
    pub(crate) fn xdg(&self, name: &str) -> Option<PathBuf> {
        self.var(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }
}

/// Merges.
pub fn resolve(flags: &GlobalFlags, host: &Host) -> anyhow::Result<Settings> {
    let config = read_config(flags, host)?;
    let data_dir = data_dir(flags, host)?;
    let run_dir = run_dir(flags, host, &data_dir)?;
    let mut vm_defaults = config.vm_defaults.unwrap_or_default();
    if let Some(mode) = config.network_plugin {
        vm_defaults.network.mode = Some(mode);
    }
    Ok(Settings {
        vm_overrides: VmOverrides {
            network: host.text("IGNITE_NETWORK")?,
            vmm: host.text("IGNITE_VMM")?,
            kernel: host.text("IGNITE_KERNEL")?,
        },
        runtime: match host.text("IGNITE_RUNTIME")? {
            Some(text) => parse_runtime(&text).context("environment variable IGNITE_RUNTIME")?,
            None => config.runtime.as_deref().map(parse_runtime).transpose()?.unwrap_or_default(),
        },
        id_prefix: host.text("IGNITE_ID_PREFIX")?.or(config.id_prefix),
        run_dir,
        log_level: log_level(flags, host)?,
        quiet: flags.quiet || host.var("IGNITE_QUIET").is_some_and(|value| value != "0" && value != "false"),
        vm_defaults,
        spawn_program: find_program(SPAWN_PROGRAM, host),
        firecracker: flags
            .firecracker
            .as_ref()
            .map(|path| host.working_dir.join(path))
            .or_else(|| host.path("IGNITE_FIRECRACKER")),
        releases_url: host.text("IGNITE_FIRECRACKER_RELEASES")?,
        program_dirs: program_dirs(host),
        secrets_dir: secrets_dir(host, &data_dir),
        is_root: host.uid == 0,
        pull: pull_options(flags, host, config.registry_config_dir)?,
        data_dir,
    })
}

fn parse_runtime(text: &str) -> anyhow::Result<Runtime> {
    Runtime::from_str(text, false)
        .map_err(|_| anyhow::anyhow!("unknown runtime {text:?}: registry, containerd or docker is expected"))
}

fn log_level(flags: &GlobalFlags, host: &Host) -> anyhow::Result<LevelFilter> {
    let text = match &flags.log_level {
        Some(text) => text.clone(),
        None => host.text("IGNITE_LOG_LEVEL")?.unwrap_or_else(|| "warn".to_owned()),
    };
    parse_log_level(&text).map_err(anyhow::Error::msg)
}

/// Reads a level, by our names or Weave Ignite's.
pub fn parse_log_level(text: &str) -> Result<LevelFilter, String> {
    match text.to_ascii_lowercase().as_str() {
        "trace" => Ok(LevelFilter::TRACE),
        "debug" => Ok(LevelFilter::DEBUG),
        "info" => Ok(LevelFilter::INFO),
        "warn" | "warning" => Ok(LevelFilter::WARN),
        "error" | "fatal" | "panic" => Ok(LevelFilter::ERROR),
        "off" => Ok(LevelFilter::OFF),
        _ => Err(format!("invalid log level {text:?}: trace, debug, info, warn, error or off is expected")),
    }
}

fn read_config(flags: &GlobalFlags, host: &Host) -> anyhow::Result<ConfigurationSpec> {
    let named =
        flags.ignite_config.as_ref().map(|path| host.working_dir.join(path)).or_else(|| host.path("IGNITE_CONFIG"));
    let path = match named {
        Some(path) => path,
        None if host.system_config.exists() => host.system_config.clone(),
        None => return Ok(ConfigurationSpec::default()),
    };
    let configuration =
        decode_config(&path).with_context(|| format!("could not read configuration {}", path.display()))?;
    Ok(configuration.spec)
}

fn decode_config(path: &Path) -> anyhow::Result<Configuration> {
    use std::io::Read;
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(MAX_CONFIG_BYTES).read_to_end(&mut text)?;
    let configuration = ignite_api::codec::decode_configuration(&text)?;
    ignite_api::validation::validate_configuration(&configuration)?;
    Ok(configuration)
}

pub(crate) fn home(host: &Host) -> Option<PathBuf> {
    host.xdg("HOME")
}

fn data_dir(flags: &GlobalFlags, host: &Host) -> anyhow::Result<PathBuf> {
    if let Some(path) = own_data_dir(flags, host) {
        return Ok(path);
    }
    if host.uid == 0 {
        return Ok(PathBuf::from("/var/lib/ignite"));
    }
    let base = host.xdg("XDG_DATA_HOME").or_else(|| Some(home(host)?.join(".local/share")));
    let base = base.ok_or_else(|| Hinted {
        message: "there is no directory for data: neither XDG_DATA_HOME nor HOME is an absolute path".into(),
        hint: "set IGNITE_DATA_DIR or use --data-dir".into(),
    })?;
    Ok(base.join("ignite"))
}

/// Files whose values manifests only name. A user without a home has them with the data.
fn secrets_dir(host: &Host, data_dir: &Path) -> PathBuf {
    if let Some(path) = host.path("IGNITE_SECRETS_DIR") {
        return path;
    }
    if host.uid == 0 {
        return PathBuf::from("/etc/ignite/secrets");
    }
    let base = host.xdg("XDG_CONFIG_HOME").or_else(|| Some(home(host)?.join(".config")));
    base.map_or_else(|| data_dir.join("secrets"), |base| base.join("ignite/secrets"))
}

fn own_data_dir(flags: &GlobalFlags, host: &Host) -> Option<PathBuf> {
    flags.data_dir.as_ref().map(|path| host.working_dir.join(path)).or_else(|| host.path("IGNITE_DATA_DIR"))
}

fn run_dir(flags: &GlobalFlags, host: &Host, data_dir: &Path) -> anyhow::Result<PathBuf> {
    let named = flags.run_dir.as_ref().map(|path| host.working_dir.join(path)).or_else(|| host.path("IGNITE_RUN_DIR"));
    if let Some(path) = named {
        check_socket_paths(&path)?;
        return Ok(path);
    }
    if own_data_dir(flags, host).is_some() {
        let beside = data_dir.join("run");
        if fits_sockets(&beside) {
            return Ok(beside);
        }
        let hashed = default_run_dir(host)?.join(format!("d{:016x}", fnv1a(data_dir.as_os_str().as_bytes())));
        check_socket_paths(&hashed)?;
        return Ok(hashed);
    }
    default_run_dir(host)
}

fn default_run_dir(host: &Host) -> anyhow::Result<PathBuf> {
    if host.uid == 0 {
        return Ok(PathBuf::from("/run/ignite"));
    }
    match host.xdg("XDG_RUNTIME_DIR") {
        Some(base) => Ok(base.join("ignite")),
        None => private_temp_dir(host),
    }
}

/// A directory of ours that nobody else can have prepared: `/tmp/ignite-<uid>`, mode 0700, owned by us.
fn private_temp_dir(host: &Host) -> anyhow::Result<PathBuf> {
    let path = host.temp_dir.join(format!("ignite-{}", host.uid));
    match rustix::fs::mkdir(&path, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error).with_context(|| format!("could not make run directory {}", path.display())),
    }
    // lstat: a symbolic link here would be somebody's trap.
    let stat = rustix::fs::lstat(&path).with_context(|| format!("could not look at {}", path.display()))?;
    let is_dir = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
    let is_ours = Uid::from_raw(stat.st_uid).as_raw() == host.uid;
    if !is_dir || !is_ours || Mode::from_raw_mode(stat.st_mode) & Mode::from_raw_mode(0o777) != Mode::RWXU {
        let message = format!("run directory {} is not a directory of mode 0700 that belongs to us", path.display());
        return Err(
            Hinted { message, hint: "set XDG_RUNTIME_DIR or IGNITE_RUN_DIR to a private directory".into() }.into()
        );
    }
    Ok(path)
}

fn fits_sockets(run_dir: &Path) -> bool {
    run_dir.as_os_str().len() + RUN_SUFFIX_LEN <= MAX_SOCKET_PATH
}

fn check_socket_paths(run_dir: &Path) -> anyhow::Result<()> {
    if fits_sockets(run_dir) {
        return Ok(());
    }
    let message = format!(
        "run directory {} is too long: a Unix socket in it would not fit {MAX_SOCKET_PATH} bytes",
        run_dir.display()
    );
    Err(Hinted { message, hint: format!("use one of at most {} bytes", MAX_SOCKET_PATH - RUN_SUFFIX_LEN) }.into())
}

/// FNV-1a: a name that stays the same, from one version of ours to the next.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// The program next to ours, else the first in `PATH`, else its bare name.
fn find_program(name: &str, host: &Host) -> PathBuf {
    let beside = host.program.with_file_name(name);
    if beside.is_file() {
        return beside;
    }
    let found = program_dirs(host).into_iter().map(|dir| dir.join(name)).find(|program| program.is_file());
    // The bare name makes the engine's error say what is missing; `doctor` says where it belongs.
    found.unwrap_or_else(|| PathBuf::from(name))
}

/// The directories of `PATH` that are so wherever one stands.
fn program_dirs(host: &Host) -> Vec<PathBuf> {
    let path = host.var("PATH").cloned().unwrap_or_default();
    std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect()
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
