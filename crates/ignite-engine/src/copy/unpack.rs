//! Extracts a guest's tar stream into a directory of the host, never outside of it.
//!
//! The stream is foreign: every path is opened with `openat2(RESOLVE_BENEATH)`, names are bounded, kinds that our agent
//! does not send are refused, and nothing is kept in memory but one block.

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Entry, EntryType};

/// Longest path, and target of a link, in bytes.
const MAX_NAME_BYTES: u64 = 4096;
/// Directories whose modes and times are set at the end; more are refused.
const MAX_DIRECTORIES: usize = 1 << 20;

/// Where an archive goes.
#[derive(Debug)]
pub(crate) struct Target {
    directory: OwnedFd,
    /// Name that replaces the archive's own top; none: the top's contents go into the directory.
    top: Option<OsString>,
    /// The archive's names begin with its top's name, which is dropped.
    has_top: bool,
    /// Owners, set-id bits and devices are taken over.
    is_trusted: bool,
    /// Name of a file while it is written.
    temporary: String,
}

impl Target {
    /// Opens an existing directory. `unique` is part of the name of a file while it is written.
    pub(crate) fn open(path: &Path, top: Option<OsString>, is_trusted: bool, unique: u64) -> io::Result<Target> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = fs::open(path, flags, Mode::empty())?;
        Ok(Target { directory, top, has_top: true, is_trusted, temporary: format!(".ignite-copy-{unique:016x}") })
    }

    /// The same for an archive whose names begin below its top, as those of `/` do.
    pub(crate) fn of_nameless(self) -> Target {
        Target { has_top: false, ..self }
    }

    /// Opens a directory below the target; symbolic links in its path may not lead out.
    fn open_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        fs::openat2(&self.directory, path, flags, Mode::empty(), resolve).map_err(|e| match e {
            Errno::XDEV => leads_out(),
            e => e.into(),
        })
    }

    /// The opened parent of `path` and its last component.
    fn parent<'p>(&self, path: &'p Path) -> io::Result<(OwnedFd, &'p OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.open_directory(path.parent().unwrap_or(Path::new("")))?, name))
    }

    /// The path below the target of a name in the archive.
    fn below(&self, name: &Path) -> io::Result<PathBuf> {
        let mut components = name.components();
        if self.has_top && !matches!(components.next(), Some(Component::Normal(_) | Component::CurDir)) {
            return Err(leads_out());
        }
        let mut below = PathBuf::from(self.top.clone().unwrap_or_default());
        for component in components {
            match component {
                Component::Normal(name) => below.push(name),
                Component::CurDir => {}
                _ => return Err(leads_out()),
            }
        }
        Ok(below)
    }
}

fn leads_out() -> io::Error {
    io::Error::other("leads out of the destination")
}

/// A directory that is finished at the end, when its children no longer change it.
struct Made {
    path: PathBuf,
    mode: u32,
    mtime: u64,
    is_new: bool,
}

/// Extracts everything. Blocks; an error names the entry. What was complete before it stays.
pub(crate) fn unpack(target: &Target, mut input: impl Read) -> io::Result<()> {
    let mut made = Vec::new();
    let (mut long_name, mut long_link) = (None, None);
    let mut archive = Archive::new(&mut input);
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        match entry.header().entry_type() {
            EntryType::GNULongName => long_name = Some(read_name(&mut entry)?),
            EntryType::GNULongLink => long_link = Some(read_name(&mut entry)?),
            _ => {
                let path = long_name.take().unwrap_or_else(|| path_of(&entry.header().path_bytes()));
                let link = long_link.take().or_else(|| entry.header().link_name_bytes().map(|bytes| path_of(&bytes)));
                let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
                let below = target.below(&path).map_err(named)?;
                add(target, &mut entry, &below, link, &mut made).map_err(named)?;
            }
        }
    }
    for directory in made.iter().rev() {
        let opened = target.open_directory(&directory.path)?;
        if directory.is_new {
            fs::fchmod(&opened, Mode::from_raw_mode(directory.mode))?;
        }
        fs::futimens(&opened, &times(directory.mtime))?;
    }
    // What follows the archive's end is read, so that its sender is not cut off.
    io::copy(&mut input, &mut io::sink())?;
    Ok(())
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

