//! Reads a path of the guest as a tar stream.

use ignite_agent_protocol::message::StreamExit;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// Deepest directory that is read.
const MAX_DEPTH: u32 = 512;

/// What is to be read: an entry of an opened directory, and its name in the archive.
#[derive(Debug)]
pub struct Source {
    directory: OwnedFd,
    entry: std::ffi::CString,
    name: PathBuf,
}

impl Source {
    /// The descriptor it needs.
    pub fn fd(&self) -> RawFd {
        self.directory.as_raw_fd()
    }

    /// Finds `path`; its base name is the archive's first member. A link is followed only with `follow`.
    pub fn open(path: &str, follow: bool) -> io::Result<Source> {
        let given = Path::new(path);
        let name = given.file_name().map_or_else(|| PathBuf::from("."), PathBuf::from);
        let resolved = if follow { std::fs::canonicalize(given)? } else { given.to_owned() };
        let (parent, entry) = match (resolved.parent(), resolved.file_name()) {
            (Some(parent), Some(entry)) => (parent.to_owned(), entry.to_owned()),
            (_, _) => (resolved.clone(), ".".into()),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = fs::open(&parent, flags, Mode::empty())?;
        let entry = std::ffi::CString::new(entry.as_bytes())?;
        fs::statat(&directory, &entry, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Source { directory, entry, name })
    }
}

/// Writes the archive. Blocks; runs in a process of its own.
pub fn run(source: Source, output: File) -> StreamExit {
    let mut archive =
        Archive { builder: Builder::new(BufWriter::with_capacity(64 * 1024, output)), links: HashMap::new() };
    let written = archive.add(source.directory.as_fd(), &source.entry, &source.name, 0);
    match written.and_then(|()| archive.builder.into_inner()?.flush()) {
        Ok(()) => StreamExit::Exited { code: 0 },
        Err(e) => StreamExit::Failed { code: 125, message: format!("copy {}: {e}", source.name.display()) },
    }
}

struct Archive<W: Write> {
    builder: Builder<W>,
    /// Name of the first link of each file that has several, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Archive<W> {
    fn add(&mut self, directory: BorrowedFd<'_>, entry: &CStr, name: &Path, depth: u32) -> io::Result<()> {
        let stat = fs::statat(directory, entry, AtFlags::SYMLINK_NOFOLLOW)?;
        let mut header = header(&stat);
        let open = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if depth < MAX_DEPTH => {
                header.set_entry_type(EntryType::Directory);
                header.set_size(0);
                let mut with_slash = name.as_os_str().to_owned();
                with_slash.push("/");
                self.builder.append_data(&mut header, &with_slash, io::empty())?;
                let opened = fs::openat(directory, entry, open | OFlags::DIRECTORY, Mode::empty())?;
                for child in fs::Dir::read_from(&opened)? {
                    let child = child?;
                    let child = child.file_name();
                    if child == c"." || child == c".." {
                        continue;
                    }
                    match self.add(opened.as_fd(), child, &name.join(OsStr::from_bytes(child.to_bytes())), depth + 1) {
                        // Gone since the directory was read.
                        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                        added => added?,
                    }
                }
                Ok(())
            }
            FileType::Directory => Err(io::Error::other("directories are nested too deep")),
            FileType::RegularFile => {
                if stat.st_nlink > 1 {
                    let key = (stat.st_dev, stat.st_ino);
                    if let Some(first) = self.links.get(&key) {
                        header.set_entry_type(EntryType::Link);
                        header.set_size(0);
                        return self.builder.append_link(&mut header, name, first);
                    }
                    self.links.insert(key, name.to_owned());
                }
                let file = File::from(fs::openat(directory, entry, open, Mode::empty())?);
                let size = file.metadata()?.len();
                header.set_entry_type(EntryType::Regular);
                header.set_size(size);
                // A file that shrinks meanwhile is filled up, one that grows is cut: the header has been written.
                self.builder.append_data(&mut header, name, file.chain(io::repeat(0)).take(size))
            }
            FileType::Symlink => {
                header.set_entry_type(EntryType::Symlink);
                header.set_size(0);
                let target = fs::readlinkat(directory, entry, Vec::new())?;
                self.builder.append_link(&mut header, name, OsStr::from_bytes(target.to_bytes()))
            }
            kind @ (FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice) => {
                header.set_entry_type(match kind {
                    FileType::Fifo => EntryType::Fifo,
                    FileType::CharacterDevice => EntryType::Char,
                    _ => EntryType::Block,
                });
                header.set_size(0);
                header.set_device_major(rustix::fs::major(stat.st_rdev))?;
                header.set_device_minor(rustix::fs::minor(stat.st_rdev))?;
                self.builder.append_data(&mut header, name, io::empty())
            }
            // A socket is nothing without the process that listens on it; tar has no entry for it.
            FileType::Socket | FileType::Unknown => Ok(()),
        }
    }
}

fn header(stat: &Stat) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(u64::from(stat.st_uid));
    header.set_gid(u64::from(stat.st_gid));
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek;
    use std::os::unix::fs::symlink;

    fn members(path: &Path, follow: bool) -> Vec<(String, u8, String)> {
        let mut file = tempfile::tempfile().unwrap();
        let source = Source::open(path.to_str().unwrap(), follow).unwrap();
        assert_eq!(run(source, file.try_clone().unwrap()), StreamExit::Exited { code: 0 });
        file.rewind().unwrap();
        let mut seen = Vec::new();
        for entry in tar::Archive::new(file).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            if let Some(link) = entry.link_name().unwrap() {
                content = link.display().to_string();
            } else {
                entry.read_to_string(&mut content).unwrap();
            }
            seen.push((entry.path().unwrap().display().to_string(), entry.header().entry_type().as_byte(), content));
        }
        seen[1..].sort();
        seen
    }

    #[test]
    fn a_tree_becomes_an_archive_below_its_base_name() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        let long = "n".repeat(150);
        std::fs::create_dir_all(top.join("sub")).unwrap();
        std::fs::write(top.join("sub/a"), "content").unwrap();
        std::fs::write(top.join(&long), "long").unwrap();
        symlink("../elsewhere", top.join("link")).unwrap();
        let expected = [
            ("top/".to_owned(), b'5', String::new()),
            ("top/link".to_owned(), b'2', "../elsewhere".to_owned()),
            (format!("top/{long}"), b'0', "long".to_owned()),
            ("top/sub/".to_owned(), b'5', String::new()),
            ("top/sub/a".to_owned(), b'0', "content".to_owned()),
        ];
        assert_eq!(members(&top, false), expected);
    }

    #[test]
    fn hard_links_stay_links() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "x").unwrap();
        std::fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        let kinds: Vec<u8> = members(dir.path(), false).iter().map(|(_, kind, _)| *kind).collect();
        assert_eq!(kinds.iter().filter(|&&kind| kind == b'1').count(), 1);
        assert_eq!(kinds.iter().filter(|&&kind| kind == b'0').count(), 1);
    }

    #[test]
    fn a_link_is_followed_only_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("real"), "x").unwrap();
        symlink("real", dir.path().join("link")).unwrap();
        let link = dir.path().join("link");
        assert_eq!(members(&link, false), [("link".to_owned(), b'2', "real".to_owned())]);
        assert_eq!(members(&link, true), [("link".to_owned(), b'0', "x".to_owned())]);
        assert!(Source::open("/no/such/path", false).is_err());
    }
}
