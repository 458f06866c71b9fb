//! A kernel from anywhere, taken apart into what a VM boots with.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::tree::{Body, InodeId};
use crate::{DiskError, LayerSource};

use super::deb::Deb;
use super::decompress::read_bounded;
use super::image::{self, UnpackedKernel};
use super::modules::{Modules, read_bytes};
use super::tree_files::KernelFiles;
use super::{KernelInfo, KernelInput, depmod, features, find, ikconfig};

/// The kernel that a VMM loads.
pub(crate) const VMLINUX: &str = "vmlinux";
/// The disk with `lib/modules/<release>`.
pub(crate) const MODULES_DISK: &str = "modules.ext4";
/// The modules an initramfs is made of, and the file that has their order.
pub(crate) const BOOT_MODULES: &str = "boot-modules";
pub(crate) const BOOT_ORDER: &str = "order";
const CONFIG: &str = "config";
/// Largest kernel configuration.
const MAX_CONFIG: u64 = 4 << 20;

/// Makes a kernel ready to boot in `dest_dir`, an empty directory that the caller publishes or removes.
///
/// Writes there
/// - `vmlinux`: the uncompressed kernel, ELF on x86, `Image` on arm64;
/// - `modules.ext4`, when the kernel has modules: a read-only disk that holds `lib/modules/<release>`, with depmod's
///   indexes made where the kernel came without them;
/// - `boot-modules/`: uncompressed modules for an initramfs, named in the file `order` there in loading order;
/// - `config`, when the kernel came with its configuration: given, beside it, or in itself.
pub fn import_kernel(input: KernelInput<'_>, dest_dir: &Path) -> Result<KernelInfo, DiskError> {
    match input {
        KernelInput::Deb(path) => {
            let deb = Deb::new(path);
            import_layers(&[&deb], path, dest_dir)
        }
        KernelInput::Layers(layers) => {
            let name = layers.last().map(|layer| layer.name()).unwrap_or_default();
            import_layers(layers, Path::new(&name), dest_dir)
        }
        KernelInput::File { image, modules, config } => import_host(image, modules, config, dest_dir),
        KernelInput::HostBoot { boot_dir, modules_root, release } => {
            let found = find::in_host_boot(boot_dir, release)?;
            let modules = modules_root.join(&found.release);
            let config = boot_dir.join(format!("config-{}", found.release));
            import_host(
                &found.image,
                modules.is_dir().then_some(modules.as_path()),
                config.is_file().then_some(config.as_path()),
                dest_dir,
            )
        }
    }
}

fn import_layers(layers: &[&dyn LayerSource], from: &Path, dest_dir: &Path) -> Result<KernelInfo, DiskError> {
    let mut files = KernelFiles::from_layers(layers, &dest_dir.join(MODULES_DISK))?;
    let image = find::in_tree(&files, from)?;
    let kernel = {
        let mut content = files.open(image)?;
        image::unpack(&mut content, &dest_dir.join(VMLINUX))
            .map_err(|reason| DiskError::BadKernel { path: from.into(), reason })?
    };
    let config = match files.find(format!("boot/config-{}", kernel.release).as_bytes()) {
        Some(config) => Some(read_bounded(files.open(config)?, MAX_CONFIG).map_err(|source| unreadable(from, source))?),
        None => None,
    };
    let release_dir = find::modules_in_tree(&files, &kernel.release, from)?;
    complete(files, release_dir, kernel, config, dest_dir)
}

