//! Where an image comes from, written as containers-transports(5) has it.

use crate::reference::{ImageReference, InvalidReference};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Longest source text, in bytes: a path of Linux's `PATH_MAX` with a tag.
pub const MAX_SOURCE_LEN: usize = 4096 + 256;
const MAX_LAYOUT_TAG_LEN: usize = 256;

/// Where an image comes from; written as containers-transports(5) has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ImageSource {
    /// `REF` or `docker://REF`: a registry.
    Registry(ImageReference),
    /// `oci:PATH[:TAG]`: an OCI layout directory.
    OciLayout {
        /// The directory; its name has no colon.
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
        /// `RepoTags` entry, as it was written; compare it as an [`ImageReference`].
        reference: Option<String>,
    },
    /// `-`: an archive on standard input, its kind told from its content.
    Stdin,
    /// `docker-daemon:REF`.
    DockerDaemon(ImageReference),
    /// `containerd:REF` or `containerd://REF`.
    Containerd(ImageReference),
}

impl ImageSource {
    /// Name of the Image object this source is imported as; look-ups compare it exactly.
    ///
    /// An image of a registry or another engine has its familiar reference (`redis:latest`), so a later `ignite run
    /// redis` finds it wherever it came from. An image of a path has the whole source text (`oci:/srv/app:v1`). Absent
    /// for standard input, which has no name of its own: whoever reads it takes one from the content or its digest.
    pub fn image_name(&self) -> Option<String> {
        match self {
            ImageSource::Registry(reference)
            | ImageSource::DockerDaemon(reference)
            | ImageSource::Containerd(reference) => Some(registry_name(reference)),
            ImageSource::OciLayout { .. } => Some(self.to_string()),
            ImageSource::OciArchive { path, .. } | ImageSource::DockerArchive { path, .. } => {
                (!is_dash(path)).then(|| self.to_string())
            }
            ImageSource::Stdin => None,
        }
    }

    /// What people call it, and what manifests hold: as it would be typed again, with references in their familiar form.
    pub fn familiar(&self) -> String {
        match self {
            ImageSource::Registry(reference) => registry_name(reference),
            ImageSource::DockerDaemon(reference) => format!("docker-daemon:{}", reference.familiar()),
            ImageSource::Containerd(reference) => format!("containerd:{}", reference.familiar()),
            ImageSource::OciLayout { .. }
            | ImageSource::OciArchive { .. }
            | ImageSource::DockerArchive { .. }
            | ImageSource::Stdin => self.to_string(),
        }
    }

    /// True when the content comes through standard input, which can be read once only.
    pub fn is_stdin(&self) -> bool {
        match self {
            ImageSource::Stdin => true,
            ImageSource::OciArchive { path, .. } | ImageSource::DockerArchive { path, .. } => is_dash(path),
            ImageSource::Registry(_)
            | ImageSource::OciLayout { .. }
            | ImageSource::DockerDaemon(_)
            | ImageSource::Containerd(_) => false,
        }
    }

    /// The same source with a relative path made absolute, so that it means the same from every directory.
    #[must_use]
    pub fn resolve_path(mut self, working_dir: &Path) -> ImageSource {
        match &mut self {
            ImageSource::OciLayout { path, .. } => *path = join(working_dir, path),
            ImageSource::OciArchive { path, .. } | ImageSource::DockerArchive { path, .. } => {
                if !is_dash(path) {
                    *path = join(working_dir, path);
                }
            }
            ImageSource::Registry(_)
            | ImageSource::Stdin
            | ImageSource::DockerDaemon(_)
            | ImageSource::Containerd(_) => {}
        }
        self
    }
}

/// The familiar reference, unless it reads as another transport: Docker Hub's `library/oci` is not the directory `latest`.
fn registry_name(reference: &ImageReference) -> String {
    let familiar = reference.familiar();
    match familiar.parse() {
        Ok(ImageSource::Registry(read)) if read == *reference => familiar,
        _ => reference.to_string(),
    }
}

fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Joins and drops `.` components; `..` stays, because it means something else behind a symbolic link.
fn join(working_dir: &Path, path: &Path) -> PathBuf {
    working_dir.join(path).components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect()
}

impl std::str::FromStr for ImageSource {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<ImageSource, InvalidReference> {
        let invalid = |reason| InvalidReference::new(text, reason);
        if text == "-" {
            return Ok(ImageSource::Stdin);
        }
        if text.len() > MAX_SOURCE_LEN {
            return Err(invalid("it is too long"));
        }
        let (transport, rest) = text.split_once(':').unwrap_or(("", text));
        match transport {
            "docker" if rest.starts_with("//") => Ok(ImageSource::Registry(rest[2..].parse()?)),
            "docker-daemon" => Ok(ImageSource::DockerDaemon(rest.parse()?)),
            "containerd" => Ok(ImageSource::Containerd(rest.strip_prefix("//").unwrap_or(rest).parse()?)),
            "oci" => {
                let (path, tag) = split_path(rest).map_err(invalid)?;
                if is_dash(&path) {
                    return Err(invalid("a layout directory cannot be standard input; use oci-archive:-"));
                }
                check_layout_tag(tag).map_err(invalid)?;
                Ok(ImageSource::OciLayout { path, tag: tag.map(str::to_owned) })
            }
            "oci-archive" => {
                let (path, tag) = split_path(rest).map_err(invalid)?;
                check_layout_tag(tag).map_err(invalid)?;
                Ok(ImageSource::OciArchive { path, tag: tag.map(str::to_owned) })
            }
            "docker-archive" => {
                let (path, reference) = split_path(rest).map_err(invalid)?;
                if let Some(reference) = reference {
                    reference.parse::<ImageReference>()?;
                }
                Ok(ImageSource::DockerArchive { path, reference: reference.map(str::to_owned) })
            }
            _ => Ok(ImageSource::Registry(text.parse()?)),
        }
    }
}

/// Splits at the first colon: a path has none, what follows it may.
fn split_path(rest: &str) -> Result<(PathBuf, Option<&str>), &'static str> {
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    if path.is_empty() {
        return Err("the path is empty");
    }
    if path.chars().any(char::is_control) {
        return Err("the path has control characters");
    }
    Ok((PathBuf::from(path), tag))
}

/// OCI image-spec 1.1, annotations.md: words of letters and digits, joined by `-`, `--`, `.`, `_`, `:`, `@`, `/`, `+`.
fn check_layout_tag(tag: Option<&str>) -> Result<(), &'static str> {
    let Some(tag) = tag else { return Ok(()) };
    if tag.is_empty() {
        return Err("the tag is empty");
    }
    if tag.len() > MAX_LAYOUT_TAG_LEN {
        return Err("the tag is longer than 256 characters");
    }
    match tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:@/+".contains(&b)) {
        true => Ok(()),
        false => Err("the tag may only have letters, digits and `-._:@/+`"),
    }
}

