//! A stream of what is decompressed block by block.

use std::io::{self, Read};

/// Where blocks come from.
pub(super) trait BlockSource {
    /// The next block in place of what `block` holds; false at the end.
    fn next_block(&mut self, block: &mut Vec<u8>) -> io::Result<bool>;
}

/// Reads the blocks of a source behind each other.
pub(super) struct Blocks<S> {
    source: S,
    block: Vec<u8>,
    at: usize,
    is_at_end: bool,
}

impl<S: BlockSource> Blocks<S> {
    pub(super) fn of(source: S) -> Blocks<S> {
        Blocks { source, block: Vec::new(), at: 0, is_at_end: false }
    }
}

impl<S: BlockSource> Read for Blocks<S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() && !self.is_at_end {
            self.at = 0;
            self.block.clear();
            let next = self.source.next_block(&mut self.block);
            if next.is_err() {
                // What is half done is nobody's to read.
                self.block.clear();
            }
            self.is_at_end = !next?;
        }
        let now = out.len().min(self.block.len() - self.at);
        out[..now].copy_from_slice(&self.block[self.at..self.at + now]);
        self.at += now;
        Ok(now)
    }
}
