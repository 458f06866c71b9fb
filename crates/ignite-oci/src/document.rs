//! Manifests and indexes, OCI's and Docker's: parsing, and choosing from an index.

use crate::digest::Digest;
use crate::limits::{MAX_INDEX_ENTRIES, MAX_LAYERS, MAX_MANIFEST_BYTES};
use crate::{OciError, Platform};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1";

/// Annotation with the name of an image in a layout (OCI image-spec 1.1, annotations.md).
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation with the full name, written by containerd and `docker save`.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// A pointer to content (OCI image-spec 1.1, descriptor.md); unknown members are ignored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) urls: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<DescriptorPlatform>,
}

/// `platform` of an index's entry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct DescriptorPlatform {
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

impl Descriptor {
    pub(crate) fn parsed_digest(&self) -> Result<Digest, OciError> {
        self.digest.parse()
    }

    /// Of an index that was found by its digest.
    pub(crate) fn of_index(bytes: &[u8], digest: &Digest) -> Descriptor {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Typed {
            media_type: Option<String>,
        }
        let typed = serde_json::from_slice::<Typed>(bytes).ok().and_then(|typed| typed.media_type);
        let media_type = if typed.as_deref() == Some(DOCKER_LIST) { DOCKER_LIST } else { OCI_INDEX };
        Descriptor {
            media_type: media_type.to_owned(),
            digest: digest.to_string(),
            size: bytes.len() as u64,
            ..Descriptor::default()
        }
    }

    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(String::as_str)
    }

    fn platform(&self) -> Option<Platform> {
        let platform = self.platform.as_ref()?;
        let known = |text: &str| !text.is_empty() && text != "unknown";
        (known(&platform.os) && known(&platform.architecture)).then(|| Platform {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
        })
    }

    /// Attestations and the like have platform `unknown/unknown`.
    fn is_for_no_platform(&self) -> bool {
        self.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
    }

    fn is_image_or_index(&self) -> bool {
        matches!(self.media_type.as_str(), "" | OCI_MANIFEST | OCI_INDEX | DOCKER_MANIFEST | DOCKER_LIST)
    }
}

/// An image manifest, its bounds and media types checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manifest {
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// What a manifest request may answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Document {
    Manifest(Box<Manifest>),
    Index(Vec<Descriptor>),
}

/// Media types asked for.
pub(crate) const ACCEPTED: [&str; 4] = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

/// Parses a manifest or index named `image`; `sent_as` is the media type it came with, if any.
pub(crate) fn parse_document(bytes: &[u8], sent_as: Option<&str>, image: &str) -> Result<Document, OciError> {
    let invalid = |reason: String| OciError::InvalidDocument { what: format!("manifest of {image}"), reason };
    if bytes.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(OciError::TooLarge { what: format!("manifest of {image}"), limit_bytes: MAX_MANIFEST_BYTES });
    }
    let raw: RawDocument = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
    let media_type = raw.media_type.as_deref().or(sent_as).unwrap_or("");
    if raw.schema_version == 1 || media_type.starts_with(DOCKER_SCHEMA1) {
        return Err(OciError::Schema1 { image: image.to_owned() });
    }
    if raw.schema_version != 2 {
        return Err(invalid(format!("schemaVersion {}, expected 2", raw.schema_version)));
    }
    match (raw.manifests, raw.layers, raw.config) {
        // One text that is both would mean different images to different readers (CVE-2021-41190).
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => Err(invalid("it is a manifest and an index at once".into())),
        (Some(manifests), None, None) => {
            if matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST) {
                return Err(invalid(format!("an index that calls itself {media_type}")));
            }
            if manifests.len() > MAX_INDEX_ENTRIES {
                return Err(invalid(format!("{} entries, at most {MAX_INDEX_ENTRIES}", manifests.len())));
            }
            Ok(Document::Index(manifests))
        }
        (None, Some(layers), Some(config)) => {
            if matches!(media_type, OCI_INDEX | DOCKER_LIST) {
                return Err(invalid(format!("a manifest that calls itself {media_type}")));
            }
            let media_type = if media_type == DOCKER_MANIFEST { DOCKER_MANIFEST } else { OCI_MANIFEST };
            check_manifest(Manifest { media_type: media_type.to_owned(), config, layers }, image)
                .map(|manifest| Document::Manifest(Box::new(manifest)))
        }
        (None, _, _) => Err(invalid("it has neither config and layers nor manifests".into())),
    }
}

/// Refuses what is no runnable image, or not all in one place.
fn check_manifest(manifest: Manifest, image: &str) -> Result<Manifest, OciError> {
    let config_type = manifest.config.media_type.as_str();
    if !matches!(config_type, OCI_CONFIG | DOCKER_CONFIG | "application/octet-stream" | "") {
        return Err(OciError::NotAnImage { image: image.to_owned(), media_type: printable(config_type) });
    }
    if manifest.layers.len() > MAX_LAYERS {
        return Err(OciError::InvalidDocument {
            what: format!("manifest of {image}"),
            reason: format!("{} layers, at most {MAX_LAYERS}", manifest.layers.len()),
        });
    }
    manifest.config.parsed_digest()?;
    for layer in &manifest.layers {
        layer.parsed_digest()?;
        let from = layer.urls.iter().flatten().next().map(|url| printable(url));
        if from.is_some() || layer.media_type.contains(".foreign.") {
            let from = from.unwrap_or_else(|| layer.media_type.clone());
            return Err(OciError::ForeignLayer { digest: layer.digest.clone(), from });
        }
        // A layer's compression is told from its content; only what is certainly no tar is refused here.
        let is_tar = layer.media_type.is_empty()
            || (layer.media_type.contains("tar") && !layer.media_type.ends_with("+encrypted"));
        if !is_tar {
            return Err(OciError::UnsupportedLayer {
                digest: layer.digest.clone(),
                format: printable(&layer.media_type),
            });
        }
    }
    Ok(manifest)
}

