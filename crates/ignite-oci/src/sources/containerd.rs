//! Source `containerd:REF`: an image of a containerd, pulled for it when it is missing there.
//!
//! Blobs that lie on the same file system are shared by a hard link, others are read through its API; a lease keeps its
//! garbage collector away meanwhile. What is missing is pulled as containerd's own clients do: by the client, with
//! containerd's `hosts.toml`, then handed over (ADR 0020).

use crate::config::parse_configuration;
use crate::containerd::{Containerd, Target};
use crate::digest::Digest;
use crate::document::{Descriptor, Document, Manifest, choose, parse_document};
use crate::image::{check_platform, read_image, record_image};
use crate::limits::{MAX_CONFIG_BYTES, MAX_INDEX_DEPTH, MAX_MANIFEST_BYTES};
use crate::names::{familiar_name, repository_name};
use crate::partial::{Acquired, Adopted, PartialBlob};
use crate::{ContentStore, OciError, Progress, ProgressEvent, PullOptions, StoredImage};
use ignite_api::ImageReference;
use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// Label by which containerd's garbage collector finds what a blob refers to (containerd, "Garbage Collection").
const REFERS_TO: &str = "containerd.io/gc.ref.content";

pub(super) async fn resolve_digest(reference: &ImageReference, options: &PullOptions) -> Result<String, OciError> {
    let engine = Containerd::connect(&options.containerd, options.idle_timeout).await?;
    let target = engine.image(&reference.to_string()).await;
    engine.release().await;
    match target? {
        Some(target) => Ok(target.digest),
        None => super::registry::resolve_digest(reference, &options.for_containerd()).await,
    }
}

pub(super) async fn fetch(
    store: &ContentStore,
    reference: &ImageReference,
    options: &PullOptions,
    progress: &Arc<dyn Progress>,
) -> Result<StoredImage, OciError> {
    let engine = Containerd::connect(&options.containerd, options.idle_timeout).await?;
    let taken = take(store, &engine, reference, options, progress).await;
    engine.release().await;
    taken
}

async fn take(
    store: &ContentStore,
    engine: &Containerd,
    reference: &ImageReference,
    options: &PullOptions,
    progress: &Arc<dyn Progress>,
) -> Result<StoredImage, OciError> {
    let source = Source { store, engine, root: engine.content_root().await, progress: &**progress };
    if let Some(target) = engine.image(&reference.to_string()).await?
        && let Some(image) = source.bring(reference, &target, options).await?
    {
        return Ok(image);
    }
    let image = super::registry::fetch(store, reference, &options.for_containerd(), progress).await?;
    source.hand_over(reference, &image, options).await?;
    Ok(image)
}

struct Source<'a> {
    store: &'a ContentStore,
    engine: &'a Containerd,
    root: Option<PathBuf>,
    progress: &'a dyn Progress,
}

