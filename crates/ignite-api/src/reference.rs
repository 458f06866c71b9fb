//! Image references and the sources they name.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A reference to an image in a registry, normalised as Docker does (`redis` is `docker.io/library/redis:latest`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageReference {
    /// Host and port, e.g. `docker.io`, `127.0.0.1:5000`.
    pub registry: String,
    /// Path, e.g. `library/redis`.
    pub repository: String,
    /// Tag; present unless only a digest was given.
    pub tag: Option<String>,
    /// Digest, `sha256:...`.
    pub digest: Option<String>,
}

/// Where an image comes from; written as containers-transports(5) has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ImageSource {
    /// `REF` or `docker://REF`: a registry.
    Registry(ImageReference),
    /// `oci:PATH[:TAG]`: an OCI layout directory.
    OciLayout {
        /// The directory.
        path: PathBuf,
        /// `org.opencontainers.image.ref.name` annotation in its index.
        tag: Option<String>,
    },
    /// `oci-archive:PATH[:TAG]`: a tar of an OCI layout.
    OciArchive {
        /// The file, or `-` for standard input.
        path: PathBuf,
        /// As in `OciLayout`.
        tag: Option<String>,
    },
    /// `docker-archive:PATH[:REF]`: what `docker save` writes.
    DockerArchive {
        /// The file, or `-` for standard input.
        path: PathBuf,
        /// `RepoTags` entry.
        reference: Option<String>,
    },
    /// `-`: an archive on standard input, its kind told from its content.
    Stdin,
    /// `docker-daemon:REF`.
    DockerDaemon(ImageReference),
    /// `containerd:REF`.
    Containerd(ImageReference),
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

impl std::str::FromStr for ImageReference {
    type Err = InvalidReference;
    fn from_str(text: &str) -> Result<ImageReference, InvalidReference> {
        let invalid = |reason| InvalidReference { text: text.chars().take(256).collect(), reason };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (text, None),
        };
        let (rest, tag) = match rest.rsplit_once(':') {
            Some((rest, tag)) if !tag.contains('/') => (rest, Some(tag.to_owned())),
            _ => (rest, None),
        };
        let (registry, repository) = match rest.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path.to_owned()),
            Some(_) => ("docker.io", rest.to_owned()),
            None => ("docker.io", format!("library/{rest}")),
        };
        if rest.is_empty() {
            return Err(invalid("the name is empty"));
        }
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(ImageReference { registry: registry.to_owned(), repository, tag, digest })
    }
}

impl std::fmt::Display for ImageReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl std::str::FromStr for ImageSource {
    type Err = InvalidReference;
    fn from_str(text: &str) -> Result<ImageSource, InvalidReference> {
        if text == "-" {
            return Ok(ImageSource::Stdin);
        }
        fn split(rest: &str) -> (PathBuf, Option<String>) {
            match rest.split_once(':') {
                Some((path, tag)) => (PathBuf::from(path), Some(tag.to_owned())),
                None => (PathBuf::from(rest), None),
            }
        }
        if let Some(rest) = text.strip_prefix("docker://") {
            return Ok(ImageSource::Registry(rest.parse()?));
        }
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, tag) = split(rest);
            return Ok(ImageSource::OciLayout { path, tag });
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (path, tag) = split(rest);
            return Ok(ImageSource::OciArchive { path, tag });
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            let (path, reference) = split(rest);
            return Ok(ImageSource::DockerArchive { path, reference });
        }
        if let Some(rest) = text.strip_prefix("docker-daemon:") {
            return Ok(ImageSource::DockerDaemon(rest.parse()?));
        }
        if let Some(rest) = text.strip_prefix("containerd:") {
            return Ok(ImageSource::Containerd(rest.parse()?));
        }
        Ok(ImageSource::Registry(text.parse()?))
    }
}

impl std::fmt::Display for ImageSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let with = |f: &mut std::fmt::Formatter<'_>, scheme: &str, path: &PathBuf, tag: &Option<String>| {
            write!(f, "{scheme}:{}", path.display())?;
            tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
        };
        match self {
            ImageSource::Registry(reference) => write!(f, "{reference}"),
            ImageSource::OciLayout { path, tag } => with(f, "oci", path, tag),
            ImageSource::OciArchive { path, tag } => with(f, "oci-archive", path, tag),
            ImageSource::DockerArchive { path, reference } => with(f, "docker-archive", path, reference),
            ImageSource::Stdin => f.write_str("-"),
            ImageSource::DockerDaemon(reference) => write!(f, "docker-daemon:{reference}"),
            ImageSource::Containerd(reference) => write!(f, "containerd:{reference}"),
        }
    }
}

impl TryFrom<String> for ImageSource {
    type Error = InvalidReference;
    fn try_from(text: String) -> Result<ImageSource, InvalidReference> {
        text.parse()
    }
}

impl From<ImageSource> for String {
    fn from(source: ImageSource) -> String {
        source.to_string()
    }
}
