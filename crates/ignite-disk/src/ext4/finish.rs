//! The end of an image: directories, inode tables, bitmaps, group descriptors and superblocks of a finished tree.

use mkext4::csum;
use mkext4::spec::{Extent, LINK_MAX};

use crate::DiskError;
use crate::tree::{Body, InodeId, ROOT, Tree};

use super::directory::{self, DirEntry};
use super::extents::{self, ExtentTree};
use super::geometry::{BLOCK, BlockCursor, Run, blocks_for};
use super::groups::{self, InodeTables, Plan};
use super::image_file::ImageFile;
use super::inode::{self, Content, FileType};
use super::xattrs;

/// The number of the root directory's inode.
const ROOT_NUMBER: u32 = 2;
/// The number of the journal's inode.
const JOURNAL_NUMBER: u32 = 8;
/// The first number that is not reserved.
const FIRST_NUMBER: u32 = 11;
/// Longest symbolic link target that fits into the inode.
const FAST_SYMLINK: u16 = 59;

/// What an image shall be.
#[derive(Debug, Clone)]
pub(crate) struct FsOptions {
    /// Its bytes, a multiple of the block size; as few as possible when `None`.
    pub size: Option<u64>,
    pub uuid: [u8; 16],
    /// Whether it will be written to: then it has a journal, and inodes to spare.
    pub is_writable: bool,
}

/// Where blocks come from and go to.
pub(super) struct Output<'a> {
    pub image: &'a mut ImageFile,
    pub cursor: BlockCursor,
    pub seed: u32,
}

impl Output<'_> {
    /// Takes blocks, or says that the disk is full.
    pub fn take(&mut self, blocks: u64) -> Result<u64, DiskError> {
        self.cursor.take(blocks).ok_or_else(|| self.full())
    }

    pub fn full(&self) -> DiskError {
        DiskError::DiskSize { size: self.cursor.geometry.max_blocks * BLOCK, reason: "the files do not fit".to_owned() }
    }

    /// Writes consecutive bytes over the runs of blocks taken at `start`.
    fn write(&mut self, start: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut rest = bytes;
        for run in self.cursor.geometry.runs(start, blocks_for(bytes.len() as u64)) {
            let (now, later) = rest.split_at(rest.len().min((run.len * BLOCK) as usize));
            self.image.write_at(run.start * BLOCK, now)?;
            rest = later;
        }
        Ok(())
    }

    fn extents(&self, start: u64, blocks: u64) -> Vec<Extent> {
        let mut logical = 0;
        self.cursor
            .geometry
            .runs(start, blocks)
            .map(|Run { start, len }| {
                let extent = Extent { logical, raw_len: len as u16, start };
                logical += len as u32;
                extent
            })
            .collect()
    }
}

/// Completes the image of `tree`, whose files' content is already written to blocks that `cursor` gave, and returns
/// the image's bytes.
pub(crate) fn finish(
    image: &mut ImageFile,
    cursor: BlockCursor,
    tree: &Tree,
    options: &FsOptions,
) -> Result<u64, DiskError> {
    debug_assert!(tree.removed_content.is_empty(), "content of removed files is given back while layers are read");
    let seed = csum::fs_seed(&options.uuid);
    let numbers = number_inodes(tree);
    let used_inodes = u64::from(numbers.last);
    let mut output = Output { image, cursor, seed };
    let places = write_metadata(&mut output, tree, &numbers, options)?;
    let plan = groups::plan(&mut output, used_inodes, options)?;

    let mut tables = InodeTables::new(&plan);
    let mut places = places.into_iter().peekable();
    let mut write_tree_inode = |tables: &mut InodeTables<'_>, output: &mut Output<'_>, id: InodeId| {
        let place = places.next_if(|place| place.id == id);
        let number = numbers.of(id);
        let content = content(output, tree, id, place);
        let is_dir = content.file_type == FileType::Dir;
        tables.write(output.image, number, &inode::encode(content, number, seed), is_dir)
    };
    // In the order of their numbers, for a table is written front to back.
    for number in 1..FIRST_NUMBER {
        match number {
            ROOT_NUMBER => write_tree_inode(&mut tables, &mut output, ROOT)?,
            JOURNAL_NUMBER if plan.journal_blocks > 0 => {
                let bytes = journal_inode(&output, &plan);
                tables.write(output.image, number, &bytes, false)?;
            }
            _ => tables.write(output.image, number, &inode::encode_reserved(number, seed), false)?,
        }
    }
    for (id, inode) in (0..).zip(tree.inodes()).skip(1) {
        if inode.body != Body::Removed {
            write_tree_inode(&mut tables, &mut output, id)?;
        }
    }
    groups::write(output, &plan, tables, used_inodes as u32, options)
}

