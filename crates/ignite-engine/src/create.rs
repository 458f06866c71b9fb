//! `create`: from a wish to a VM with disks, visible only when it is whole.

use crate::engine::{Engine, new_uid, random_bytes, title};
use crate::error::EngineError;
use crate::images::{ImportImage, PullPolicy};
use crate::layers::{as_sources, layers_of};
use crate::progress::{Progress, ProgressEvent};
use crate::ssh_keys;
use crate::volumes;
use ignite_api::event::Action;
use ignite_api::run_spec::{Role, decide_role};
use ignite_api::vm::RootDisk;
use ignite_api::vm::{SourceStatus, VmStatus};
use ignite_api::{API_VERSION, Image, Kernel, Phase, Vm, names, validation};
use ignite_oci::Platform;
use ignite_store::{StoreError, atomic};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// In a VM's directory: link to the base disk it was made from.
pub(crate) const BASE_LINK: &str = "base.ext4";
/// In a VM's directory: the Image object as it was when the VM was made.
pub(crate) const IMAGE_RECORD: &str = "image.json";
/// Names tried before a generated one is given up.
const NAME_ATTEMPTS: u32 = 20;

/// A VM to create.
pub struct CreateRequest {
    /// The wish; without a name it gets one.
    pub vm: Vm,
    /// When its image is fetched.
    pub pull: PullPolicy,
    /// What its image is to be made for; absent: this host.
    pub platform: Option<Platform>,
    /// Standard input, where the image is read from there.
    pub stdin: Option<Box<dyn Read + Send>>,
}

impl Engine {
    /// Creates a VM. On an error nothing of it is left; an image or kernel that was imported for it stays.
    pub async fn create(&self, request: CreateRequest, progress: Arc<dyn Progress>) -> Result<Vm, EngineError> {
        let CreateRequest { mut vm, pull, platform, stdin } = request;
        vm.api_version = API_VERSION.to_owned();
        vm.kind = "VM".to_owned();
        let is_named = !vm.metadata.name.is_empty();
        if !is_named {
            vm.metadata.name = self.free_name()?;
        }
        validation::validate_vm(&vm).map_err(|errors| EngineError::Invalid(errors.to_string()))?;
        volumes::check(&vm.spec.storage)?;
        self.check_network_name(&vm)?;
        self.refuse_taken_name(&vm)?;
        let Some(source) = vm.spec.image.oci.clone() else {
            return Err(EngineError::Invalid("spec.image.oci: Required value".to_owned()));
        };
        let foreign =
            |platform: &Platform| EngineError::Foreign { image: source.to_string(), platform: platform.to_string() };
        if let Some(platform) = platform.as_ref().filter(|platform| !platform.runs_here()) {
            return Err(foreign(platform));
        }
        // What is missing on the host is said before anything is fetched for it.
        let kernel = self.kernel_for(&vm.spec, progress.clone()).await?;
        let request = ImportImage { source: source.clone(), pull, name: None, platform, stdin };
        let image = self.import_image(request, progress.clone()).await?;
        let made_for = image.status.platform.as_deref().and_then(|text| text.parse::<Platform>().ok());
        if let Some(platform) = made_for.filter(|platform| !platform.runs_here()) {
            return Err(foreign(&platform));
        }
        let role = decide_role(&vm.spec, &image.status.config, image.status.has_init)
            .map_err(|source| EngineError::NothingToRun { image: image.metadata.name.clone(), source })?;
        progress.event(ProgressEvent::Phase("disk"));
        let stored = match vm.spec.root_disk {
            RootDisk::Overlay => None,
            RootDisk::Private => {
                let failed = |source| EngineError::Image { image: image.metadata.name.clone(), source };
                let store = self.content_store().map_err(failed)?;
                Some(ignite_oci::load_stored(&store, &image.status.manifest_digest).await.map_err(failed)?)
            }
        };
        let vm =
            self.blocking(move |engine| engine.make_vm(vm, is_named, &image, &kernel, &role, stored.as_ref())).await?;
        progress.event(ProgressEvent::PhaseDone("disk"));
        Ok(vm)
    }

