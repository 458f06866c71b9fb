//! The files a kernel came with: a tree whose content lies in an image that becomes the modules disk.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::ext4::{BLOCK, BlockCursor, FsOptions, Geometry, ImageFile, Run, Visibility, blocks_for, finish};
use crate::layers::{Flattened, flatten, resolve_path};
use crate::tree::{Body, InodeId, Meta, ROOT, Tree};
use crate::{DiskError, LayerSource};

/// What a modules disk grows to at most.
const MAX_MODULES: u64 = 16 << 30;
/// Nesting of a modules directory on the host.
const MAX_DEPTH: usize = 64;

/// The files, and where their content is kept meanwhile.
pub(super) struct KernelFiles {
    image: ImageFile,
    cursor: BlockCursor,
    pub tree: Tree,
}

impl KernelFiles {
    /// No files yet; the modules disk will be `dest`.
    pub fn empty(dest: &Path) -> Result<KernelFiles, DiskError> {
        Ok(KernelFiles {
            image: ImageFile::create(dest)?,
            cursor: BlockCursor::new(Geometry::new(MAX_MODULES / BLOCK)),
            tree: Tree::new(Meta { mode: 0o755, ..Meta::default() }),
        })
    }

    /// All files of some layers.
    pub fn from_layers(layers: &[&dyn LayerSource], dest: &Path) -> Result<KernelFiles, DiskError> {
        let mut files = KernelFiles::empty(dest)?;
        let Flattened { tree, .. } = flatten(layers, &mut files.image, &mut files.cursor, &|_| {})?;
        files.tree = tree;
        Ok(files)
    }

    /// Adds a directory of the host, with everything below, as `lib/modules/<release>`.
    pub fn add_modules_dir(&mut self, dir: &Path, release: &str) -> Result<(), DiskError> {
        let parent = self.ensure_dir(ROOT, b"lib").and_then(|lib| self.ensure_dir(lib, b"modules"));
        let target = parent.and_then(|modules| self.ensure_dir(modules, release.as_bytes()));
        let target = target.map_err(|reason| DiskError::BadKernel { path: dir.into(), reason })?;
        self.copy_dir(dir, target, 0)
    }

    /// What a path leads to, symbolic links followed inside the tree.
    pub fn find(&self, path: &[u8]) -> Option<InodeId> {
        resolve_path(&self.tree, path)
    }

