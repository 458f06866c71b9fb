//! Kernels: imported from packages, files, images or the host, made ready to boot once.

use crate::engine::{Engine, new_uid};
use crate::error::EngineError;
use crate::kernel_needs;
use crate::layers::{as_sources, layers_of};
use crate::progress::{FetchProgress, Progress, ProgressEvent};
use ignite_api::image::OciSourceStatus;
use ignite_api::kernel::{Kernel, KernelSource, KernelStatus};
use ignite_api::{API_VERSION, ImageSource, ObjectMeta, Size, Uid};
use ignite_disk::{KernelInfo, KernelInput};
use ignite_store::{Draft, FileLock, StoreError, atomic};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Longest an initramfs that another process is making is waited for.
const INITRAMFS_DEADLINE: Duration = Duration::from_secs(60);
/// The file with what is known of a kernel, beside its parts.
const KERNEL_INFO: &str = "info.json";

/// A kernel to import.
pub struct ImportKernel {
    /// Where it comes from.
    pub source: KernelSourceArg,
    /// Its name here; absent: its release.
    pub name: Option<String>,
    /// Its modules, where the source is a bare kernel image.
    pub modules: Option<PathBuf>,
    /// Its configuration, where the source is a bare kernel image and neither it nor its directory has one.
    pub config: Option<PathBuf>,
    /// An initrd that the initramfs of its VMs begins with.
    pub initrd: Option<PathBuf>,
    /// VMs that name no kernel get it from now on. The first kernel always becomes the default.
    pub make_default: bool,
}

/// Where a kernel comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelSourceArg {
    /// A `.deb`, a vmlinux or a bzImage.
    Path(PathBuf),
    /// An OCI image with `/boot/vmlinu[xz]*` and `/lib/modules`.
    Image(ImageSource),
    /// A Debian package, fetched with `apt-get download` and not installed.
    Apt(String),
    /// This host's own.
    HostBoot {
        /// Release; absent: the newest.
        release: Option<String>,
    },
}

impl std::fmt::Display for KernelSourceArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KernelSourceArg::Path(path) => write!(f, "{}", path.display()),
            KernelSourceArg::Image(source) => write!(f, "{source}"),
            KernelSourceArg::Apt(package) => write!(f, "apt:{package}"),
            KernelSourceArg::HostBoot { release: Some(release) } => write!(f, "host:{release}"),
            KernelSourceArg::HostBoot { release: None } => f.write_str("host"),
        }
    }
}

impl Engine {
    /// Imports a kernel. One of the same name is replaced unless a VM uses it.
    pub async fn import_kernel(
        &self,
        request: ImportKernel,
        progress: Arc<dyn Progress>,
    ) -> Result<Kernel, EngineError> {
        progress.event(ProgressEvent::Phase("kernel"));
        let fetched = match &request.source {
            KernelSourceArg::Image(source) => {
                let failed = |error| EngineError::Image { image: source.to_string(), source: error };
                let store = self.content_store().map_err(failed)?;
                self.imports.begin();
                let listener = FetchProgress::new(progress.clone());
                let options = self.pull_options();
                Some(ignite_oci::fetch(&store, source, None, &options, listener).await.map_err(failed)?)
            }
            KernelSourceArg::Path(_) | KernelSourceArg::Apt(_) | KernelSourceArg::HostBoot { .. } => None,
        };
        let (kernel, warnings) = self.blocking(move |engine| engine.make_kernel(&request, fetched.as_ref())).await?;
        warnings.into_iter().for_each(|line| progress.event(ProgressEvent::Note(line)));
        progress.event(ProgressEvent::PhaseDone("kernel"));
        Ok(kernel)
    }

