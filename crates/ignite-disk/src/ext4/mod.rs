//! ext4 images written front to back: content first, as it arrives; then directories, inode tables, group descriptors.
//!
//! On-disk structures and checksums are `mkext4`'s; the layout is our own. `mkext4`'s own builder wants every size
//! declared before the first byte is written, which would mean inflating each layer twice, and keeps about 600 bytes
//! per file. Here a file's blocks are taken from a cursor when its tar header is read, and what is left for the end is
//! what `flex_bg` allows to lie anywhere: inode tables and bitmaps.

mod directory;
mod extents;
mod finish;
mod geometry;
mod groups;
mod image_file;
mod inode;
mod xattrs;

pub(crate) use finish::{FsOptions, finish};
pub(crate) use geometry::{BLOCK, BlockCursor, Geometry, Run, blocks_for};
pub(crate) use image_file::{ImageFile, Visibility};
pub(crate) use xattrs::choose_xattrs;
