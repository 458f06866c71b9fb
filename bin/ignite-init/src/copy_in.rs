//! Extracts a tar stream into a directory of the guest, never outside of it.

use ignite_agent_protocol::message::StreamExit;
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Entry, EntryType};

/// Directories whose times are set at the end; those of more are left.
const MAX_DIRECTORIES: usize = 65_536;
/// Bytes read and written at once: each call costs as much as some kilobytes do.
const BUFFER_BYTES: usize = 128 * 1024;

/// Where an archive goes.
#[derive(Debug)]
pub struct Target {
    directory: OwnedFd,
    keep_owner: bool,
}

impl Target {
    /// The descriptor it needs.
    pub fn fd(&self) -> RawFd {
        self.directory.as_raw_fd()
    }

    /// Opens an existing directory.
    pub fn open(path: &str, keep_owner: bool) -> io::Result<Target> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Target { directory: fs::open(path, flags, Mode::empty())?, keep_owner })
    }

    /// Opens a path below the target; symbolic links in it may not lead out.
    fn open_below(&self, path: &Path, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let opened = fs::openat2(&self.directory, path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode), resolve);
        opened.map_err(|e| match e {
            Errno::XDEV => io::Error::other("leads out of the target directory"),
            e => e.into(),
        })
    }

    /// Opens the parent of `path`, making what is missing, and gives its last component.
    fn parent<'p>(&self, path: &'p Path) -> io::Result<(OwnedFd, &'p std::ffi::OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let open = |path: &Path| self.open_below(path, OFlags::RDONLY | OFlags::DIRECTORY, 0);
        match open(parent) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let (above, missing) = self.parent(parent)?;
                match fs::mkdirat(&above, missing, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(e.into()),
                }
                Ok((open(parent)?, name))
            }
            opened => Ok((opened?, name)),
        }
    }
}

/// The directory that the last member went to: most go to the same as the one before.
#[derive(Default)]
struct LastParent(Option<(PathBuf, OwnedFd)>);

impl LastParent {
    /// As [`Target::parent`].
    fn of<'p>(&mut self, target: &Target, path: &'p Path) -> io::Result<(&OwnedFd, &'p std::ffi::OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let kept = self.0.take().filter(|(kept, _)| kept == parent);
        let opened = match kept {
            Some(kept) => kept,
            None => (parent.to_owned(), target.parent(path)?.0),
        };
        Ok((&self.0.insert(opened).1, name))
    }
}

/// Extracts everything. Blocks; runs in a process of its own.
pub fn run(target: &Target, input: File) -> StreamExit {
    // Files are made with the mode they shall have.
    rustix::process::umask(Mode::empty());
    match extract(target, BufReader::with_capacity(BUFFER_BYTES, input)) {
        Ok(()) => StreamExit::Exited { code: 0 },
        Err(e) => StreamExit::Failed { code: 125, message: format!("copy: {e}") },
    }
}

fn extract(target: &Target, mut input: impl Read) -> io::Result<()> {
    let mut directories = Vec::new();
    let (mut last_parent, mut buffer) = (LastParent::default(), vec![0; BUFFER_BYTES]);
    let mut archive = Archive::new(&mut input);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let below = below(&path).map_err(named)?;
        add(target, &mut last_parent, &mut entry, &below, &mut buffer).map_err(named)?;
        if entry.header().entry_type() == EntryType::Directory && directories.len() < MAX_DIRECTORIES {
            directories.push((below, entry.header().mtime()?));
        }
    }
    // Children have changed the times of their directories.
    for (path, mtime) in directories {
        if let Ok(directory) = target.open_below(&path, OFlags::RDONLY | OFlags::DIRECTORY, 0) {
            fs::futimens(&directory, &times(mtime))?;
        }
    }
    // Padding after the archive's end is read, so that its sender is not cut off.
    io::copy(&mut input, &mut io::sink())?;
    Ok(())
}

/// The path below the target: without a leading slash; upward steps are refused.
fn below(path: &Path) -> io::Result<PathBuf> {
    let mut below = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => below.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::other("leads out of the target directory"));
            }
        }
    }
    Ok(below)
}

