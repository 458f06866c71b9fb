//! Block groups: how many, where their tables lie, and the descriptors and superblocks that say so.

use std::iter::Peekable;

use mkext4::csum;
use mkext4::spec::{self, GroupDesc, JournalSuperblock, Superblock, bg_flags, compat};

use crate::DiskError;

use super::finish::{FsOptions, Output};
use super::geometry::{BLOCK, BlockCursor, GROUP, Run, descriptor_blocks};
use super::image_file::ImageFile;

const INODE: u64 = 256;
const INODES_PER_BLOCK: u64 = BLOCK / INODE;
/// Inodes that one bitmap block can tell apart.
const MAX_INODES_PER_GROUP: u64 = BLOCK * 8;
/// `mke2fs`'s usual ratio.
const BYTES_PER_INODE: u64 = 16384;
/// Blocks and inodes left free in an image that nobody will write to: a few, so that no tool divides by zero.
const SLACK: u64 = 16;

/// Where everything of the groups lies.
#[derive(Debug)]
pub(super) struct Plan {
    pub blocks: u64,
    pub groups: u64,
    pub inodes_per_group: u64,
    pub journal_start: u64,
    pub journal_blocks: u64,
    /// Per group: block bitmap, inode bitmap, inode table.
    tables: Vec<[u32; 3]>,
}

impl Plan {
    fn table_blocks(&self) -> u64 {
        self.inodes_per_group / INODES_PER_BLOCK
    }
}

/// Decides on the groups and takes the blocks they need.
pub(super) fn plan(output: &mut Output<'_>, used_inodes: u64, options: &FsOptions) -> Result<Plan, DiskError> {
    let journal_blocks = if options.is_writable { journal_blocks(output.cursor.geometry.max_blocks) } else { 0 };
    match options.size {
        Some(size) => {
            let blocks = output.cursor.geometry.max_blocks;
            let groups = blocks.div_ceil(GROUP);
            let wanted = match options.is_writable {
                true => (size / BYTES_PER_INODE).max(used_inodes + used_inodes / 4 + 1024),
                false => used_inodes + SLACK,
            };
            let per_group = inodes_per_group(wanted, groups);
            if per_group * groups < used_inodes {
                return Err(output.full());
            }
            place(&mut output.cursor, blocks, groups, per_group, journal_blocks).ok_or_else(|| output.full())
        }
        None => {
            let inodes = used_inodes + SLACK;
            let mut groups = inodes.div_ceil(MAX_INODES_PER_GROUP).max(output.cursor.next().div_ceil(GROUP));
            loop {
                let per_group = inodes_per_group(inodes, groups);
                let mut trial = output.cursor.fork();
                place(&mut trial, 0, groups, per_group, journal_blocks).ok_or_else(|| output.full())?;
                // The last group must have room for its own superblock copy.
                let least = (groups - 1) * GROUP + output.cursor.geometry.head;
                let blocks = trial.next().max(least) + SLACK;
                if blocks.div_ceil(GROUP) == groups {
                    return place(&mut output.cursor, blocks, groups, per_group, journal_blocks)
                        .ok_or_else(|| output.full());
                }
                groups = blocks.div_ceil(GROUP);
            }
        }
    }
}

fn place(
    cursor: &mut BlockCursor,
    blocks: u64,
    groups: u64,
    inodes_per_group: u64,
    journal_blocks: u64,
) -> Option<Plan> {
    let mut plan = Plan {
        blocks,
        groups,
        inodes_per_group,
        journal_start: cursor.take(journal_blocks)?,
        journal_blocks,
        tables: vec![[0; 3]; groups as usize],
    };
    let table_blocks = plan.table_blocks();
    for kind in 0..2 {
        for tables in &mut plan.tables {
            tables[kind] = cursor.take(1)? as u32;
        }
    }
    for tables in &mut plan.tables {
        tables[2] = cursor.take_contiguous(table_blocks)? as u32;
    }
    Some(plan)
}

