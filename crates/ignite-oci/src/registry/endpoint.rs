//! Which host a reference means, and whether it may be spoken to without TLS.

use super::direct::Network;
use super::hub;
use crate::digest::Digest;
use crate::{OciError, PullOptions};
use ignite_api::{DOCKER_HUB, ImageReference};
use reqwest::Url;
use std::net::IpAddr;
use std::path::PathBuf;

/// A repository at a registry, every part checked: fit to be put into URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// As the user names it: `docker.io`, `127.0.0.1:5000`.
    pub(crate) registry: String,
    /// Whom to speak to: `index.docker.io`, `127.0.0.1:5000`.
    pub(crate) host: String,
    /// Path of the repository.
    pub(crate) repository: String,
    /// Tag or digest asked for.
    pub(crate) target: Target,
    /// True where plain http is allowed.
    pub(crate) may_be_plain: bool,
    /// Where its API begins: `/v2`, but for some mirrors.
    pub(crate) base_path: String,
    /// Of a mirror of several registries: the one that is meant.
    pub(crate) namespace: Option<String>,
    /// Whom to believe there.
    pub(crate) trust: Trust,
}

/// What TLS with a registry needs besides the system's authorities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    /// Any certificate will do: the administrator calls the registry insecure.
    pub(crate) accepts_any_certificate: bool,
    /// PEM files of authorities.
    pub(crate) authorities: Vec<PathBuf>,
    /// PEM files of our certificate and its key.
    pub(crate) identities: Vec<(PathBuf, PathBuf)>,
}

/// Which manifest of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Tag(String),
    Digest(Digest),
}

impl Target {
    pub(crate) fn text(&self) -> String {
        match self {
            Target::Tag(tag) => tag.clone(),
            Target::Digest(digest) => digest.to_string(),
        }
    }
}

impl Endpoint {
    /// Checks `reference`.
    pub(crate) fn new(reference: &ImageReference, options: &PullOptions) -> Result<Endpoint, OciError> {
        let invalid = |reason| OciError::InvalidReference { reference: reference.to_string(), reason };
        let registry = reference.registry.clone();
        let is_hub = hub::is_hub(&registry);
        let host = if is_hub { hub::HOST.to_owned() } else { registry.clone() };
        if !is_host(&host) {
            return Err(invalid("the registry is not a host name or address with an optional port"));
        }
        if !is_repository(&reference.repository) {
            return Err(invalid("the name must be lower case letters, digits and single separators . _ - /"));
        }
        let target = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => Target::Digest(digest.parse()?),
            (None, Some(tag)) if is_tag(tag) => Target::Tag(tag.clone()),
            (None, Some(_)) => return Err(invalid("the tag must be at most 128 letters, digits and . _ -")),
            (None, None) => Target::Tag("latest".to_owned()),
        };
        let may_be_plain = Endpoint::allows_plain(&host, options);
        let registry = if is_hub { DOCKER_HUB.to_owned() } else { registry };
        let trust = Trust { accepts_any_certificate: is_listed(&host, &options.insecure_hosts), ..Trust::default() };
        let repository = reference.repository.clone();
        let base_path = "/v2".to_owned();
        Ok(Endpoint { registry, host, repository, target, may_be_plain, base_path, namespace: None, trust })
    }

    /// True when `host` may be spoken to without TLS.
    pub(crate) fn allows_plain(host: &str, options: &PullOptions) -> bool {
        allows_plain_http(host, &options.plain_http_hosts) || is_listed(host, &options.insecure_hosts)
    }

    /// Neither TLS nor a certificate that can be verified is asked of it.
    pub(crate) fn trust_anybody(&mut self) {
        self.may_be_plain = true;
        self.trust.accepts_any_certificate = true;
    }

    /// `127.0.0.1:5000/test/busybox:v1`, for messages.
    pub(crate) fn image(&self) -> String {
        match &self.target {
            Target::Tag(tag) => format!("{}/{}:{tag}", self.registry, self.repository),
            Target::Digest(digest) => format!("{}/{}@{digest}", self.registry, self.repository),
        }
    }
}

/// `host[:port]` of a URL; the port only where it is not the scheme's own.
pub(super) fn host_of(url: &Url) -> String {
    let name = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
}

/// True when `host` (`host[:port]`) is this machine or is listed, with its port or without.
fn allows_plain_http(host: &str, listed: &[String]) -> bool {
    let Ok(url) = Url::parse(&format!("http://{host}/")) else { return false };
    let Some(name) = url.host_str() else { return false };
    is_loopback(name) || is_listed(host, listed)
}

/// True when `host` (`host[:port]`) is in `listed`, with its port or without. An entry may have a scheme and a path, as in
/// Weave Ignite, or be a network of addresses, as in Docker.
fn is_listed(host: &str, listed: &[String]) -> bool {
    let Ok(url) = Url::parse(&format!("http://{host}/")) else { return false };
    let name = url.host_str().unwrap_or_default();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let address: Option<IpAddr> = bare.parse().ok();
    listed.iter().any(|entry| {
        let place = entry.split_once("://").map_or(entry.as_str(), |(_, place)| place);
        let place_host = place.split('/').next().unwrap_or(place);
        place_host.eq_ignore_ascii_case(host)
            || place_host.eq_ignore_ascii_case(name)
            || address.is_some_and(|address| Network::parse(place).is_some_and(|network| network.holds(address)))
    })
}

