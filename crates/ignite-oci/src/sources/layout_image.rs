//! An image of a layout, be it a directory or an archive: chosen, staged, verified, then published at once.

use crate::config::parse_configuration;
use crate::digest::Digest;
use crate::document::{Descriptor, Document, LayoutIndex, Manifest, choose, parse_document};
use crate::image::{check_platform, read_image, record_image};
use crate::limits::{MAX_CONFIG_BYTES, MAX_INDEX_DEPTH, MAX_MANIFEST_BYTES};
use crate::names::derived_name;
use crate::partial::{Acquired, PartialBlob};
use crate::{ContentStore, OciError, Platform, Progress, ProgressEvent, PullOptions, StoredImage};
use std::path::Path;

/// Where the blobs of a layout are taken from.
pub(super) trait LayoutBlobs {
    /// The bytes of a small blob, verified.
    fn read(&mut self, digest: &Digest, limit_bytes: u64) -> Result<Vec<u8>, OciError>;
    /// Brings a blob where [`LayoutBlobs::commit`] can publish it, verified; nothing is visible yet.
    fn stage(&mut self, blob: &Descriptor) -> Result<(), OciError>;
    /// Publishes a staged blob. True when the store had it already.
    fn commit(&mut self, digest: &Digest) -> Result<bool, OciError>;
}

/// What is asked of a layout.
pub(super) struct Request<'a> {
    /// How it is called in messages, e.g. `oci:/images/busybox`.
    pub(super) location: &'a str,
    /// Its path, for the image's name.
    pub(super) path: Option<&'a Path>,
    pub(super) tag: Option<&'a str>,
    pub(super) options: &'a PullOptions,
}

/// The entry of `index` that `request` means, which may be an index again, and the name written there.
pub(super) fn select(index: &LayoutIndex, request: &Request<'_>) -> Result<(Descriptor, Option<String>), OciError> {
    let (entries, name) = index.select(request.tag, request.location)?;
    let entry = match entries.as_slice() {
        [only] => only,
        several => choose(several, &request.options.platform, request.location)?,
    };
    Ok((entry.clone(), name))
}

/// Brings the image that `request` means into the store.
pub(super) fn import(
    store: &ContentStore,
    index: &LayoutIndex,
    blobs: &mut dyn LayoutBlobs,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<StoredImage, OciError> {
    let (entry, written_name) = select(index, request)?;
    let (digest, bytes, manifest) = find_manifest(blobs, &entry, &request.options.platform, request.location)?;
    let name = derived_name(written_name.as_deref(), request.path, digest.hex());
    let source_id = format!("oci://{}@{}", name_without_tag(&name), entry.digest);

    // Whoever holds the manifest's lock does the work; the others wait here and find it done.
    let mut lock = PartialBlob::acquire(store, &digest)?;
    let result = publish(store, blobs, request, progress, &manifest, &bytes, &mut lock);
    match (result, lock) {
        (Ok(()), Acquired::Missing(blob)) => blob.commit("manifest")?,
        (Ok(()), Acquired::Present(_)) => {}
        (Err(error), Acquired::Missing(blob)) => {
            blob.discard()?;
            return Err(error);
        }
        (Err(error), Acquired::Present(_)) => return Err(error),
    }
    let image = read_image(store, &digest, name, source_id)?;
    record_image(store, &image, &manifest)?;
    Ok(image)
}

/// Brings all that `manifest` names into the store, and the manifest's own bytes into `lock`.
fn publish(
    store: &ContentStore,
    blobs: &mut dyn LayoutBlobs,
    request: &Request<'_>,
    progress: &dyn Progress,
    manifest: &Manifest,
    bytes: &[u8],
    lock: &mut Acquired,
) -> Result<(), OciError> {
    let config_digest = manifest.config.parsed_digest()?;
    let config = blobs.read(&config_digest, MAX_CONFIG_BYTES)?;
    let configuration = parse_configuration(&config, manifest.layers.len(), request.location)?;
    check_platform(&configuration, &request.options.platform, request.location)?;
    for layer in &manifest.layers {
        progress.event(ProgressEvent::LayerStarted { digest: layer.digest.clone(), size: layer.size });
        blobs.stage(layer)?;
        progress.event(ProgressEvent::LayerProgress { digest: layer.digest.clone(), bytes: layer.size });
    }
    for layer in &manifest.layers {
        let reused = blobs.commit(&layer.parsed_digest()?)?;
        progress.event(ProgressEvent::LayerDone { digest: layer.digest.clone(), reused });
    }
    store.put_blob(&config, &config_digest)?;
    if let Acquired::Missing(blob) = lock {
        blob.restart()?;
        blob.write(bytes)?;
    }
    Ok(())
}

/// Follows indexes from `entry` to the manifest for `platform`.
fn find_manifest(
    blobs: &mut dyn LayoutBlobs,
    entry: &Descriptor,
    platform: &Platform,
    location: &str,
) -> Result<(Digest, Vec<u8>, Manifest), OciError> {
    let mut entry = entry.clone();
    for _ in 0..=MAX_INDEX_DEPTH {
        let digest = entry.parsed_digest()?;
        let bytes = blobs.read(&digest, MAX_MANIFEST_BYTES)?;
        match parse_document(
            &bytes,
            Some(&entry.media_type).filter(|text| !text.is_empty()).map(String::as_str),
            location,
        )? {
            Document::Manifest(manifest) => return Ok((digest, bytes, *manifest)),
            Document::Index(entries) => entry = choose(&entries, platform, location)?.clone(),
        }
    }
    let reason = format!("more than {MAX_INDEX_DEPTH} indexes within each other");
    Err(OciError::InvalidDocument { what: location.to_owned(), reason })
}

/// `redis:7` without `:7`, for source ids.
pub(super) fn name_without_tag(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}
