//! Images in the content store: what a fetch gives, and reading it again.

use crate::config::{Configuration, parse_configuration};
use crate::digest::Digest;
use crate::document::{Descriptor, DescriptorPlatform, Document, Manifest, REF_NAME, parse_document};
use crate::limits::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES};
use crate::{ContentStore, OciError, Platform};
use ignite_api::image::ImageConfig;

/// Annotation in the store's index with the image's source.
const SOURCE: &str = "works.weave.ignite.source";

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the blob.
    pub digest: String,
    /// Digest of its decompressed tar.
    pub diff_id: String,
    /// Media type the manifest gives; the true compression is told from the content.
    pub media_type: String,
    /// Bytes of the blob (compressed).
    pub size: u64,
}

/// An image all of whose content is in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredImage {
    /// Name for people: `redis:latest`, or derived from the archive's path.
    pub name: String,
    /// `oci://docker.io/library/redis@sha256:...`: where it came from. The digest is what [`crate::resolve_digest`]
    /// gives for the source: the index's where there is one, else the manifest's.
    pub source_id: String,
    /// Digest of the manifest.
    pub manifest_digest: String,
    /// Digest of the configuration.
    pub config_digest: String,
    /// What the image says should run.
    pub config: ImageConfig,
    /// Layers, lowest first.
    pub layers: Vec<Layer>,
    /// `linux/amd64`, where the configuration says so.
    pub platform: Option<String>,
}

impl StoredImage {
    /// The digest part of `source_id`.
    pub fn source_digest(&self) -> &str {
        self.source_id.rsplit_once('@').map_or(self.manifest_digest.as_str(), |(_, digest)| digest)
    }
}

/// Reads an image that is in the store, without any network. Blocks on small files only.
pub async fn load_stored(store: &ContentStore, manifest_digest: &str) -> Result<StoredImage, OciError> {
    let digest: Digest = manifest_digest.parse()?;
    let index = store.read_index()?;
    let entry = index.manifests.iter().find(|entry| entry.digest == manifest_digest);
    let name = entry.and_then(|entry| entry.annotation(REF_NAME)).unwrap_or(manifest_digest).to_owned();
    let source_id = entry.and_then(|entry| entry.annotation(SOURCE)).map(str::to_owned);
    let source_id = source_id.unwrap_or_else(|| format!("oci://{name}@{digest}"));
    read_image(store, &digest, name, source_id)
}

/// Reads the image `digest`, all of whose blobs must be there.
pub(crate) fn read_image(
    store: &ContentStore,
    digest: &Digest,
    name: String,
    source_id: String,
) -> Result<StoredImage, OciError> {
    let bytes = store.read_blob(digest, MAX_MANIFEST_BYTES)?;
    let manifest = match parse_document(&bytes, None, &name)? {
        Document::Manifest(manifest) => manifest,
        Document::Index(_) => {
            let reason = "it is an index".to_owned();
            return Err(OciError::InvalidDocument { what: format!("manifest {digest}"), reason });
        }
    };
    let config_bytes = store.read_blob(&manifest.config.parsed_digest()?, MAX_CONFIG_BYTES)?;
    let configuration = parse_configuration(&config_bytes, manifest.layers.len(), &name)?;
    for layer in &manifest.layers {
        let digest = layer.parsed_digest()?;
        if store.size_of(&digest)? != Some(layer.size) {
            return Err(OciError::BlobMissing { digest: layer.digest.clone() });
        }
    }
    Ok(assemble(digest, &manifest, configuration, name, source_id))
}

fn assemble(
    digest: &Digest,
    manifest: &Manifest,
    configuration: Configuration,
    name: String,
    source_id: String,
) -> StoredImage {
    let layers = manifest.layers.iter().zip(configuration.diff_ids).map(|(layer, diff_id)| Layer {
        digest: layer.digest.clone(),
        diff_id,
        media_type: layer.media_type.clone(),
        size: layer.size,
    });
    StoredImage {
        name,
        source_id,
        manifest_digest: digest.to_string(),
        config_digest: manifest.config.digest.clone(),
        config: configuration.config,
        layers: layers.collect(),
        platform: configuration.platform.map(|platform| platform.to_string()),
    }
}

/// Lists `image` in the store's `index.json`, so that other tools and [`load_stored`] find it.
pub(crate) fn record_image(store: &ContentStore, image: &StoredImage, manifest: &Manifest) -> Result<(), OciError> {
    let size = store.size_of(&image.manifest_digest.parse()?)?.unwrap_or_default();
    let platform = image.platform.as_deref().and_then(|text| text.parse::<Platform>().ok());
    let entry = Descriptor {
        media_type: manifest.media_type.clone(),
        digest: image.manifest_digest.clone(),
        size,
        urls: None,
        annotations: Some(
            [(REF_NAME.to_owned(), image.name.clone()), (SOURCE.to_owned(), image.source_id.clone())].into(),
        ),
        platform: platform.map(|platform| DescriptorPlatform {
            os: platform.os,
            architecture: platform.architecture,
            variant: platform.variant,
        }),
    };
    store.update_index(|index| {
        // A name means its latest image; the former stays listed as long as other names mean it.
        index.manifests.retain(|other| other.annotation(REF_NAME) != Some(image.name.as_str()));
        index.manifests.insert(0, entry);
    })
}

/// Refuses an image that says it is made for another platform.
pub(crate) fn check_platform(configuration: &Configuration, wanted: &Platform, image: &str) -> Result<(), OciError> {
    match &configuration.platform {
        Some(found) if !wanted.accepts(found) => Err(OciError::PlatformMismatch {
            image: image.to_owned(),
            wanted: wanted.to_string(),
            found: crate::document::printable(&found.to_string()),
        }),
        _ => Ok(()),
    }
}
