//! Disks of the VM's owner: what is asked for is checked, made when missing, and never formatted over.

use crate::blank_device;
use crate::engine::random_bytes;
use crate::error::EngineError;
use ignite_agent_protocol::message::{Disk, VolumeMount};
use ignite_api::vm::{DiskFile, DiskFormat, StorageSpec, Volume};
use ignite_store::FileLock;
use ignite_store::lock::Sharing;
use ignite_supervisor::launch::LaunchDrive;
use rustix::fs::{OFlags, RenameFlags, SeekFrom};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest someone who looks at the disk is waited for.
pub(crate) const LOOK_DEADLINE: Duration = Duration::from_secs(2);
/// Bytes read or written at once.
pub(crate) const CHUNK: usize = 1 << 20;
/// In the name of a disk that is being made.
const DRAFT: &str = ".ignite-new-";

const HINT_SIZE: &str =
    "say how large it is to be, and it is made: -v FILE:/path:size=1GB, or file.size and file.format";
const HINT_KIND: &str = "a volume is a block device or a file that is a disk; directories: ignite cp, or --copy-files";
const HINT_PATH: &str = "check the path";

/// Says now what would keep the VM from starting; makes nothing.
pub(crate) fn check(storage: &StorageSpec) -> Result<(), EngineError> {
    for volume in &storage.volumes {
        let Some(path) = volume.host_path().map(Path::new) else { continue };
        match (std::fs::metadata(path), &volume.file) {
            (Ok(metadata), Some(_)) if metadata.is_file() => {}
            (Ok(metadata), _) if metadata.file_type().is_block_device() => {}
            (Ok(metadata), file) => {
                let wanted = if file.is_some() { "a file" } else { "a block device" };
                let found = if metadata.is_dir() { "is a directory".to_owned() } else { format!("is not {wanted}") };
                return Err(unusable(volume, path, found, HINT_KIND));
            }
            (Err(error), Some(DiskFile { size: Some(_), .. })) if error.kind() == io::ErrorKind::NotFound => {
                let parent = path.parent().unwrap_or(Path::new("/"));
                if !parent.is_dir() {
                    let reason = format!("cannot be made: {} is not a directory", parent.display());
                    return Err(unusable(volume, path, reason, HINT_PATH));
                }
            }
            (Err(error), file) => {
                let is_missing = file.is_some() && error.kind() == io::ErrorKind::NotFound;
                let hint = if is_missing { HINT_SIZE } else { HINT_PATH };
                return Err(unusable(volume, path, format!("cannot be opened: {error}"), hint));
            }
        }
    }
    Ok(())
}

pub(crate) fn unusable(volume: &Volume, path: &Path, reason: String, hint: &'static str) -> EngineError {
    EngineError::Volume { name: volume.name.clone(), path: path.to_owned(), reason, hint }
}

/// Makes the files that are missing, and formats what is blank where that was asked for. Doing it again changes nothing.
/// `scratch` is a directory of the VM's own, whose lock the caller holds.
pub(crate) fn ensure(storage: &StorageSpec, scratch: &Path) -> Result<(), EngineError> {
    check(storage)?;
    for volume in &storage.volumes {
        if let Some(device) = &volume.block_device
            && device.format.is_some()
            && !volume.read_only
        {
            blank_device::format_if_blank(volume, Path::new(&device.path), scratch)?;
        }
        let Some(file) = &volume.file else { continue };
        let path = Path::new(&file.path);
        let failed = |error: io::Error| unusable(volume, path, format!("cannot be made: {error}"), HINT_PATH);
        match path.try_exists().map_err(failed)? {
            false => make(volume, file, path)?,
            true if file.format.is_some() && !volume.read_only => format_if_blank(volume, file, path)?,
            true => {}
        }
    }
    Ok(())
}

/// Under another name first, so that it is whole when it exists; another's file that appears meanwhile is kept.
fn make(volume: &Volume, file: &DiskFile, path: &Path) -> Result<(), EngineError> {
    let failed = |error: io::Error| unusable(volume, path, format!("cannot be made: {error}"), HINT_PATH);
    let Some(size) = file.size else { return Ok(()) };
    let draft = Draft::beside(path)?;
    match file.format {
        Some(DiskFormat::Ext4) => write_ext4(&draft.0, size.as_bytes(), volume)?,
        None => {
            let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft.0).map_err(failed)?;
            new.set_len(size.as_bytes()).map_err(failed)?;
            new.sync_all().map_err(failed)?;
        }
    }
    let cwd = rustix::fs::CWD;
    match rustix::fs::renameat_with(cwd, &draft.0, cwd, path, RenameFlags::NOREPLACE) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(failed(error.into())),
    }
}

