//! Source `docker-archive:PATH[:REF]`: what `docker save` writes, plain or compressed.
//!
//! `manifest.json` names the members of each image: a configuration and layers, which are tars and in older archives
//! links to each other. A manifest is made for them, so that the image lies in the store like any other.

use super::layout_image::name_without_tag;
use crate::archive::ArchiveContents;
use crate::compression::Compression;
use crate::config::{Configuration, parse_configuration};
use crate::digest::Digest;
use crate::document::{Document, OCI_CONFIG, OCI_MANIFEST, parse_document, printable};
use crate::image::{check_platform, read_image, record_image};
use crate::limits::{MAX_CONFIG_BYTES, MAX_LAYERS};
use crate::names::derived_name;
use crate::{ContentStore, OciError, Progress, ProgressEvent, PullOptions, StoredImage};
use ignite_api::ImageReference;
use serde::Deserialize;
use std::io::Read;
use std::path::Path;

/// One image of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

pub(super) fn fetch(
    store: &ContentStore,
    reader: &mut (dyn Read + Send),
    path: Option<&Path>,
    reference: Option<&str>,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<StoredImage, OciError> {
    let location =
        path.map_or_else(|| "docker-archive:-".to_owned(), |path| format!("docker-archive:{}", path.display()));
    let contents = ArchiveContents::read(store, reader, &location, progress)?;
    import_contents(store, &contents, path, reference, options, progress)
}

/// Brings the image that `reference` means out of an archive that was read.
pub(super) fn import_contents(
    store: &ContentStore,
    contents: &ArchiveContents,
    path: Option<&Path>,
    reference: Option<&str>,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<StoredImage, OciError> {
    let location = contents.label();
    let (saved, written_name) = choose(&contents.read_document(store, "manifest.json")?, reference, location)?;
    let members = saved.layers.unwrap_or_default();
    if members.len() > MAX_LAYERS {
        let reason = format!("{} layers, at most {MAX_LAYERS}", members.len());
        return Err(OciError::InvalidArchive { archive: location.to_owned(), reason });
    }
    let config_bytes = contents.read_member(store, &saved.config, MAX_CONFIG_BYTES)?;
    let configuration = parse_configuration(&config_bytes, members.len(), location)?;
    check_platform(&configuration, &options.platform, location)?;
    let config_digest = Digest::of(&config_bytes);
    let layers = describe_layers(store, contents, &members, &configuration)?;
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": config_digest.to_string(), "size": config_bytes.len()},
        "layers": layers,
    });
    let bytes = manifest.to_string().into_bytes();
    let digest = Digest::of(&bytes);
    let Document::Manifest(manifest) = parse_document(&bytes, None, location)? else {
        let reason = "its manifest is an index".to_owned();
        return Err(OciError::InvalidArchive { archive: location.to_owned(), reason });
    };
    for (member, layer) in members.iter().zip(&manifest.layers) {
        progress.event(ProgressEvent::LayerStarted { digest: layer.digest.clone(), size: layer.size });
        let reused = contents.commit(member)?;
        progress.event(ProgressEvent::LayerDone { digest: layer.digest.clone(), reused });
    }
    store.put_blob(&config_bytes, &config_digest)?;
    store.put_blob(&bytes, &digest)?;
    let name = derived_name(written_name.as_deref(), path, digest.hex());
    let source_id = format!("oci://{}@{digest}", name_without_tag(&name));
    let image = read_image(store, &digest, name, source_id)?;
    record_image(store, &image, &manifest)?;
    Ok(image)
}

/// Descriptors of the layers. A plain tar must have the digest the configuration gives it: that is seen at once.
fn describe_layers(
    store: &ContentStore,
    contents: &ArchiveContents,
    members: &[String],
    configuration: &Configuration,
) -> Result<Vec<serde_json::Value>, OciError> {
    let mut layers = Vec::new();
    for (member, diff_id) in members.iter().zip(&configuration.diff_ids) {
        let found = contents.find(store, member)?;
        let digest = found.digest.to_string();
        let suffix = match found.compression {
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
            Compression::Xz | Compression::Bzip2 => {
                let format = found.compression.refused_for_layers().unwrap_or_default();
                return Err(OciError::UnsupportedLayer { digest, format: format.to_owned() });
            }
            Compression::None if diff_id.starts_with("sha256:") && digest != *diff_id => {
                return Err(OciError::DigestMismatch {
                    what: format!("layer {} of {}", printable(member), contents.label()),
                    expected: diff_id.clone(),
                    actual: digest,
                });
            }
            Compression::None => "",
        };
        layers.push(serde_json::json!({
            "mediaType": format!("application/vnd.oci.image.layer.v1.tar{suffix}"),
            "digest": digest,
            "size": found.size,
        }));
    }
    Ok(layers)
}

