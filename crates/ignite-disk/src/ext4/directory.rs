//! Directory blocks: one linear block, or a hash tree for all that do not fit into it.

use mkext4::csum;
use mkext4::dirhash::{HashSeed, Signedness, half_md4};
use mkext4::spec::file_type;
use mkext4::spec::htree::{NODE_COUNT_OFFSET, ROOT_COUNT_OFFSET, node_limit, root_limit};

use super::geometry::BLOCK;

const SIZE: usize = BLOCK as usize;
/// Bytes for entries in a block: all but the checksum tail.
const USABLE: usize = SIZE - 12;

/// A name, the inode it leads to, and that inode's type byte.
#[derive(Debug, Clone, Copy)]
pub(super) struct DirEntry<'a> {
    pub name: &'a [u8],
    pub number: u32,
    pub file_type: u8,
}

/// The content of a directory.
#[derive(Debug)]
pub(super) struct DirBlocks {
    pub bytes: Vec<u8>,
    /// Whether it is a hash tree, which the inode must say.
    pub is_indexed: bool,
}

/// How many blocks and whether indexed, without making them: what the inode needs to know.
pub(super) fn measure<'a>(names: impl Iterator<Item = &'a [u8]>) -> Option<(u64, bool)> {
    let bytes: usize = names.map(|name| record_len(name.len())).sum();
    (bytes + record_len(1) + record_len(2) <= USABLE).then_some((1, false))
}

/// Lays out the directory `number`, whose parent is `parent`. `None` when it has more names than a tree of two levels
/// can hold, about fifteen million.
pub(super) fn layout(
    number: u32,
    parent: u32,
    entries: &[DirEntry<'_>],
    hash_seed: &HashSeed,
    fs_seed: u32,
) -> Option<DirBlocks> {
    let seed = csum::inode_seed(fs_seed, number, 0);
    let dots = [
        DirEntry { name: b".", number, file_type: file_type::DIR },
        DirEntry { name: b"..", number: parent, file_type: file_type::DIR },
    ];
    if measure(entries.iter().map(|entry| entry.name)).is_some() {
        let mut bytes = vec![0; SIZE];
        fill_leaf(&mut bytes, dots.iter().chain(entries), seed);
        return Some(DirBlocks { bytes, is_indexed: false });
    }
    let mut hashed: Vec<(u32, u32, u32)> = (0u32..)
        .zip(entries)
        .map(|(at, entry)| {
            let (hash, minor) = half_md4(hash_seed, Signedness::Signed, entry.name);
            (hash, minor, at)
        })
        .collect();
    hashed.sort_unstable();

    // Block 0 is the root, then the leaves, then the nodes between them if there are any.
    let mut bytes = vec![0; SIZE];
    let mut children: Vec<(u32, u32)> = Vec::new();
    let mut rest = &hashed[..];
    let mut previous_hash = None;
    while let Some(&(first_hash, ..)) = rest.first() {
        let (leaf, later) = rest.split_at(leaf_len(rest, entries));
        rest = later;
        // The low bit says that names of this hash begin in the block before.
        let continued = u32::from(previous_hash == Some(first_hash));
        previous_hash = leaf.last().map(|&(hash, ..)| hash);
        children.push((first_hash | continued, (bytes.len() / SIZE) as u32));
        bytes.resize(bytes.len() + SIZE, 0);
        let start = bytes.len() - SIZE;
        fill_leaf(&mut bytes[start..], leaf.iter().map(|&(_, _, at)| &entries[at as usize]), seed);
    }
    let mut levels = 0;
    if children.len() > usize::from(root_limit(SIZE)) {
        levels = 1;
        let mut nodes = Vec::new();
        for chunk in children.chunks(usize::from(node_limit(SIZE))) {
            nodes.push((chunk[0].0, (bytes.len() / SIZE) as u32));
            bytes.resize(bytes.len() + SIZE, 0);
            let start = bytes.len() - SIZE;
            let node = &mut bytes[start..];
            node[4..6].copy_from_slice(&(SIZE as u16).to_le_bytes());
            fill_index(node, NODE_COUNT_OFFSET, node_limit(SIZE), chunk, seed);
        }
        children = nodes;
    }
    if children.len() > usize::from(root_limit(SIZE)) {
        return None;
    }
    let root = &mut bytes[..SIZE];
    put_entry(root, 0, 12, &dots[0]);
    put_entry(root, 12, SIZE - 12, &dots[1]);
    // dx_root_info: half_md4, eight bytes long.
    root[0x1c..0x20].copy_from_slice(&[1, 8, levels, 0]);
    fill_index(root, ROOT_COUNT_OFFSET, root_limit(SIZE), &children, seed);
    Some(DirBlocks { bytes, is_indexed: true })
}

/// How many of the sorted names go into the next leaf.
fn leaf_len(sorted: &[(u32, u32, u32)], entries: &[DirEntry<'_>]) -> usize {
    let mut used = 0;
    sorted
        .iter()
        .take_while(|&&(_, _, at)| {
            used += record_len(entries[at as usize].name.len());
            used <= USABLE
        })
        .count()
}

fn fill_leaf<'a, 'n: 'a>(block: &mut [u8], entries: impl Iterator<Item = &'a DirEntry<'n>>, seed: u32) {
    let mut at = 0;
    let mut entries = entries.peekable();
    while let Some(entry) = entries.next() {
        let len = if entries.peek().is_some() { record_len(entry.name.len()) } else { USABLE - at };
        put_entry(block, at, len, entry);
        at += len;
    }
    // The checksum poses as an unused entry of type 0xDE.
    block[USABLE + 4] = 12;
    block[USABLE + 7] = 0xde;
    let checksum = csum::dirent_block(seed, block);
    block[SIZE - 4..].copy_from_slice(&checksum.to_le_bytes());
}

fn put_entry(block: &mut [u8], at: usize, len: usize, entry: &DirEntry<'_>) {
    block[at..at + 4].copy_from_slice(&entry.number.to_le_bytes());
    block[at + 4..at + 6].copy_from_slice(&(len as u16).to_le_bytes());
    block[at + 6] = entry.name.len() as u8;
    block[at + 7] = entry.file_type;
    block[at + 8..at + 8 + entry.name.len()].copy_from_slice(entry.name);
}

fn fill_index(block: &mut [u8], offset: usize, limit: u16, children: &[(u32, u32)], seed: u32) {
    for (at, &(hash, child)) in children.iter().enumerate() {
        let slot = offset + at * 8;
        block[slot..slot + 4].copy_from_slice(&hash.to_le_bytes());
        block[slot + 4..slot + 8].copy_from_slice(&child.to_le_bytes());
    }
    let count = children.len() as u16;
    // The first child's hash is 0 by definition; its place holds the counts.
    block[offset..offset + 2].copy_from_slice(&limit.to_le_bytes());
    block[offset + 2..offset + 4].copy_from_slice(&count.to_le_bytes());
    let checksum = csum::dx_block(seed, block, offset, count, limit);
    let tail = offset + usize::from(limit) * 8;
    block[tail + 4..tail + 8].copy_from_slice(&checksum.to_le_bytes());
}

/// Bytes of an entry with a name of this length.
fn record_len(name_len: usize) -> usize {
    (8 + name_len).next_multiple_of(4)
}
