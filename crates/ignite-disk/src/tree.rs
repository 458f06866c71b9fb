//! A file tree in memory, small enough for millions of entries: inodes, the names that lead to them, their links.
//!
//! An inode costs 56 bytes and a name 24 plus its letters and about 8 in the name index, so that the merged tree of an
//! image with 200,000 files stays near 20 MiB.

use crate::name_index::NameIndex;

/// Index of an inode; the root directory is [`ROOT`].
pub(crate) type InodeId = u32;
/// Index of a name.
pub(crate) type EntryId = u32;
/// The root directory.
pub(crate) const ROOT: InodeId = 0;

const NONE: u32 = u32::MAX;
/// Directories deeper than this cannot be reached by one path on Linux (`PATH_MAX` is 4096).
const MAX_DEPTH: u16 = 2047;
/// Bytes of all names and symbolic link targets together.
const MAX_TEXT: usize = 1 << 30;
/// ext4 and the kernel allow this many names of one file.
const MAX_LINKS: u32 = 65_000;
/// Bytes of all extended attributes together, and of the maps of sparse files.
const MAX_SIDE_BYTES: usize = 64 << 20;

/// What an inode is, with where its content lies in the image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Dir {
        first: EntryId,
        last: EntryId,
        parent: InodeId,
    },
    /// `start` is the first of the blocks that `BlockCursor::runs` derives; unused when `size` is 0.
    File {
        start: u32,
        size: u64,
    },
    /// `map` indexes the maps of sparse files.
    Sparse {
        map: u32,
        size: u64,
    },
    Symlink {
        at: u32,
        len: u16,
    },
    Char {
        major: u32,
        minor: u32,
    },
    Block {
        major: u32,
        minor: u32,
    },
    Fifo,
    /// Nothing leads here any more.
    Removed,
}

/// Owner, permissions and time of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Meta {
    /// Permission bits only, `0o7777`.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: i64,
    pub mtime_nsec: u32,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Inode {
    pub body: Body,
    pub mtime: i64,
    pub mtime_nsec: u32,
    pub uid: u32,
    pub gid: u32,
    /// As `st_nlink`: names of a file; 2 plus subdirectories of a directory.
    pub links: u32,
    /// 1 + index of its attributes; 0 for none.
    xattrs: u32,
    pub mode: u16,
    depth: u16,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    parent: InodeId,
    inode: InodeId,
    previous: EntryId,
    next: EntryId,
    name_at: u32,
    /// The layer that last made this name or something below it.
    layer: u16,
    name_len: u8,
}

/// An extended attribute with its full name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Xattr {
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

/// A stretch of a sparse file that has content, in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SparseRun {
    pub logical: u32,
    pub start: u32,
    pub blocks: u32,
}

/// Why the tree refuses a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TreeError {
    #[error("directories are nested deeper than {MAX_DEPTH}")]
    Depth,
    #[error("the names of this image take more than {MAX_TEXT} bytes")]
    Text,
    #[error("a file has more than {MAX_LINKS} names")]
    Links,
    #[error("extended attributes and sparse maps take more than {MAX_SIDE_BYTES} bytes")]
    Metadata,
}

/// The tree. Names are unique within a directory; the caller removes before it replaces.
#[derive(Debug)]
pub(crate) struct Tree {
    inodes: Vec<Inode>,
    entries: Vec<Entry>,
    text: Vec<u8>,
    index: NameIndex,
    xattrs: Vec<Vec<Xattr>>,
    sparse: Vec<Vec<SparseRun>>,
    side_bytes: usize,
    /// Content of files that lost their last name, for the image file to give back.
    pub removed_content: Vec<Body>,
}

impl Tree {
    /// A tree of an empty root directory.
    pub fn new(root: Meta) -> Tree {
        let body = Body::Dir { first: NONE, last: NONE, parent: ROOT };
        let mut tree = Tree {
            inodes: Vec::new(),
            entries: Vec::new(),
            text: Vec::new(),
            index: NameIndex::default(),
            xattrs: Vec::new(),
            sparse: Vec::new(),
            side_bytes: 0,
            removed_content: Vec::new(),
        };
        tree.push_inode(body, root, 2, 0);
        tree
    }

