//! `registries.conf` and its drop-ins: mirrors, aliases, blocked and insecure registries
//! (containers-registries.conf(5), version 2).

use crate::OciError;
use crate::limits::MAX_REGISTRIES_CONF_BYTES;
use crate::store::read_bounded;
use ignite_api::DOCKER_HUB;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// What all files say together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct RegistriesConf {
    #[serde(rename = "registry")]
    registries: Vec<Registry>,
    aliases: BTreeMap<String, String>,
    #[serde(rename = "unqualified-search-registries")]
    searched: Option<Vec<String>>,
}

/// One `[[registry]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Registry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    #[serde(rename = "mirror")]
    mirrors: Vec<Mirror>,
}

/// One `[[registry.mirror]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Mirror {
    location: String,
    insecure: bool,
    pull_from_mirror: String,
}

/// A place to ask for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// `host[:port]/repository`.
    pub(super) name: String,
    pub(super) is_insecure: bool,
}

/// Where a name leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// To these places, in this order.
    Places(Vec<Place>),
    /// Nowhere: the registry of that prefix is blocked.
    Blocked { prefix: String },
}

impl RegistriesConf {
    /// Reads `paths` in order: files, and directories of `*.conf` files in the order of their names. What is not there is
    /// passed over; of two entries for one prefix the later one stands.
    pub(super) fn read(paths: &[PathBuf]) -> Result<RegistriesConf, OciError> {
        let mut all = RegistriesConf::default();
        for path in paths {
            let files = match std::fs::read_dir(path) {
                Ok(entries) => {
                    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
                    let mut files: Vec<PathBuf> =
                        files.filter(|path| path.extension().is_some_and(|end| end == "conf")).collect();
                    files.sort();
                    files
                }
                Err(_) => vec![path.clone()],
            };
            for file in files {
                if let Some(conf) = read_file(&file)? {
                    all.overlay(conf);
                }
            }
        }
        Ok(all)
    }

    fn overlay(&mut self, other: RegistriesConf) {
        self.aliases.extend(other.aliases);
        self.searched = other.searched.or(self.searched.take());
        for registry in other.registries {
            self.registries.retain(|known| known.key() != registry.key());
            self.registries.push(registry);
        }
    }

    /// Names in full that other tools take `short` for (`unqualified-search-registries`), but for Docker Hub's.
    pub(super) fn other_meanings(&self, short: &str) -> Vec<String> {
        let others = self.searched.iter().flatten().filter(|registry| *registry != DOCKER_HUB);
        others.map(|registry| format!("{registry}/{short}")).collect()
    }

    /// Where `name` (`docker.io/library/redis`) leads. `short` is how it is written without a registry, if it can be.
    pub(super) fn route(&self, name: &str, short: Option<&str>, by_digest: bool) -> Route {
        let alias = short.and_then(|short| self.aliases.get(short)).filter(|alias| !alias.is_empty());
        let name = alias.map_or(name, String::as_str);
        let found = self.registries.iter().filter(|registry| registry.matched(name).is_some());
        let Some(registry) = found.max_by_key(|registry| registry.key().len()) else {
            return Route::Places(vec![Place { name: name.to_owned(), is_insecure: false }]);
        };
        if registry.blocked {
            return Route::Blocked { prefix: registry.key().to_owned() };
        }
        let rest = &name[registry.matched(name).unwrap_or(name.len())..];
        let mut places: Vec<Place> = Vec::new();
        for mirror in &registry.mirrors {
            let wanted = match mirror.pull_from_mirror.as_str() {
                "digest-only" => by_digest,
                "tag-only" => !by_digest,
                _ => by_digest || !registry.mirror_by_digest_only,
            };
            if wanted && !mirror.location.is_empty() {
                places.push(Place { name: format!("{}{rest}", mirror.location), is_insecure: mirror.insecure });
            }
        }
        let origin = match registry.location.as_str() {
            "" => name.to_owned(),
            location => format!("{location}{rest}"),
        };
        places.push(Place { name: origin, is_insecure: registry.insecure });
        Route::Places(places)
    }
}

impl Registry {
    /// What it is for: its prefix, else its location.
    fn key(&self) -> &str {
        if self.prefix.is_empty() { &self.location } else { &self.prefix }
    }

    /// How much of `name` its prefix matches, in bytes.
    fn matched(&self, name: &str) -> Option<usize> {
        let prefix = self.key();
        if let Some(domain) = prefix.strip_prefix('*') {
            let host = name.split('/').next().unwrap_or(name);
            let is_subdomain = domain.starts_with('.') && host.len() > domain.len() && host.ends_with(domain);
            return is_subdomain.then_some(host.len());
        }
        let rest = name.strip_prefix(prefix)?;
        (!prefix.is_empty() && (rest.is_empty() || rest.starts_with('/'))).then_some(prefix.len())
    }
}

fn read_file(path: &Path) -> Result<Option<RegistriesConf>, OciError> {
    let failed = |reason: String| OciError::RegistriesConf { path: path.to_owned(), reason };
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| failed(error.to_string()))?,
    };
    let bytes = read_bounded(file, MAX_REGISTRIES_CONF_BYTES).map_err(|error| failed(error.to_string()))?;
    let bytes = bytes.ok_or_else(|| failed(format!("larger than {MAX_REGISTRIES_CONF_BYTES} bytes")))?;
    let text = String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8".to_owned()))?;
    parse(&text).map(Some).map_err(failed)
}

