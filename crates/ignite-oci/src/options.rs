//! How to pull.

use crate::Platform;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of a fetch; `Default` is what a user expects who set nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullOptions {
    /// Which image to take from an index. Default: the host's.
    pub platform: Platform,
    /// Directory of Docker's `config.json` (usually `~/.docker`); `None` or no such file: anonymous.
    pub docker_config_dir: Option<PathBuf>,
    /// Files of credentials besides, in the same format: containers-auth.json(5).
    pub auth_files: Vec<PathBuf>,
    /// `registries.conf`, its drop-in directories, in the order read (containers-registries.conf(5)).
    pub registries_conf: Vec<PathBuf>,
    /// Directories with one of certificates for each `host[:port]` (containers-certs.d(5)).
    pub certificate_dirs: Vec<PathBuf>,
    /// Registries that may be spoken to by plain http, and whose certificates are not verified.
    pub insecure_hosts: Vec<String>,
    /// Registries, `host` or `host:port`, that may be spoken to by plain http. Loopback always may.
    pub plain_http_hosts: Vec<String>,
    /// PEM files with certificate authorities to trust besides the system's.
    pub ca_certificates: Vec<PathBuf>,
    /// The containerd that `containerd:REF` means.
    pub containerd: ContainerdOptions,
    /// containerd's `hosts.toml` files in this directory decide where registries are, instead of `registries_conf`.
    pub hosts_dir: Option<PathBuf>,
    /// Socket of the Docker engine that `docker-daemon:REF` means.
    pub docker_socket: PathBuf,
    /// Layers in flight at once, at least 1. Default 3, as in Docker.
    pub parallel_downloads: usize,
    /// Further attempts after a failure that may pass (429, 5xx, timeout, cut), without progress in between. Default 5.
    pub retries: u32,
    /// Pause before the first retry; doubled each time, with jitter. Default 500 ms.
    pub retry_pause: Duration,
    /// Deadline of connecting. Default 15 s.
    pub connect_timeout: Duration,
    /// Deadline of an answer, and longest silence while a body is read. Default 60 s.
    pub idle_timeout: Duration,
    /// Proxies; loopback never goes through one.
    pub proxies: Proxies,
}

impl PullOptions {
    /// The same, for a pull that containerd would do: by its own rules of where registries are.
    pub(crate) fn for_containerd(&self) -> PullOptions {
        PullOptions { hosts_dir: Some(self.containerd.hosts_dir.clone()), ..self.clone() }
    }
}

impl Default for PullOptions {
    fn default() -> PullOptions {
        PullOptions {
            platform: Platform::host(),
            docker_config_dir: None,
            auth_files: Vec::new(),
            registries_conf: Vec::new(),
            certificate_dirs: Vec::new(),
            insecure_hosts: Vec::new(),
            plain_http_hosts: Vec::new(),
            ca_certificates: Vec::new(),
            containerd: ContainerdOptions::default(),
            hosts_dir: None,
            docker_socket: PathBuf::from("/var/run/docker.sock"),
            parallel_downloads: 3,
            retries: 5,
            retry_pause: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
            proxies: Proxies::default(),
        }
    }
}

/// Where a containerd is, and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerdOptions {
    /// Its Unix socket. Default: `/run/containerd/containerd.sock`.
    pub socket: PathBuf,
    /// Default: `ignite`, as in Weave Ignite.
    pub namespace: String,
    /// Directory of its `hosts.toml` files, for images that are pulled for it. Default: `/etc/containerd/certs.d`.
    pub hosts_dir: PathBuf,
}

impl Default for ContainerdOptions {
    fn default() -> ContainerdOptions {
        ContainerdOptions {
            socket: PathBuf::from("/run/containerd/containerd.sock"),
            namespace: "ignite".to_owned(),
            hosts_dir: PathBuf::from("/etc/containerd/certs.d"),
        }
    }
}

/// Proxies in the customary form (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`); the caller reads the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http://` registries.
    pub http: Option<String>,
    /// For `https://` registries.
    pub https: Option<String>,
    /// Hosts, domains and networks reached directly, separated by commas.
    pub except: Option<String>,
}
