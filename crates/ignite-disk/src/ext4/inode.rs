//! Inodes as ext4 stores them.

use mkext4::csum;
use mkext4::spec::{self, Inode, iflags};

/// Seconds that ext4's 34-bit signed-base time can hold; the kernel clamps to the same range.
const TIME_RANGE: std::ops::RangeInclusive<i64> = -(1 << 31)..=(1 << 34) - 1 - (1 << 31);

/// The file type bits of `st_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum FileType {
    Fifo = 0o010000,
    Char = 0o020000,
    Dir = 0o040000,
    Block = 0o060000,
    File = 0o100000,
    Symlink = 0o120000,
}

impl FileType {
    /// The type byte of a directory entry.
    pub fn entry_type(self) -> u8 {
        match self {
            FileType::Fifo => spec::file_type::FIFO,
            FileType::Char => spec::file_type::CHR,
            FileType::Dir => spec::file_type::DIR,
            FileType::Block => spec::file_type::BLK,
            FileType::File => spec::file_type::REG,
            FileType::Symlink => spec::file_type::SYMLINK,
        }
    }
}

/// Everything that is stored in one inode.
#[derive(Debug)]
pub(super) struct Content {
    pub file_type: FileType,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    pub links: u32,
    pub size: u64,
    /// Blocks of content, extent tree and attributes.
    pub blocks: u64,
    pub flags: u32,
    pub block: [u8; 60],
    pub xattr_block: u64,
    pub xattr_area: Vec<u8>,
}

/// The 256 bytes of inode `number`.
pub(super) fn encode(content: Content, number: u32, seed: u32) -> [u8; 256] {
    let seconds = content.mtime.0.clamp(*TIME_RANGE.start(), *TIME_RANGE.end());
    let (time, extra) = Inode::encode_timestamp(seconds, content.mtime.1);
    let links = match content.file_type {
        // `dir_nlink`: a directory with more subdirectories than the field can count says 1.
        FileType::Dir if content.links > spec::LINK_MAX => 1,
        _ => content.links as u16,
    };
    let mut inode = Inode {
        mode: content.file_type as u16 | (content.mode & 0o7777),
        uid: content.uid,
        gid: content.gid,
        size: content.size,
        atime: time,
        ctime: time,
        mtime: time,
        crtime: time,
        atime_extra: extra,
        ctime_extra: extra,
        mtime_extra: extra,
        crtime_extra: extra,
        links_count: links,
        blocks: content.blocks * 8,
        flags: content.flags,
        block: content.block,
        file_acl: content.xattr_block,
        extra_isize: 32,
        ibody: content.xattr_area,
        ..Inode::default()
    };
    let mut bytes = [0; 256];
    inode.encode(&mut bytes);
    inode.checksum = csum::inode(seed, number, 0, &bytes);
    inode.encode(&mut bytes);
    bytes
}

/// A reserved inode that nothing uses; inode 1 carries times as `mke2fs` gives it.
pub(super) fn encode_reserved(number: u32, seed: u32) -> [u8; 256] {
    let mut bytes = [0; 256];
    let checksum = csum::inode(seed, number, 0, &bytes);
    bytes[0x7c..0x7e].copy_from_slice(&(checksum as u16).to_le_bytes());
    bytes
}

/// `i_block` of a device node, as the kernel's `old_encode_dev` and `new_encode_dev` write it.
pub(super) fn device_block(major: u32, minor: u32) -> [u8; 60] {
    let mut block = [0; 60];
    if major < 256 && minor < 256 {
        block[..4].copy_from_slice(&(major << 8 | minor).to_le_bytes());
    } else {
        let number = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
        block[4..8].copy_from_slice(&number.to_le_bytes());
    }
    block
}

/// Flags of an inode whose content is mapped by extents.
pub(super) const EXTENTS: u32 = iflags::EXTENTS;
