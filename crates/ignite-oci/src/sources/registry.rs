//! Source `REF` or `docker://REF`: a registry.

use crate::config::parse_configuration;
use crate::digest::Digest;
use crate::document::{Descriptor, Document, Manifest, choose, parse_document};
use crate::image::{check_platform, read_image, record_image};
use crate::limits::{MAX_CONFIG_BYTES, MAX_INDEX_DEPTH, MAX_MANIFEST_BYTES};
use crate::names::{familiar_name, repository_name};
use crate::registry::{Endpoint, RegistryClient, Target, download_blob, places, with_other_meanings};
use crate::{ContentStore, OciError, Progress, ProgressEvent, PullOptions, StoredImage};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use ignite_api::ImageReference;
use std::collections::HashSet;
use std::sync::Arc;

pub(super) async fn resolve_digest(reference: &ImageReference, options: &PullOptions) -> Result<String, OciError> {
    if let Some(digest) = &reference.digest {
        return Ok(digest.parse::<Digest>()?.to_string());
    }
    let places = places(reference, options)?;
    let ask = |endpoint: Endpoint, options: PullOptions| -> BoxFuture<'_, Result<String, OciError>> {
        Box::pin(async move {
            let target = endpoint.target.clone();
            Ok(RegistryClient::new(endpoint, &options)?.manifest_digest(&target, &()).await?.to_string())
        })
    };
    let found = at_first_good_place(reference, places, options, &(), ask).await;
    found.map_err(|error| with_other_meanings(error, reference, options))
}

pub(super) async fn fetch(
    store: &ContentStore,
    reference: &ImageReference,
    options: &PullOptions,
    progress: &Arc<dyn Progress>,
) -> Result<StoredImage, OciError> {
    let progress = &**progress;
    let places = places(reference, options)?;
    let fetch = |endpoint: Endpoint, options: PullOptions| -> BoxFuture<'_, Result<StoredImage, OciError>> {
        Box::pin(async move { fetch_from(store, reference, endpoint, &options, progress).await })
    };
    let fetched = at_first_good_place(reference, places, options, progress, fetch).await;
    fetched.map_err(|error| with_other_meanings(error, reference, options))
}

/// Tries one place after the other, as long as it is the place that is at fault; what came from one is not asked of the
/// next.
async fn at_first_good_place<'a, T>(
    reference: &ImageReference,
    places: Vec<Endpoint>,
    options: &PullOptions,
    progress: &dyn Progress,
    attempt: impl Fn(Endpoint, PullOptions) -> BoxFuture<'a, Result<T, OciError>>,
) -> Result<T, OciError> {
    let mut tried = Vec::new();
    let mut places = places.into_iter().peekable();
    while let Some(endpoint) = places.next() {
        let is_last = places.peek().is_none();
        // With another place at hand, patience is better spent there.
        let retries = if is_last { options.retries } else { options.retries.min(1) };
        let place = endpoint.image();
        match attempt(endpoint, PullOptions { retries, ..options.clone() }).await {
            Ok(done) => return Ok(done),
            Err(error) if is_last && tried.is_empty() => return Err(error),
            Err(error) if !error.is_of_the_place() => return Err(error),
            Err(error) => {
                if !is_last {
                    let reason = format!("{place}: {error}; asking the next place");
                    tracing::debug!(%reason);
                    let (attempt, after) = (tried.len() as u32 + 1, std::time::Duration::ZERO);
                    progress.event(ProgressEvent::Retrying { reason, attempt, after });
                }
                tried.push((place, error));
            }
        }
    }
    Err(OciError::NoPlaceHas { reference: reference.to_string(), tried })
}