/// The inode numbers of a tree's live inodes, dense and in the tree's order.
struct Numbers {
    by_id: Vec<u32>,
    last: u32,
}

impl Numbers {
    fn of(&self, id: InodeId) -> u32 {
        self.by_id[id as usize]
    }
}

fn number_inodes(tree: &Tree) -> Numbers {
    let mut last = FIRST_NUMBER - 1;
    let by_id = (0..)
        .zip(tree.inodes())
        .map(|(id, inode)| match inode.body {
            Body::Removed => 0,
            _ if id == ROOT => ROOT_NUMBER,
            _ => {
                last += 1;
                last
            }
        })
        .collect();
    Numbers { by_id, last }
}

/// What an inode has outside itself, other than a file's content.
#[derive(Debug, Default)]
struct Place {
    id: InodeId,
    /// 0 for none.
    xattr_block: u64,
    /// First block of a directory or of a long symbolic link.
    start: u64,
    blocks: u64,
    is_indexed: bool,
    /// The extent tree, when it does not fit into the inode.
    tree: Option<Box<ExtentTree>>,
}

fn write_metadata(
    output: &mut Output<'_>,
    tree: &Tree,
    numbers: &Numbers,
    options: &FsOptions,
) -> Result<Vec<Place>, DiskError> {
    let hash_seed = mkext4::dirhash::seed_from_uuid(&options.uuid);
    let mut places = Vec::new();
    for (id, inode) in (0..).zip(tree.inodes()) {
        if inode.body == Body::Removed {
            continue;
        }
        let mut place = Place { id, ..Place::default() };
        let attributes = plan_xattrs(tree, id, output)?;
        if attributes.needs_block() {
            place.xattr_block = output.take(1)?;
            let bytes = attributes.render_block(output.seed, place.xattr_block);
            output.image.write_at(place.xattr_block * BLOCK, &bytes)?;
        }
        match inode.body {
            Body::Dir { parent, .. } => {
                let entries: Vec<DirEntry<'_>> = tree
                    .children(id)
                    .map(|entry| {
                        let inode = tree.entry_inode(entry);
                        DirEntry {
                            name: tree.name(entry),
                            number: numbers.of(inode),
                            file_type: file_type(tree.inode(inode).body).entry_type(),
                        }
                    })
                    .collect();
                let blocks = directory::layout(numbers.of(id), numbers.of(parent), &entries, &hash_seed, output.seed);
                let blocks = blocks.ok_or_else(|| DiskError::DiskSize {
                    size: entries.len() as u64,
                    reason: "a directory has more entries than ext4 can index".to_owned(),
                })?;
                place.is_indexed = blocks.is_indexed;
                place.blocks = blocks_for(blocks.bytes.len() as u64);
                place.start = output.take(place.blocks)?;
                output.write(place.start, &blocks.bytes)?;
                place.tree = write_large_tree(output, numbers.of(id), output.extents(place.start, place.blocks))?;
            }
            Body::Symlink { len, .. } if len > FAST_SYMLINK => {
                place.blocks = 1;
                place.start = output.take(1)?;
                output.write(place.start, tree.symlink_target(inode.body))?;
            }
            Body::File { start, size } => {
                let extents = output.extents(u64::from(start), blocks_for(size));
                place.tree = write_large_tree(output, numbers.of(id), extents)?;
            }
            Body::Sparse { map, .. } => {
                let extents = sparse_extents(output, tree, map);
                place.tree = write_large_tree(output, numbers.of(id), extents)?;
            }
            Body::Symlink { .. } | Body::Char { .. } | Body::Block { .. } | Body::Fifo | Body::Removed => {}
        }
        if place.xattr_block != 0 || place.blocks != 0 || place.tree.is_some() {
            places.push(place);
        }
    }
    Ok(places)
}

