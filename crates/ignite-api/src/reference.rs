//! References to images in registries, in Docker's grammar.
//!
//! ```text
//! reference  = name [":" tag] ["@" digest]
//! name       = [domain "/"] component *("/" component)
//! domain     = (host | IPv4 | "[" IPv6 "]") [":" port]
//! component  = lower-case letters and digits, joined by one ".", one or two "_", or any number of "-"
//! tag        = 1 to 128 of letters, digits, "_", ".", "-"; the first is none of ".-"
//! digest     = ("sha256" | "sha384" | "sha512") ":" lower-case hex of exactly that many bits
//! ```
//!
//! Source: distribution/reference `regexp.go` and `normalize.go`.

use serde::{Deserialize, Serialize};

pub use crate::image_source::ImageSource;

/// Longest repository path (without the registry), in bytes.
pub const MAX_REPOSITORY_LEN: usize = 255;
/// Longest tag, in bytes.
pub const MAX_TAG_LEN: usize = 128;
/// Longest registry host with its port, in bytes (RFC 1035's 253, a colon and five digits).
pub const MAX_REGISTRY_LEN: usize = 259;

/// The registry of a reference that names none.
pub const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_LEGACY: &str = "index.docker.io";
const OFFICIAL: &str = "library/";

/// A reference to an image in a registry, normalised as Docker does (`redis` is `docker.io/library/redis:latest`).
///
/// Two references name the same thing exactly when they are equal: `foo:1` is never `foo:10`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    /// Host and port, e.g. `docker.io`, `127.0.0.1:5000`, `[::1]:5000`.
    pub registry: String,
    /// Path, e.g. `library/redis`.
    pub repository: String,
    /// Tag; present unless only a digest was given.
    pub tag: Option<String>,
    /// Digest, `sha256:...`.
    pub digest: Option<String>,
}

/// A text that does not name an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid image reference {text:?}: {reason}")]
pub struct InvalidReference {
    /// The text, at most 256 characters of it.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl InvalidReference {
    pub(crate) fn new(text: &str, reason: &'static str) -> InvalidReference {
        InvalidReference { text: text.chars().take(256).collect(), reason }
    }
}

impl ImageReference {
    /// The name people use: Docker Hub and its `library/` left out, e.g. `redis:latest`, `quay.io/org/app:v1`.
    pub fn familiar(&self) -> String {
        let name = match self.registry.as_str() {
            DOCKER_HUB => match self.repository.strip_prefix(OFFICIAL) {
                // `library/a/b` would read back as `docker.io/a/b`.
                Some(official) if !official.contains('/') => official.to_owned(),
                _ => self.repository.clone(),
            },
            registry => format!("{registry}/{}", self.repository),
        };
        self.with_version(name)
    }

    /// The same repository at another tag, without digest.
    pub fn with_tag(&self, tag: &str) -> Result<ImageReference, InvalidReference> {
        check_tag(tag).map_err(|reason| InvalidReference::new(tag, reason))?;
        Ok(ImageReference { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository and tag, pinned to a digest.
    pub fn with_digest(&self, digest: &str) -> Result<ImageReference, InvalidReference> {
        check_digest(digest).map_err(|reason| InvalidReference::new(digest, reason))?;
        Ok(ImageReference { digest: Some(digest.to_owned()), ..self.clone() })
    }

    /// What a registry is asked for: the digest, or the tag where there is none.
    pub fn version(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    fn with_version(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(digest);
        }
        name
    }
}

impl std::str::FromStr for ImageReference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<ImageReference, InvalidReference> {
        parse(text).map_err(|reason| InvalidReference::new(text, reason))
    }
}

fn parse(text: &str) -> Result<ImageReference, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() == 64 && text.bytes().all(is_lower_hex) {
        return Err("64 hexadecimal digits are an image id, not a name");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            check_digest(digest)?;
            (rest, Some(digest.to_owned()))
        }
        None => (text, None),
    };
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => {
            check_tag(tag)?;
            (name, Some(tag.to_owned()))
        }
        _ => (rest, None),
    };
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if is_domain(first) => (first, path),
        _ => (DOCKER_HUB, name),
    };
    check_registry(registry)?;
    let registry = if registry == DOCKER_HUB_LEGACY { DOCKER_HUB } else { registry };
    let is_official = registry == DOCKER_HUB && !path.contains('/');
    let repository = if is_official { format!("{OFFICIAL}{path}") } else { path.to_owned() };
    check_repository(path, &repository)?;
    let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
    Ok(ImageReference { registry: registry.to_owned(), repository, tag, digest })
}