    pub fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id as usize]
    }

    /// All inodes ever made, the removed ones included.
    pub fn inodes(&self) -> &[Inode] {
        &self.inodes
    }

    pub fn is_dir(&self, id: InodeId) -> bool {
        matches!(self.inode(id).body, Body::Dir { .. })
    }

    /// The directory that holds directory `id`; the root holds itself.
    pub fn parent(&self, id: InodeId) -> InodeId {
        match self.inode(id).body {
            Body::Dir { parent, .. } => parent,
            _ => ROOT,
        }
    }

    pub fn lookup(&self, dir: InodeId, name: &[u8]) -> Option<EntryId> {
        self.index.find(dir, name, |entry| self.key(entry))
    }

    pub fn entry_inode(&self, entry: EntryId) -> InodeId {
        self.entries[entry as usize].inode
    }

    pub fn name(&self, entry: EntryId) -> &[u8] {
        self.key(entry).1
    }

    /// The entries of a directory in the order they were made.
    pub fn children(&self, dir: InodeId) -> impl Iterator<Item = EntryId> + '_ {
        let mut next = match self.inode(dir).body {
            Body::Dir { first, .. } => first,
            _ => NONE,
        };
        std::iter::from_fn(move || {
            let entry = next;
            let found = self.entries.get(entry as usize)?;
            next = found.next;
            Some(entry)
        })
    }

    pub fn symlink_target(&self, body: Body) -> &[u8] {
        match body {
            Body::Symlink { at, len } => &self.text[at as usize..at as usize + usize::from(len)],
            _ => &[],
        }
    }

    pub fn sparse_map(&self, map: u32) -> &[SparseRun] {
        &self.sparse[map as usize]
    }

    pub fn xattrs(&self, id: InodeId) -> &[Xattr] {
        match self.inode(id).xattrs {
            0 => &[],
            set => &self.xattrs[set as usize - 1],
        }
    }

    /// Adds a directory under a free name.
    pub fn add_dir(&mut self, dir: InodeId, name: &[u8], meta: Meta, layer: u16) -> Result<InodeId, TreeError> {
        let body = Body::Dir { first: NONE, last: NONE, parent: dir };
        let id = self.add(dir, name, body, meta, 2, layer)?;
        self.inodes[dir as usize].links += 1;
        Ok(id)
    }

    /// Adds anything but a directory under a free name.
    pub fn add_leaf(
        &mut self,
        dir: InodeId,
        name: &[u8],
        body: Body,
        meta: Meta,
        layer: u16,
    ) -> Result<InodeId, TreeError> {
        self.add(dir, name, body, meta, 1, layer)
    }

    /// Adds a symbolic link under a free name; `target` is at most 4095 bytes.
    pub fn add_symlink(
        &mut self,
        dir: InodeId,
        name: &[u8],
        target: &[u8],
        meta: Meta,
        layer: u16,
    ) -> Result<InodeId, TreeError> {
        let at = self.push_text(target)?;
        let body = Body::Symlink { at, len: target.len() as u16 };
        self.add(dir, name, body, Meta { mode: 0o777, ..meta }, 1, layer)
    }

    /// Gives the file `inode` one more, free, name.
    pub fn add_link(&mut self, dir: InodeId, name: &[u8], inode: InodeId, layer: u16) -> Result<(), TreeError> {
        if self.inode(inode).links >= MAX_LINKS {
            return Err(TreeError::Links);
        }
        self.insert_entry(dir, name, inode, layer)?;
        self.inodes[inode as usize].links += 1;
        Ok(())
    }

    pub fn set_meta(&mut self, id: InodeId, meta: Meta) {
        let inode = &mut self.inodes[id as usize];
        (inode.mode, inode.uid, inode.gid) = (meta.mode, meta.uid, meta.gid);
        (inode.mtime, inode.mtime_nsec) = (meta.mtime, meta.mtime_nsec);
    }

    /// Replaces all extended attributes of an inode.
    pub fn set_xattrs(&mut self, id: InodeId, attributes: Vec<Xattr>) -> Result<(), TreeError> {
        let set = if attributes.is_empty() {
            0
        } else if self.xattrs.last() == Some(&attributes) {
            self.xattrs.len() as u32
        } else {
            self.charge_side_bytes(attributes.iter().map(|a| 64 + a.name.len() + a.value.len()).sum())?;
            self.xattrs.push(attributes);
            self.xattrs.len() as u32
        };
        self.inodes[id as usize].xattrs = set;
        Ok(())
    }

    /// Keeps the map of a sparse file and returns its index.
    pub fn add_sparse_map(&mut self, map: Vec<SparseRun>) -> Result<u32, TreeError> {
        self.charge_side_bytes(24 + map.len() * size_of::<SparseRun>())?;
        self.sparse.push(map);
        Ok(self.sparse.len() as u32 - 1)
    }

    /// Says that `layer` made or changed this name, and so everything that leads to it.
    pub fn touch(&mut self, dir: InodeId, name: &[u8], layer: u16) {
        if let Some(entry) = self.lookup(dir, name) {
            self.entries[entry as usize].layer = layer;
        }
    }

    /// Whether `layer` made or changed this name or something below it.
    pub fn is_touched(&self, entry: EntryId, layer: u16) -> bool {
        self.entries[entry as usize].layer == layer
    }

    /// Removes a name and, for a directory, everything below it.
    pub fn remove(&mut self, entry: EntryId) {
        let mut stack = vec![entry];
        while let Some(&top) = stack.last() {
            let inode = self.entries[top as usize].inode;
            match self.inode(inode).body {
                Body::Dir { last, .. } if last != NONE => stack.push(last),
                _ => {
                    stack.pop();
                    self.remove_entry(top);
                }
            }
        }
    }

    fn add(
        &mut self,
        dir: InodeId,
        name: &[u8],
        body: Body,
        meta: Meta,
        links: u32,
        layer: u16,
    ) -> Result<InodeId, TreeError> {
        let depth = self.inode(dir).depth + 1;
        if depth > MAX_DEPTH {
            return Err(TreeError::Depth);
        }
        let id = self.inodes.len() as InodeId;
        self.insert_entry(dir, name, id, layer)?;
        self.push_inode(body, meta, links, depth);
        Ok(id)
    }

    fn push_inode(&mut self, body: Body, meta: Meta, links: u32, depth: u16) {
        self.inodes.push(Inode {
            body,
            mtime: meta.mtime,
            mtime_nsec: meta.mtime_nsec,
            uid: meta.uid,
            gid: meta.gid,
            links,
            xattrs: 0,
            mode: meta.mode,
            depth,
        });
    }

    fn insert_entry(&mut self, dir: InodeId, name: &[u8], inode: InodeId, layer: u16) -> Result<(), TreeError> {
        debug_assert!(!name.is_empty() && name.len() <= 255 && self.lookup(dir, name).is_none());
        let name_at = self.push_text(name)?;
        let id = self.entries.len() as EntryId;
        let Body::Dir { first, last, parent } = self.inode(dir).body else {
            unreachable!("only directories have entries");
        };
        self.entries.push(Entry {
            parent: dir,
            inode,
            previous: last,
            next: NONE,
            name_at,
            layer,
            name_len: name.len() as u8,
        });
        let first = if first == NONE { id } else { first };
        self.inodes[dir as usize].body = Body::Dir { first, last: id, parent };
        if let Some(before) = self.entries.get_mut(last as usize) {
            before.next = id;
        }
        let Tree { index, entries, text, .. } = self;
        index.insert(id, |entry| key(entries, text, entry));
        Ok(())
    }

    fn remove_entry(&mut self, id: EntryId) {
        let Tree { index, entries, text, .. } = self;
        index.remove(id, |entry| key(entries, text, entry));
        let Entry { parent: dir, inode, previous, next, .. } = self.entries[id as usize];
        if let Body::Dir { mut first, mut last, parent } = self.inode(dir).body {
            match self.entries.get_mut(previous as usize) {
                Some(before) => before.next = next,
                None => first = next,
            }
            match self.entries.get_mut(next as usize) {
                Some(after) => after.previous = previous,
                None => last = previous,
            }
            self.inodes[dir as usize].body = Body::Dir { first, last, parent };
        }
        let removed = &mut self.inodes[inode as usize];
        if let Body::Dir { .. } = removed.body {
            removed.body = Body::Removed;
            self.inodes[dir as usize].links -= 1;
            return;
        }
        removed.links -= 1;
        if removed.links == 0 {
            let body = std::mem::replace(&mut removed.body, Body::Removed);
            if matches!(body, Body::File { .. } | Body::Sparse { .. }) {
                self.removed_content.push(body);
            }
        }
    }

    fn push_text(&mut self, text: &[u8]) -> Result<u32, TreeError> {
        let at = self.text.len();
        if at + text.len() > MAX_TEXT {
            return Err(TreeError::Text);
        }
        self.text.extend_from_slice(text);
        Ok(at as u32)
    }

    fn charge_side_bytes(&mut self, bytes: usize) -> Result<(), TreeError> {
        self.side_bytes += bytes;
        if self.side_bytes > MAX_SIDE_BYTES { Err(TreeError::Metadata) } else { Ok(()) }
    }

    fn key(&self, entry: EntryId) -> (InodeId, &[u8]) {
        key(&self.entries, &self.text, entry)
    }
}