/// An existing file keeps its identity: the file system is written into it, its superblock last.
fn format_if_blank(volume: &Volume, file: &DiskFile, path: &Path) -> Result<(), EngineError> {
    let failed = |error: io::Error| unusable(volume, path, format!("cannot be formatted: {error}"), HINT_PATH);
    let nonblock = OFlags::NONBLOCK.bits().cast_signed();
    let disk = OpenOptions::new().read(true).write(true).custom_flags(nonblock).open(path).map_err(failed)?;
    if !disk.metadata().map_err(failed)?.is_file() || !is_blank(&disk).map_err(failed)? {
        return Ok(());
    }
    // A VM that has it holds this lock.
    let lock = FileLock::take_on(disk, path, Sharing::Alone, LOOK_DEADLINE)?;
    let disk = lock.file();
    if !is_blank(disk).map_err(failed)? {
        return Ok(());
    }
    let length = match (disk.metadata().map_err(failed)?.len(), file.size) {
        (0, Some(size)) => size.as_bytes(),
        (0, None) => return Err(unusable(volume, path, "is empty".to_owned(), HINT_SIZE)),
        (length, _) => length,
    };
    let draft = Draft::beside(path)?;
    write_ext4(&draft.0, length, volume)?;
    disk.set_len(length).map_err(failed)?;
    copy_data(&File::open(&draft.0).map_err(failed)?, disk).map_err(failed)?;
    disk.sync_all().map_err(failed)
}

pub(crate) fn write_ext4(path: &Path, size: u64, volume: &Volume) -> Result<(), EngineError> {
    let what = format!("the volume {}", volume.name);
    ignite_disk::create_writable_disk(path, size, random_bytes()?).map_err(|source| EngineError::Disk { what, source })
}

/// A file in the making, removed unless it got its name.
pub(crate) struct Draft(pub PathBuf);

impl Draft {
    fn beside(path: &Path) -> Result<Draft, EngineError> {
        let random: [u8; 8] = random_bytes()?;
        let mut name = std::ffi::OsString::from(DRAFT);
        name.push(random.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        Ok(Draft(path.with_file_name(name)))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The parts of a file that may hold something; holes are zero.
fn extents(file: &File) -> io::Result<Vec<(u64, u64)>> {
    let (mut extents, mut offset) = (Vec::new(), 0);
    loop {
        let start = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => return Ok(extents),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?;
        extents.push((start, end));
        offset = end;
    }
}

fn is_blank(file: &File) -> io::Result<bool> {
    let mut buffer = vec![0; CHUNK];
    for (mut offset, end) in extents(file)? {
        while offset < end {
            let length = CHUNK.min(usize::try_from(end - offset).unwrap_or(CHUNK));
            file.read_exact_at(&mut buffer[..length], offset)?;
            if buffer[..length].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            offset += length as u64;
        }
    }
    Ok(true)
}

/// From the end to the beginning: what was interrupted has no superblock.
pub(crate) fn copy_data(from: &File, to: &File) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    for (start, mut end) in extents(from)?.into_iter().rev() {
        while end > start {
            let length = CHUNK.min(usize::try_from(end - start).unwrap_or(CHUNK));
            end -= length as u64;
            from.read_exact_at(&mut buffer[..length], end)?;
            to.write_all_at(&buffer[..length], end)?;
        }
        to.sync_data()?;
    }
    Ok(())
}

/// The drives, in the order of the volumes; the paths with every link followed.
pub(crate) fn drives(storage: &StorageSpec) -> Result<Vec<LaunchDrive>, EngineError> {
    let mut drives = Vec::new();
    for (index, volume) in storage.volumes.iter().enumerate() {
        let Some(path) = volume.host_path().map(Path::new) else { continue };
        let found = std::fs::canonicalize(path);
        let path = found.map_err(|error| unusable(volume, path, format!("cannot be opened: {error}"), HINT_PATH))?;
        drives.push(LaunchDrive {
            id: id(index),
            path,
            is_read_only: volume.read_only,
            is_pmem: false,
            is_volume: true,
            limits: storage.limits,
        });
    }
    Ok(drives)
}

/// What the guest is to mount.
pub(crate) fn mounts(storage: &StorageSpec, locate: impl Fn(&str) -> Option<Disk>) -> Vec<VolumeMount> {
    let mount = |wanted: &ignite_api::vm::VolumeMount| {
        let index = storage.volumes.iter().position(|volume| volume.name == wanted.name)?;
        Some(VolumeMount {
            name: wanted.name.clone(),
            disk: locate(&id(index))?,
            path: wanted.mount_path.clone(),
            read_only: wanted.read_only || storage.volumes[index].read_only,
        })
    };
    storage.volume_mounts.iter().filter_map(mount).collect()
}

/// Id of a volume's drive; its serial in the guest, where the VMM has serials.
fn id(index: usize) -> String {
    format!("volume-{index}")
}

#[cfg(test)]
#[path = "volumes_tests.rs"]
mod tests;