async fn fetch_from(
    store: &ContentStore,
    reference: &ImageReference,
    endpoint: Endpoint,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<StoredImage, OciError> {
    let target = endpoint.target.clone();
    let image = endpoint.image();
    let client = RegistryClient::new(endpoint, options)?;

    let top = find_document(&client, store, &target, None, progress).await?;
    let source_digest = top.digest.clone();
    let (found, manifest) = find_manifest(&client, store, top, options, &image, progress).await?;

    // The configuration first: it is small and may say that the rest is not wanted.
    bring_config(&client, store, &manifest, progress).await?;
    let config = store.read_blob(&manifest.config.parsed_digest()?, MAX_CONFIG_BYTES)?;
    let configuration = parse_configuration(&config, manifest.layers.len(), &image)?;
    check_platform(&configuration, &options.platform, &image)?;

    // Some images repeat a layer; it comes once.
    let mut seen = HashSet::new();
    let layers: Vec<Descriptor> = manifest.layers.iter().filter(|layer| seen.insert(&layer.digest)).cloned().collect();
    let client = &client;
    stream::iter(layers)
        .map(|layer| async move { download_blob(client, store, &layer, progress).await })
        .buffer_unordered(options.parallel_downloads.max(1))
        .try_collect::<()>()
        .await?;

    // The manifest last: where it is, all it names is.
    store.put_blob(&found.bytes, &found.digest)?;
    let source_id = format!("oci://{}@{source_digest}", repository_name(reference));
    let image = read_image(store, &found.digest, familiar_name(reference), source_id)?;
    record_image(store, &image, &manifest)?;
    Ok(image)
}

/// A manifest or index with its bytes.
struct Found {
    bytes: Vec<u8>,
    digest: Digest,
    media_type: Option<String>,
}

/// Gets what `target` names, from the store where it is named by digest and there.
async fn find_document(
    client: &RegistryClient,
    store: &ContentStore,
    target: &Target,
    media_type: Option<&str>,
    progress: &dyn Progress,
) -> Result<Found, OciError> {
    if let Target::Digest(digest) = target
        && store.size_of(digest)?.is_some()
    {
        let bytes = store.read_blob(digest, MAX_MANIFEST_BYTES)?;
        return Ok(Found { bytes, digest: digest.clone(), media_type: media_type.map(str::to_owned) });
    }
    let raw = client.manifest(target, progress).await?;
    Ok(Found { bytes: raw.bytes, digest: raw.digest, media_type: raw.media_type })
}

/// Follows indexes to the manifest for the platform wanted.
async fn find_manifest(
    client: &RegistryClient,
    store: &ContentStore,
    mut found: Found,
    options: &PullOptions,
    image: &str,
    progress: &dyn Progress,
) -> Result<(Found, Manifest), OciError> {
    for _ in 0..=MAX_INDEX_DEPTH {
        let entry = match parse_document(&found.bytes, found.media_type.as_deref(), image)? {
            Document::Manifest(manifest) => return Ok((found, *manifest)),
            Document::Index(entries) => choose(&entries, &options.platform, image)?.clone(),
        };
        // Kept, so that an image asked for by the index's digest is found again without network.
        store.put_blob(&found.bytes, &found.digest)?;
        let media_type = Some(entry.media_type.as_str()).filter(|text| !text.is_empty());
        found = find_document(client, store, &Target::Digest(entry.parsed_digest()?), media_type, progress).await?;
    }
    let reason = format!("more than {MAX_INDEX_DEPTH} indexes within each other");
    Err(OciError::InvalidDocument { what: image.to_owned(), reason })
}

async fn bring_config(
    client: &RegistryClient,
    store: &ContentStore,
    manifest: &Manifest,
    progress: &dyn Progress,
) -> Result<(), OciError> {
    if manifest.config.size > MAX_CONFIG_BYTES {
        return Err(OciError::TooLarge { what: "image configuration".to_owned(), limit_bytes: MAX_CONFIG_BYTES });
    }
    /// Retries are told, the rest is about layers.
    struct OnlyRetries<'a>(&'a dyn Progress);
    impl Progress for OnlyRetries<'_> {
        fn event(&self, event: crate::ProgressEvent) {
            if matches!(event, crate::ProgressEvent::Retrying { .. }) {
                self.0.event(event);
            }
        }
    }
    download_blob(client, store, &manifest.config, &OnlyRetries(progress)).await
}
