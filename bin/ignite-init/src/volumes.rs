//! Mounts the disks that the VM's owner has given it.

use crate::devices::{Uevents, find_disk};
use crate::error::{Doing, SetupError};
use crate::root::Disks;
use crate::rooted::Rooted;
use ignite_agent_protocol::message::VolumeMount;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, mount, mount_move};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where a magic number is: offset, bytes, file system.
const MAGIC: [(u64, &[u8], &str); 7] = [
    (0x438, &[0x53, 0xef], "ext4"),
    (0, b"XFSB", "xfs"),
    (0x1_0040, b"_BHRfS_M", "btrfs"),
    (0x400, &[0x10, 0x20, 0xf5, 0xf2], "f2fs"),
    (0x8001, b"CD001", "iso9660"),
    (0, b"hsqs", "squashfs"),
    (0x52, b"FAT32   ", "vfat"),
];

/// A volume that is mounted, but not where it belongs yet.
#[derive(Debug)]
pub struct Waiting {
    source: String,
    name: String,
    path: String,
}

/// Mounts every volume in the initramfs: devices are found while `/sys` and `/dev` are still there.
pub fn mount_all(wanted: &[VolumeMount], disks: &mut Disks, uevents: &Uevents) -> Result<Vec<Waiting>, SetupError> {
    let mut waiting = Vec::new();
    for (index, volume) in wanted.iter().enumerate() {
        let source = format!("/volume-{index}");
        let mounted = mount_one(volume, &source, uevents)?;
        if !volume.read_only {
            disks.add_writable(mounted);
        }
        waiting.push(Waiting { source, name: volume.name.clone(), path: volume.path.clone() });
    }
    // What is mounted inside of another comes after it.
    waiting.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(waiting)
}

fn mount_one(volume: &VolumeMount, target: &str, uevents: &Uevents) -> Result<OwnedFd, SetupError> {
    let what = format!("volume {}", volume.name);
    let device = uevents.wait_for(&what, || find_disk(&volume.disk))?;
    let doing = || format!("mount {what}");
    let file = File::open(&device).doing(doing)?;
    let kind = file_system(|buffer, offset| file.read_exact_at(buffer, offset)).ok_or_else(unknown).doing(doing)?;
    drop(file);
    std::fs::create_dir_all(target).doing(doing)?;
    let doing = || format!("mount {what} ({kind})");
    let mount_with = |flags, options: &CStr| mount(&device, target, kind, flags, Some(options));
    let mounted = match volume.read_only {
        false => mount_with(MountFlags::empty(), c""),
        true => match mount_with(MountFlags::RDONLY, c"") {
            // Its journal is not empty, and cannot be emptied.
            Err(rustix::io::Errno::ROFS | rustix::io::Errno::ACCESS) if kind == "ext4" => {
                mount_with(MountFlags::RDONLY, c"noload")
            }
            mounted => mounted,
        },
    };
    match mounted {
        Err(rustix::io::Errno::NODEV) => Err(io::Error::other(format!("this kernel has no {kind}"))).doing(doing)?,
        mounted => mounted.doing(doing)?,
    }
    rustix::fs::open(target, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).doing(doing)
}

fn unknown() -> io::Error {
    io::Error::other("there is no file system on it that is known; give it one, or use it without a mount")
}

/// The file system of a disk, by its magic number; what cannot be read is not there.
fn file_system(read: impl Fn(&mut [u8], u64) -> io::Result<()>) -> Option<&'static str> {
    MAGIC.iter().find_map(|(offset, magic, kind)| {
        let mut found = [0; 8];
        let found = &mut found[..magic.len()];
        (read(found, *offset).is_ok() && found == *magic).then_some(*kind)
    })
}

/// Moves them to where they belong.
pub fn place(waiting: &[Waiting], new_root: &Rooted) -> Result<(), SetupError> {
    for Waiting { source, name, path } in waiting {
        let doing = || format!("mount volume {name} at {path}");
        new_root.enter(Path::new(path), 0o755).doing(doing)?;
        let moved = mount_move(source, ".").doing(doing);
        rustix::process::chdir("/").doing(doing)?;
        moved?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(disk: &[u8]) -> Option<&'static str> {
        file_system(|buffer, offset| {
            let offset = usize::try_from(offset).unwrap();
            let found = disk.get(offset..offset + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(found);
            Ok(())
        })
    }

    #[test]
    fn file_systems_are_told_by_their_magic() {
        for (offset, magic, kind) in MAGIC {
            let mut disk = vec![0; 0x2_0000];
            disk[offset as usize..][..magic.len()].copy_from_slice(magic);
            assert_eq!(of(&disk), Some(kind));
            assert_eq!(of(&disk[..offset as usize + 1]), None, "a disk that ends within {kind}'s");
        }
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[0xff; 0x2_0000]), None);
    }
}