    /// A file's content as a stream.
    pub fn open(&mut self, file: InodeId) -> Result<FileContent<'_>, DiskError> {
        self.image.flush()?;
        let mut pieces = Vec::new();
        let mut size = 0;
        match self.tree.inode(file).body {
            Body::File { start, size: len } => {
                size = len;
                pieces.extend(self.cursor.geometry.runs(u64::from(start), blocks_for(len)).scan(0, |at, run| {
                    let piece = Piece { at: *at, run };
                    *at += run.len * BLOCK;
                    Some(piece)
                }));
            }
            Body::Sparse { map, size: len } => {
                size = len;
                for sparse in self.tree.sparse_map(map) {
                    let mut at = u64::from(sparse.logical) * BLOCK;
                    for run in self.cursor.geometry.runs(u64::from(sparse.start), u64::from(sparse.blocks)) {
                        pieces.push(Piece { at, run });
                        at += run.len * BLOCK;
                    }
                }
            }
            _ => {}
        }
        Ok(FileContent { image: &self.image, pieces, size, position: 0 })
    }

    /// Turns everything but `release_dir` away and publishes that as the modules disk: `lib/modules/<release>` holds
    /// its files, with `extra` files added or put in place of others. Returns the disk's bytes.
    pub fn publish_modules(
        mut self,
        release_dir: InodeId,
        release: &str,
        extra: &[(&str, Vec<u8>)],
        uuid: [u8; 16],
    ) -> Result<u64, DiskError> {
        let dest = self.image.dest().to_owned();
        let refused = |reason: String| DiskError::BadKernel { path: dest.clone(), reason };
        let old = std::mem::replace(&mut self.tree, Tree::new(Meta { mode: 0o755, ..Meta::default() }));
        let mut kept: Vec<Option<InodeId>> = vec![None; old.inodes().len()];
        let lib = self.ensure_dir(ROOT, b"lib").map_err(&refused)?;
        let modules = self.ensure_dir(lib, b"modules").map_err(&refused)?;
        let target = self.ensure_dir(modules, release.as_bytes()).map_err(&refused)?;
        let mut pending = vec![(release_dir, target)];
        while let Some((from, to)) = pending.pop() {
            for entry in old.children(from) {
                let (name, id) = (old.name(entry), old.entry_inode(entry));
                let inode = *old.inode(id);
                let meta = Meta { mode: inode.mode & 0o777, mtime: inode.mtime, ..Meta::default() };
                let is_replaced = from == release_dir && extra.iter().any(|(extra, _)| extra.as_bytes() == name);
                let added = match inode.body {
                    Body::Dir { .. } => self.tree.add_dir(to, name, meta, 0).map(|dir| pending.push((id, dir))),
                    // Where a package or an image links to its sources, the guest has nothing.
                    Body::Symlink { .. } if matches!(name, b"build" | b"source") => continue,
                    Body::Symlink { .. } => {
                        self.tree.add_symlink(to, name, old.symlink_target(inode.body), meta, 0).map(drop)
                    }
                    Body::File { .. } | Body::Sparse { .. } if is_replaced => continue,
                    Body::File { .. } => match kept[id as usize] {
                        Some(new) => self.tree.add_link(to, name, new, 0),
                        None => {
                            let added = self.tree.add_leaf(to, name, inode.body, meta, 0);
                            added.map(|new| kept[id as usize] = Some(new))
                        }
                    },
                    Body::Sparse { .. } | Body::Char { .. } | Body::Block { .. } | Body::Fifo | Body::Removed => {
                        continue;
                    }
                };
                added.map_err(|error| refused(error.to_string()))?;
            }
        }
        for (id, inode) in old.inodes().iter().enumerate() {
            match inode.body {
                Body::File { start, size } if kept[id].is_none() => {
                    self.image.release(&mut self.cursor, u64::from(start), blocks_for(size))?
                }
                Body::Sparse { map, .. } => {
                    for run in old.sparse_map(map) {
                        self.image.release(&mut self.cursor, u64::from(run.start), u64::from(run.blocks))?;
                    }
                }
                _ => {}
            }
        }
        for (name, content) in extra {
            let body = self.store(&mut &content[..], content.len() as u64).map_err(|error| match error {
                StoreError::Disk(error) => error,
                StoreError::Read(source) => DiskError::WriteFile { path: dest.clone(), source },
            })?;
            let meta = Meta { mode: 0o644, ..Meta::default() };
            self.tree.add_leaf(target, name.as_bytes(), body, meta, 0).map_err(|error| refused(error.to_string()))?;
        }
        let options = FsOptions { size: None, uuid, is_writable: false };
        let bytes = finish(&mut self.image, self.cursor, &self.tree, &options)?;
        self.image.publish(bytes, Visibility::Shared)?;
        Ok(bytes)
    }

    fn ensure_dir(&mut self, parent: InodeId, name: &[u8]) -> Result<InodeId, String> {
        match self.tree.lookup(parent, name) {
            Some(entry) => Ok(self.tree.entry_inode(entry)),
            None => {
                let meta = Meta { mode: 0o755, ..Meta::default() };
                self.tree.add_dir(parent, name, meta, 0).map_err(|error| error.to_string())
            }
        }
    }

    fn copy_dir(&mut self, dir: &Path, target: InodeId, depth: usize) -> Result<(), DiskError> {
        let unreadable = |source| DiskError::ReadFile { path: dir.into(), source };
        let mut names: Vec<_> = fs::read_dir(dir)
            .and_then(|entries| entries.map(|e| e.map(|e| e.file_name())).collect())
            .map_err(unreadable)?;
        names.sort();
        for name in names {
            let path = dir.join(&name);
            let unreadable = |source| DiskError::ReadFile { path: path.clone(), source };
            let refused = |reason: String| DiskError::BadKernel { path: path.clone(), reason };
            let stat = fs::symlink_metadata(&path).map_err(unreadable)?;
            let mode = (stat.permissions().mode() & 0o777) as u16;
            let meta = Meta { mode, mtime: stat.mtime(), ..Meta::default() };
            let name = name.as_bytes();
            if stat.is_dir() {
                if depth >= MAX_DEPTH {
                    return Err(refused(format!("directories are nested deeper than {MAX_DEPTH}")));
                }
                let made = self.tree.add_dir(target, name, meta, 0).map_err(|error| refused(error.to_string()))?;
                self.copy_dir(&path, made, depth + 1)?;
            } else if stat.is_symlink() {
                let link = fs::read_link(&path).map_err(unreadable)?;
                self.tree
                    .add_symlink(target, name, link.as_os_str().as_bytes(), meta, 0)
                    .map_err(|error| refused(error.to_string()))?;
            } else if stat.is_file() {
                let mut file = File::open(&path).map_err(unreadable)?;
                let body = self.store(&mut file, stat.len()).map_err(|error| match error {
                    StoreError::Disk(error) => error,
                    StoreError::Read(source) => unreadable(source),
                })?;
                self.tree.add_leaf(target, name, body, meta, 0).map_err(|error| refused(error.to_string()))?;
            }
        }
        Ok(())
    }

    fn store(&mut self, content: &mut dyn Read, size: u64) -> Result<Body, StoreError> {
        let full = || DiskError::DiskSize { size: MAX_MODULES, reason: "the modules do not fit".to_owned() };
        let start = self.cursor.take(blocks_for(size)).ok_or_else(full)?;
        let mut left = size;
        let mut buffer = vec![0; 64 << 10];
        for run in self.cursor.geometry.runs(start, blocks_for(size)) {
            let mut offset = run.start * BLOCK;
            let end = (run.start + run.len) * BLOCK;
            while left > 0 && offset < end {
                let want = (left.min(end - offset) as usize).min(buffer.len());
                content.read_exact(&mut buffer[..want])?;
                self.image.write_at(offset, &buffer[..want])?;
                offset += want as u64;
                left -= want as u64;
            }
        }
        Ok(Body::File { start: start as u32, size })
    }
}

