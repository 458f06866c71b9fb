//! Extent trees: where the content of one inode lies.

use mkext4::csum;
use mkext4::spec::{Extent, ExtentHeader, ExtentIdx};

use crate::DiskError;

use super::finish::Output;
use super::geometry::BLOCK;

/// Entries that fit into `i_block`.
const ROOT_ENTRIES: usize = 4;

/// What maps an inode's content: `i_block`, and how many further blocks the tree takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExtentTree {
    pub root: [u8; 60],
    pub blocks: u64,
}

/// The tree when it fits into the inode.
pub(super) fn small_tree(extents: &[Extent]) -> Option<ExtentTree> {
    if extents.len() > ROOT_ENTRIES {
        return None;
    }
    let mut root = [0; 60];
    write_node(&mut root, ROOT_ENTRIES, 0, extents.len(), |at, out| extents[at].encode(out));
    Some(ExtentTree { root, blocks: 0 })
}

/// Writes the tree of inode `number`, taking blocks for what does not fit into the inode.
pub(super) fn write_tree(output: &mut Output<'_>, number: u32, extents: &[Extent]) -> Result<ExtentTree, DiskError> {
    if let Some(tree) = small_tree(extents) {
        return Ok(tree);
    }
    let seed = csum::inode_seed(output.seed, number, 0);
    let capacity = ExtentIdx::node_capacity(BLOCK as usize);
    let mut blocks = 0;
    let mut level = Vec::with_capacity(extents.len().div_ceil(capacity));
    for chunk in extents.chunks(capacity) {
        let block = write_block(output, seed, 0, chunk.len(), |at, out| chunk[at].encode(out))?;
        level.push(ExtentIdx { logical: chunk[0].logical, leaf: block });
        blocks += 1;
    }
    let mut depth = 1;
    while level.len() > ROOT_ENTRIES {
        let mut above = Vec::with_capacity(level.len().div_ceil(capacity));
        for chunk in level.chunks(capacity) {
            let block = write_block(output, seed, depth, chunk.len(), |at, out| chunk[at].encode(out))?;
            above.push(ExtentIdx { logical: chunk[0].logical, leaf: block });
            blocks += 1;
        }
        level = above;
        depth += 1;
    }
    let mut root = [0; 60];
    write_node(&mut root, ROOT_ENTRIES, depth, level.len(), |at, out| level[at].encode(out));
    Ok(ExtentTree { root, blocks })
}

fn write_block(
    output: &mut Output<'_>,
    seed: u32,
    depth: u16,
    entries: usize,
    encode: impl Fn(usize, &mut [u8]),
) -> Result<u64, DiskError> {
    let mut node = vec![0; BLOCK as usize];
    write_node(&mut node, ExtentIdx::node_capacity(BLOCK as usize), depth, entries, encode);
    let checksum = csum::extent_block(seed, &node);
    let tail = node.len() - 4;
    node[tail..].copy_from_slice(&checksum.to_le_bytes());
    let block = output.take(1)?;
    output.image.write_at(block * BLOCK, &node)?;
    Ok(block)
}

fn write_node(node: &mut [u8], max: usize, depth: u16, entries: usize, encode: impl Fn(usize, &mut [u8])) {
    ExtentHeader { entries: entries as u16, max: max as u16, depth, generation: 0 }.encode(node);
    for (at, out) in node[ExtentHeader::LEN..].chunks_mut(ExtentHeader::ENTRY_LEN).take(entries).enumerate() {
        encode(at, out);
    }
}