    fn make_kernel(
        &self,
        request: &ImportKernel,
        fetched: Option<&ignite_oci::StoredImage>,
    ) -> Result<(Kernel, Vec<String>), EngineError> {
        let uid = new_uid()?;
        let draft = self.kernels.draft(&uid)?;
        // The importer wants an empty directory, and the draft holds its lock.
        let dir = draft.dir().join("kernel");
        atomic::ensure_dir(&dir, 0o755)?;
        let (info, source_id) = self.import_files(request, fetched, &dir)?;
        atomic::write(&dir.join(KERNEL_INFO), &serde_json::to_vec_pretty(&info).unwrap_or_default())?;
        if let Some(initrd) = &request.initrd {
            ignite_disk::import_initrd(initrd, &dir).map_err(|source| disk_error(request, source))?;
        }
        self.ensure_initramfs_in(&dir)?;
        let name = match (&request.name, &request.source) {
            (Some(name), _) => name.clone(),
            (None, KernelSourceArg::Image(source)) => source.image_name().unwrap_or_else(|| info.version.clone()),
            (None, _) => info.version.to_lowercase(),
        };
        ignite_api::names::check_object_name(&name).map_err(|error| EngineError::Invalid(error.to_string()))?;
        let size = directory_bytes(&dir);
        let is_default = request.make_default || self.default_kernel()?.is_none();
        let kernel = Kernel {
            api_version: API_VERSION.to_owned(),
            kind: "Kernel".to_owned(),
            metadata: ObjectMeta {
                name,
                uid: Some(uid),
                created: Some(jiff::Timestamp::now()),
                ..ObjectMeta::default()
            },
            spec: KernelSource { oci: request.source.to_string() },
            status: KernelStatus {
                oci_source: Some(OciSourceStatus { id: source_id, size: Size::bytes(size) }),
                version: info.version,
                modules_size: Size::bytes(info.modules_size),
                initrd_size: ignite_disk::initrd_size(&dir).map(Size::bytes),
                default: is_default,
                features: kernel_needs::told(&info.features),
            },
        };
        let warnings = kernel_needs::warnings(&kernel.metadata.name, &kernel.status, &info.features);
        self.publish_kernel(draft, &kernel)?;
        if is_default {
            self.make_default(&kernel)?;
        }
        Ok((kernel, warnings))
    }

