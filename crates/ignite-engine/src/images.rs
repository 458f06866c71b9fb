//! Images: imported once, their base disk made once per set of layers, freed when nobody needs them.

use crate::engine::{Engine, new_uid};
use crate::error::EngineError;
use crate::layers::{as_sources, layers_of};
use crate::progress::{FetchProgress, Progress, ProgressEvent};
use ignite_api::image::{Image, ImageStatus, OciSourceStatus};
use ignite_api::{API_VERSION, ImageReference, ImageSource, ObjectMeta, Size, Uid, Vm};
use ignite_oci::{ContentStore, Keeper, OciError, Platform, PullOptions, StoredImage};
use ignite_store::{FileLock, StoreError, atomic};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest a base disk that another process is making is waited for.
const BASE_LOCK_DEADLINE: Duration = Duration::from_secs(3600);

/// Prefix of a directory in which a base disk is being made.
const MAKING: &str = ".making-";

/// When an image is fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// When it is not imported, or (a local source) has changed.
    #[default]
    Missing,
    /// Whenever the source has something newer.
    Always,
    /// Never.
    Never,
}

/// An image to import.
pub struct ImportImage {
    /// Where it comes from.
    pub source: ImageSource,
    /// When it is fetched.
    pub pull: PullPolicy,
    /// Its name here; absent: the source's own.
    pub name: Option<String>,
    /// What it is to be made for; absent: this host.
    pub platform: Option<Platform>,
    /// Standard input, for sources that are read from there.
    pub stdin: Option<Box<dyn Read + Send>>,
}

/// What a prune removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Names of removed objects.
    pub removed: Vec<String>,
    /// Bytes freed on disk.
    pub freed: Size,
}

/// What is recorded beside a base disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BaseRecord {
    #[serde(default)]
    digest: String,
    size: u64,
    content_size: u64,
    has_init: bool,
}

impl Engine {
    /// Makes sure the image is imported, and returns it.
    pub async fn import_image(&self, request: ImportImage, progress: Arc<dyn Progress>) -> Result<Image, EngineError> {
        let ImportImage { source, pull, name, platform, mut stdin } = request;
        // `debian` is found as `debian:latest`, so that is what it is stored as.
        let name = name.map(|name| name.parse().map_or(name, |reference: ImageReference| reference.familiar()));
        let wanted_name = name.clone().or_else(|| source.image_name());
        let mut options = self.pull_options();
        if let Some(platform) = &platform {
            options.platform = platform.clone();
        }
        let known = match &wanted_name {
            Some(name) => self.current_image(name, &source, pull, &options).await?,
            None => None,
        };
        match known {
            Some(image) if is_for(&image, platform.as_ref()) => return Ok(image),
            Some(image) if pull == PullPolicy::Never => {
                return Err(EngineError::OtherPlatform {
                    image: source.to_string(),
                    found: image.status.platform.unwrap_or_default(),
                    wanted: platform.unwrap_or_else(Platform::host).to_string(),
                });
            }
            None if pull == PullPolicy::Never => return Err(EngineError::ImageMissing(source.to_string())),
            Some(_) | None => {}
        }
        let failed = |error| EngineError::Image { image: source.to_string(), source: error };
        let store = self.content_store().map_err(failed)?;
        self.imports.begin();
        // Until the object is stored, nothing else says that these blobs are needed.
        let lease = store.lease().map_err(failed)?;
        let listener = FetchProgress::new(progress.clone());
        let begun = Instant::now();
        let input: Option<&mut (dyn Read + Send)> = stdin.as_deref_mut().map(|input| input as _);
        let made = async {
            let stored = ignite_oci::fetch(&store, &source, input, &options, listener).await.map_err(failed)?;
            tell_duration("pull", begun);
            progress.event(ProgressEvent::PhaseDone("pull"));
            let name = name.unwrap_or_else(|| wanted_name.unwrap_or_else(|| stored.name.clone()));
            ignite_api::names::check_object_name(&name).map_err(|error| EngineError::Invalid(error.to_string()))?;
            let (image, listener) = (stored.clone(), progress.clone());
            let (key, base) = self.blocking(move |engine| engine.ensure_base(&image, &*listener)).await?;
            Ok::<_, EngineError>((name, stored, key, base))
        };
        let (name, stored, key, base) = match made.await {
            Err(error) if error.is_storage_full() => {
                // What came of the image would only keep the disk full.
                drop(lease);
                self.blocking(|engine| engine.free_unreferenced()).await?;
                return Err(error);
            }
            made => made?,
        };
        let begun = Instant::now();
        let image = self.blocking(move |engine| engine.store_image(name, source, stored, key, base)).await?;
        tell_duration("record", begun);
        Ok(image)
    }