/// Docker's rule for telling `host/path` from `path/path`.
fn is_domain(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_registry(registry: &str) -> Result<(), &'static str> {
    if registry.len() > MAX_REGISTRY_LEN {
        return Err("the registry's name is too long");
    }
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or("the IPv6 address of the registry lacks its `]`")?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| "the registry is not an IPv6 address")?;
            (None, (!after.is_empty()).then_some(after))
        }
        None => match registry.find(':') {
            Some(colon) => (Some(&registry[..colon]), Some(&registry[colon..])),
            None => (Some(registry), None),
        },
    };
    if let Some(host) = host
        && !host.split('.').all(is_host_label)
    {
        return Err("the registry is not a host name");
    }
    if let Some(port) = port {
        let digits = port.strip_prefix(':').ok_or("the registry is not a host and port")?;
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) || digits.parse::<u16>().is_err() {
            return Err("the registry's port is not between 0 and 65535");
        }
    }
    Ok(())
}

fn is_host_label(label: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = label.as_bytes();
    ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

fn check_repository(written: &str, repository: &str) -> Result<(), &'static str> {
    if written.is_empty() {
        return Err("the name is empty");
    }
    if repository.len() > MAX_REPOSITORY_LEN {
        return Err("the name is longer than 255 characters");
    }
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("the name has to be lower case");
    }
    match repository.split('/').all(is_path_component) {
        true => Ok(()),
        false => Err("the name may only have letters, digits, and between them `.`, `_`, `__` or `-`"),
    }
}

fn is_path_component(component: &str) -> bool {
    let is_word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    if !bytes.first().is_some_and(is_word) || !bytes.last().is_some_and(is_word) {
        return false;
    }
    bytes
        .split(is_word)
        .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

/// Why `tag` is not a tag.
pub(crate) fn check_tag(tag: &str) -> Result<(), &'static str> {
    if tag.is_empty() {
        return Err("the tag is empty");
    }
    if tag.len() > MAX_TAG_LEN {
        return Err("the tag is longer than 128 characters");
    }
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if !is_word(tag.as_bytes()[0]) || !tag.bytes().all(|b| is_word(b) || b == b'.' || b == b'-') {
        return Err("the tag may only have letters, digits, `_`, `.` and `-`, and starts with none of the last two");
    }
    Ok(())
}

fn check_digest(digest: &str) -> Result<(), &'static str> {
    let (algorithm, hex) = digest.split_once(':').ok_or("the digest is not ALGORITHM:HEX")?;
    let digits = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err("the digest's algorithm is not one of sha256, sha384, sha512"),
    };
    match hex.len() == digits && hex.bytes().all(is_lower_hex) {
        true => Ok(()),
        false => Err("the digest does not have the lower-case hexadecimal digits of its algorithm"),
    }
}

fn is_lower_hex(b: u8) -> bool {
    matches!(b, b'0'..=b'9' | b'a'..=b'f')
}

impl std::fmt::Display for ImageReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.with_version(format!("{}/{}", self.registry, self.repository)))
    }
}

impl TryFrom<String> for ImageReference {
    type Error = InvalidReference;
    fn try_from(text: String) -> Result<ImageReference, InvalidReference> {
        text.parse()
    }
}

