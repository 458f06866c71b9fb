//! A CNI runtime: configuration, plugins, results (CNI spec 1.0.0; configurations of 0.3.1 to 1.1.0).
//!
//! ```text
//!  conf dirs --conf--> NetworkList --input (pure)--> stdin + environment --exec--> plugin --result--> next plugin
//! ```

pub(crate) mod chain;
pub mod conf;
pub(crate) mod conf_dir;
pub(crate) mod exec;
pub(crate) mod forwarding;
pub(crate) mod input;
pub mod inventory;
pub(crate) mod iptables;
pub(crate) mod masquerade;
pub(crate) mod prune;
pub(crate) mod record;
pub(crate) mod result;

use crate::NetworkError;
use std::path::{Path, PathBuf};

/// Where the host's networks are configured.
pub const SYSTEM_CONF_DIR: &str = "/etc/cni/net.d";
/// Where plugins may be: upstream's, Debian's and Fedora's directories.
pub const PLUGIN_DIRS: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];

/// The directories networks are looked for in: the host's own, then the one our default network is written to, which
/// belongs to a data directory. So `/etc` is only ever read, and a Kubernetes node's own choice is left alone.
pub fn conf_dirs(data_dir: &Path) -> Vec<PathBuf> {
    vec![PathBuf::from(SYSTEM_CONF_DIR), data_dir.join("cni/net.d")]
}

/// Wraps an I/O error with what was being done to a path.
pub(crate) fn io_error(doing: &str, path: &Path) -> impl FnOnce(std::io::Error) -> NetworkError {
    let what = format!("{doing} {}", path.display());
    move |source| NetworkError::Io { what, source }
}