fn add<R: Read>(
    target: &Target,
    last_parent: &mut LastParent,
    entry: &mut Entry<'_, R>,
    path: &Path,
    buffer: &mut [u8],
) -> io::Result<()> {
    let header = entry.header();
    let kind = header.entry_type();
    let mode = header.mode()? & 0o7777;
    let mtime = header.mtime()?;
    let owner = match target.keep_owner {
        true => {
            let id = |id: u64| u32::try_from(id).map_err(|_| io::Error::other("owner is out of range"));
            (Uid::from_raw(id(header.uid()?)?), Gid::from_raw(id(header.gid()?)?))
        }
        false => (Uid::ROOT, Gid::ROOT),
    };
    if path.as_os_str().is_empty() {
        // The archive's own top; the target keeps its owner and mode.
        return Ok(());
    }
    let (parent, name) = last_parent.of(target, path)?;
    match kind {
        EntryType::Directory => {
            match fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
                Ok(()) => {}
                Err(Errno::EXIST) => {
                    let stat = fs::statat(parent, name, AtFlags::empty())?;
                    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                        return Err(io::Error::other("exists and is not a directory"));
                    }
                }
                Err(e) => return Err(e.into()),
            }
            let directory = target.open_below(path, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
            fs::fchown(&directory, Some(owner.0), Some(owner.1))?;
            return Ok(fs::fchmod(&directory, Mode::from_raw_mode(mode))?);
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let attributes = Attributes { mode, owner, mtime };
            return add_file(parent, name, entry, &attributes, buffer);
        }
        EntryType::Link => {
            let link = entry.link_name()?.ok_or_else(|| io::Error::other("hard link without a target"))?;
            let link = below(&link)?;
            let (from, from_name) = target.parent(&link)?;
            clear(parent, name)?;
            return Ok(fs::linkat(&from, from_name, parent, name, AtFlags::empty())?);
        }
        EntryType::Symlink => {
            let link = entry.link_name()?.ok_or_else(|| io::Error::other("symbolic link without a target"))?;
            clear(parent, name)?;
            fs::symlinkat(&*link, parent, name)?;
        }
        EntryType::Fifo | EntryType::Char | EntryType::Block => {
            let kind = match kind {
                EntryType::Fifo => FileType::Fifo,
                EntryType::Char => FileType::CharacterDevice,
                _ => FileType::BlockDevice,
            };
            let major = header.device_major()?.unwrap_or(0);
            let minor = header.device_minor()?.unwrap_or(0);
            clear(parent, name)?;
            fs::mknodat(parent, name, kind, Mode::from_raw_mode(mode), fs::makedev(major, minor))?;
            fs::chmodat(parent, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        }
        other => return Err(io::Error::other(format!("unknown kind {:?} of archive member", other.as_byte()))),
    }
    fs::chownat(parent, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(fs::utimensat(parent, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// What a file gets besides its content.
struct Attributes {
    mode: u32,
    owner: (Uid, Gid),
    mtime: u64,
}

/// Writes a file. What has the name already stays whole until the new one is; a name that is free is taken at once, which
/// spares every new file of a tree a rename.
fn add_file<R: Read>(
    parent: &OwnedFd,
    name: &std::ffi::OsStr,
    entry: &mut Entry<'_, R>,
    attributes: &Attributes,
    buffer: &mut [u8],
) -> io::Result<()> {
    let create = |name: &std::ffi::OsStr| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Nobody but its owner may open what is not its owner's yet.
        let mode = if attributes.owner.0.is_root() { attributes.mode & 0o777 } else { 0o600 };
        fs::openat(parent, name, flags, Mode::from_raw_mode(mode)).map(File::from)
    };
    let temporary = std::ffi::OsString::from(format!(".ignite-copy-{}", rustix::process::getpid().as_raw_nonzero()));
    let (file, made) = match create(name) {
        Err(Errno::EXIST) => {
            clear(parent, &temporary)?;
            (create(&temporary)?, temporary.as_os_str())
        }
        created => (created?, name),
    };
    let mut done = write_file(file, entry, attributes, buffer);
    if done.is_ok() && made != name {
        done = fs::renameat(parent, made, parent, name).map_err(io::Error::from);
    }
    if done.is_err() {
        // The first error is the one to tell.
        let _ = fs::unlinkat(parent, made, AtFlags::empty());
    }
    done
}

fn write_file<R: Read>(
    mut file: File,
    entry: &mut Entry<'_, R>,
    attributes: &Attributes,
    buffer: &mut [u8],
) -> io::Result<()> {
    let mut left = entry.size();
    while left > 0 {
        let len = match entry.read(buffer) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within it")),
            Ok(len) => len,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        file.write_all(&buffer[..len])?;
        left = left.saturating_sub(len as u64);
    }
    // Mostly they are right already: looking is cheaper than setting, which the file system's journal takes part in.
    let stat = fs::fstat(&file)?;
    let (uid, gid) = attributes.owner;
    if (stat.st_uid, stat.st_gid) != (uid.as_raw(), gid.as_raw()) {
        fs::fchown(&file, Some(uid), Some(gid))?;
    }
    if stat.st_mode & 0o7777 != attributes.mode || !uid.is_root() {
        fs::fchmod(&file, Mode::from_raw_mode(attributes.mode))?;
    }
    Ok(fs::futimens(&file, &times(attributes.mtime))?)
}

/// Removes what has the name, as tar(1) does before it extracts; a directory is not replaced.
fn clear(parent: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<()> {
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
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};
    use tar::{Builder, Header};

    fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_mtime(1_000);
            header.set_uid(u64::from(rustix::process::getuid().as_raw()));
            header.set_gid(u64::from(rustix::process::getgid().as_raw()));
            // Written by hand: the builder refuses the names that are tested here.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            let data = match kind {
                EntryType::Symlink | EntryType::Link => {
                    header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
                    ""
                }
                _ => content,
            };
            header.set_size(data.len() as u64);
            header.set_cksum();
            builder.append(&header, data.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn into(dir: &Path, entries: &[(&str, EntryType, &str)]) -> io::Result<()> {
        extract(&Target::open(dir.to_str().unwrap(), true).unwrap(), archive(entries).as_slice())
    }

    const FILE: EntryType = EntryType::Regular;
    const DIR: EntryType = EntryType::Directory;

    #[test]
    fn a_tree_is_extracted_with_modes_times_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let entries = [
            ("top/", DIR, ""),
            ("top/a", FILE, "content"),
            ("top/link", EntryType::Symlink, "a"),
            ("top/hard", EntryType::Link, "top/a"),
            ("made/on/the/way", FILE, "x"),
        ];
        into(dir.path(), &entries).unwrap();
        let top = dir.path().join("top");
        assert_eq!(std::fs::read(top.join("link")).unwrap(), b"content");
        let file = std::fs::metadata(top.join("a")).unwrap();
        assert_eq!((file.mode() & 0o777, file.mtime(), file.nlink()), (0o755, 1_000, 2));
        assert_eq!(std::fs::metadata(&top).unwrap().mtime(), 1_000);
        assert_eq!(std::fs::read(dir.path().join("made/on/the/way")).unwrap(), b"x");
        // Again, over what is there.
        into(dir.path(), &entries).unwrap();
    }

    #[test]
    fn nothing_is_written_outside_of_the_target() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("inner");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(outer.path().join("victim"), "safe").unwrap();
        symlink("..", dir.join("up")).unwrap();
        symlink(outer.path(), dir.join("absolute")).unwrap();
        let attacks: [&[(&str, EntryType, &str)]; 6] = [
            &[("../victim", FILE, "bad")],
            &[("up/victim", FILE, "bad")],
            &[("absolute/victim", FILE, "bad")],
            &[("l", EntryType::Symlink, ".."), ("l/victim", FILE, "bad")],
            &[("h", EntryType::Link, "../victim"), ("h", FILE, "bad")],
            &[("h", EntryType::Link, "up/victim"), ("h", FILE, "bad")],
        ];
        for attack in attacks {
            into(&dir, attack).unwrap_err();
            assert_eq!(std::fs::read(outer.path().join("victim")).unwrap(), b"safe", "{attack:?}");
        }
        // A leading slash is dropped; an existing link is replaced and not written through.
        symlink("../victim", dir.join("file")).unwrap();
        into(&dir, &[("/file", FILE, "good")]).unwrap();
        assert_eq!(std::fs::read(outer.path().join("victim")).unwrap(), b"safe");
        assert_eq!(std::fs::read(dir.join("file")).unwrap(), b"good");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2048)) {
            let dir = tempfile::tempdir().unwrap();
            let _ = extract(&Target::open(dir.path().to_str().unwrap(), true).unwrap(), bytes.as_slice());
        }
    }
}