impl From<ImageReference> for String {
    fn from(reference: ImageReference) -> String {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHA256: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_are_normalised_as_docker_does() {
        let pinned = format!("redis@{SHA256}");
        let tagged_and_pinned = format!("127.0.0.1:5000/a/b:v1@{SHA256}");
        for (text, normal, familiar) in [
            ("redis", "docker.io/library/redis:latest", "redis:latest"),
            ("redis:7", "docker.io/library/redis:7", "redis:7"),
            ("docker.io/redis", "docker.io/library/redis:latest", "redis:latest"),
            ("index.docker.io/redis", "docker.io/library/redis:latest", "redis:latest"),
            ("docker.io/library/redis:7", "docker.io/library/redis:7", "redis:7"),
            ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            (
                "weaveworks/ignite-ubuntu",
                "docker.io/weaveworks/ignite-ubuntu:latest",
                "weaveworks/ignite-ubuntu:latest",
            ),
            ("foo/bar/baz:Upper_Tag.1-x", "docker.io/foo/bar/baz:Upper_Tag.1-x", "foo/bar/baz:Upper_Tag.1-x"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"),
            ("127.0.0.1:5000/test/busybox:v1", "127.0.0.1:5000/test/busybox:v1", "127.0.0.1:5000/test/busybox:v1"),
            ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
            ("[2001:db8::1]/app", "[2001:db8::1]/app:latest", "[2001:db8::1]/app:latest"),
            ("Host/app", "Host/app:latest", "Host/app:latest"),
            ("quay.io/a_b/c__d/e---f.g", "quay.io/a_b/c__d/e---f.g:latest", "quay.io/a_b/c__d/e---f.g:latest"),
            (&pinned, &format!("docker.io/library/redis@{SHA256}"), &pinned),
            (&tagged_and_pinned, &tagged_and_pinned, &tagged_and_pinned),
        ] {
            let reference: ImageReference = text.parse().expect(text);
            assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (normal, familiar), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_reference_is_refused_with_its_reason() {
        let long_name = "a".repeat(256);
        let long_tag = format!("a:{}", "t".repeat(129));
        for (text, reason) in [
            ("", "empty"),
            (":v1", "name is empty"),
            ("@sha256:00", "digest"),
            ("a:", "tag is empty"),
            ("a:-v1", "tag may only"),
            ("a:v 1", "tag may only"),
            (&long_tag, "longer than 128"),
            (&long_name, "longer than 255"),
            ("Redis", "lower case"),
            ("localhost/Redis", "lower case"),
            ("a//b", "the name may only"),
            ("a/../b", "the name may only"),
            ("a..b", "the name may only"),
            ("a___b", "the name may only"),
            ("-a", "the name may only"),
            ("a/", "the name may only"),
            ("quay.io/", "name is empty"),
            ("ä", "the name may only"),
            ("a b", "the name may only"),
            ("a\u{1b}[0m", "the name may only"),
            ("-bad.host/a", "host name"),
            ("host:99999/a", "port"),
            ("host:/a", "port"),
            ("[::1/a", "]"),
            ("[zz::]/a", "IPv6"),
            ("a@sha256:abc", "hexadecimal"),
            ("a@md5:d41d8cd98f00b204e9800998ecf8427e", "algorithm"),
            ("a@latest", "ALGORITHM"),
            ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "image id"),
        ] {
            let error = text.parse::<ImageReference>().expect_err(text);
            assert!(error.reason.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_longer_tag_is_another_image() {
        assert_ne!("foo:1".parse::<ImageReference>(), "foo:10".parse());
    }

    #[test]
    fn another_tag_drops_the_digest_and_a_digest_keeps_the_tag() {
        let reference: ImageReference = format!("redis:6@{SHA256}").parse().unwrap();
        assert_eq!(reference.version(), SHA256);
        let retagged = reference.with_tag("7").unwrap();
        assert_eq!((retagged.familiar().as_str(), retagged.version()), ("redis:7", "7"));
        assert_eq!(retagged.with_digest(SHA256).unwrap().familiar(), format!("redis:7@{SHA256}"));
        assert!(retagged.with_tag("a b").is_err());
        assert!(retagged.with_digest("sha256:1").is_err());
    }

    proptest! {
        #[test]
        fn foreign_texts_never_panic(text in "\\PC{0,80}|[a-zA-Z0-9:/@._\\[\\]-]{0,80}") {
            let _ = text.parse::<ImageReference>();
        }

        #[test]
        fn both_names_of_a_reference_read_back(text in "([a-z]{1,4}\\.[a-z]{2}(:[0-9]{1,4})?/|localhost/|docker.io/)?[a-z0-9]{1,5}(/[a-z0-9._-]{1,5}){0,2}(:[A-Za-z0-9._-]{1,5})?") {
            if let Ok(reference) = text.parse::<ImageReference>() {
                prop_assert_eq!(reference.to_string().parse(), Ok(reference.clone()));
                prop_assert_eq!(reference.familiar().parse(), Ok(reference));
            }
        }
    }
}