    /// The imported image of that name, if the policy is content with it.
    async fn current_image(
        &self,
        name: &str,
        source: &ImageSource,
        pull: PullPolicy,
        options: &PullOptions,
    ) -> Result<Option<Image>, EngineError> {
        let Some(uid) = self.images.owner_of_name(name)? else { return Ok(None) };
        let image = self.images.read(&uid)?;
        if !self.paths.base(&image.status.base_key).exists() {
            return Ok(None);
        }
        let is_local = match source {
            ImageSource::OciLayout { .. } | ImageSource::OciArchive { .. } | ImageSource::DockerArchive { .. } => true,
            ImageSource::Registry(_)
            | ImageSource::Stdin
            | ImageSource::DockerDaemon(_)
            | ImageSource::Containerd(_) => false,
        };
        let must_ask = match pull {
            PullPolicy::Never => false,
            PullPolicy::Missing => is_local,
            PullPolicy::Always => true,
        };
        if !must_ask {
            return Ok(Some(image));
        }
        match ignite_oci::resolve_digest(source, options).await {
            Ok(digest) => {
                let known = image.status.oci_source.as_ref().and_then(|source| source.id.rsplit_once('@'));
                Ok(known.is_some_and(|(_, known)| known == digest).then_some(image))
            }
            // An archive's digest is known only by importing it again, which costs what it costs.
            Err(OciError::DigestNeedsReading { .. }) => Ok(None),
            // What has been imported does not need its source any more.
            Err(OciError::ReadSource { source, .. })
                if pull == PullPolicy::Missing && source.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(Some(image))
            }
            Err(error) => Err(EngineError::Image { image: source.to_string(), source: error }),
        }
    }

    /// The base disk of these layers: made by whoever comes first, waited for by everybody else.
    pub(crate) fn ensure_base(
        &self,
        image: &StoredImage,
        progress: &dyn Progress,
    ) -> Result<(String, BaseRecord), EngineError> {
        let diff_ids: Vec<String> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let key = ignite_disk::base_key(&diff_ids);
        atomic::ensure_dir(&self.paths.bases(), 0o755)?;
        let lock = self.paths.base_lock(&key);
        let _lock = FileLock::take(&lock, BASE_LOCK_DEADLINE)?;
        if let Some(mut base) = self.existing_base(&key) {
            if base.digest.is_empty() {
                base.digest = file_digest(&self.paths.base(&key))?;
                atomic::write(&self.paths.base_info(&key), &serde_json::to_vec(&base).unwrap_or_default())?;
            }
            return Ok((key, base));
        }
        progress.event(ProgressEvent::Phase("base disk"));
        let failed = |source| EngineError::Image { image: image.name.clone(), source };
        let store = self.content_store().map_err(failed)?;
        let layers = layers_of(&store, image, &self.imports);
        let total: u64 = image.layers.iter().map(|layer| layer.size).sum();
        let told = |done| progress.event(ProgressEvent::Bytes { done, total: (total == 0).then_some(total) });
        // Made in a directory of its own, so that what a killed process leaves is known by its name.
        let making = self.paths.bases().join(format!("{MAKING}{key}"));
        atomic::remove_tree(&making)?;
        atomic::ensure_dir(&making, 0o700)?;
        tracing::debug!("phase base disk begins");
        let begun = Instant::now();
        let made = making.join("base.ext4");
        let result = ignite_disk::write_base(&as_sources(&layers), &made, &told)
            .map_err(|source| EngineError::Disk { what: format!("the base disk of {}", image.name), source })
            .and_then(|base| {
                let target = self.paths.base(&key);
                std::fs::rename(&made, &target).map_err(EngineError::file("publish", target))?;
                Ok(base)
            });
        atomic::remove_tree(&making)?;
        let base = result?;
        tell_duration("base disk", begun);
        let begun = Instant::now();
        let record = BaseRecord {
            digest: file_digest(&self.paths.base(&key))?,
            size: base.size,
            content_size: base.content_size,
            has_init: base.has_init,
        };
        atomic::write(&self.paths.base_info(&key), &serde_json::to_vec(&record).unwrap_or_default())?;
        tell_duration("digest", begun);
        progress.event(ProgressEvent::PhaseDone("base disk"));
        Ok((key, record))
    }

    fn existing_base(&self, key: &str) -> Option<BaseRecord> {
        let record: BaseRecord = serde_json::from_slice(&std::fs::read(self.paths.base_info(key)).ok()?).ok()?;
        let length = std::fs::metadata(self.paths.base(key)).ok()?.len();
        (length == record.size).then_some(record)
    }

    pub(crate) fn store_image(
        &self,
        name: String,
        source: ImageSource,
        stored: StoredImage,
        base_key: String,
        base: BaseRecord,
    ) -> Result<Image, EngineError> {
        let status = ImageStatus {
            oci_source: Some(OciSourceStatus { id: stored.source_id, size: Size::bytes(base.content_size) }),
            manifest_digest: stored.manifest_digest,
            config_digest: stored.config_digest,
            diff_ids: stored.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
            base_key,
            base_digest: base.digest,
            base_size: Size::bytes(base.size),
            config: stored.config,
            has_init: base.has_init,
            platform: stored.platform,
        };
        loop {
            if let Some(uid) = self.images.owner_of_name(&name)? {
                let _lock = self.images.lock(&uid)?;
                let mut image = self.images.read(&uid)?;
                image.spec.oci = Some(source);
                image.status = status;
                self.images.write(&image)?;
                return Ok(image);
            }
            let uid = new_uid()?;
            let image = Image {
                api_version: API_VERSION.to_owned(),
                kind: "Image".to_owned(),
                metadata: ObjectMeta {
                    name: name.clone(),
                    uid: Some(uid.clone()),
                    created: Some(jiff::Timestamp::now()),
                    ..ObjectMeta::default()
                },
                spec: ignite_api::vm::OciSource { oci: Some(source.clone()) },
                status: status.clone(),
            };
            let draft = self.images.draft(&uid)?;
            match self.images.publish(draft, &image) {
                Ok(()) => return Ok(image),
                // Another process has just imported it, too.
                Err((_, StoreError::NameTaken { .. })) => {}
                Err((_, error)) => return Err(error.into()),
            }
        }
    }

    /// Asks a registry whether it takes this user and password, and keeps them where pulls find them.
    pub async fn login(&self, registry: &str, user: &str, password: &str) -> Result<Keeper, EngineError> {
        ignite_oci::login(registry, user, password, &self.settings.pull).await.map_err(EngineError::Registry)
    }

    /// Forgets the credentials of a registry, and says where there were some.
    pub async fn logout(&self, registry: &str) -> Result<Vec<Keeper>, EngineError> {
        ignite_oci::logout(registry, &self.settings.pull).await.map_err(EngineError::Registry)
    }

    /// All imported images.
    pub fn list_images(&self) -> Result<Vec<Image>, EngineError> {
        self.images.list()?.into_iter().map(|image| image.map_err(EngineError::from)).collect()
    }

    /// The image that the query names: its exact name (as given, or as a registry reference is normalised) or uid.
    pub fn find_image(&self, query: &str) -> Result<Uid, EngineError> {
        if let Ok(source) = query.parse::<ImageSource>()
            && let Some(name) = source.image_name()
            && let Some(uid) = self.images.owner_of_name(&name)?
        {
            return Ok(uid);
        }
        Ok(self.images.find(query)?)
    }

    /// An imported image.
    pub fn inspect_image(&self, uid: &Uid) -> Result<Image, EngineError> {
        Ok(self.images.read(uid)?)
    }

    /// Removes an image and what only it needed; a VM that uses it is in the way unless forced, and then goes with it.
    pub async fn remove_image(&self, uid: &Uid, force: bool) -> Result<(), EngineError> {
        let (uid, image) = (uid.clone(), self.images.read(uid)?);
        for vm in self.users(|vm| vm.status.image.as_ref().is_some_and(|status| status.uid.as_ref() == Some(&uid)))? {
            let Some(vm_uid) = vm.metadata.uid.clone().filter(|_| force) else {
                let user = vm.metadata.name;
                return Err(EngineError::InUse { kind: "image", name: image.metadata.name, user });
            };
            self.remove(&vm_uid, true).await?;
        }
        self.blocking(move |engine| {
            let _lock = engine.images.lock(&uid)?;
            if let Some(vm) =
                engine.users(|vm| vm.status.image.as_ref().is_some_and(|s| s.uid.as_ref() == Some(&uid)))?.pop()
            {
                return Err(EngineError::InUse {
                    kind: "image",
                    name: image.metadata.name.clone(),
                    user: vm.metadata.name,
                });
            }
            engine.images.remove(&uid)?;
            engine.free_unreferenced().map(|_| ())
        })
        .await
    }

    /// Removes every image that no VM uses, and all that nothing needs any more.
    pub async fn prune_images(&self) -> Result<PruneReport, EngineError> {
        self.blocking(|engine| {
            let used: BTreeSet<Uid> =
                engine.users(|_| true)?.into_iter().filter_map(|vm| vm.status.image?.uid).collect();
            let mut report = PruneReport::default();
            for image in engine.list_images()? {
                let Some(uid) = image.metadata.uid.filter(|uid| !used.contains(uid)) else { continue };
                let _lock = engine.images.lock(&uid)?;
                engine.images.remove(&uid)?;
                report.removed.push(image.metadata.name);
            }
            report.freed = Size::bytes(engine.free_unreferenced()?);
            Ok(report)
        })
        .await
    }

    /// VMs that fulfil a condition.
    pub(crate) fn users(&self, is_user: impl Fn(&Vm) -> bool) -> Result<Vec<Vm>, EngineError> {
        Ok(self.vms.list()?.into_iter().filter_map(Result::ok).filter(is_user).collect())
    }

    /// Deletes base disks and blobs that no image and no VM refers to, and what interrupted imports left. Returns bytes.
    pub(crate) fn free_unreferenced(&self) -> Result<u64, EngineError> {
        self.images.sweep()?;
        let images = self.list_images()?;
        let mut keys: BTreeSet<String> = images.iter().map(|image| image.status.base_key.clone()).collect();
        for uid in self.vms.uids()? {
            // A VM refers to its base by this link, also when its image has moved on.
            keys.extend(self.base_key_of(&uid));
        }
        let mut freed = 0;
        for entry in std::fs::read_dir(self.paths.bases()).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let key = match name.strip_prefix(MAKING) {
                Some(key) => key,
                None => match name.rsplit_once('.') {
                    Some((key, "ext4" | "json")) if !keys.contains(key) => key,
                    _ => continue,
                },
            };
            // Being made right now, or waited for.
            let Some(_lock) = FileLock::try_take(&self.paths.base_lock(key))? else { continue };
            freed += allocated_bytes(&path);
            if path.is_dir() { atomic::remove_tree(&path)? } else { atomic::remove_file(&path)? }
        }
        let keep: BTreeSet<String> = images.into_iter().map(|image| image.status.manifest_digest).collect();
        let failed = |source| EngineError::Image { image: "the content store".to_owned(), source };
        let store = self.content_store().map_err(failed)?;
        match store.remove_unreferenced(&keep) {
            Ok(bytes) => Ok(freed + bytes),
            // Somebody imports; the next prune finds the rest.
            Err(OciError::StoreBusy { .. }) => Ok(freed),
            Err(error) => Err(failed(error)),
        }
    }

    /// Key of the base disk that a VM is on.
    pub(crate) fn base_key_of(&self, vm: &Uid) -> Option<String> {
        let target = std::fs::read_link(self.paths.vm(vm).join(crate::create::BASE_LINK)).ok()?;
        Some(target.file_stem()?.to_string_lossy().into_owned())
    }

    pub(crate) fn content_store(&self) -> Result<ContentStore, OciError> {
        ContentStore::open(&self.paths.oci())
    }

    pub(crate) fn pull_options(&self) -> PullOptions {
        self.settings.pull.clone()
    }
}