/// The entry of an index that suits `wanted` best: the best fitting platform, else the first entry without a platform.
pub(crate) fn choose<'a>(
    entries: &'a [Descriptor],
    wanted: &Platform,
    image: &str,
) -> Result<&'a Descriptor, OciError> {
    let usable = || entries.iter().filter(|entry| entry.is_image_or_index() && !entry.is_for_no_platform());
    let fitting = usable().filter_map(|entry| Some((wanted.fit(&entry.platform()?)?, entry)));
    if let Some((_, entry)) = fitting.min_by_key(|(fit, _)| *fit) {
        return Ok(entry);
    }
    if let Some(entry) = usable().find(|entry| entry.platform().is_none()) {
        return Ok(entry);
    }
    let mut available: Vec<String> =
        usable().filter_map(|entry| entry.platform()).map(|platform| printable(&platform.to_string())).collect();
    available.sort();
    available.dedup();
    let available = if available.is_empty() { "nothing".to_owned() } else { available.join(", ") };
    Err(OciError::NoSuchPlatform { image: image.to_owned(), wanted: wanted.to_string(), available })
}

/// A foreign text made fit for a message: without control characters, and short.
pub(crate) fn printable(text: &str) -> String {
    let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    text.truncate(text.trim_end().len());
    text
}

/// `index.json` of a layout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LayoutIndex {
    schema_version: u32,
    #[serde(default = "oci_index")]
    media_type: String,
    pub(crate) manifests: Vec<Descriptor>,
}

fn oci_index() -> String {
    OCI_INDEX.to_owned()
}

impl LayoutIndex {
    pub(crate) fn parse(bytes: &[u8], path: &str) -> Result<LayoutIndex, OciError> {
        let invalid = |reason: String| OciError::InvalidDocument { what: path.to_owned(), reason };
        let index: LayoutIndex = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
        if index.schema_version != 2 {
            return Err(invalid(format!("schemaVersion {}, expected 2", index.schema_version)));
        }
        Ok(index)
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        // Strings, numbers and maps with string keys: serialising cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The entries a user means by `tag`, and the name of the image. Without a tag there must be one image only.
    pub(crate) fn select(
        &self,
        tag: Option<&str>,
        location: &str,
    ) -> Result<(Vec<Descriptor>, Option<String>), OciError> {
        let entry_names = |entry: &Descriptor| -> Vec<String> {
            [entry.annotation(CONTAINERD_NAME), entry.annotation(REF_NAME)]
                .into_iter()
                .flatten()
                .map(printable)
                .collect()
        };
        let label = |entry: &Descriptor| entry_names(entry).pop();
        let all_labels = || {
            let mut labels: Vec<String> =
                self.manifests.iter().map(|entry| label(entry).unwrap_or_else(|| entry.digest.clone())).collect();
            labels.sort();
            labels.dedup();
            labels
        };
        let chosen: Vec<Descriptor> = match tag {
            Some(tag) => {
                let wanted = tag.parse::<ignite_api::ImageReference>().ok();
                let is_wanted = |name: &String| {
                    name == tag || (wanted.is_some() && name.parse::<ignite_api::ImageReference>().ok() == wanted)
                };
                let named = self
                    .manifests
                    .iter()
                    .filter(|entry| entry.digest == tag || entry_names(entry).iter().any(is_wanted));
                let chosen: Vec<Descriptor> = named.cloned().collect();
                if chosen.is_empty() {
                    let names = self.manifests.iter().filter_map(label).collect();
                    return Err(OciError::NoSuchImage { location: location.to_owned(), wanted: tag.to_owned(), names });
                }
                chosen
            }
            None => {
                if self.manifests.is_empty() {
                    let reason = "it holds no image".to_owned();
                    return Err(OciError::InvalidDocument { what: location.to_owned(), reason });
                }
                let mut labels: Vec<Option<String>> = self.manifests.iter().map(label).collect();
                labels.sort();
                labels.dedup();
                let mut digests: Vec<&str> = self.manifests.iter().map(|entry| entry.digest.as_str()).collect();
                digests.sort_unstable();
                digests.dedup();
                let by_platform = self.manifests.iter().all(|entry| entry.platform.is_some());
                if digests.len() > 1 && (labels.len() > 1 || !by_platform) {
                    return Err(OciError::SeveralImages { location: location.to_owned(), names: all_labels() });
                }
                self.manifests.clone()
            }
        };
        let name = chosen
            .first()
            .and_then(|entry| entry.annotation(CONTAINERD_NAME).or_else(|| entry.annotation(REF_NAME)).map(printable));
        Ok((chosen, name))
    }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