fn write_large_tree(
    output: &mut Output<'_>,
    number: u32,
    extents: Vec<Extent>,
) -> Result<Option<Box<ExtentTree>>, DiskError> {
    match extents::small_tree(&extents) {
        Some(_) => Ok(None),
        None => extents::write_tree(output, number, &extents).map(|tree| Some(Box::new(tree))),
    }
}

fn plan_xattrs<'a>(tree: &'a Tree, id: InodeId, output: &Output<'_>) -> Result<xattrs::XattrPlan<'a>, DiskError> {
    // What does not fit was refused when it was read, with the name of its entry.
    xattrs::plan(tree.xattrs(id))
        .map_err(|reason| DiskError::DiskSize { size: output.cursor.geometry.max_blocks * BLOCK, reason })
}

fn sparse_extents(output: &Output<'_>, tree: &Tree, map: u32) -> Vec<Extent> {
    let mut extents = Vec::new();
    for run in tree.sparse_map(map) {
        for mut extent in output.extents(u64::from(run.start), u64::from(run.blocks)) {
            extent.logical += run.logical;
            extents.push(extent);
        }
    }
    extents
}

fn content(output: &Output<'_>, tree: &Tree, id: InodeId, place: Option<Place>) -> Content {
    let inode = tree.inode(id);
    let place = place.unwrap_or_default();
    let mut content = Content {
        file_type: file_type(inode.body),
        mode: inode.mode,
        uid: inode.uid,
        gid: inode.gid,
        mtime: (inode.mtime, inode.mtime_nsec),
        links: inode.links,
        size: 0,
        blocks: u64::from(place.xattr_block != 0),
        flags: 0,
        block: [0; 60],
        xattr_block: place.xattr_block,
        xattr_area: xattrs::plan(tree.xattrs(id)).map(|plan| plan.area).unwrap_or_default(),
    };
    let map = |extents: Vec<Extent>, size: u64| {
        let mapped = match place.tree {
            Some(tree) => *tree,
            None => extents::small_tree(&extents).unwrap_or(ExtentTree { root: [0; 60], blocks: 0 }),
        };
        content.flags |= inode::EXTENTS;
        content.block = mapped.root;
        content.size = size;
        content.blocks += mapped.blocks + extents.iter().map(|extent| u64::from(extent.len())).sum::<u64>();
    };
    match inode.body {
        Body::Dir { .. } => {
            map(output.extents(place.start, place.blocks), place.blocks * BLOCK);
            content.flags |= if place.is_indexed { mkext4::spec::iflags::INDEX } else { 0 };
            debug_assert!(content.links >= 2 && (content.links <= LINK_MAX || place.is_indexed));
        }
        Body::File { start, size } => map(output.extents(u64::from(start), blocks_for(size)), size),
        Body::Sparse { map: sparse, size } => map(sparse_extents(output, tree, sparse), size),
        Body::Symlink { len, .. } if len > FAST_SYMLINK => map(output.extents(place.start, 1), u64::from(len)),
        Body::Symlink { len, .. } => {
            content.block[..usize::from(len)].copy_from_slice(tree.symlink_target(inode.body));
            content.size = u64::from(len);
        }
        Body::Char { major, minor } | Body::Block { major, minor } => {
            content.block = inode::device_block(major, minor);
        }
        Body::Fifo | Body::Removed => {}
    }
    content
}

fn journal_inode(output: &Output<'_>, plan: &Plan) -> [u8; 256] {
    let extents = output.extents(plan.journal_start, plan.journal_blocks);
    let root = extents::small_tree(&extents).map_or([0; 60], |tree| tree.root);
    let content = Content {
        file_type: FileType::File,
        mode: 0o600,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        links: 1,
        size: plan.journal_blocks * BLOCK,
        blocks: plan.journal_blocks,
        flags: inode::EXTENTS,
        block: root,
        xattr_block: 0,
        xattr_area: Vec::new(),
    };
    inode::encode(content, JOURNAL_NUMBER, output.seed)
}

fn file_type(body: Body) -> FileType {
    match body {
        Body::Dir { .. } => FileType::Dir,
        Body::File { .. } | Body::Sparse { .. } | Body::Removed => FileType::File,
        Body::Symlink { .. } => FileType::Symlink,
        Body::Char { .. } => FileType::Char,
        Body::Block { .. } => FileType::Block,
        Body::Fifo => FileType::Fifo,
    }
}