fn key<'a>(entries: &[Entry], text: &'a [u8], entry: EntryId) -> (InodeId, &'a [u8]) {
    let entry = &entries[entry as usize];
    (entry.parent, &text[entry.name_at as usize..entry.name_at as usize + usize::from(entry.name_len)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Body {
        Body::File { start: 7, size: 1 }
    }

    #[test]
    fn an_inode_and_a_name_stay_small() {
        assert!(size_of::<Inode>() <= 56 && size_of::<Entry>() <= 24);
    }

    #[test]
    fn a_removed_directory_takes_everything_below_with_it() {
        let mut tree = Tree::new(Meta::default());
        let a = tree.add_dir(ROOT, b"a", Meta::default(), 0).unwrap();
        let b = tree.add_dir(a, b"b", Meta::default(), 0).unwrap();
        let f = tree.add_leaf(b, b"f", file(), Meta::default(), 0).unwrap();
        tree.add_link(ROOT, b"g", f, 0).unwrap();
        tree.remove(tree.lookup(ROOT, b"a").unwrap());
        assert_eq!(tree.inode(f).links, 1);
        assert_eq!(tree.inode(ROOT).links, 2);
        assert_eq!(tree.inode(b).body, Body::Removed);
        assert!(tree.removed_content.is_empty());
        tree.remove(tree.lookup(ROOT, b"g").unwrap());
        assert_eq!(tree.removed_content, [file()]);
        assert_eq!(tree.children(ROOT).count(), 0);
    }

    #[test]
    fn names_are_found_after_thousands_of_insertions_and_removals() {
        let mut tree = Tree::new(Meta::default());
        for round in 0..3 {
            for n in 0..5000u32 {
                tree.add_leaf(ROOT, format!("{n}").as_bytes(), file(), Meta::default(), round).unwrap();
            }
            for n in (0..5000u32).step_by(2) {
                tree.remove(tree.lookup(ROOT, format!("{n}").as_bytes()).unwrap());
            }
            assert!(tree.lookup(ROOT, b"2").is_none() && tree.lookup(ROOT, b"4999").is_some());
            assert_eq!(tree.children(ROOT).count(), 2500);
            for n in (1..5000u32).step_by(2) {
                tree.remove(tree.lookup(ROOT, format!("{n}").as_bytes()).unwrap());
            }
        }
    }

    #[test]
    fn nesting_has_a_limit() {
        let mut tree = Tree::new(Meta::default());
        let mut dir = ROOT;
        for _ in 0..MAX_DEPTH {
            dir = tree.add_dir(dir, b"d", Meta::default(), 0).unwrap();
        }
        assert_eq!(tree.add_dir(dir, b"d", Meta::default(), 0), Err(TreeError::Depth));
    }
}
