//! Layer after layer, entry after entry, onto one tree.

use std::io::Read;
use std::thread::Scope;

use sha2::{Digest, Sha256};

use crate::ext4::{BlockCursor, ImageFile, choose_xattrs};
use crate::tar::{EntryKind, TarEntry, TarError, TarReader};
use crate::tree::{Body, InodeId, Meta, ROOT, Tree, TreeError};
use crate::{DiskError, LayerSource};

use super::Prefetched;
use super::content::{ContentError, ContentWriter};
use super::path::{Missing, PathError, resolve_dir, split_path};

/// Entries of all layers together.
const MAX_ENTRIES: u64 = 4 << 20;
const MAX_LAYERS: usize = 4096;
/// Longest symbolic link target: `PATH_MAX` without its NUL.
const MAX_TARGET: usize = 4095;
/// How often progress is told, in bytes.
const PROGRESS_STEP: u64 = 1 << 20;

const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The merged tree of some layers, its files' content already in the image.
#[derive(Debug)]
pub(crate) struct Flattened {
    pub tree: Tree,
    /// Follows from the layers' entries, whatever the layers are called and wherever they come from.
    pub identity: [u8; 32],
}

/// Merges `layers`, bottom first. The image gets the content of every regular file at once; what a later layer
/// replaces is punched out again, so each layer is read and inflated once.
///
/// `progress` hears, every MiB or so, how many bytes of the decompressed layers are done.
pub(crate) fn flatten(
    layers: &[&dyn LayerSource],
    image: &mut ImageFile,
    cursor: &mut BlockCursor,
    progress: &dyn Fn(u64),
) -> Result<Flattened, DiskError> {
    if layers.len() > MAX_LAYERS {
        return Err(DiskError::BadLayer {
            layer: format!("number {MAX_LAYERS}"),
            entry: String::new(),
            reason: format!("an image of {} layers has more than {MAX_LAYERS}", layers.len()),
        });
    }
    let tree = Tree::new(Meta { mode: 0o755, ..Meta::default() });
    let content = ContentWriter::new(image, cursor);
    let mut merge = Merge { tree, content, identity: Sha256::new(), entries: 0, layer: 0 };
    let mut done = 0;
    std::thread::scope(|scope| {
        let mut ahead = layers.first().map(|layer| open(scope, *layer));
        for (number, layer) in layers.iter().enumerate() {
            let Some(stream) = ahead.take() else { break };
            let stream = stream?;
            ahead = layers.get(number + 1).map(|next| open(scope, *next));
            merge.layer = number as u16;
            let mut tar = TarReader::new(stream);
            let mut told = 0;
            let mut tell = |position: u64| {
                if position >= told + PROGRESS_STEP {
                    told = position;
                    progress(done + position);
                }
            };
            let applied = merge.apply_layer(&mut tar, &mut tell);
            applied.map_err(|error| error.at(&layer.name(), tar.entry_name()))?;
            done += tar.position();
            progress(done);
        }
        Ok(())
    })?;
    Ok(Flattened { tree: merge.tree, identity: merge.identity.finalize().into() })
}

fn open<'scope>(scope: &'scope Scope<'scope, '_>, layer: &'scope dyn LayerSource) -> Result<Prefetched, DiskError> {
    Prefetched::start(scope, layer).map_err(|source| DiskError::OpenLayer { layer: layer.name(), source })
}

/// Why an entry cannot be applied.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("{0}")]
    Refused(String),
}

impl From<TarError> for ApplyError {
    fn from(error: TarError) -> Self {
        ApplyError::Content(error.into())
    }
}

impl From<TreeError> for ApplyError {
    fn from(error: TreeError) -> Self {
        ApplyError::Content(error.into())
    }
}

impl From<DiskError> for ApplyError {
    fn from(error: DiskError) -> Self {
        ApplyError::Content(error.into())
    }
}

impl ApplyError {
    /// The error with its place.
    fn at(self, layer: &str, entry: &[u8]) -> DiskError {
        let layer = layer.to_owned();
        let entry = String::from_utf8_lossy(entry).into_owned();
        match self {
            ApplyError::Content(ContentError::Disk(error)) => error,
            ApplyError::Content(ContentError::Tar(TarError::Read(source))) => {
                DiskError::ReadLayer { layer, entry, source }
            }
            other => DiskError::BadLayer { layer, entry, reason: other.to_string() },
        }
    }
}