fn read_name(entry: &mut Entry<'_, impl Read>) -> io::Result<PathBuf> {
    let mut bytes = Vec::new();
    entry.take(MAX_NAME_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_NAME_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a name in the archive is too long"));
    }
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

fn add(
    target: &Target,
    entry: &mut Entry<'_, impl Read>,
    path: &Path,
    link: Option<PathBuf>,
    made: &mut Vec<Made>,
) -> io::Result<()> {
    let header = entry.header();
    let kind = header.entry_type();
    let mode = header.mode()? & if target.is_trusted { 0o7777 } else { 0o777 };
    let mtime = header.mtime()?;
    let owner = match target.is_trusted {
        true => {
            let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
            let known = id(header.uid()?).zip(id(header.gid()?));
            let (uid, gid) = known.ok_or_else(|| io::Error::other("its owner is out of range"))?;
            Some((Uid::from_raw(uid), Gid::from_raw(gid)))
        }
        false => None,
    };
    if path.as_os_str().is_empty() {
        // The top of contents that go straight into the destination, which stays as it is.
        return match kind {
            EntryType::Directory => Ok(()),
            _ => Err(io::Error::other("is not a directory")),
        };
    }
    let (parent, name) = target.parent(path)?;
    let link = || link.ok_or_else(|| io::Error::other("is a link without a target"));
    match kind {
        EntryType::Directory => {
            if made.len() >= MAX_DIRECTORIES {
                return Err(io::Error::other("too many directories"));
            }
            let is_new = match fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(e) => return Err(e.into()),
            };
            let opened = target.open_directory(path).map_err(|e| match e.kind() {
                io::ErrorKind::NotADirectory => io::Error::other("cannot overwrite non-directory with a directory"),
                _ => e,
            })?;
            if let (true, Some((uid, gid))) = (is_new, owner) {
                fs::fchown(&opened, Some(uid), Some(gid))?;
            }
            made.push(Made { path: path.to_owned(), mode, mtime, is_new });
            Ok(())
        }
        EntryType::Regular => {
            let written = write_file(target, &parent, entry, mode, owner, mtime);
            let done = written.and_then(|()| rename(&parent, &target.temporary, name));
            if done.is_err() {
                // The first error is the one to tell; the name may not even have been made.
                let _ = fs::unlinkat(&parent, &*target.temporary, AtFlags::empty());
            }
            done
        }
        EntryType::Link => {
            let link = target.below(&link()?)?;
            let (from, from_name) = target.parent(&link)?;
            let stat = fs::statat(&from, from_name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(io::Error::other("is a hard link to what is not a file"));
            }
            clear(&parent, name)?;
            Ok(fs::linkat(&from, from_name, &parent, name, AtFlags::empty())?)
        }
        EntryType::Symlink => {
            clear(&parent, name)?;
            fs::symlinkat(&*link()?, &parent, name)?;
            finish(&parent, name, owner, mtime)
        }
        EntryType::Fifo | EntryType::Char | EntryType::Block => {
            let kind = match kind {
                EntryType::Fifo => FileType::Fifo,
                _ if !target.is_trusted => {
                    return Err(io::Error::other("is a device, which only root can copy, with --archive"));
                }
                EntryType::Char => FileType::CharacterDevice,
                _ => FileType::BlockDevice,
            };
            let device = fs::makedev(header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0));
            clear(&parent, name)?;
            fs::mknodat(&parent, name, kind, Mode::from_raw_mode(mode), device)?;
            finish(&parent, name, owner, mtime)
        }
        other => Err(io::Error::other(format!("is of an unknown kind {:?}", char::from(other.as_byte())))),
    }
}

fn write_file(
    target: &Target,
    parent: &OwnedFd,
    entry: &mut Entry<'_, impl Read>,
    mode: u32,
    owner: Option<(Uid, Gid)>,
    mtime: u64,
) -> io::Result<()> {
    let size = entry.header().entry_size()?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::openat(parent, &*target.temporary, flags, Mode::from_raw_mode(0o600))?;
    let mut file = File::from(file);
    if io::copy(entry, &mut file)? != size {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within it"));
    }
    if let Some((uid, gid)) = owner {
        fs::fchown(&file, Some(uid), Some(gid))?;
    }
    fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(fs::futimens(&file, &times(mtime))?)
}

fn rename(parent: &OwnedFd, from: &str, to: &OsStr) -> io::Result<()> {
    fs::renameat(parent, from, parent, to).map_err(|e| match e {
        Errno::ISDIR => io::Error::other("cannot overwrite a directory with a file"),
        e => e.into(),
    })
}

fn finish(parent: &OwnedFd, name: &OsStr, owner: Option<(Uid, Gid)>, mtime: u64) -> io::Result<()> {
    if let Some((uid, gid)) = owner {
        fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(fs::utimensat(parent, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Removes what has the name, as tar(1) does before it extracts; a directory is not replaced.
fn clear(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn times(mtime: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
