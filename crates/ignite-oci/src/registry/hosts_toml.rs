//! containerd's `hosts.toml`: mirrors and certificates of one registry (containerd, "docs/hosts.md").

use crate::OciError;
use crate::limits::MAX_REGISTRIES_CONF_BYTES;
use crate::store::read_bounded;
use serde::Deserialize;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A host of the file, in the order written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostEntry {
    /// `host[:port]`.
    pub(super) host: String,
    /// Where its API begins: `/v2`, unless the file overrides it.
    pub(super) base_path: String,
    pub(super) is_plain: bool,
    pub(super) skips_verification: bool,
    pub(super) authorities: Vec<PathBuf>,
    /// Certificate and key files.
    pub(super) identities: Vec<(PathBuf, PathBuf)>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct HostsFile {
    server: Option<String>,
    host: toml::Table,
    #[serde(flatten)]
    server_settings: HostSettings,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
struct HostSettings {
    capabilities: Option<Vec<String>>,
    ca: OneOrMany,
    client: toml::value::Array,
    skip_verify: bool,
    override_path: bool,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

/// The hosts for `registry` (`docker.io`, `127.0.0.1:5000`) by `dir/<registry>/hosts.toml`, else `dir/_default`'s, the
/// mirrors first and the server last; `None` without a file.
pub(super) fn read_hosts(dir: &Path, registry: &str, server: &str) -> Result<Option<Vec<HostEntry>>, OciError> {
    for name in [registry, &registry.replace(':', "_"), "_default"] {
        let dir = dir.join(name);
        let path = dir.join("hosts.toml");
        let failed = |reason: String| OciError::RegistriesConf { path: path.clone(), reason };
        let file = match File::open(&path) {
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                continue;
            }
            other => other.map_err(|error| failed(error.to_string()))?,
        };
        let bytes = read_bounded(file, MAX_REGISTRIES_CONF_BYTES).map_err(|error| failed(error.to_string()))?;
        let text = String::from_utf8(bytes.ok_or_else(|| failed("too large".to_owned()))?)
            .map_err(|_| failed("it is not UTF-8".to_owned()))?;
        return parse(&text, &dir, server).map(Some).map_err(failed);
    }
    Ok(None)
}

fn parse(text: &str, dir: &Path, server: &str) -> Result<Vec<HostEntry>, String> {
    let file: HostsFile = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut hosts = Vec::new();
    for (url, settings) in in_written_order(text, &file.host) {
        let settings: HostSettings = settings.clone().try_into().map_err(|error: toml::de::Error| error.to_string())?;
        let pulls = settings.capabilities.as_ref().is_none_or(|can| can.iter().any(|what| what == "pull"));
        if pulls {
            hosts.push(entry(url, &settings, dir)?);
        }
    }
    hosts.push(entry(file.server.as_deref().unwrap_or(server), &file.server_settings, dir)?);
    Ok(hosts)
}

/// Tables are sorted by the parser; the file's own order is what counts.
fn in_written_order<'a>(text: &str, hosts: &'a toml::Table) -> Vec<(&'a str, &'a toml::Value)> {
    let mut found: Vec<(&str, &toml::Value)> = hosts.iter().map(|(url, value)| (url.as_str(), value)).collect();
    found.sort_by_key(|(url, _)| {
        let quoted = [format!("[host.\"{url}\"]"), format!("[host.'{url}']")];
        quoted.iter().filter_map(|header| text.find(header.as_str())).min().unwrap_or(usize::MAX)
    });
    found
}

fn entry(url: &str, settings: &HostSettings, dir: &Path) -> Result<HostEntry, String> {
    let with_scheme = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
    let parsed = reqwest::Url::parse(&with_scheme).map_err(|error| format!("host {url:?}: {error}"))?;
    let is_plain = match parsed.scheme() {
        "http" => true,
        "https" => false,
        other => return Err(format!("host {url:?}: scheme {other:?} is neither http nor https")),
    };
    let name = parsed.host_str().filter(|_| parsed.username().is_empty() && parsed.query().is_none());
    let name = name.ok_or_else(|| format!("host {url:?} is not a host's URL"))?;
    let host = parsed.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    let path = parsed.path().trim_end_matches('/');
    let base_path = match settings.override_path {
        true => path.to_owned(),
        false if path.ends_with("/v2") => path.to_owned(),
        false => format!("{path}/v2"),
    };
    let authorities = match &settings.ca {
        OneOrMany::None => Vec::new(),
        OneOrMany::One(path) => vec![dir.join(path)],
        OneOrMany::Many(paths) => paths.iter().map(|path| dir.join(path)).collect(),
    };
    let mut identities = Vec::new();
    for pair in &settings.client {
        match pair {
            toml::Value::String(both) => identities.push((dir.join(both), dir.join(both))),
            toml::Value::Array(pair) => match pair.as_slice() {
                [toml::Value::String(certificate), toml::Value::String(key)] => {
                    identities.push((dir.join(certificate), dir.join(key)));
                }
                _ => return Err(format!("host {url:?}: client must be pairs of a certificate's and a key's file")),
            },
            _ => return Err(format!("host {url:?}: client must be a list of files or of pairs of files")),
        }
    }
    Ok(HostEntry { host, base_path, is_plain, skips_verification: settings.skip_verify, authorities, identities })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hosts_come_in_the_order_written_and_the_server_last() {
        let text = r#"
            server = "https://registry-1.docker.io"
            [host."https://z.lan:5000"]
              capabilities = ["pull", "resolve"]
              ca = "ca.crt"
              client = [["c.cert", "c.key"]]
            [host."http://a.lan/prefix"]
              skip_verify = true
            [host."https://push.lan"]
              capabilities = ["push"]
            [host."https://b.lan/own/v2"]
              override_path = true
        "#;
        let hosts = parse(text, Path::new("/d"), "https://index.docker.io").unwrap();
        let shown: Vec<_> =
            hosts.iter().map(|host| (host.host.as_str(), host.base_path.as_str(), host.is_plain)).collect();
        assert_eq!(
            shown,
            [
                ("z.lan:5000", "/v2", false),
                ("a.lan", "/prefix/v2", true),
                ("b.lan", "/own/v2", false),
                ("registry-1.docker.io", "/v2", false)
            ]
        );
        assert_eq!(hosts[0].authorities, [PathBuf::from("/d/ca.crt")]);
        assert_eq!(hosts[0].identities, [(PathBuf::from("/d/c.cert"), PathBuf::from("/d/c.key"))]);
        assert!(hosts[1].skips_verification);
    }

    #[test]
    fn without_a_server_it_is_the_registry_itself() {
        let hosts = parse("", Path::new("/d"), "https://ghcr.io").unwrap();
        assert_eq!((hosts.len(), hosts[0].host.as_str()), (1, "ghcr.io"));
        assert!(read_hosts(Path::new("/nowhere"), "x", "https://x").unwrap().is_none());
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["[host.'ftp://x']", "[host.'https://u@x']", "[host.'https://x']\nclient=3", "server = 'a b'"] {
            assert!(parse(text, Path::new("/d"), "https://x").is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn foreign_files_never_panic(text in "\\PC{0,80}") {
            let _ = parse(&text, Path::new("/d"), "https://x");
        }
    }
}