    /// Brings what a kernel is made of into `dir`; also what its source is called, with its digest where it has one.
    fn import_files(
        &self,
        request: &ImportKernel,
        fetched: Option<&ignite_oci::StoredImage>,
        dir: &Path,
    ) -> Result<(KernelInfo, String), EngineError> {
        let import = |input: KernelInput<'_>| {
            ignite_disk::import_kernel(input, dir).map_err(|source| disk_error(request, source))
        };
        let info = match &request.source {
            KernelSourceArg::Path(path) if is_deb(path)? => import(KernelInput::Deb(path))?,
            KernelSourceArg::Path(path) => import(KernelInput::File {
                image: path,
                modules: request.modules.as_deref(),
                config: request.config.as_deref(),
            })?,
            KernelSourceArg::Apt(package) => {
                let download = tempfile::tempdir().map_err(EngineError::file("create", std::env::temp_dir()))?;
                let deb = crate::kernel_choice::download_deb(package, download.path())?;
                import(KernelInput::Deb(&deb))?
            }
            KernelSourceArg::HostBoot { release } => import(KernelInput::HostBoot {
                boot_dir: &self.settings.boot_dir,
                modules_root: &self.settings.modules_dir,
                release: release.as_deref(),
            })?,
            KernelSourceArg::Image(source) => {
                let failed = |error| EngineError::Image { image: source.to_string(), source: error };
                let store = self.content_store().map_err(failed)?;
                let image = fetched.ok_or_else(|| EngineError::ImageMissing(source.to_string()))?;
                let layers = layers_of(&store, image, &self.imports);
                let info = import(KernelInput::Layers(&as_sources(&layers)))?;
                return Ok((info, image.source_id.clone()));
            }
        };
        Ok((info, request.source.to_string()))
    }

    fn publish_kernel(&self, draft: Draft, kernel: &Kernel) -> Result<(), EngineError> {
        if let Some(old) = self.kernels.owner_of_name(&kernel.metadata.name)? {
            if let Some(vm) = self.users_of_kernel(&old)?.pop() {
                let name = kernel.metadata.name.clone();
                return Err(EngineError::InUse { kind: "kernel", name, user: vm.metadata.name });
            }
            let _lock = self.kernels.lock(&old)?;
            self.kernels.remove(&old)?;
        }
        self.kernels.publish(draft, kernel).map_err(|(_, error)| error.into())
    }

    /// Leaves exactly this kernel the default.
    fn make_default(&self, chosen: &Kernel) -> Result<(), EngineError> {
        for kernel in self.list_kernels()? {
            let is_chosen = kernel.metadata.uid == chosen.metadata.uid;
            if kernel.status.default != is_chosen
                && let Some(uid) = &kernel.metadata.uid
            {
                let _lock = self.kernels.lock(uid)?;
                let mut kernel = self.kernels.read(uid)?;
                kernel.status.default = is_chosen;
                self.kernels.write(&kernel)?;
            }
        }
        Ok(())
    }

    /// All imported kernels.
    pub fn list_kernels(&self) -> Result<Vec<Kernel>, EngineError> {
        self.kernels.list()?.into_iter().map(|kernel| kernel.map_err(EngineError::from)).collect()
    }

    /// The kernel that the query names.
    pub fn find_kernel(&self, query: &str) -> Result<Uid, EngineError> {
        Ok(self.kernels.find(query)?)
    }

    /// An imported kernel.
    pub fn inspect_kernel(&self, uid: &Uid) -> Result<Kernel, EngineError> {
        Ok(self.kernels.read(uid)?)
    }

    /// The kernel of VMs that name none.
    pub(crate) fn default_kernel(&self) -> Result<Option<Kernel>, EngineError> {
        let mut kernels = self.list_kernels()?;
        let position = kernels.iter().position(|kernel| kernel.status.default);
        Ok(match (position, kernels.len()) {
            (Some(position), _) => Some(kernels.swap_remove(position)),
            (None, 1) => kernels.pop(),
            (None, _) => None,
        })
    }

    /// Removes a kernel; a VM that uses it is in the way unless forced, and then goes with it.
    pub async fn remove_kernel(&self, uid: &Uid, force: bool) -> Result<(), EngineError> {
        let kernel = self.kernels.read(uid)?;
        for vm in self.users_of_kernel(uid)? {
            let Some(vm_uid) = vm.metadata.uid.clone().filter(|_| force) else {
                let name = kernel.metadata.name;
                return Err(EngineError::InUse { kind: "kernel", name, user: vm.metadata.name });
            };
            self.remove(&vm_uid, true).await?;
        }
        let uid = uid.clone();
        self.blocking(move |engine| {
            let _lock = engine.kernels.lock(&uid)?;
            Ok(engine.kernels.remove(&uid)?)
        })
        .await
    }

    fn users_of_kernel(&self, uid: &Uid) -> Result<Vec<ignite_api::Vm>, EngineError> {
        self.users(|vm| vm.status.kernel.as_ref().is_some_and(|status| status.uid.as_ref() == Some(uid)))
    }

    /// Directory of a kernel's parts.
    pub(crate) fn kernel_dir(&self, uid: &Uid) -> PathBuf {
        self.paths.kernel(uid).join("kernel")
    }

    /// What is known of a kernel.
    pub(crate) fn kernel_info(&self, uid: &Uid) -> Result<KernelInfo, EngineError> {
        let path = self.kernel_dir(uid).join(KERNEL_INFO);
        let bytes = std::fs::read(&path).map_err(EngineError::file("read", &path))?;
        Ok(serde_json::from_slice(&bytes).map_err(|source| StoreError::Damaged { path, source })?)
    }

    /// The initramfs of this kernel and this version of `ignite-init`; made when it is missing.
    pub(crate) fn ensure_initramfs(&self, uid: &Uid) -> Result<PathBuf, EngineError> {
        self.ensure_initramfs_in(&self.kernel_dir(uid))
    }

    fn ensure_initramfs_in(&self, dir: &Path) -> Result<PathBuf, EngineError> {
        let path = dir.join(format!("initramfs-{}.cpio", init_digest()));
        if path.exists() {
            return Ok(path);
        }
        let _lock = FileLock::take(&dir.join("initramfs.lock"), INITRAMFS_DEADLINE)?;
        if !path.exists() {
            for old in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                if old.file_name().to_string_lossy().starts_with("initramfs-") {
                    atomic::remove_file(&old.path())?;
                }
            }
            ignite_disk::write_initramfs(dir, ignite_guest::init_program(), &path)
                .map_err(|source| EngineError::Disk { what: "the initramfs".to_owned(), source })?;
        }
        Ok(path)
    }
}

fn disk_error(request: &ImportKernel, source: ignite_disk::DiskError) -> EngineError {
    EngineError::Disk { what: format!("the kernel of {}", request.source), source }
}

fn is_deb(path: &Path) -> Result<bool, EngineError> {
    use std::io::Read;
    let mut magic = [0; 7];
    let mut file = std::fs::File::open(path).map_err(EngineError::file("open", path))?;
    match file.read_exact(&mut magic) {
        Ok(()) => Ok(&magic == b"!<arch>"),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(EngineError::file("read", path)(error)),
    }
}

fn directory_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.blocks() * 512).sum()
}

/// Identifies the embedded guest program, so that another version gets an initramfs of its own.
fn init_digest() -> &'static str {
    use sha2::{Digest, Sha256};
    static DIGEST: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    DIGEST.get_or_init(|| {
        Sha256::digest(ignite_guest::init_program()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    })
}
