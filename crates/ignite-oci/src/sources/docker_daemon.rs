//! Source `docker-daemon:REF`: an image of a running Docker engine, over its API.
//!
//! The version is negotiated: the engine's own, as long as we know it (Docker Engine API, "Versioned API"). An image that
//! the engine lacks is pulled by the engine.

use crate::archive::ArchiveContents;
use crate::config::parse_configuration;
use crate::docker::DockerEngine;
use crate::document::{Document, parse_document};
use crate::image::{check_platform, load_stored, read_image, record_image};
use crate::limits::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES};
use crate::names::{familiar_name, repository_name};
use crate::{ContentStore, OciError, Progress, PullOptions, StoredImage};
use ignite_api::ImageReference;
use std::io::{self, Read};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Pieces on their way from the engine to the disk.
const CHUNKS_IN_FLIGHT: usize = 16;

pub(super) async fn resolve_digest(reference: &ImageReference, options: &PullOptions) -> Result<String, OciError> {
    let engine = DockerEngine::connect(options).await?;
    let name = familiar_name(reference);
    match engine.image_id(&name).await? {
        Some(id) => Ok(id),
        None => Err(OciError::NotFound { reference: format!("docker-daemon:{name}") }),
    }
}

pub(super) async fn fetch(
    store: &ContentStore,
    reference: &ImageReference,
    options: &PullOptions,
    progress: &Arc<dyn Progress>,
) -> Result<StoredImage, OciError> {
    let engine = DockerEngine::connect(options).await?;
    let name = familiar_name(reference);
    let id = match engine.image_id(&name).await? {
        Some(id) => id,
        None => {
            engine.pull(reference, options, &**progress).await?;
            let missing = || OciError::NotFound { reference: format!("docker-daemon:{name}") };
            engine.image_id(&name).await?.ok_or_else(missing)?
        }
    };
    let source_id = format!("oci://{}@{id}", repository_name(reference));
    if let Some(image) = known(store, &id, reference, &source_id, options).await? {
        return Ok(image);
    }
    let mut response = engine.export(&name).await?;
    let (sender, receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let importer = tokio::task::spawn_blocking({
        let (store, options, progress) = (store.clone(), options.clone(), progress.clone());
        let name = name.clone();
        move || {
            let mut reader = ChannelReader { receiver, piece: bytes::Bytes::new() };
            let location = format!("docker-daemon:{name}");
            let contents = ArchiveContents::read(&store, &mut reader, &location, &*progress)?;
            // The engine was asked for one image: whatever it is called in there, it is that one.
            super::docker_archive::import_contents(&store, &contents, None, None, &options, &*progress)
        }
    });
    loop {
        let piece = engine.next_piece(&mut response).await;
        let is_end = matches!(piece, Ok(None) | Err(_));
        let told = match piece {
            Ok(Some(piece)) => Ok(piece),
            Ok(None) => break,
            Err(error) => Err(io::Error::other(error)),
        };
        // The importer went away: its own error is told below.
        if sender.send(told).await.is_err() || is_end {
            break;
        }
    }
    drop(sender);
    let imported = importer.await.map_err(|_| OciError::WorkerLost)??;
    name_image(store, &imported.manifest_digest, reference, source_id)
}

/// The image of that id, when an earlier fetch brought it.
async fn known(
    store: &ContentStore,
    id: &str,
    reference: &ImageReference,
    source_id: &str,
    options: &PullOptions,
) -> Result<Option<StoredImage>, OciError> {
    let listed: Vec<String> = store.read_index()?.manifests.into_iter().map(|entry| entry.digest).collect();
    for digest in listed {
        // A damaged or half removed image is simply brought again.
        let Ok(image) = load_stored(store, &digest).await else { continue };
        if image.config_digest != id && image.manifest_digest != id {
            continue;
        }
        let config = store.read_blob(&image.config_digest.parse()?, MAX_CONFIG_BYTES)?;
        let configuration = parse_configuration(&config, image.layers.len(), &image.name)?;
        check_platform(&configuration, &options.platform, &image.name)?;
        return name_image(store, &digest, reference, source_id.to_owned()).map(Some);
    }
    Ok(None)
}

/// Lists a stored image under the name it was asked for by.
fn name_image(
    store: &ContentStore,
    manifest_digest: &str,
    reference: &ImageReference,
    source_id: String,
) -> Result<StoredImage, OciError> {
    let digest = manifest_digest.parse()?;
    let image = read_image(store, &digest, familiar_name(reference), source_id)?;
    if let Document::Manifest(manifest) =
        parse_document(&store.read_blob(&digest, MAX_MANIFEST_BYTES)?, None, &image.name)?
    {
        record_image(store, &image, &manifest)?;
    }
    Ok(image)
}

/// What comes through a channel, as a reader on a blocking thread.
struct ChannelReader {
    receiver: mpsc::Receiver<io::Result<bytes::Bytes>>,
    piece: bytes::Bytes,
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece?,
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}