    fn make_vm(
        &self,
        mut vm: Vm,
        is_named: bool,
        image: &Image,
        kernel: &Kernel,
        role: &Role,
        stored: Option<&ignite_oci::StoredImage>,
    ) -> Result<Vm, EngineError> {
        let uid = match &vm.metadata.uid {
            Some(uid) => uid.clone(),
            None => new_uid()?,
        };
        vm.metadata.uid = Some(uid.clone());
        vm.metadata.created = Some(jiff::Timestamp::now());
        vm.status = VmStatus {
            id_prefix: vm.status.id_prefix.take(),
            phase: Phase::Created,
            image: image.status.oci_source.as_ref().map(|source| SourceStatus {
                uid: image.metadata.uid.clone(),
                id: source.id.clone(),
                size: source.size,
            }),
            kernel: kernel.status.oci_source.as_ref().map(|source| SourceStatus {
                uid: kernel.metadata.uid.clone(),
                id: kernel.metadata.name.clone(),
                size: source.size,
            }),
            role: Some(match role {
                Role::Task { .. } => "task".to_owned(),
                Role::Machine { .. } => "machine".to_owned(),
            }),
            ..VmStatus::default()
        };
        let draft = self.vms.draft(&uid)?;
        let record = serde_json::to_vec(image).unwrap_or_default();
        atomic::write(&draft.dir().join(IMAGE_RECORD), &record)?;
        self.make_root_disk(&vm, image, stored, draft.dir())?;
        ssh_keys::generate(vm.spec.ssh.as_ref(), &uid, draft.dir())?;
        // Whoever removes an image or a kernel holds its lock while it looks for users; so do we until we are one.
        let _image = image.metadata.uid.as_ref().map(|uid| self.images.lock(uid)).transpose()?;
        let _kernel = kernel.metadata.uid.as_ref().map(|uid| self.kernels.lock(uid)).transpose()?;
        let mut draft = Some(draft);
        for _ in 0..NAME_ATTEMPTS {
            let Some(this) = draft.take() else { break };
            match self.vms.publish(this, &vm) {
                Ok(()) => {
                    self.tell(Action::Create, &vm, |event| event);
                    return Ok(vm);
                }
                Err((back, StoreError::NameTaken { .. })) if !is_named => {
                    draft = Some(back);
                    vm.metadata.name = self.free_name()?;
                }
                Err((_, error)) => return Err(error.into()),
            }
        }
        Err(EngineError::Invalid("no free name was found; choose one with --name".to_owned()))
    }

    fn make_root_disk(
        &self,
        vm: &Vm,
        image: &Image,
        stored: Option<&ignite_oci::StoredImage>,
        dir: &Path,
    ) -> Result<(), EngineError> {
        let disk = dir.join("disk.ext4");
        let size = vm.spec.disk_size.as_bytes();
        let failed = |source| EngineError::Disk { what: format!("the disk of {}", title(vm)), source };
        match stored {
            Some(stored) => {
                let store = self
                    .content_store()
                    .map_err(|source| EngineError::Image { image: image.metadata.name.clone(), source })?;
                let layers = layers_of(&store, stored, &self.imports);
                ignite_disk::write_private_root(&as_sources(&layers), &disk, size, &|_| {}).map_err(failed)?;
            }
            None => {
                let base = self.paths.base(&image.status.base_key);
                if !base.exists() {
                    return Err(EngineError::ImageMissing(image.metadata.name.clone()));
                }
                let link = dir.join(BASE_LINK);
                std::os::unix::fs::symlink(&base, &link).map_err(EngineError::file("link", link))?;
                ignite_disk::create_writable_disk(&disk, size, random_bytes()?).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn refuse_taken_name(&self, vm: &Vm) -> Result<(), EngineError> {
        match self.vms.owner_of_name(&vm.metadata.name)? {
            Some(uid) => {
                let name = vm.metadata.name.clone();
                Err(StoreError::NameTaken { kind: "VM", name, uid: uid.to_string() }.into())
            }
            None => Ok(()),
        }
    }

    fn free_name(&self) -> Result<String, EngineError> {
        for _ in 0..NAME_ATTEMPTS {
            let name = names::random_name(random_bytes()?);
            if self.vms.owner_of_name(&name)?.is_none() {
                return Ok(name);
            }
        }
        Ok(format!("{}-{}", names::random_name(random_bytes()?), new_uid()?))
    }
}
