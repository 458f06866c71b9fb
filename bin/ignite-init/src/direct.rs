//! Directories that live on the writable ext4 itself, because software stacks its own overlay there.

use crate::error::{Doing, SetupError};
use crate::rooted::Rooted;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::mount::mount_bind;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Deepest tree that is copied.
const MAX_DEPTH: u32 = 64;

/// Binds `direct/<directory>` of the writable disk over `directory`. The first time it gets the image's content.
pub fn mount(new_root: &Rooted, writable: &Path, directory: &str) -> Result<(), SetupError> {
    let doing = || format!("put {directory} on the writable disk");
    let path = Path::new(directory);
    let disk = Rooted::open(writable).doing(doing)?;
    let place = Path::new("/direct").join(path.strip_prefix("/").unwrap_or(path));
    let target = new_root.ensure_dir(path, 0o755).doing(doing)?;
    let is_new = disk.open_at(&place, OFlags::PATH, Mode::empty()).is_err();
    if is_new {
        // Under another name first, so that it is whole when it exists.
        let new = Path::new("/direct/.new");
        remove(&disk, new).doing(doing)?;
        disk.ensure_dir(new, 0o755).doing(doing)?;
        let from = new_root.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).doing(doing)?;
        let to = disk.open_at(new, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).doing(doing)?;
        copy_tree(&from, &to, 0).doing(doing)?;
        copy_attributes(&from, &to).doing(doing)?;
        let parent = place.parent().unwrap_or(Path::new("/"));
        let parent = disk.ensure_dir(parent, 0o755).doing(doing)?;
        let (from_parent, from_name) = disk.split(new).doing(doing)?;
        let name = place.file_name().unwrap_or_default();
        fs::renameat(from_parent, from_name, parent, name).doing(doing)?;
    }
    disk.enter(&place, 0o755).doing(doing)?;
    let source = std::env::current_dir().doing(doing)?;
    rustix::process::fchdir(&target).doing(doing)?;
    let mounted = mount_bind(&source, ".").doing(doing);
    rustix::process::chdir("/").doing(doing)?;
    mounted
}

/// Removes the left-over of a copy that a power cut interrupted.
fn remove(disk: &Rooted, path: &Path) -> io::Result<()> {
    let Ok((parent, name)) = disk.split(path) else { return Ok(()) };
    let Ok(name) = std::ffi::CString::new(name.as_encoded_bytes()) else { return Ok(()) };
    remove_tree(&parent, &name, 0)
}

fn remove_tree(parent: &OwnedFd, name: &std::ffi::CStr, depth: u32) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other("too deep"));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match fs::openat(parent, name, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(_) => Ok(fs::unlinkat(parent, name, AtFlags::empty())?),
        Ok(directory) => {
            for entry in fs::Dir::read_from(&directory)?.flatten() {
                if entry.file_name() != c"." && entry.file_name() != c".." {
                    remove_tree(&directory, entry.file_name(), depth + 1)?;
                }
            }
            Ok(fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
        }
    }
}

/// Copies what is in one directory into another: contents, owners, modes and times; links are not followed.
fn copy_tree(from: &OwnedFd, to: &OwnedFd, depth: u32) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other("too deep"));
    }
    for entry in fs::Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let open = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
                let from = fs::openat(from, name, open | OFlags::DIRECTORY, Mode::empty())?;
                let to = fs::openat(to, name, open | OFlags::DIRECTORY, Mode::empty())?;
                copy_tree(&from, &to, depth + 1)?;
                copy_attributes(&from, &to)?;
            }
            FileType::RegularFile => {
                let from = fs::openat(from, name, open, Mode::empty())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let to = fs::openat(to, name, flags, Mode::from_raw_mode(0o600))?;
                io::copy(&mut File::from(from.try_clone()?), &mut File::from(to.try_clone()?))?;
                copy_attributes(&from, &to)?;
            }
            FileType::Symlink => {
                fs::symlinkat(fs::readlinkat(from, name, Vec::new())?.as_c_str(), to, name)?;
                let (uid, gid) = (fs::Uid::from_raw(stat.st_uid), fs::Gid::from_raw(stat.st_gid));
                fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            // Sockets, fifos and devices in such a directory belong to a process that is gone.
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => {}
        }
    }
    Ok(())
}

fn copy_attributes(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let stat = fs::fstat(from)?;
    fs::fchown(to, Some(fs::Uid::from_raw(stat.st_uid)), Some(fs::Gid::from_raw(stat.st_gid)))?;
    fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let time = |seconds, nanoseconds: u64| fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds as i64 };
    let times = fs::Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    Ok(fs::futimens(to, &times)?)
}
