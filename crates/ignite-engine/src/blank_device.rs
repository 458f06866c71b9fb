//! A blank block device gets a file system, when its owner asked for that.

use crate::error::EngineError;
use crate::volumes::{CHUNK, Draft, LOOK_DEADLINE, copy_data, unusable, write_ext4};
use ignite_api::vm::Volume;
use ignite_store::FileLock;
use ignite_store::lock::Sharing;
use rustix::fs::{OFlags, SeekFrom};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Largest device that is read through to see whether it is blank.
const MAX_READ: u64 = 256 << 30;
/// The file system in the making, in the VM's directory.
const DRAFT: &str = "volume.new";

const HINT_MKFS: &str = "make a file system on it yourself (mkfs.ext4), and leave the format out";
const HINT_USED: &str = "unmount it, or stop the VM that has it";

/// Formats a device that is zero from end to end; whatever else it holds stays as it is. Reading it takes its time, once.
///
/// Meanwhile the device is held exclusively: it is neither mounted on the host nor in another VM. The superblock is written
/// last.
pub(crate) fn format_if_blank(volume: &Volume, path: &Path, scratch: &Path) -> Result<(), EngineError> {
    let failed = |error: io::Error| {
        let hint = if error.kind() == io::ErrorKind::ResourceBusy { HINT_USED } else { HINT_MKFS };
        unusable(volume, path, format!("cannot be formatted: {error}"), hint)
    };
    let seen = open(path, OFlags::empty()).map_err(failed)?;
    // What has been formatted is known by its first megabyte, without disturbing whoever has it.
    if !seen.metadata().map_err(failed)?.file_type().is_block_device()
        || !is_zero(&seen, CHUNK as u64).map_err(failed)?
    {
        return Ok(());
    }
    drop(seen);
    let device = open(path, OFlags::EXCL).map_err(failed)?;
    let lock = FileLock::take_on(device, path, Sharing::Alone, LOOK_DEADLINE)?;
    let device = lock.file();
    let length = rustix::fs::seek(device, SeekFrom::End(0)).map_err(|error| failed(error.into()))?;
    if !is_zero(device, length.min(MAX_READ)).map_err(failed)? {
        return Ok(());
    }
    if length > MAX_READ {
        let reason = "cannot be formatted: it is too large to be read through".to_owned();
        return Err(unusable(volume, path, reason, HINT_MKFS));
    }
    // A draft of a start that was killed is in the way of nobody else: the caller holds the VM.
    let draft = Draft(scratch.join(DRAFT));
    match std::fs::remove_file(&draft.0) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    write_ext4(&draft.0, length, volume)?;
    copy_data(&File::open(&draft.0).map_err(failed)?, device).map_err(failed)?;
    device.sync_all().map_err(failed)
}

fn open(path: &Path, more: OFlags) -> io::Result<File> {
    // A fifo in the device's place must not hang it.
    let flags = (OFlags::NONBLOCK | more).bits().cast_signed();
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

/// Whether the first `length` bytes, or all of a shorter one, are zero.
fn is_zero(file: &File, length: u64) -> io::Result<bool> {
    let mut buffer = vec![0; CHUNK];
    let mut offset = 0;
    while offset < length {
        let wanted = CHUNK.min(usize::try_from(length - offset).unwrap_or(CHUNK));
        let count = file.read_at(&mut buffer[..wanted], offset)?;
        if count == 0 {
            break;
        }
        if buffer[..count].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        offset += count as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ignite_api::vm::{BlockDevice, DiskFormat, StorageSpec};
    use std::path::PathBuf;
    use std::process::Command;

    /// A loop device over a file; gone with it.
    struct Loop(PathBuf);

    impl Loop {
        fn over(file: &Path) -> Option<Loop> {
            let output = Command::new("losetup").args(["--find", "--show"]).arg(file).output().ok()?;
            output.status.success().then(|| Loop(String::from_utf8_lossy(&output.stdout).trim().into()))
        }
    }

    impl Drop for Loop {
        fn drop(&mut self) {
            let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
        }
    }

    fn storage(path: &Path, format: Option<DiskFormat>, read_only: bool) -> StorageSpec {
        let device = BlockDevice { path: path.to_str().unwrap().to_owned(), format };
        let volume = Volume { name: "data".into(), block_device: Some(device), file: None, read_only };
        StorageSpec { volumes: vec![volume], ..StorageSpec::default() }
    }

    #[test]
    #[allow(clippy::print_stdout, reason = "a skipped test says why")]
    fn only_a_blank_device_is_formatted_and_only_when_asked() {
        const SIZE: usize = 16 << 20;
        let dir = tempfile::tempdir().unwrap();
        let ext4 = Some(DiskFormat::Ext4);
        let with_byte_at = |at: usize| {
            let mut bytes = vec![0; SIZE];
            bytes[at] = 1;
            bytes
        };
        for (what, before, format, read_only, is_formatted) in [
            ("blank", vec![0; SIZE], ext4, false, true),
            ("blank, not asked", vec![0; SIZE], None, false, false),
            ("blank, only read", vec![0; SIZE], ext4, true, false),
            ("a byte at its beginning", with_byte_at(0), ext4, false, false),
            ("a byte in its midst", with_byte_at(SIZE / 2 + 4711), ext4, false, false),
            ("a byte at its end", with_byte_at(SIZE - 1), ext4, false, false),
        ] {
            let file = dir.path().join("backing");
            std::fs::write(&file, &before).unwrap();
            let Some(device) = Loop::over(&file) else {
                println!("skipped: no loop device can be made here");
                return;
            };
            let storage = storage(&device.0, format, read_only);
            crate::volumes::ensure(&storage, dir.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
            let content = |path: &Path| std::fs::read(path).unwrap();
            let after = content(&device.0);
            assert_eq!(after == before, !is_formatted, "{what}");
            if is_formatted {
                let checked = Command::new("e2fsck").arg("-fn").arg(&device.0).output().expect("e2fsck");
                assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
                crate::volumes::ensure(&storage, dir.path()).unwrap();
                assert!(content(&device.0) == after, "{what}: the second time nothing is done");
            }
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{what}: nothing else is left");
        }
    }

    #[test]
    #[allow(clippy::print_stdout, reason = "a skipped test says why")]
    fn a_blank_device_that_someone_has_is_not_formatted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backing");
        std::fs::write(&file, vec![0; 16 << 20]).unwrap();
        let Some(device) = Loop::over(&file) else {
            println!("skipped: no loop device can be made here");
            return;
        };
        let held = open(&device.0, OFlags::EXCL).unwrap();
        let error = crate::volumes::ensure(&storage(&device.0, Some(DiskFormat::Ext4), false), dir.path()).unwrap_err();
        assert!(error.to_string().contains("cannot be formatted") && error.hint().is_some(), "{error}");
        drop(held);
        assert!(std::fs::read(&file).unwrap().iter().all(|byte| *byte == 0));
    }
}