/// True for `localhost`, 127.0.0.0/8 and `::1`.
pub(crate) fn is_loopback(name: &str) -> bool {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_host(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    if host.is_empty() || host.len() > 260 || !host.bytes().all(allowed) {
        return false;
    }
    Url::parse(&format!("https://{host}/v2/")).is_ok_and(|url| url.path() == "/v2/" && url.username().is_empty())
}

/// OCI distribution-spec 1.1, "Pulling manifests": `<name>`.
fn is_repository(repository: &str) -> bool {
    let is_component = |component: &str| {
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = component.as_bytes();
        bytes.first().copied().is_some_and(alphanumeric)
            && bytes.last().copied().is_some_and(alphanumeric)
            && bytes.iter().all(|byte| alphanumeric(*byte) || b"._-".contains(byte))
            && !component.contains("..")
    };
    repository.len() <= 255 && repository.split('/').all(is_component)
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_http_is_for_loopback_and_listed_hosts_only() {
        let listed = ["registry.lan:5000".to_owned(), "bare.lan".to_owned()];
        for (host, allowed) in [
            ("127.0.0.1:5000", true),
            ("127.8.9.1", true),
            ("[::1]:5000", true),
            ("localhost:5000", true),
            ("LOCALHOST", true),
            ("registry.lan:5000", true),
            ("registry.lan:5001", false),
            ("bare.lan:80", true),
            ("localhost.example.com", false),
            ("127.0.0.1.example.com", false),
            ("128.0.0.1", false),
            ("10.0.0.1:5000", false),
            ("index.docker.io", false),
        ] {
            assert_eq!(allows_plain_http(host, &listed), allowed, "{host}");
        }
    }

    #[test]
    fn a_listed_registry_may_be_written_as_other_tools_write_it() {
        for (entry, host, listed) in [
            ("reg.lan", "reg.lan", true),
            ("reg.lan", "REG.lan:5000", true),
            ("reg.lan:5000", "reg.lan:5000", true),
            ("reg.lan:5000", "reg.lan", false),
            ("http://reg.lan:5000", "reg.lan:5000", true),
            ("https://reg.lan/v2/", "reg.lan", true),
            ("http://reg.lan", "areg.lan", false),
            ("10.0.0.0/8", "10.9.8.7:5000", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "10.lan", false),
            ("fd00::/8", "[fd00::1]:5000", true),
            ("10.1.2.3/v2", "10.1.2.3", true),
            ("", "reg.lan", false),
            ("http://", "reg.lan", false),
        ] {
            assert_eq!(is_listed(host, &[entry.to_owned()]), listed, "{entry:?} {host}");
        }
    }

    #[test]
    fn docker_hub_is_spoken_to_at_its_own_host() {
        let endpoint = Endpoint::new(&"redis".parse().unwrap(), &PullOptions::default()).unwrap();
        assert_eq!((endpoint.registry.as_str(), endpoint.host.as_str()), ("docker.io", "index.docker.io"));
        assert_eq!(endpoint.repository, "library/redis");
        assert_eq!(endpoint.image(), "docker.io/library/redis:latest");
    }

    #[test]
    fn what_would_bend_a_url_is_refused() {
        let reference = |registry: &str, repository: &str, tag: &str| ImageReference {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            tag: Some(tag.to_owned()),
            digest: None,
        };
        for (registry, repository, tag) in [
            ("user:pass@evil.example", "a", "v1"),
            ("host/path", "a", "v1"),
            ("host?x", "a", "v1"),
            ("", "a", "v1"),
            ("host", "../catalog", "v1"),
            ("host", "a/../b", "v1"),
            ("host", "A", "v1"),
            ("host", "a//b", "v1"),
            ("host", "a?x=y", "v1"),
            ("host", "", "v1"),
            ("host", "a", "v/1"),
            ("host", "a", ""),
            ("host", "a", "..%2f"),
        ] {
            assert!(
                Endpoint::new(&reference(registry, repository, tag), &PullOptions::default()).is_err(),
                "{registry} {repository} {tag}"
            );
        }
    }

    proptest! {
        #[test]
        fn an_accepted_reference_stays_within_its_url(registry in "[a-z.:/@?#%0-9]{0,12}", repository in "[a-z./_?#%-]{0,12}", tag in "[a-z./_?#%-]{0,6}") {
            let reference = ImageReference { registry, repository, tag: Some(tag), digest: None };
            if let Ok(endpoint) = Endpoint::new(&reference, &PullOptions::default()) {
                let path = format!("/v2/{}/manifests/{}", endpoint.repository, endpoint.target.text());
                let url = Url::parse(&format!("https://{}{path}", endpoint.host)).unwrap();
                prop_assert_eq!(url.path(), path);
                prop_assert!(url.query().is_none() && url.username().is_empty());
            }
        }
    }
}
