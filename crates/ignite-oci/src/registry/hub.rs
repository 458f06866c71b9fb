//! Docker Hub's names: the one users write, its hosts, and the key of its credentials.

use ignite_api::DOCKER_HUB;

/// Whom to speak to.
pub(super) const HOST: &str = "index.docker.io";
/// Where Docker keeps the credentials, without the scheme.
const KEY: &str = "index.docker.io/v1";
/// Its hosts, by which some name it.
const HOSTS: [&str; 2] = [HOST, "registry-1.docker.io"];

/// True when `registry` is Docker Hub, by any of its names.
pub(super) fn is_hub(registry: &str) -> bool {
    registry == DOCKER_HUB || HOSTS.contains(&registry)
}

/// Under which key Docker keeps the credentials of a registry.
pub(crate) fn config_key(registry: &str) -> String {
    match registry {
        DOCKER_HUB => format!("https://{KEY}/"),
        other => other.to_owned(),
    }
}

/// The registry that is meant by `text`, as people copy it: with a scheme, with a slash at the end, by another name of
/// Docker Hub.
pub fn registry_of(text: &str) -> &str {
    let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    match text.trim_end_matches('/') {
        KEY => DOCKER_HUB,
        registry if is_hub(registry) => DOCKER_HUB,
        registry => registry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_understood_as_people_copy_them() {
        for (text, registry) in [
            ("ghcr.io", "ghcr.io"),
            ("https://ghcr.io/", "ghcr.io"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("docker.io", "docker.io"),
            ("docker.io.example", "docker.io.example"),
        ] {
            assert_eq!(registry_of(text), registry, "{text}");
        }
    }
}