impl std::fmt::Display for ImageSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let write_path = |f: &mut std::fmt::Formatter<'_>, transport, path: &Path, tag: &Option<String>| {
            write!(f, "{transport}:{}", path.display())?;
            tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
        };
        match self {
            ImageSource::Registry(reference) => write!(f, "{reference}"),
            ImageSource::OciLayout { path, tag } => write_path(f, "oci", path, tag),
            ImageSource::OciArchive { path, tag } => write_path(f, "oci-archive", path, tag),
            ImageSource::DockerArchive { path, reference } => write_path(f, "docker-archive", path, reference),
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
        source.familiar()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_transport_is_read_named_and_written() {
        for (text, written, familiar, image_name) in [
            ("redis", "docker.io/library/redis:latest", "redis:latest", Some("redis:latest")),
            ("docker://redis:7", "docker.io/library/redis:7", "redis:7", Some("redis:7")),
            ("docker:24", "docker.io/library/docker:24", "docker:24", Some("docker:24")),
            (
                "docker://oci",
                "docker.io/library/oci:latest",
                "docker.io/library/oci:latest",
                Some("docker.io/library/oci:latest"),
            ),
            ("localhost:5000/a", "localhost:5000/a:latest", "localhost:5000/a:latest", Some("localhost:5000/a:latest")),
            ("docker-daemon:app:v1", "docker-daemon:docker.io/library/app:v1", "docker-daemon:app:v1", Some("app:v1")),
            ("containerd:app", "containerd:docker.io/library/app:latest", "containerd:app:latest", Some("app:latest")),
            ("containerd://q.io/a:1", "containerd:q.io/a:1", "containerd:q.io/a:1", Some("q.io/a:1")),
            ("oci:/srv/app", "oci:/srv/app", "oci:/srv/app", Some("oci:/srv/app")),
            ("oci:/path/app:v1", "oci:/path/app:v1", "oci:/path/app:v1", Some("oci:/path/app:v1")),
            ("oci:app:q.io/a:1", "oci:app:q.io/a:1", "oci:app:q.io/a:1", Some("oci:app:q.io/a:1")),
            ("oci-archive:a.tar:v1", "oci-archive:a.tar:v1", "oci-archive:a.tar:v1", Some("oci-archive:a.tar:v1")),
            ("oci-archive:-", "oci-archive:-", "oci-archive:-", None),
            ("docker-archive:a.tar", "docker-archive:a.tar", "docker-archive:a.tar", Some("docker-archive:a.tar")),
            ("docker-archive:-:redis:7", "docker-archive:-:redis:7", "docker-archive:-:redis:7", None),
            ("-", "-", "-", None),
        ] {
            let source: ImageSource = text.parse().expect(text);
            assert_eq!(source.to_string(), written, "{text}");
            assert_eq!(source.familiar(), familiar, "{text}");
            assert_eq!(source.image_name().as_deref(), image_name, "{text}");
            assert_eq!(source.is_stdin(), image_name.is_none(), "{text}");
            assert_eq!(written.parse(), Ok(source.clone()), "{text}");
            assert_eq!(familiar.parse(), Ok(source), "{text}");
        }
    }

    #[test]
    fn what_is_no_source_is_refused() {
        let long = format!("oci:/{}", "a".repeat(5000));
        for text in [
            "",
            "oci:",
            "oci::v1",
            "oci:-",
            "oci:/a:",
            "oci:/a:b c",
            "oci:/a\0b",
            "oci:/a\nb",
            "oci-archive:",
            "docker://",
            "docker-archive:a.tar:",
            "docker-archive:a.tar:UPPER",
            "docker-daemon:",
            "containerd://",
            "dir:/a",
            &long,
        ] {
            assert!(text.parse::<ImageSource>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn relative_paths_are_resolved_and_nothing_else_is() {
        for (text, resolved) in [
            ("oci:./app:v1", "oci:/some/dir/app:v1"),
            ("oci:../app", "oci:/some/dir/../app"),
            ("oci:/abs", "oci:/abs"),
            ("docker-archive:a.tar:redis", "docker-archive:/some/dir/a.tar:redis"),
            ("oci-archive:-", "oci-archive:-"),
            ("redis:7", "docker.io/library/redis:7"),
        ] {
            let source: ImageSource = text.parse().unwrap();
            assert_eq!(source.resolve_path(Path::new("/some/dir")).to_string(), resolved);
        }
    }

    proptest! {
        #[test]
        fn foreign_texts_never_panic_and_what_is_read_reads_back(
            text in "(oci|oci-archive|docker-archive|docker-daemon|containerd|docker|)(:|://|)\\PC{0,40}"
        ) {
            if let Ok(source) = text.parse::<ImageSource>() {
                prop_assert_eq!(source.to_string().parse(), Ok(source.clone()));
                prop_assert_eq!(source.familiar().parse(), Ok(source));
            }
        }
    }
}
