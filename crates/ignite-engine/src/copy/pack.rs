//! A host path as a tar stream.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// Deepest directory that is read.
const MAX_DEPTH: u32 = 512;

/// Writes `source` as an archive whose top has the name `top`; `None`: `.`. The source itself is followed when it is a
/// symbolic link and `follow`. Blocks; an error names the file.
pub(crate) fn pack(source: &Path, top: Option<&Path>, follow: bool, output: impl Write) -> io::Result<()> {
    let source = if follow { fs::canonicalize(source).map_err(named(source))? } else { source.to_owned() };
    let mut packer = Packer { builder: Builder::new(output), links: HashMap::new() };
    packer.add(&source, top.unwrap_or(Path::new(".")), 0)?;
    packer.builder.into_inner()?.flush()
}

fn named(path: &Path) -> impl Fn(io::Error) -> io::Error {
    let path = path.to_owned();
    move |e| io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

struct Packer<W: Write> {
    builder: Builder<W>,
    /// Name of the first link of each file that has several, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packer<W> {
    fn add(&mut self, path: &Path, name: &Path, depth: u32) -> io::Result<()> {
        let metadata = fs::symlink_metadata(path).map_err(named(path))?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            self.add_directory(path, name, &metadata, depth)
        } else if kind.is_file() {
            self.add_file(path, name, &metadata)
        } else if kind.is_symlink() {
            let mut header = header(&metadata, EntryType::Symlink, 0);
            let target = fs::read_link(path).map_err(named(path))?;
            self.builder.append_link(&mut header, name, target).map_err(named(path))
        } else if kind.is_socket() {
            // Nothing without the process that listens on it; tar has no entry for it.
            Ok(())
        } else {
            let entry = match (kind.is_fifo(), kind.is_char_device()) {
                (true, _) => EntryType::Fifo,
                (false, true) => EntryType::Char,
                (false, false) => EntryType::Block,
            };
            let mut header = header(&metadata, entry, 0);
            header.set_device_major(rustix::fs::major(metadata.rdev()))?;
            header.set_device_minor(rustix::fs::minor(metadata.rdev()))?;
            self.builder.append_data(&mut header, name, io::empty()).map_err(named(path))
        }
    }

    fn add_directory(&mut self, path: &Path, name: &Path, metadata: &Metadata, depth: u32) -> io::Result<()> {
        if depth >= MAX_DEPTH {
            return Err(named(path)(io::Error::other("directories are nested too deep")));
        }
        let mut with_slash = name.as_os_str().to_owned();
        with_slash.push("/");
        let mut header = header(metadata, EntryType::Directory, 0);
        self.builder.append_data(&mut header, &with_slash, io::empty()).map_err(named(path))?;
        let mut names = fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>())
            .map_err(named(path))?;
        names.sort();
        for child in names {
            self.add(&path.join(&child), &name.join(&child), depth + 1)?;
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path, name: &Path, metadata: &Metadata) -> io::Result<()> {
        if metadata.nlink() > 1 {
            let key = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&key) {
                let mut header = header(metadata, EntryType::Link, 0);
                return self.builder.append_link(&mut header, name, first).map_err(named(path));
            }
            self.links.insert(key, name.to_owned());
        }
        // What became a fifo meanwhile is not waited for.
        let flags = open_flags();
        let file = File::options().read(true).custom_flags(flags).open(path).map_err(named(path))?;
        let size = metadata.len();
        let mut header = header(metadata, EntryType::Regular, size);
        // A file that shrinks meanwhile is filled up, one that grows is cut: the header has been written.
        self.builder.append_data(&mut header, name, file.chain(io::repeat(0)).take(size)).map_err(named(path))
    }
}

fn open_flags() -> i32 {
    (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW).bits() as i32
}

fn header(metadata: &Metadata, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(metadata.mode() & 0o7777);
    header.set_uid(u64::from(metadata.uid()));
    header.set_gid(u64::from(metadata.gid()));
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header
}
