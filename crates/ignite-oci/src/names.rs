//! Names given to images: familiar ones for people, and ones derived from paths.

use ignite_api::ImageReference;
use std::path::Path;

/// The reference as Docker shows it: `docker.io/library/redis:latest` is `redis:latest`.
pub fn familiar_name(reference: &ImageReference) -> String {
    let mut name = match (reference.registry.as_str(), reference.repository.strip_prefix("library/")) {
        ("docker.io" | "index.docker.io", Some(official)) if !official.contains('/') => official.to_owned(),
        ("docker.io" | "index.docker.io", _) => reference.repository.clone(),
        _ => format!("{}/{}", reference.registry, reference.repository),
    };
    if let Some(tag) = &reference.tag {
        name = format!("{name}:{tag}");
    }
    if let Some(digest) = &reference.digest {
        name = format!("{name}@{digest}");
    }
    name
}

/// `docker.io/library/redis`: the reference without tag and digest.
pub(crate) fn repository_name(reference: &ImageReference) -> String {
    format!("{}/{}", reference.registry, reference.repository)
}

/// The name of an image found in a layout or archive: what is written there if that is a full reference, else a name
/// made of the path and the tag, else one made of the digest.
pub(crate) fn derived_name(written: Option<&str>, path: Option<&Path>, manifest_hex: &str) -> String {
    if let Some(written) = written
        && is_full_reference(written)
        && let Ok(reference) = written.parse()
    {
        return familiar_name(&reference);
    }
    let stem = path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).map(|name| {
        let lower = name.to_lowercase();
        [".tar.gz", ".tar.zst", ".tgz", ".tar", ".oci"]
            .iter()
            .find_map(|suffix| lower.strip_suffix(suffix))
            .unwrap_or(&lower)
            .to_owned()
    });
    let repository = stem.as_deref().map(as_component).filter(|name| !name.is_empty());
    let tag = written.map(as_tag).filter(|tag| !tag.is_empty());
    match (repository, tag) {
        (Some(repository), tag) => format!("{repository}:{}", tag.as_deref().unwrap_or("latest")),
        (None, _) => format!("imported:{}", &manifest_hex[..manifest_hex.len().min(12)]),
    }
}

/// True for `redis:7` and `example.com/redis`, not for a bare tag as `latest`.
fn is_full_reference(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    text.len() <= 300 && text.contains(['/', ':']) && text.bytes().all(allowed)
}

/// `text` as one component of a repository: lower case, other characters become `-`.
fn as_component(text: &str) -> String {
    let mut component = String::new();
    for c in text.chars().take(100) {
        match c {
            'a'..='z' | '0'..='9' => component.push(c),
            _ if component.is_empty() || component.ends_with(['-', '.', '_']) => {}
            '.' | '_' => component.push(c),
            _ => component.push('-'),
        }
    }
    component.trim_end_matches(['-', '.', '_']).to_owned()
}

/// `text` as a tag: other characters become `-`.
fn as_tag(text: &str) -> String {
    let tag: String = text
        .chars()
        .take(128)
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
        .collect();
    tag.trim_start_matches(['.', '-']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn references_are_shown_as_docker_does() {
        for (text, familiar) in [
            ("redis", "redis:latest"),
            ("docker.io/library/redis:7", "redis:7"),
            ("weaveworks/ignite-ubuntu:20.04", "weaveworks/ignite-ubuntu:20.04"),
            ("127.0.0.1:5000/test/busybox:v1", "127.0.0.1:5000/test/busybox:v1"),
        ] {
            assert_eq!(familiar_name(&text.parse().unwrap()), familiar);
        }
    }

    #[test]
    fn names_are_derived_from_what_is_there() {
        let hex = "0123456789abcdef";
        for (written, path, name) in [
            (Some("docker.io/library/redis:7"), Some("/x/y.tar"), "redis:7"),
            (Some("v1"), Some("/images/BusyBox"), "busybox:v1"),
            (None, Some("/images/my image.tar.gz"), "my-image:latest"),
            (Some("latest"), None, "imported:0123456789ab"),
            (None, Some("/"), "imported:0123456789ab"),
            (Some("a b/c"), Some("/x/--"), "imported:0123456789ab"),
        ] {
            assert_eq!(derived_name(written, path.map(Path::new), hex), name);
        }
    }

    proptest! {
        #[test]
        fn derived_names_are_references(written in proptest::option::of("\\PC{0,40}"), path in "\\PC{0,40}") {
            let name = derived_name(written.as_deref(), Some(Path::new(&path)), "0123456789abcdef");
            prop_assert!(!name.is_empty() && !name.contains(char::is_whitespace), "{name:?}");
        }
    }
}