fn import_host(
    image: &Path,
    modules: Option<&Path>,
    config: Option<&Path>,
    dest_dir: &Path,
) -> Result<KernelInfo, DiskError> {
    let mut file = File::open(image).map_err(|source| unreadable(image, source))?;
    let kernel = image::unpack(&mut file, &dest_dir.join(VMLINUX))
        .map_err(|reason| DiskError::BadKernel { path: image.into(), reason })?;
    let beside = config.is_none().then(|| config_beside(image, modules, &kernel.release)).flatten();
    let config = match config.or(beside.as_deref()) {
        Some(path) => {
            let read = File::open(path).and_then(|file| read_bounded(file, MAX_CONFIG));
            Some(read.map_err(|source| unreadable(path, source))?)
        }
        None => None,
    };
    let mut files = KernelFiles::empty(&dest_dir.join(MODULES_DISK))?;
    let mut release_dir = None;
    if let Some(modules) = modules {
        let is_same = modules.canonicalize().ok().and_then(|dir| Some(dir.file_name()? == kernel.release.as_str()));
        if is_same == Some(false) {
            let reason = format!("its modules are for another kernel; this one is {}", kernel.release);
            return Err(DiskError::BadKernel { path: modules.into(), reason });
        }
        files.add_modules_dir(modules, &kernel.release)?;
        release_dir = files.find(format!("lib/modules/{}", kernel.release).as_bytes());
    }
    complete(files, release_dir, kernel, config, dest_dir)
}

/// The configuration that lies where kernels are installed: `config-RELEASE` beside the kernel, `config` in its modules.
fn config_beside(image: &Path, modules: Option<&Path>, release: &str) -> Option<PathBuf> {
    let real = image.canonicalize().ok();
    let in_boot = [Some(image), real.as_deref()].into_iter().flatten().filter_map(Path::parent);
    let in_boot = in_boot.map(|dir| dir.join(format!("config-{release}")));
    in_boot.chain(modules.map(|modules| modules.join("config"))).find(|path| path.is_file())
}

/// Writes everything but the kernel itself.
fn complete(
    mut files: KernelFiles,
    release_dir: Option<InodeId>,
    kernel: UnpackedKernel,
    config: Option<Vec<u8>>,
    dest_dir: &Path,
) -> Result<KernelInfo, DiskError> {
    let boot_dir = dest_dir.join(BOOT_MODULES);
    fs::create_dir(&boot_dir).map_err(|source| unwritable(&boot_dir, source))?;
    let config = match config {
        Some(config) => Some(config),
        None => {
            let path = dest_dir.join(VMLINUX);
            let read = File::open(&path).and_then(|mut file| ikconfig::read(&mut file, MAX_CONFIG));
            read.map_err(|source| unreadable(&path, source))?
        }
    };
    if let Some(config) = &config {
        write(dest_dir.join(CONFIG), config)?;
    }
    let config = config.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let mut info = KernelInfo {
        version: kernel.release,
        modules_size: 0,
        features: features::detect(config.as_deref(), None, kernel.has_pvh),
    };
    let mut order = String::new();
    if let Some(release_dir) = release_dir.filter(|&dir| matches!(files.tree.inode(dir).body, Body::Dir { .. })) {
        let modules = Modules::read(&mut files, release_dir)?;
        info.features = features::detect(config.as_deref(), Some(&modules), kernel.has_pvh);
        for (number, (name, content)) in (1..).zip(modules.boot_modules(&mut files)?) {
            let file_name = format!("{number:02}-{name}.ko");
            write(boot_dir.join(&file_name), &content)?;
            order.push_str(&file_name);
            order.push('\n');
        }
        let extra = match modules.has_index() {
            true => Vec::new(),
            false => {
                let builtin = read_bytes(&mut files, release_dir, "modules.builtin.modinfo")?;
                depmod::index_files(&modules, builtin.as_deref())
            }
        };
        let uuid = modules_uuid(&info.version);
        info.modules_size = files.publish_modules(release_dir, &info.version, &extra, uuid)?;
    }
    write(boot_dir.join(BOOT_ORDER), order.as_bytes())?;
    Ok(info)
}

/// Follows from the release, so that importing a kernel twice makes the same bytes.
fn modules_uuid(release: &str) -> [u8; 16] {
    let digest = Sha256::digest(format!("ignite modules {release}"));
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

fn write(path: PathBuf, content: &[u8]) -> Result<(), DiskError> {
    let written = File::create(&path).and_then(|mut file| {
        std::io::Write::write_all(&mut file, content)?;
        file.sync_all()
    });
    written.map_err(|source| unwritable(&path, source))
}

fn unreadable(path: &Path, source: std::io::Error) -> DiskError {
    DiskError::ReadFile { path: path.into(), source }
}

fn unwritable(path: &Path, source: std::io::Error) -> DiskError {
    DiskError::WriteFile { path: path.into(), source }
}