impl Source<'_> {
    /// The image, when containerd has all of it for the platform wanted.
    async fn bring(
        &self,
        reference: &ImageReference,
        target: &Target,
        options: &PullOptions,
    ) -> Result<Option<StoredImage>, OciError> {
        let name = reference.to_string();
        let Some((digest, bytes, manifest)) = self.find_manifest(target, options, &name).await? else {
            return Ok(None);
        };
        if manifest.config.size > MAX_CONFIG_BYTES {
            return Err(OciError::TooLarge { what: "image configuration".to_owned(), limit_bytes: MAX_CONFIG_BYTES });
        }
        if self.bring_blob(&manifest.config).await?.is_none() {
            return Ok(None);
        }
        let config = self.store.read_blob(&manifest.config.parsed_digest()?, MAX_CONFIG_BYTES)?;
        let configuration = parse_configuration(&config, manifest.layers.len(), &name)?;
        check_platform(&configuration, &options.platform, &name)?;
        for layer in &manifest.layers {
            self.progress.event(ProgressEvent::LayerStarted { digest: layer.digest.clone(), size: layer.size });
            let Some(reused) = self.bring_blob(layer).await? else { return Ok(None) };
            self.progress.event(ProgressEvent::LayerDone { digest: layer.digest.clone(), reused });
        }
        // The manifest last: where it is, all it names is.
        self.store.put_blob(&bytes, &digest)?;
        let source_id = format!("oci://{}@{}", repository_name(reference), target.digest);
        let image = read_image(self.store, &digest, familiar_name(reference), source_id)?;
        record_image(self.store, &image, &manifest)?;
        Ok(Some(image))
    }

    /// Follows indexes to the manifest for the platform wanted; `None` when containerd lacks a part of the way.
    async fn find_manifest(
        &self,
        target: &Target,
        options: &PullOptions,
        image: &str,
    ) -> Result<Option<(Digest, Vec<u8>, Manifest)>, OciError> {
        let (mut digest, mut media_type) = (target.digest.parse::<Digest>()?, target.media_type.clone());
        for _ in 0..=MAX_INDEX_DEPTH {
            let Some(bytes) = self.read_document(&digest).await? else { return Ok(None) };
            match parse_document(&bytes, Some(media_type.as_str()).filter(|text| !text.is_empty()), image)? {
                Document::Manifest(manifest) => return Ok(Some((digest, bytes, *manifest))),
                Document::Index(entries) => {
                    let entry = choose(&entries, &options.platform, image)?.clone();
                    self.store.put_blob(&bytes, &digest)?;
                    (digest, media_type) = (entry.parsed_digest()?, entry.media_type);
                }
            }
        }
        let reason = format!("more than {MAX_INDEX_DEPTH} indexes within each other");
        Err(OciError::InvalidDocument { what: image.to_owned(), reason })
    }

    async fn read_document(&self, digest: &Digest) -> Result<Option<Vec<u8>>, OciError> {
        let Some(size) = self.engine.hold(digest).await? else { return Ok(None) };
        let too_large = || OciError::TooLarge { what: digest.to_string(), limit_bytes: MAX_MANIFEST_BYTES };
        if size > MAX_MANIFEST_BYTES {
            return Err(too_large());
        }
        let mut stream = self.engine.read(digest, 0).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await? {
            if (bytes.len() + piece.len()) as u64 > MAX_MANIFEST_BYTES {
                return Err(too_large());
            }
            bytes.extend_from_slice(&piece);
        }
        crate::store::verify("manifest in containerd", &bytes, digest)?;
        Ok(Some(bytes))
    }

    /// Makes sure that our store has a blob: true when it had; `None` when containerd lacks it.
    async fn bring_blob(&self, blob: &Descriptor) -> Result<Option<bool>, OciError> {
        let digest = blob.parsed_digest()?;
        let partial = match acquire(self.store, &digest).await? {
            Acquired::Present(size) if size == blob.size => return Ok(Some(true)),
            Acquired::Present(actual) => {
                let what = format!("blob {digest}");
                return Err(OciError::SizeMismatch { what, expected: blob.size, actual });
            }
            Acquired::Missing(partial) => partial,
        };
        match self.engine.hold(&digest).await? {
            None => return Ok(None),
            Some(actual) if actual != blob.size => {
                let what = format!("blob {digest} in containerd");
                return Err(OciError::SizeMismatch { what, expected: blob.size, actual });
            }
            Some(_) => {}
        }
        let mut partial = match self.share(&digest, partial).await? {
            Adopted::Linked => return Ok(Some(false)),
            Adopted::NotHere(partial) => *partial,
        };
        partial.restart()?;
        let mut stream = self.engine.read(&digest, 0).await?;
        while let Some(piece) = stream.next().await? {
            if partial.written() + piece.len() as u64 > blob.size {
                partial.discard()?;
                let what = format!("blob {digest} in containerd");
                return Err(OciError::SizeMismatch { what, expected: blob.size, actual: blob.size + 1 });
            }
            partial = on_worker(move || partial.write(&piece).map(|()| partial)).await?;
            let bytes = partial.written();
            self.progress.event(ProgressEvent::LayerProgress { digest: blob.digest.clone(), bytes });
        }
        let what = format!("blob {digest} in containerd");
        on_worker(move || partial.settle(&what)).await?;
        Ok(Some(false))
    }

    /// Links a blob out of containerd's own directory, where that is possible.
    async fn share(&self, digest: &Digest, partial: PartialBlob) -> Result<Adopted, OciError> {
        let Some(path) = self.path_in_containerd(digest) else { return Ok(Adopted::NotHere(Box::new(partial))) };
        on_worker(move || partial.adopt(&path)).await
    }

    fn path_in_containerd(&self, digest: &Digest) -> Option<PathBuf> {
        let root = self.root.as_ref().filter(|root| root.is_absolute())?;
        Some(root.join("blobs").join(digest.algorithm().name()).join(digest.hex()))
    }

    /// Gives containerd an image that our store has, under its name.
    async fn hand_over(
        &self,
        reference: &ImageReference,
        image: &StoredImage,
        options: &PullOptions,
    ) -> Result<(), OciError> {
        let name = reference.to_string();
        // From the manifest upwards: what refers comes after what is referred to.
        let manifest: Digest = image.manifest_digest.parse()?;
        let bytes = self.store.read_blob(&manifest, MAX_MANIFEST_BYTES)?;
        let Document::Manifest(document) = parse_document(&bytes, None, &name)? else {
            let reason = "it is an index".to_owned();
            return Err(OciError::InvalidDocument { what: format!("manifest {manifest}"), reason });
        };
        let mut labels = HashMap::from([(format!("{REFERS_TO}.config"), document.config.digest.clone())]);
        for (at, layer) in document.layers.iter().enumerate() {
            labels.insert(format!("{REFERS_TO}.l.{at}"), layer.digest.clone());
        }
        for blob in std::iter::once(&document.config).chain(&document.layers) {
            self.give(&blob.parsed_digest()?, HashMap::new()).await?;
        }
        self.give(&manifest, labels).await?;
        let mut target =
            Target { media_type: document.media_type.clone(), digest: manifest.to_string(), size: bytes.len() as u64 };
        for index in self.indexes_above(image, &manifest, options)? {
            let labels = HashMap::from([(format!("{REFERS_TO}.m.0"), target.digest.clone())]);
            self.give(&index.parsed_digest()?, labels).await?;
            target = Target { media_type: index.media_type, digest: index.digest, size: index.size };
        }
        self.engine.set_image(&name, &target).await
    }

    /// The indexes through which `manifest` was found, the lowest first.
    fn indexes_above(
        &self,
        image: &StoredImage,
        manifest: &Digest,
        options: &PullOptions,
    ) -> Result<Vec<Descriptor>, OciError> {
        let mut indexes = Vec::new();
        let mut digest: Digest = image.source_digest().parse()?;
        while digest != *manifest && indexes.len() <= MAX_INDEX_DEPTH {
            let bytes = self.store.read_blob(&digest, MAX_MANIFEST_BYTES)?;
            let Document::Index(entries) = parse_document(&bytes, None, &image.name)? else { break };
            indexes.insert(0, Descriptor::of_index(&bytes, &digest));
            digest = choose(&entries, &options.platform, &image.name)?.parsed_digest()?;
        }
        Ok(indexes)
    }

    /// Writes a blob of ours into containerd, then shares containerd's copy where that is possible.
    async fn give(&self, digest: &Digest, labels: HashMap<String, String>) -> Result<(), OciError> {
        let path = self.store.path_of(digest);
        let file = File::open(&path).map_err(OciError::store("open", &path))?;
        let size = file.metadata().map_err(OciError::store("look at", &path))?.len();
        self.engine.write(digest, size, file, labels).await?;
        if let Some(theirs) = self.path_in_containerd(digest) {
            let (store, digest) = (self.store.clone(), digest.clone());
            on_worker(move || store.replace_by_link(&digest, &theirs)).await?;
        }
        Ok(())
    }
}

async fn acquire(store: &ContentStore, digest: &Digest) -> Result<Acquired, OciError> {
    let (store, digest) = (store.clone(), digest.clone());
    crate::registry::wait_on_thread(move || PartialBlob::acquire(&store, &digest)).await?
}

async fn on_worker<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OciError> + Send + 'static,
) -> Result<T, OciError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| OciError::WorkerLost)?
}