/// Why content cannot be stored: the disk's fault, or its source's.
#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Read(#[from] io::Error),
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Byte of the file where the run begins.
    at: u64,
    run: Run,
}

/// Reads one file out of the image.
#[derive(Debug)]
pub(super) struct FileContent<'a> {
    image: &'a ImageFile,
    pieces: Vec<Piece>,
    size: u64,
    position: u64,
}

impl Read for FileContent<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.size.saturating_sub(self.position);
        let mut now = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let next = self.pieces.partition_point(|piece| piece.at <= self.position);
        let piece = next.checked_sub(1).map(|at| self.pieces[at]);
        let inside = piece.filter(|piece| self.position < piece.at + piece.run.len * BLOCK);
        let until = match inside {
            Some(piece) => piece.at + piece.run.len * BLOCK,
            None => self.pieces.get(next).map_or(self.size, |piece| piece.at),
        };
        now = now.min(usize::try_from(until - self.position).unwrap_or(usize::MAX));
        match inside {
            Some(piece) => {
                let offset = piece.run.start * BLOCK + (self.position - piece.at);
                now = self.image.read_at(offset, &mut out[..now])?;
            }
            None => out[..now].fill(0),
        }
        self.position += now as u64;
        Ok(now)
    }
}

impl io::Seek for FileContent<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let target = match to {
            io::SeekFrom::Start(at) => Some(at),
            io::SeekFrom::Current(by) => self.position.checked_add_signed(by),
            io::SeekFrom::End(by) => self.size.checked_add_signed(by),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
