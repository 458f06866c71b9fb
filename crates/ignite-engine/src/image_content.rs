//! What is done with images that are here: names, history, verification, archives.

use crate::engine::{Engine, new_uid};
use crate::error::EngineError;
use crate::image_archive::{Archive, open_archive};
use crate::images::file_digest;
use crate::progress::{FetchProgress, Progress};
use ignite_api::{API_VERSION, Image, ImageReference, ImageSource, ObjectMeta, Uid};
use ignite_oci::{ArchiveCompression, HistoryEntry, SavedImage};
use ignite_store::StoreError;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a verification found of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageVerdict {
    /// Name of the image.
    pub name: String,
    /// What is not as it was written; empty: all is well.
    pub damaged: Vec<Damage>,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// A blob of that digest.
    Blob(String),
    /// The base disk at that path, which every VM of the image reads.
    Base(PathBuf),
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Damage::Blob(digest) => write!(f, "blob {digest}"),
            Damage::Base(path) => write!(f, "base disk {}", path.display()),
        }
    }
}

impl Engine {
    /// Gives an image one more name. An image that has the name already loses it.
    pub async fn tag_image(&self, uid: &Uid, name: &str) -> Result<Image, EngineError> {
        let name = name.parse::<ImageReference>().map_err(|error| EngineError::Invalid(error.to_string()))?.familiar();
        ignite_api::names::check_object_name(&name).map_err(|error| EngineError::Invalid(error.to_string()))?;
        let image = self.images.read(uid)?;
        self.blocking(move |engine| {
            loop {
                if let Some(known) = engine.images.owner_of_name(&name)? {
                    let _lock = engine.images.lock(&known)?;
                    let mut other = engine.images.read(&known)?;
                    other.spec = image.spec.clone();
                    other.status = image.status.clone();
                    engine.images.write(&other)?;
                    return Ok(other);
                }
                let uid = new_uid()?;
                let metadata = ObjectMeta {
                    name: name.clone(),
                    uid: Some(uid.clone()),
                    created: Some(jiff::Timestamp::now()),
                    ..ObjectMeta::default()
                };
                let tagged = Image {
                    api_version: API_VERSION.to_owned(),
                    kind: "Image".to_owned(),
                    metadata,
                    spec: image.spec.clone(),
                    status: image.status.clone(),
                };
                let draft = engine.images.draft(&uid)?;
                match engine.images.publish(draft, &tagged) {
                    Ok(()) => return Ok(tagged),
                    Err((_, StoreError::NameTaken { .. })) => {}
                    Err((_, error)) => return Err(error.into()),
                }
            }
        })
        .await
    }

    /// How an image was built, the lowest layer first.
    pub async fn image_history(&self, uid: &Uid) -> Result<Vec<HistoryEntry>, EngineError> {
        let image = self.images.read(uid)?;
        self.blocking(move |engine| {
            let failed = |source| EngineError::Image { image: image.metadata.name.clone(), source };
            engine.content_store().and_then(|store| store.history(&image.status.manifest_digest)).map_err(failed)
        })
        .await
    }

    /// Reads all that is stored of an image again and compares it with its digests.
    pub async fn verify_image(&self, uid: &Uid) -> Result<ImageVerdict, EngineError> {
        let image = self.images.read(uid)?;
        self.blocking(move |engine| {
            let failed = |source| EngineError::Image { image: image.metadata.name.clone(), source };
            let store = engine.content_store().map_err(failed)?;
            let blobs = store.damaged_blobs(&image.status.manifest_digest).map_err(failed)?;
            let mut damaged: Vec<Damage> = blobs.into_iter().map(Damage::Blob).collect();
            if !engine.is_base_whole(&image)? {
                damaged.push(Damage::Base(engine.paths.base(&image.status.base_key)));
            }
            Ok(ImageVerdict { name: image.metadata.name, damaged })
        })
        .await
    }

    /// Whether an image's base disk is what was written. One of a time before digests is taken as it is.
    pub(crate) fn is_base_whole(&self, image: &Image) -> Result<bool, EngineError> {
        let path = self.paths.base(&image.status.base_key);
        if !path.exists() {
            return Ok(false);
        }
        Ok(image.status.base_digest.is_empty() || file_digest(&path)? == image.status.base_digest)
    }

    /// Writes images to an archive, each under its name here.
    pub async fn save_images(
        &self,
        uids: &[Uid],
        mut out: Box<dyn Write + Send>,
        compression: ArchiveCompression,
    ) -> Result<(), EngineError> {
        let images = uids.iter().map(|uid| self.images.read(uid)).collect::<Result<Vec<_>, _>>()?;
        self.blocking(move |engine| {
            let failed = |source| EngineError::Image { image: "the archive".to_owned(), source };
            let store = engine.content_store().map_err(failed)?;
            let _lease = store.lease().map_err(failed)?;
            let images: Vec<SavedImage> = images
                .into_iter()
                .map(|image| SavedImage { name: image.metadata.name, manifest_digest: image.status.manifest_digest })
                .collect();
            store.save(&images, &mut out, compression).map_err(failed)
        })
        .await
    }

    /// Imports the images of an archive that have these names there; where none is given, every one.
    pub async fn load_images(
        &self,
        from: Archive,
        names: Vec<String>,
        progress: Arc<dyn Progress>,
    ) -> Result<Vec<Image>, EngineError> {
        let (archive, path, label) = match from {
            Archive::Stream(stream) => (stream, None, "-".to_owned()),
            Archive::Path(path) => {
                let label = path.display().to_string();
                (open_archive(&path)?, Some(path), label)
            }
            Archive::Url { url, digest } => (self.download(&url, digest.as_deref()).await?, None, url),
        };
        self.blocking(move |engine| {
            let mut archive = engine.imports.watch(archive);
            let failed = |source| EngineError::Image { image: label.clone(), source };
            let store = engine.content_store().map_err(failed)?;
            let lease = store.lease().map_err(failed)?;
            engine.imports.begin();
            let listener = FetchProgress::new(progress.clone());
            let options = engine.pull_options();
            let mut load = || {
                let fetched =
                    ignite_oci::fetch_all(&store, &mut *archive, path.as_deref(), &names, &options, &*listener);
                let mut images = Vec::new();
                for stored in fetched.map_err(failed)? {
                    let (key, base) = engine.ensure_base(&stored, &*progress)?;
                    let source = source_of(&stored.name, path.as_deref());
                    images.push(engine.store_image(stored.name.clone(), source, stored, key, base)?);
                }
                Ok(images)
            };
            let loaded: Result<_, EngineError> = load();
            if loaded.as_ref().is_err_and(EngineError::is_storage_full) {
                drop(lease);
                engine.free_unreferenced()?;
            }
            loaded
        })
        .await
    }
}

/// Where a loaded image came from: the registry that its name means, as in `docker load`, else the archive.
fn source_of(name: &str, path: Option<&Path>) -> ImageSource {
    match (name.parse(), path) {
        (Ok(source), _) => source,
        (Err(_), Some(path)) => ImageSource::OciArchive { path: path.to_owned(), tag: None },
        (Err(_), None) => ImageSource::Stdin,
    }
}
