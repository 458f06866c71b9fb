//! How images are pulled: the part of the settings that registries and other engines need.

use crate::cli::GlobalFlags;
use crate::settings::{Host, home};
use anyhow::bail;
use ignite_engine::{ContainerdOptions, Proxies, PullOptions};
use std::path::PathBuf;

/// Merges flags, environment and configuration file with what container tools keep on this host.
pub fn pull_options(
    flags: &GlobalFlags,
    host: &Host,
    registry_config_dir: Option<String>,
) -> anyhow::Result<PullOptions> {
    let system = PathBuf::from("/etc/containers");
    let own = home(host).map(|home| host.xdg("XDG_CONFIG_HOME").unwrap_or(home.join(".config")).join("containers"));
    Ok(PullOptions {
        docker_config_dir: flags
            .registry_config_dir
            .as_ref()
            .map(|path| host.working_dir.join(path))
            .or_else(|| host.path("IGNITE_REGISTRY_CONFIG_DIR"))
            .or_else(|| registry_config_dir.map(PathBuf::from))
            .or_else(|| host.path("DOCKER_CONFIG"))
            .or_else(|| Some(home(host)?.join(".docker"))),
        auth_files: match host.path("REGISTRY_AUTH_FILE") {
            Some(path) => vec![path],
            None => [host.xdg("XDG_RUNTIME_DIR").map(|dir| dir.join("containers")), own.clone()]
                .into_iter()
                .flatten()
                .map(|dir| dir.join("auth.json"))
                .collect(),
        },
        registries_conf: registries_conf(host, &system, own.as_ref()),
        // A user's certificates come before the system's, Docker's last (containers-certs.d(5)).
        certificate_dirs: own
            .iter()
            .map(|own| own.join("certs.d"))
            .chain([system.join("certs.d"), PathBuf::from("/etc/docker/certs.d")])
            .collect(),
        insecure_hosts: commas(host.text("IGNITE_CONTAINERD_INSECURE_REGISTRIES")?),
        plain_http_hosts: list(&flags.plain_http, host.text("IGNITE_PLAIN_HTTP")?),
        ca_certificates: list(&flags.ca_certificate, host.text("IGNITE_CA_CERTIFICATE")?)
            .into_iter()
            .map(|path| host.working_dir.join(path))
            .collect(),
        containerd: containerd(flags, host)?,
        docker_socket: docker_socket(host)?,
        proxies: Proxies {
            http: proxy(host, "http_proxy")?,
            https: proxy(host, "https_proxy")?,
            except: proxy(host, "no_proxy")?,
        },
        ..PullOptions::default()
    })
}

/// The file named by the environment alone; else the user's, or the system's, with the drop-ins of both.
fn registries_conf(host: &Host, system: &std::path::Path, own: Option<&PathBuf>) -> Vec<PathBuf> {
    if let Some(path) = host.path("CONTAINERS_REGISTRIES_CONF") {
        return vec![path];
    }
    let own_file = own.map(|own| own.join("registries.conf")).filter(|path| path.is_file());
    let mut paths = vec![own_file.unwrap_or_else(|| system.join("registries.conf")), system.join("registries.conf.d")];
    paths.extend(own.map(|own| own.join("registries.conf.d")));
    paths
}

fn containerd(flags: &GlobalFlags, host: &Host) -> anyhow::Result<ContainerdOptions> {
    let mut options = ContainerdOptions::default();
    let address = match &flags.containerd_address {
        Some(address) => Some(address.clone()),
        None => host.text("IGNITE_CONTAINERD_ADDRESS")?,
    };
    if let Some(address) = address {
        options.socket = socket(host, &address)?;
    }
    let namespace = match &flags.containerd_namespace {
        Some(namespace) => Some(namespace.clone()),
        None => host.text("IGNITE_CONTAINERD_NAMESPACE")?,
    };
    if let Some(namespace) = namespace {
        options.namespace = namespace;
    }
    if let Some(dir) = host.path("IGNITE_CONTAINERD_HOSTS_DIR") {
        options.hosts_dir = dir;
    }
    Ok(options)
}

fn docker_socket(host: &Host) -> anyhow::Result<PathBuf> {
    match host.text("DOCKER_HOST")? {
        // An engine elsewhere concerns only those who ask for one: the default then says that it is not there.
        Some(address) if address.starts_with("unix://") || address.starts_with('/') => socket(host, &address),
        _ => Ok(PathBuf::from("/var/run/docker.sock")),
    }
}

/// `unix:///path` or a path.
fn socket(host: &Host, address: &str) -> anyhow::Result<PathBuf> {
    let path = address.strip_prefix("unix://").unwrap_or(address);
    if path.is_empty() || path.contains("://") {
        bail!("{address:?} is not the path of a Unix socket");
    }
    Ok(host.working_dir.join(path))
}

/// Proxies are named by the variables every program reads, in either case; the lower one wins, as in curl.
fn proxy(host: &Host, name: &'static str) -> anyhow::Result<Option<String>> {
    let upper = match name {
        "http_proxy" => "HTTP_PROXY",
        "https_proxy" => "HTTPS_PROXY",
        _ => "NO_PROXY",
    };
    Ok(match host.text(name)? {
        Some(value) => Some(value),
        None => host.text(upper)?,
    })
}

fn list(flags: &[String], variable: Option<String>) -> Vec<String> {
    match variable {
        text @ Some(_) if flags.is_empty() => commas(text),
        _ => flags.to_vec(),
    }
}

fn commas(text: Option<String>) -> Vec<String> {
    let text = text.unwrap_or_default();
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}
