//! Disks of the VM's owner: one is never writable in two VMs at once.

use crate::error::SupervisorError;
use crate::launch::{Launch, LaunchDrive};
use ignite_store::FileLock;
use ignite_store::lock::Sharing;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::Duration;

/// Longest a look at a disk (udev's, another command's) is waited for.
const LOOK_DEADLINE: Duration = Duration::from_secs(2);

/// Locks every volume of the launch, alone where the VM may write. The kernel drops the locks when this process dies.
///
/// The lock is on the file or device node itself, whatever path leads to it. A block device that the VM may write is also
/// opened exclusively, which keeps it from being mounted on the host, and fails while it is.
pub fn lock(launch: &Launch) -> Result<Vec<FileLock>, SupervisorError> {
    launch.boot.drives.iter().filter(|drive| drive.is_volume).map(lock_one).collect()
}

fn lock_one(drive: &LaunchDrive) -> Result<FileLock, SupervisorError> {
    let path = &drive.path;
    let failed = |source| SupervisorError::Volume { path: path.clone(), source };
    let in_use = || SupervisorError::VolumeInUse { path: path.clone() };
    let file = open(drive).map_err(|error| if is_busy(&error) { in_use() } else { failed(error) })?;
    let sharing = if drive.is_read_only { Sharing::Readers } else { Sharing::Alone };
    match FileLock::take_on(file, path, sharing, LOOK_DEADLINE) {
        Ok(lock) => Ok(lock),
        Err(ignite_store::StoreError::Locked { .. }) => Err(in_use()),
        Err(error) => Err(error.into()),
    }
}

fn open(drive: &LaunchDrive) -> io::Result<File> {
    // A fifo in the disk's place must not hang it.
    let flags = |more| libc_flags(rustix::fs::OFlags::NONBLOCK | more);
    let mut options = OpenOptions::new();
    options.read(true).write(!drive.is_read_only);
    let file = options.clone().custom_flags(flags(rustix::fs::OFlags::empty())).open(&drive.path)?;
    if drive.is_read_only || !file.metadata()?.file_type().is_block_device() {
        return Ok(file);
    }
    options.custom_flags(flags(rustix::fs::OFlags::EXCL)).open(&drive.path)
}

fn libc_flags(flags: rustix::fs::OFlags) -> i32 {
    flags.bits().cast_signed()
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ignite_api::vm::DiskLimits;
    use std::path::Path;

    fn drive(path: &Path, is_read_only: bool) -> LaunchDrive {
        LaunchDrive {
            id: "volume-0".into(),
            path: path.to_owned(),
            is_read_only,
            is_pmem: false,
            is_volume: true,
            limits: DiskLimits::default(),
        }
    }

    #[test]
    fn a_disk_has_one_writer_or_many_readers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        std::fs::write(&path, "data").unwrap();
        let link = dir.path().join("link");
        std::fs::hard_link(&path, &link).unwrap();
        let reader = lock_one(&drive(&path, true)).unwrap();
        let other_reader = lock_one(&drive(&link, true)).unwrap();
        assert!(matches!(lock_one(&drive(&path, false)), Err(SupervisorError::VolumeInUse { .. })));
        drop((reader, other_reader));
        let writer = lock_one(&drive(&link, false)).unwrap();
        assert!(matches!(lock_one(&drive(&path, true)), Err(SupervisorError::VolumeInUse { .. })));
        drop(writer);
        lock_one(&drive(&path, false)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
    }

    #[test]
    fn a_disk_that_is_gone_is_named() {
        let error = lock_one(&drive(Path::new("/no/such/disk"), false)).unwrap_err();
        assert!(error.to_string().contains("/no/such/disk"), "{error}");
    }
}
