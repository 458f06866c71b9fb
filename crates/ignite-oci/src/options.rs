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
    /// Registries, `host` or `host:port`, that may be spoken to by plain http. Loopback always may.
    pub plain_http_hosts: Vec<String>,
    /// PEM files with certificate authorities to trust besides the system's.
    pub ca_certificates: Vec<PathBuf>,
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

impl Default for PullOptions {
    fn default() -> PullOptions {
        PullOptions {
            platform: Platform::host(),
            docker_config_dir: None,
            plain_http_hosts: Vec::new(),
            ca_certificates: Vec::new(),
            parallel_downloads: 3,
            retries: 5,
            retry_pause: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
            proxies: Proxies::default(),
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
