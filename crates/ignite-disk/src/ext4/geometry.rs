//! Which blocks of an ext4 image may be taken, and in what order they are.

/// Bytes of a block.
pub(crate) const BLOCK: u64 = 4096;
/// Blocks of a group: the bits of one bitmap block.
pub(crate) const GROUP: u64 = 32768;
/// Longest initialised extent.
const MAX_EXTENT: u64 = 32768;
/// Bytes of one group descriptor without the `64bit` feature.
const DESCRIPTOR: u64 = 32;

/// Blocks that hold `bytes`.
pub(crate) fn blocks_for(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK)
}

/// Consecutive blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    pub start: u64,
    pub len: u64,
}

/// Where the superblock, its copies and the group descriptors lie.
#[derive(Debug, Clone)]
pub(crate) struct Geometry {
    /// Blocks that the image may grow to.
    pub max_blocks: u64,
    /// Blocks kept at the start of group 0 and of each group with a copy: superblock and descriptors.
    pub head: u64,
    /// The groups with a copy (`sparse_super`: 1 and the powers of 3, 5 and 7), ascending.
    backups: Vec<u64>,
}

impl Geometry {
    /// The geometry of an image of at most `max_blocks` blocks.
    pub fn new(max_blocks: u64) -> Geometry {
        let groups = max_blocks.div_ceil(GROUP);
        let mut backups = vec![1];
        for base in [3u64, 5, 7] {
            backups.extend(std::iter::successors(Some(base), |n| Some(n * base)).take_while(|&n| n < groups));
        }
        backups.retain(|&group| group < groups);
        backups.sort_unstable();
        Geometry { max_blocks, head: 1 + descriptor_blocks(groups), backups }
    }

    /// How many of `blocks` blocks make a sound file system: a last group too small for its own tables is left out, as
    /// `mke2fs` does.
    pub fn usable_blocks(blocks: u64) -> u64 {
        let rest = blocks % GROUP;
        let least = 1 + descriptor_blocks(blocks.div_ceil(GROUP)) + 64;
        if blocks > GROUP && rest < least { blocks - rest } else { blocks }
    }

    /// Groups with a copy of the superblock, below `groups`.
    pub fn backups(&self, groups: u64) -> impl Iterator<Item = u64> + '_ {
        self.backups.iter().copied().take_while(move |&group| group < groups)
    }

    /// Whether `group` starts with a superblock.
    pub fn has_head(&self, group: u64) -> bool {
        group == 0 || self.backups.binary_search(&group).is_ok()
    }

    /// The runs that `blocks` blocks taken at `start` are made of, none longer than an extent can be.
    pub fn runs(&self, start: u64, blocks: u64) -> impl Iterator<Item = Run> + '_ {
        let mut at = start;
        let mut left = blocks;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let border = self.next_head(at);
            let len = left.min(border - at).min(MAX_EXTENT);
            let run = Run { start: at, len };
            at = if at + len == border { border + self.head } else { at + len };
            left -= len;
            Some(run)
        })
    }

    /// The first block after `at` where a head begins.
    fn next_head(&self, at: u64) -> u64 {
        let next = self.backups.partition_point(|&group| group * GROUP <= at);
        self.backups.get(next).map_or(u64::MAX, |&group| group * GROUP)
    }
}

/// Blocks that hold the descriptors of `groups` groups.
pub(crate) fn descriptor_blocks(groups: u64) -> u64 {
    (groups * DESCRIPTOR).div_ceil(BLOCK)
}

/// Gives out blocks in ascending order, stepping over the heads.
#[derive(Debug)]
pub(crate) struct BlockCursor {
    pub geometry: Geometry,
    next: u64,
    /// What was stepped over or given back, in no order.
    free: Vec<Run>,
}

impl BlockCursor {
    pub fn new(geometry: Geometry) -> BlockCursor {
        let next = geometry.head;
        BlockCursor { geometry, next, free: Vec::new() }
    }

    /// The first block not given out yet.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Takes `blocks` blocks and returns the first; [`Geometry::runs`] tells the others. `None` when the disk is full.
    pub fn take(&mut self, blocks: u64) -> Option<u64> {
        let start = self.next;
        if blocks == 0 {
            return Some(start);
        }
        if blocks > self.geometry.max_blocks {
            return None;
        }
        let last = self.geometry.runs(start, blocks).last()?;
        let mut end = last.start + last.len;
        if end > self.geometry.max_blocks {
            return None;
        }
        if end.is_multiple_of(GROUP) && self.geometry.has_head(end / GROUP) {
            end += self.geometry.head;
        }
        self.next = end;
        Some(start)
    }

    /// Takes `blocks` blocks without a gap, leaving free what does not fit before the next head.
    pub fn take_contiguous(&mut self, blocks: u64) -> Option<u64> {
        let border = self.geometry.next_head(self.next);
        if self.next + blocks > border {
            self.free.push(Run { start: self.next, len: border - self.next });
            self.next = border + self.geometry.head;
        }
        self.take(blocks)
    }

    /// Gives blocks back; they stay free, for there is no second user of an image that is being written.
    pub fn give_back(&mut self, run: Run) {
        self.free.push(run);
    }

    /// A cursor at the same place, to try out what would be taken.
    pub fn fork(&self) -> BlockCursor {
        BlockCursor { geometry: self.geometry.clone(), next: self.next, free: Vec::new() }
    }

    /// The geometry, the first block never given out, and what is free below it, ascending.
    pub fn into_parts(self) -> (Geometry, u64, Vec<Run>) {
        let mut free = self.free;
        free.sort_unstable();
        (self.geometry, self.next, free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_the_superblock_lie_where_mke2fs_puts_them() {
        let geometry = Geometry::new(512 * GROUP);
        assert_eq!(geometry.backups(512).collect::<Vec<_>>(), [1, 3, 5, 7, 9, 25, 27, 49, 81, 125, 243, 343]);
        assert_eq!(Geometry::new(100).backups(1).count(), 0);
    }

    #[test]
    fn runs_step_over_heads_and_split_at_the_longest_extent() {
        let geometry = Geometry::new(8 * GROUP);
        let runs: Vec<Run> = geometry.runs(GROUP - 10, 3 * GROUP).collect();
        assert_eq!(runs[0], Run { start: GROUP - 10, len: 10 });
        assert_eq!(runs[1], Run { start: GROUP + geometry.head, len: MAX_EXTENT });
        assert_eq!(runs.iter().map(|run| run.len).sum::<u64>(), 3 * GROUP);
        assert!(runs.iter().all(|run| !(3 * GROUP..3 * GROUP + geometry.head).contains(&run.start)));
    }

    #[test]
    fn a_full_disk_gives_nothing() {
        let mut cursor = BlockCursor::new(Geometry::new(100));
        assert!(cursor.take(99).is_none());
        assert!(cursor.take(98).is_some());
        assert!(cursor.take(1).is_none());
        assert_eq!(cursor.take(0), Some(100));
        assert!(cursor.take(u64::MAX).is_none());
    }

    #[test]
    fn what_is_skipped_for_a_contiguous_run_is_free() {
        let mut cursor = BlockCursor::new(Geometry::new(4 * GROUP));
        let start = cursor.take(GROUP - 12).unwrap();
        assert_eq!(start, 2);
        let second = cursor.take_contiguous(100).unwrap();
        assert_eq!(second, GROUP + 2);
        assert_eq!(cursor.into_parts().2, [Run { start: GROUP - 10, len: 10 }]);
    }
}