fn inodes_per_group(inodes: u64, groups: u64) -> u64 {
    inodes.div_ceil(groups).next_multiple_of(INODES_PER_BLOCK).clamp(INODES_PER_BLOCK, MAX_INODES_PER_GROUP)
}

/// A journal of 4 to 64 MiB. `mke2fs` gives a large disk up to 1 GiB, all of which a guest fills in time, on a host
/// that otherwise stores only what the guest keeps.
fn journal_blocks(blocks: u64) -> u64 {
    match blocks {
        0..=2047 => 0,
        2048..=32767 => 1024,
        32768..=262143 => 4096,
        262144..=524287 => 8192,
        _ => 16384,
    }
}

/// Writes inodes to their tables and counts what descriptors say of them.
pub(super) struct InodeTables<'a> {
    plan: &'a Plan,
    directories: Vec<u32>,
}

impl<'a> InodeTables<'a> {
    pub fn new(plan: &'a Plan) -> InodeTables<'a> {
        InodeTables { plan, directories: vec![0; plan.groups as usize] }
    }

    pub fn write(
        &mut self,
        image: &mut ImageFile,
        number: u32,
        bytes: &[u8; 256],
        is_dir: bool,
    ) -> Result<(), DiskError> {
        let index = u64::from(number - 1);
        let group = (index / self.plan.inodes_per_group) as usize;
        self.directories[group] += u32::from(is_dir);
        let table = u64::from(self.plan.tables[group][2]);
        image.write_at(table * BLOCK + index % self.plan.inodes_per_group * INODE, bytes)
    }
}

/// Writes bitmaps, descriptors, superblocks and the journal's head, and returns the image's bytes.
pub(super) fn write(
    output: Output<'_>,
    plan: &Plan,
    tables: InodeTables<'_>,
    used_inodes: u32,
    options: &FsOptions,
) -> Result<u64, DiskError> {
    let directories = tables.directories;
    let Output { image, cursor, seed } = output;
    let (geometry, end, mut free) = cursor.into_parts();
    let descriptor_blocks = descriptor_blocks(plan.groups);
    let head = 1 + descriptor_blocks;
    // An image that could have grown larger kept more room for descriptors than it needs.
    if head < geometry.head {
        for group in std::iter::once(0).chain(geometry.backups(plan.groups)) {
            free.push(Run { start: group * GROUP + head, len: geometry.head - head });
        }
    }
    free.sort_unstable();

    let mut descriptors = vec![0u8; (descriptor_blocks * BLOCK) as usize];
    let mut free_blocks = 0;
    let mut holes = free.into_iter().peekable();
    for group in 0..plan.groups {
        let start = group * GROUP;
        let blocks = (plan.blocks - start).min(GROUP);
        let is_untouched = start >= end && group + 1 != plan.groups;
        let [block_bitmap, inode_bitmap, table] = plan.tables[group as usize];
        let mut descriptor = GroupDesc {
            block_bitmap: u64::from(block_bitmap),
            inode_bitmap: u64::from(inode_bitmap),
            inode_table: u64::from(table),
            flags: bg_flags::INODE_ZEROED,
            ..GroupDesc::default()
        };

        let own_head = if geometry.has_head(group) { head } else { 0 };
        if is_untouched {
            descriptor.flags |= bg_flags::BLOCK_UNINIT;
            descriptor.free_blocks_count = (blocks - own_head) as u32;
            while holes.next_if(|hole| hole.start < start + GROUP).is_some() {}
        } else {
            let used = end.saturating_sub(start).min(blocks).max(own_head);
            let bitmap = block_bitmap_of(start, used, blocks, &mut holes);
            let taken: u32 = bitmap.iter().map(|byte| byte.count_ones()).sum();
            descriptor.free_blocks_count = GROUP as u32 - taken;
            descriptor.block_bitmap_csum = u32::from(csum::block_bitmap(seed, &bitmap));
            image.write_at(descriptor.block_bitmap * BLOCK, &bitmap)?;
        }
        free_blocks += u64::from(descriptor.free_blocks_count);

        let before = group * plan.inodes_per_group;
        let used = u64::from(used_inodes).saturating_sub(before).min(plan.inodes_per_group);
        if used == 0 {
            descriptor.flags |= bg_flags::INODE_UNINIT;
        } else {
            let mut bitmap = vec![0u8; BLOCK as usize];
            set_bits(&mut bitmap, 0..used);
            set_bits(&mut bitmap, plan.inodes_per_group..MAX_INODES_PER_GROUP);
            descriptor.inode_bitmap_csum = u32::from(csum::inode_bitmap(seed, &bitmap, plan.inodes_per_group as u32));
            image.write_at(descriptor.inode_bitmap * BLOCK, &bitmap)?;
        }
        descriptor.used_dirs_count = directories[group as usize];
        descriptor.free_inodes_count = (plan.inodes_per_group - used) as u32;
        descriptor.itable_unused = descriptor.free_inodes_count;

        let bytes = &mut descriptors[group as usize * 32..][..32];
        descriptor.encode32(bytes);
        descriptor.checksum = csum::group_desc(seed, group as u32, bytes);
        descriptor.encode32(bytes);
    }

    let journal_root = journal_root(&geometry, plan);
    let mut superblock = superblock(plan, options, free_blocks, used_inodes, journal_root);
    let copies = geometry.backups(plan.groups).count() as u64;
    superblock.overhead_clusters =
        ((1 + copies) * head + plan.groups * (2 + plan.table_blocks()) + plan.journal_blocks) as u32;
    for group in std::iter::once(0).chain(geometry.backups(plan.groups)) {
        superblock.block_group_nr = group as u16;
        let mut bytes = [0; Superblock::LEN];
        superblock.encode(&mut bytes);
        superblock.checksum = csum::superblock(&bytes);
        superblock.encode(&mut bytes);
        let offset = if group == 0 { 1024 } else { group * GROUP * BLOCK };
        image.write_at(offset, &bytes)?;
        image.write_at((group * GROUP + 1) * BLOCK, &descriptors)?;
    }
    if plan.journal_blocks > 0 {
        image.write_at(plan.journal_start * BLOCK, &journal_head(plan, options))?;
    }
    Ok(plan.blocks * BLOCK)
}

/// Which blocks of the group at `start` are taken: the first `used` but for holes, and what is behind the `blocks` it has.
/// Takes from `holes`, which are ascending, those that end in it.
fn block_bitmap_of(start: u64, used: u64, blocks: u64, holes: &mut Peekable<impl Iterator<Item = Run>>) -> Vec<u8> {
    let mut bitmap = vec![0u8; BLOCK as usize];
    set_bits(&mut bitmap, 0..used);
    set_bits(&mut bitmap, blocks..GROUP);
    while let Some(hole) = holes.peek_mut().filter(|hole| hole.start < start + GROUP) {
        let stop = (hole.start + hole.len).min(start + GROUP);
        clear_bits(&mut bitmap, hole.start - start..stop - start);
        if stop == hole.start + hole.len {
            holes.next();
        } else {
            *hole = Run { start: stop, len: hole.start + hole.len - stop };
        }
    }
    bitmap
}

/// The first 60 bytes of the journal inode's `i_block`, which the superblock repeats.
fn journal_root(geometry: &super::geometry::Geometry, plan: &Plan) -> [u8; 60] {
    let mut logical = 0;
    let extents: Vec<spec::Extent> = geometry
        .runs(plan.journal_start, plan.journal_blocks)
        .map(|run| {
            let extent = spec::Extent { logical, raw_len: run.len as u16, start: run.start };
            logical += run.len as u32;
            extent
        })
        .collect();
    super::extents::small_tree(&extents).map_or([0; 60], |tree| tree.root)
}

fn superblock(
    plan: &Plan,
    options: &FsOptions,
    free_blocks: u64,
    used_inodes: u32,
    journal_root: [u8; 60],
) -> Superblock {
    let inodes = (plan.inodes_per_group * plan.groups) as u32;
    let has_journal = plan.journal_blocks > 0;
    let mut jnl_blocks = [0; 17];
    if has_journal {
        for (word, bytes) in jnl_blocks.iter_mut().zip(journal_root.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        jnl_blocks[16] = (plan.journal_blocks * BLOCK) as u32;
    }
    Superblock {
        inodes_count: inodes,
        blocks_count: plan.blocks,
        r_blocks_count: 0,
        free_blocks_count: free_blocks,
        free_inodes_count: inodes - used_inodes,
        first_data_block: 0,
        log_block_size: 2,
        log_cluster_size: 2,
        blocks_per_group: GROUP as u32,
        clusters_per_group: GROUP as u32,
        inodes_per_group: plan.inodes_per_group as u32,
        mtime: 0,
        wtime: 0,
        mnt_count: 0,
        max_mnt_count: 0xffff,
        state: 1,
        errors: 1,
        minor_rev_level: 0,
        lastcheck: 0,
        checkinterval: 0,
        creator_os: 0,
        rev_level: 1,
        def_resuid: 0,
        def_resgid: 0,
        first_ino: 11,
        inode_size: INODE as u16,
        block_group_nr: 0,
        feature_compat: compat::EXT_ATTR | compat::DIR_INDEX | if has_journal { compat::HAS_JOURNAL } else { 0 },
        feature_incompat: spec::incompat::WRITER,
        feature_ro_compat: spec::ro_compat::WRITER,
        uuid: options.uuid,
        volume_name: [0; 16],
        last_mounted: [0; 64],
        reserved_gdt_blocks: 0,
        journal_uuid: [0; 16],
        journal_inum: if has_journal { spec::JOURNAL_INO } else { 0 },
        journal_dev: 0,
        last_orphan: 0,
        hash_seed: mkext4::dirhash::seed_from_uuid(&options.uuid),
        def_hash_version: 1,
        jnl_backup_type: u8::from(has_journal),
        desc_size: 0,
        // user_xattr and acl, as mke2fs sets them.
        default_mount_opts: 0x0c,
        first_meta_bg: 0,
        mkfs_time: 0,
        jnl_blocks,
        min_extra_isize: 32,
        want_extra_isize: 32,
        // Names are hashed as signed characters.
        flags: 1,
        log_groups_per_flex: 4,
        checksum_type: 1,
        kbytes_written: 0,
        overhead_clusters: 0,
        lpf_ino: 0,
        checksum_seed: 0,
        checksum: 0,
    }
}

/// The journal's own superblock: empty, as `mke2fs` leaves it.
fn journal_head(plan: &Plan, options: &FsOptions) -> Vec<u8> {
    let head = JournalSuperblock {
        blocktype: 4,
        blocksize: BLOCK as u32,
        maxlen: plan.journal_blocks as u32,
        first: 1,
        sequence: 1,
        start: 0,
        errno: 0,
        feature_compat: 0,
        feature_incompat: 0,
        feature_ro_compat: 0,
        uuid: options.uuid,
        nr_users: 1,
        dynsuper: 0,
        max_transaction: 0,
        max_trans_data: 0,
        checksum_type: 0,
        num_fc_blocks: 0,
        head: 0,
        checksum: 0,
    };
    let mut bytes = vec![0; BLOCK as usize];
    head.encode(&mut bytes);
    bytes
}

fn set_bits(bitmap: &mut [u8], bits: std::ops::Range<u64>) {
    for bit in bits {
        bitmap[(bit / 8) as usize] |= 1 << (bit % 8);
    }
}

fn clear_bits(bitmap: &mut [u8], bits: std::ops::Range<u64>) {
    for bit in bits {
        bitmap[(bit / 8) as usize] &= !(1 << (bit % 8));
    }
}