struct Merge<'a> {
    tree: Tree,
    content: ContentWriter<'a>,
    identity: Sha256,
    entries: u64,
    layer: u16,
}

impl Merge<'_> {
    fn apply_layer<R: Read>(
        &mut self,
        tar: &mut TarReader<R>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), ApplyError> {
        self.identity.update([0]);
        while let Some(entry) = tar.next_entry()? {
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(ApplyError::Refused(format!("the image has more than {MAX_ENTRIES} entries")));
            }
            self.identify(&entry);
            self.apply_entry(tar, entry, progress)?;
            self.content.discard_removed(&mut self.tree)?;
            progress(tar.position());
        }
        Ok(tar.drain()?)
    }

    fn identify(&mut self, entry: &TarEntry) {
        for text in [&entry.name, &entry.link_name] {
            self.identity.update((text.len() as u64).to_le_bytes());
            self.identity.update(text);
        }
        self.identity.update([entry.mode.to_le_bytes(), (entry.mtime.1 as u16).to_le_bytes()].concat());
        self.identity.update(entry.size.to_le_bytes());
        self.identity.update(entry.mtime.0.to_le_bytes());
    }

    fn apply_entry<R: Read>(
        &mut self,
        tar: &mut TarReader<R>,
        mut entry: TarEntry,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), ApplyError> {
        let names = split_path(&entry.name)?;
        let Some((&name, parents)) = names.split_last() else { return self.apply_root(entry) };
        if name == OPAQUE {
            if let Some(dir) = resolve_dir(&mut self.tree, parents, Missing::Nowhere)? {
                self.remove_lower_children(dir);
            }
            return Ok(());
        }
        // Bookkeeping of AUFS, which old images still carry.
        if names.iter().any(|name| name.starts_with(WHITEOUT_META)) {
            return Ok(());
        }
        if let Some(target) = name.strip_prefix(WHITEOUT) {
            return self.apply_whiteout(parents, target);
        }

        let is_dir = entry.kind == EntryKind::Dir;
        let is_file = entry.kind == EntryKind::File;
        let found = std::mem::take(&mut entry.xattrs);
        let choice = choose_xattrs(found, entry.mode, is_dir, is_file).map_err(ApplyError::Refused)?;
        let meta = Meta { mode: choice.mode.unwrap_or(entry.mode), ..meta(&entry) };

        let make = Missing::Make { layer: self.layer };
        let dir = resolve_dir(&mut self.tree, parents, make)?
            .ok_or_else(|| ApplyError::Refused("its directory cannot be made".to_owned()))?;
        if entry.kind == EntryKind::HardLink {
            return self.apply_hard_link(dir, name, &entry.link_name);
        }
        let existing = self.tree.lookup(dir, name);
        if let Some(existing) = existing {
            let inode = self.tree.entry_inode(existing);
            if is_dir && self.tree.is_dir(inode) {
                self.tree.set_meta(inode, meta);
                self.tree.set_xattrs(inode, choice.xattrs)?;
                self.tree.touch(dir, name, self.layer);
                return Ok(());
            }
            self.tree.remove(existing);
        }
        let inode = match entry.kind {
            EntryKind::Dir => self.tree.add_dir(dir, name, meta, self.layer)?,
            EntryKind::Symlink => {
                if entry.link_name.is_empty() || entry.link_name.len() > MAX_TARGET || entry.link_name.contains(&0) {
                    return Err(ApplyError::Refused("its link target is empty or too long".to_owned()));
                }
                self.tree.add_symlink(dir, name, &entry.link_name, meta, self.layer)?
            }
            EntryKind::File => {
                let body = self.content.write(tar, &mut self.tree, entry.size, &entry.content, progress)?;
                self.tree.add_leaf(dir, name, body, meta, self.layer)?
            }
            EntryKind::Char { major, minor } => {
                self.tree.add_leaf(dir, name, Body::Char { major, minor }, meta, self.layer)?
            }
            EntryKind::Block { major, minor } => {
                self.tree.add_leaf(dir, name, Body::Block { major, minor }, meta, self.layer)?
            }
            EntryKind::Fifo => self.tree.add_leaf(dir, name, Body::Fifo, meta, self.layer)?,
            EntryKind::HardLink => return Ok(()),
        };
        Ok(self.tree.set_xattrs(inode, choice.xattrs)?)
    }

    /// An entry for the root itself carries its owner, permissions, time and attributes.
    fn apply_root(&mut self, mut entry: TarEntry) -> Result<(), ApplyError> {
        if entry.kind != EntryKind::Dir {
            return Err(ApplyError::Refused("the root of the image must stay a directory".to_owned()));
        }
        let found = std::mem::take(&mut entry.xattrs);
        let choice = choose_xattrs(found, entry.mode, true, false).map_err(ApplyError::Refused)?;
        self.tree.set_meta(ROOT, Meta { mode: choice.mode.unwrap_or(entry.mode), ..meta(&entry) });
        Ok(self.tree.set_xattrs(ROOT, choice.xattrs)?)
    }

    /// A hard link has no owner, permissions or time of its own, whatever its header says. It may lead to a file of
    /// an earlier layer, and to a symbolic link, which is not followed.
    fn apply_hard_link(&mut self, dir: InodeId, name: &[u8], target: &[u8]) -> Result<(), ApplyError> {
        let missing = || ApplyError::Refused(format!("its hard link target {} does not exist", target.escape_ascii()));
        let names = split_path(target)?;
        let (&target_name, parents) = names.split_last().ok_or_else(missing)?;
        let target_dir = resolve_dir(&mut self.tree, parents, Missing::Nowhere)?.ok_or_else(missing)?;
        let target_entry = self.tree.lookup(target_dir, target_name).ok_or_else(missing)?;
        let inode = self.tree.entry_inode(target_entry);
        if self.tree.is_dir(inode) {
            return Err(ApplyError::Refused(format!("it links to {}, a directory", target.escape_ascii())));
        }
        if let Some(existing) = self.tree.lookup(dir, name) {
            if self.tree.entry_inode(existing) == inode {
                self.tree.touch(dir, name, self.layer);
                return Ok(());
            }
            self.tree.remove(existing);
            // What was replaced may have been a directory with the target inside.
            if self.tree.inode(inode).body == Body::Removed {
                return Err(missing());
            }
        }
        Ok(self.tree.add_link(dir, name, inode, self.layer)?)
    }

    /// A whiteout hides what lower layers have under a name; what its own layer made there stays, wherever in the
    /// archive the whiteout stands.
    fn apply_whiteout(&mut self, parents: &[&[u8]], target: &[u8]) -> Result<(), ApplyError> {
        if matches!(target, b"" | b"." | b"..") {
            return Err(ApplyError::Refused("it is a whiteout of no name".to_owned()));
        }
        let dir = match resolve_dir(&mut self.tree, parents, Missing::Nowhere) {
            Ok(Some(dir)) => dir,
            Ok(None) | Err(PathError::NotADirectory) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if let Some(entry) = self.tree.lookup(dir, target) {
            let inode = self.tree.entry_inode(entry);
            if self.tree.is_dir(inode) {
                self.remove_lower_children(inode);
            }
            let is_empty = self.tree.children(inode).next().is_none();
            if is_empty && !self.tree.is_touched(entry, self.layer) {
                self.tree.remove(entry);
            }
        }
        Ok(())
    }

    /// Removes everything below `dir` that this layer did not make, and keeps the directories that lead to what it did.
    fn remove_lower_children(&mut self, dir: InodeId) {
        // Children before their directory: a directory is looked at again once those it had are gone.
        let mut stack: Vec<_> = self.tree.children(dir).map(|entry| (entry, false)).collect();
        while let Some((entry, is_emptied)) = stack.pop() {
            let inode = self.tree.entry_inode(entry);
            if self.tree.is_dir(inode) && !is_emptied {
                stack.push((entry, true));
                stack.extend(self.tree.children(inode).map(|child| (child, false)));
            } else if self.tree.children(inode).next().is_none() && !self.tree.is_touched(entry, self.layer) {
                self.tree.remove(entry);
            }
        }
    }
}

fn meta(entry: &TarEntry) -> Meta {
    Meta { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime.0, mtime_nsec: entry.mtime.1 }
}