/// The names of all images of `manifest.json`; of one without a name, its configuration.
pub(super) fn names(bytes: &[u8], location: &str) -> Result<Vec<String>, OciError> {
    let images: Vec<SavedImage> = serde_json::from_slice(bytes).map_err(|error| OciError::InvalidDocument {
        what: format!("manifest.json of {location}"),
        reason: error.to_string(),
    })?;
    let names = images.into_iter().flat_map(|image| match image.repo_tags {
        Some(names) if !names.is_empty() => names,
        _ => vec![image.config],
    });
    Ok(names.collect())
}

/// The image of `manifest.json` that `reference` means, and its name.
fn choose(bytes: &[u8], reference: Option<&str>, location: &str) -> Result<(SavedImage, Option<String>), OciError> {
    let images: Vec<SavedImage> = serde_json::from_slice(bytes).map_err(|error| OciError::InvalidDocument {
        what: format!("manifest.json of {location}"),
        reason: error.to_string(),
    })?;
    let names = || -> Vec<String> {
        images.iter().flat_map(|image| image.repo_tags.iter().flatten()).map(|name| printable(name)).collect()
    };
    let Some(reference) = reference else {
        return match images.as_slice() {
            [image] => Ok((image.clone(), image.repo_tags.iter().flatten().next().map(|name| printable(name)))),
            [] => Err(OciError::InvalidArchive {
                archive: location.to_owned(),
                reason: "its manifest.json lists no image".to_owned(),
            }),
            several => {
                let label = |image: &SavedImage| {
                    image
                        .repo_tags
                        .iter()
                        .flatten()
                        .next()
                        .map_or_else(|| printable(&image.config), |name| printable(name))
                };
                let names = several.iter().map(label).collect();
                Err(OciError::SeveralImages { location: location.to_owned(), names })
            }
        };
    };
    let wanted = reference.parse::<ImageReference>().ok();
    let is_wanted =
        |name: &String| name == reference || (wanted.is_some() && name.parse::<ImageReference>().ok() == wanted);
    images
        .iter()
        .find_map(|image| {
            // An image without a name is meant by its configuration, as it is listed.
            if image.config == reference {
                return Some((image.clone(), None));
            }
            let name = image.repo_tags.iter().flatten().find(|name| is_wanted(name))?;
            Some((image.clone(), Some(printable(name))))
        })
        .ok_or_else(|| OciError::NoSuchImage {
            location: location.to_owned(),
            wanted: reference.to_owned(),
            names: names(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TWO: &str = r#"[
        {"Config":"a.json","RepoTags":["redis:7","redis:latest"],"Layers":["a/layer.tar"]},
        {"Config":"b.json","RepoTags":null,"Layers":[]}]"#;

    #[test]
    fn the_image_meant_is_chosen_by_normalised_name() {
        let pick = |reference| choose(TWO.as_bytes(), reference, "x").map(|(image, name)| (image.config, name));
        for reference in ["redis", "redis:latest", "docker.io/library/redis"] {
            assert_eq!(pick(Some(reference)).unwrap(), ("a.json".to_owned(), Some("redis:latest".to_owned())));
        }
        assert_eq!(
            pick(Some("redis:6")).unwrap_err().to_string(),
            r#"x holds no image "redis:6", only: redis:7, redis:latest"#
        );
        assert_eq!(pick(None).unwrap_err().to_string(), "x holds 2 images: redis:7, b.json");
        assert_eq!(pick(Some("b.json")).unwrap(), ("b.json".to_owned(), None));
        assert!(choose(b"[]", None, "x").is_err());
        assert!(choose(b"{}", None, "x").is_err());
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = choose(&bytes, None, "x");
        }
    }
}