fn parse(text: &str) -> Result<RegistriesConf, String> {
    // A version 1 file would be understood as one that says nothing.
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    if table.contains_key("registries") {
        return Err("it has the format of version 1, which is not read any more".to_owned());
    }
    table.try_into().map_err(|error: toml::de::Error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONF: &str = r#"
        unqualified-search-registries = ["docker.io"]
        short-name-mode = "enforcing"
        [aliases]
        "fedora" = "registry.fedora.example/fedora"
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror.lan:5000/hub"
        insecure = true
        [[registry.mirror]]
        location = "tags.lan"
        pull-from-mirror = "tag-only"
        [[registry.mirror]]
        location = "digests.lan"
        pull-from-mirror = "digest-only"
        [[registry]]
        prefix = "docker.io/secret"
        location = "vault.lan/s"
        [[registry]]
        prefix = "*.bad.example"
        blocked = true
    "#;

    fn route(name: &str, short: Option<&str>, by_digest: bool) -> Vec<String> {
        match parse(CONF).unwrap().route(name, short, by_digest) {
            Route::Blocked { prefix } => vec![format!("blocked by {prefix}")],
            Route::Places(places) => places
                .into_iter()
                .map(|place| format!("{}{}", place.name, if place.is_insecure { " insecurely" } else { "" }))
                .collect(),
        }
    }

    #[test]
    fn names_are_routed_by_their_longest_prefix() {
        for (name, short, by_digest, expected) in [
            (
                "docker.io/library/redis",
                Some("redis"),
                false,
                vec![
                    "mirror.lan:5000/hub/library/redis insecurely",
                    "tags.lan/library/redis",
                    "docker.io/library/redis",
                ],
            ),
            (
                "docker.io/library/redis",
                None,
                true,
                vec![
                    "mirror.lan:5000/hub/library/redis insecurely",
                    "digests.lan/library/redis",
                    "docker.io/library/redis",
                ],
            ),
            ("docker.io/secret/app", None, false, vec!["vault.lan/s/app"]),
            (
                "docker.io/secretary/app",
                None,
                true,
                vec![
                    "mirror.lan:5000/hub/secretary/app insecurely",
                    "digests.lan/secretary/app",
                    "docker.io/secretary/app",
                ],
            ),
            ("docker.io/library/fedora", Some("fedora"), false, vec!["registry.fedora.example/fedora"]),
            ("very.bad.example/x", None, false, vec!["blocked by *.bad.example"]),
            ("bad.example/x", None, false, vec!["bad.example/x"]),
            ("ghcr.io/a/b", None, false, vec!["ghcr.io/a/b"]),
        ] {
            assert_eq!(route(name, short, by_digest), expected, "{name}");
        }
    }

    #[test]
    fn a_short_name_means_docker_hub_whatever_is_searched() {
        for (text, places, others) in [
            ("", "docker.io/library/a", vec![]),
            ("unqualified-search-registries = []", "docker.io/library/a", vec![]),
            ("unqualified-search-registries = ['docker.io']", "docker.io/library/a", vec![]),
            ("unqualified-search-registries = ['r.lan', 'docker.io']", "docker.io/library/a", vec!["r.lan/a"]),
            (
                "unqualified-search-registries = ['r.lan', 'q.lan:5']",
                "docker.io/library/a",
                vec!["r.lan/a", "q.lan:5/a"],
            ),
            ("short-name-mode = 'enforcing'\n[aliases]\na = 'q.lan/b/a'", "q.lan/b/a", vec![]),
            ("[aliases]\na = ''", "docker.io/library/a", vec![]),
        ] {
            let conf = parse(text).unwrap();
            let place = Place { name: places.to_owned(), is_insecure: false };
            assert_eq!(conf.route("docker.io/library/a", Some("a"), false), Route::Places(vec![place]), "{text}");
            assert_eq!(conf.other_meanings("a"), others, "{text}");
        }
    }

    #[test]
    fn a_drop_in_replaces_the_entry_of_its_prefix() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("main"), CONF).unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/10.conf"), "[[registry]]\nlocation='docker.io'\nblocked=true\n").unwrap();
        std::fs::write(dir.path().join("d/20.conf"), "[[registry]]\nlocation='docker.io'\n").unwrap();
        std::fs::write(dir.path().join("d/ignored.txt"), "no toml").unwrap();
        let paths = [dir.path().join("main"), dir.path().join("d"), dir.path().join("absent")];
        let conf = RegistriesConf::read(&paths).unwrap();
        let only = Place { name: "docker.io/library/redis".to_owned(), is_insecure: false };
        assert_eq!(conf.route("docker.io/library/redis", None, false), Route::Places(vec![only]));
    }

    #[test]
    fn a_broken_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registries.conf");
        for text in ["[[registry", "[registries.search]\nregistries=[]", "registry = 3"] {
            std::fs::write(&path, text).unwrap();
            let error = RegistriesConf::read(std::slice::from_ref(&path)).unwrap_err().to_string();
            assert!(error.contains("registries.conf"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn foreign_files_and_names_never_panic(text in "\\PC{0,80}", name in "[a-z./:*]{0,20}") {
            if let Ok(conf) = parse(&text) {
                let _ = conf.route(&name, Some(&name), false);
            }
            let _ = parse(CONF).unwrap().route(&name, Some(&name), true);
        }
    }
}
