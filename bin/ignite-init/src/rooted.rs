//! Files below a root directory that no symbolic link leads out of.

use rustix::fs::{self, AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

/// Largest file read whole: account files, `hosts`.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// A directory taken as `/`: absolute paths and symbolic links are resolved inside it.
#[derive(Debug)]
pub struct Rooted {
    directory: OwnedFd,
}

impl Rooted {
    /// Opens the directory.
    pub fn open(path: &Path) -> io::Result<Rooted> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Rooted { directory: fs::open(path, flags, Mode::empty())? })
    }

    /// Opens `path`, which is resolved inside the root. Never waits for a peer of a fifo, never gets a terminal.
    pub fn open_at(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        // O_PATH takes no other flags but these.
        let flags = if flags.contains(OFlags::PATH) {
            flags & (OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC)
        } else {
            flags
        };
        let path = if path == Path::new("") { Path::new("/") } else { path };
        Ok(fs::openat2(&self.directory, path, flags, mode, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)?)
    }

    /// Opens the directory `path`, making what is missing of it, owned by root with this mode.
    pub fn ensure_dir(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        let open = |path: &Path| self.open_at(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        match open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let mut reached = PathBuf::from("/");
        for component in path.components() {
            match component {
                Component::Normal(name) => reached.push(name),
                Component::RootDir | Component::CurDir => continue,
                Component::ParentDir | Component::Prefix(_) => return Err(io::ErrorKind::InvalidInput.into()),
            }
            match open(&reached) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    let (parent, name) = self.split(&reached)?;
                    match fs::mkdirat(&parent, name, Mode::from_raw_mode(mode)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(e) => return Err(e.into()),
                    }
                }
                Err(e) => return Err(e),
                Ok(_) => {}
            }
        }
        open(path)
    }

    /// The opened parent of `path`, and its last component.
    pub fn split<'p>(&self, path: &'p Path) -> io::Result<(OwnedFd, &'p std::ffi::OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.open_at(parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?, name))
    }

    /// Writes a whole file, with parents of mode 0755. A symbolic link is followed inside the root; anything that is not
    /// a regular file is refused.
    pub fn write(&self, path: &Path, contents: &[u8], mode: u32, owner: (u32, u32)) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            self.ensure_dir(parent, 0o755)?;
        }
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let mut file = regular(self.open_at(path, flags, Mode::from_raw_mode(0o600))?)?;
        file.set_len(0)?;
        file.write_all(contents)?;
        let (uid, gid) = owner;
        fs::fchown(&file, Some(fs::Uid::from_raw(uid)), Some(fs::Gid::from_raw(gid)))?;
        fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
        Ok(())
    }

    /// Reads a whole regular file of at most 4 MiB.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = regular(self.open_at(path, OFlags::RDONLY, Mode::empty())?)?;
        let mut contents = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut contents)?;
        if contents.len() as u64 > MAX_FILE_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(contents)
    }

    /// Replaces whatever is at `path` itself, a symbolic link included, by a regular file with mode 0644.
    pub fn replace(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            self.ensure_dir(parent, 0o755)?;
        }
        let (parent, name) = self.split(path)?;
        match fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
        self.write(path, contents, 0o644, (0, 0))
    }

    /// Replaces the file at `path` in one step, by way of `draft` beside it; where that cannot be done, writes in place.
    pub fn exchange(&self, path: &Path, draft: &Path, contents: &[u8]) -> io::Result<()> {
        self.replace(draft, contents)?;
        let (parent, name) = self.split(path)?;
        let (draft_parent, draft_name) = self.split(draft)?;
        match fs::renameat(&draft_parent, draft_name, &parent, name) {
            Ok(()) => Ok(()),
            Err(_) => {
                let _ = fs::unlinkat(&draft_parent, draft_name, AtFlags::empty());
                self.write(path, contents, 0o644, (0, 0))
            }
        }
    }

    /// Where the symbolic link `path` points; `None` when it is something else or nothing.
    pub fn link_target(&self, path: &Path) -> Option<PathBuf> {
        let (parent, name) = self.split(path).ok()?;
        let target = fs::readlinkat(&parent, name, Vec::new()).ok()?;
        Some(PathBuf::from(std::ffi::OsString::from(String::from_utf8(target.into_bytes()).ok()?)))
    }

    /// Makes the directory `path` the working directory: the way to name a mount point that was resolved inside the root.
    pub fn enter(&self, path: &Path, mode: u32) -> io::Result<()> {
        let directory = self.ensure_dir(path, mode)?;
        Ok(rustix::process::fchdir(directory)?)
    }
}

fn regular(fd: OwnedFd) -> io::Result<File> {
    let stat = fs::fstat(&fd)?;
    if fs::FileType::from_raw_mode(stat.st_mode) != fs::FileType::RegularFile {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(File::from(fd))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn root() -> (tempfile::TempDir, Rooted) {
        let dir = tempfile::tempdir().unwrap();
        let rooted = Rooted::open(dir.path()).unwrap();
        (dir, rooted)
    }

    fn me() -> (u32, u32) {
        (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
    }

    #[test]
    fn links_are_resolved_inside_the_root() {
        let (dir, rooted) = root();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        symlink("/real", dir.path().join("absolute")).unwrap();
        symlink("../../../../real", dir.path().join("upwards")).unwrap();
        rooted.write(Path::new("/absolute/a"), b"1", 0o640, me()).unwrap();
        rooted.write(Path::new("/upwards/b"), b"2", 0o600, me()).unwrap();
        assert_eq!(std::fs::read(dir.path().join("real/a")).unwrap(), b"1");
        assert_eq!(std::fs::metadata(dir.path().join("real/a")).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(rooted.read(Path::new("/absolute/b")).unwrap(), b"2");
    }

    #[test]
    fn parents_are_made_and_dots_refused() {
        let (dir, rooted) = root();
        rooted.write(Path::new("/a/b/c"), b"x", 0o644, me()).unwrap();
        assert!(dir.path().join("a/b/c").is_file());
        assert!(rooted.ensure_dir(Path::new("/n/../../x"), 0o755).is_err());
    }

    #[test]
    fn a_fifo_or_a_directory_is_not_written() {
        let (dir, rooted) = root();
        let fifo = dir.path().join("fifo");
        fs::mknodat(fs::CWD, &fifo, fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert!(rooted.write(Path::new("/fifo"), b"x", 0o644, me()).is_err());
        assert!(rooted.read(Path::new("/fifo")).is_err());
        assert!(rooted.write(Path::new("/"), b"x", 0o644, me()).is_err());
    }

    #[test]
    fn replacing_a_link_leaves_its_target() {
        let (dir, rooted) = root();
        std::fs::write(dir.path().join("target"), "keep").unwrap();
        symlink("target", dir.path().join("link")).unwrap();
        assert_eq!(rooted.link_target(Path::new("/link")), Some("target".into()));
        if rustix::process::getuid().is_root() {
            rooted.replace(Path::new("/link"), b"new").unwrap();
            assert_eq!(std::fs::read(dir.path().join("target")).unwrap(), b"keep");
            assert_eq!(std::fs::symlink_metadata(dir.path().join("link")).unwrap().size(), 3);
        } else {
            eprintln!("not run as root: replacing is not checked");
        }
    }
}