/// Says how long a phase of an import took, for those who measure (`--log-level debug`).
fn tell_duration(phase: &str, begun: Instant) {
    tracing::debug!("phase {phase} took {} ms", begun.elapsed().as_millis());
}

/// SHA-256 of a file, as images write digests.
pub(crate) fn file_digest(path: &std::path::Path) -> Result<String, EngineError> {
    use sha2::{Digest, Sha256};
    let mut file = std::fs::File::open(path).map_err(EngineError::file("open", path))?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(EngineError::file("read", path))? {
            0 => {
                return Ok(format!(
                    "sha256:{}",
                    hasher.finalize().iter().map(|b| format!("{b:02x}")).collect::<String>()
                ));
            }
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Bytes that a file occupies on disk.
pub(crate) fn allocated_bytes(path: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).map_or(0, |metadata| metadata.blocks() * 512)
}

/// Whether an imported image is made for this platform; where none is wanted, for this host. One that does not say what it
/// is made for is taken for right.
fn is_for(image: &Image, wanted: Option<&Platform>) -> bool {
    let Some(found) = image.status.platform.as_deref().and_then(|text| text.parse::<Platform>().ok()) else {
        return true;
    };
    wanted.map_or_else(|| found.runs_here(), |wanted| wanted.accepts(&found))
}
