//! The content of layer files, written to the image as it is read.

use std::io::Read;

use crate::DiskError;
use crate::ext4::{BLOCK, BlockCursor, ImageFile, blocks_for};
use crate::tar::{Content, TarError, TarReader};
use crate::tree::{Body, SparseRun, Tree, TreeError};

const BUFFER: usize = 256 << 10;

/// Why content cannot be stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentError {
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error("its {0} bytes do not fit on the disk")]
    DoesNotFit(u64),
}

/// The image that content goes to.
pub(crate) struct ContentWriter<'a> {
    pub image: &'a mut ImageFile,
    pub cursor: &'a mut BlockCursor,
    buffer: Vec<u8>,
}

impl<'a> ContentWriter<'a> {
    pub fn new(image: &'a mut ImageFile, cursor: &'a mut BlockCursor) -> ContentWriter<'a> {
        ContentWriter { image, cursor, buffer: vec![0; BUFFER] }
    }

    /// Writes what `tar` holds of the current entry and tells where it lies. `progress` hears of the stream's position.
    pub fn write<R: Read>(
        &mut self,
        tar: &mut TarReader<R>,
        tree: &mut Tree,
        size: u64,
        content: &Content,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Body, ContentError> {
        // Block numbers in an inode's map have 32 bits.
        if blocks_for(size) > u64::from(u32::MAX) {
            return Err(ContentError::DoesNotFit(size));
        }
        match content {
            Content::Dense => {
                let start = self.cursor.take(blocks_for(size)).ok_or(ContentError::DoesNotFit(size))?;
                self.copy(tar, start, 0, size, progress)?;
                Ok(Body::File { start: start as u32, size })
            }
            Content::Sparse(stretches) => {
                let mut map: Vec<SparseRun> = Vec::new();
                for stretch in stretches {
                    // A stretch that begins in the block where the one before ended continues there.
                    let first = stretch.offset / BLOCK;
                    let end = blocks_for(stretch.offset + stretch.len);
                    let last = map.last().copied();
                    let shared = last.filter(|run| u64::from(run.logical) + u64::from(run.blocks) > first);
                    let mut offset = stretch.offset;
                    let mut left = stretch.len;
                    if let Some(run) = shared {
                        let block = u64::from(run.logical) + u64::from(run.blocks) - 1;
                        let here = left.min((block + 1) * BLOCK - offset);
                        let last_block = self.nth_block(u64::from(run.start), u64::from(run.blocks) - 1);
                        self.copy(tar, last_block, offset % BLOCK, here, progress)?;
                        offset += here;
                        left -= here;
                    }
                    if left > 0 {
                        let logical = offset / BLOCK;
                        let blocks = end - logical;
                        let start = self.cursor.take(blocks).ok_or(ContentError::DoesNotFit(size))?;
                        map.push(SparseRun { logical: logical as u32, start: start as u32, blocks: blocks as u32 });
                        self.copy(tar, start, offset % BLOCK, left, progress)?;
                    }
                }
                Ok(Body::Sparse { map: tree.add_sparse_map(map)?, size })
            }
        }
    }

    /// Gives back the blocks of files that lost their last name.
    pub fn discard_removed(&mut self, tree: &mut Tree) -> Result<(), DiskError> {
        for body in std::mem::take(&mut tree.removed_content) {
            match body {
                Body::File { start, size } => self.image.release(self.cursor, u64::from(start), blocks_for(size))?,
                Body::Sparse { map, .. } => {
                    for run in tree.sparse_map(map) {
                        self.image.release(self.cursor, u64::from(run.start), u64::from(run.blocks))?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Copies `len` bytes to the blocks taken at `start`, from the `skip`th byte of the first one on.
    fn copy<R: Read>(
        &mut self,
        tar: &mut TarReader<R>,
        start: u64,
        skip: u64,
        len: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), ContentError> {
        let mut left = len;
        let mut skip = skip;
        for run in self.cursor.geometry.runs(start, blocks_for(skip + len)) {
            let mut offset = run.start * BLOCK + skip;
            let end = (run.start + run.len) * BLOCK;
            skip = 0;
            while left > 0 && offset < end {
                let want = (left.min(end - offset) as usize).min(BUFFER);
                let read = tar.read_content(&mut self.buffer[..want])?;
                if read == 0 {
                    return Err(TarError::Truncated.into());
                }
                self.image.write_at(offset, &self.buffer[..read])?;
                offset += read as u64;
                left -= read as u64;
                progress(tar.position());
            }
        }
        Ok(())
    }

    fn nth_block(&self, start: u64, n: u64) -> u64 {
        let mut left = n;
        for run in self.cursor.geometry.runs(start, n + 1) {
            if left < run.len {
                return run.start + left;
            }
            left -= run.len;
        }
        start
    }
}
