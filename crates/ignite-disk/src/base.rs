//! Root disks made from an image's layers: the shared read-only base, or a private one.

use std::path::Path;

use crate::{DiskError, LayerSource};

/// What a root disk turned out to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseInfo {
    /// Bytes of the disk image, holes included.
    pub size: u64,
    /// Sum of the sizes of all regular files, each inode counted once.
    pub content_size: u64,
    /// Whether `/sbin/init` leads to an executable file, symbolic links followed inside the image.
    pub has_init: bool,
    /// Files, directories, links and devices, the root included.
    pub entries: u64,
}

/// The name of the base that these layers (diff ids, bottom first) make: the same layers give the same base.
pub fn base_key(diff_ids: &[String]) -> String {
    diff_ids.concat()
}

/// Flattens `layers` (bottom first) into a read-only ext4 image at `dest`.
pub fn write_base(layers: &[&dyn LayerSource], dest: &Path, progress: &dyn Fn(u64)) -> Result<BaseInfo, DiskError> {
    write_private_root(layers, dest, 0, progress)
}

/// Flattens `layers` (bottom first) into a writable, sparse ext4 image of `size` bytes at `dest`.
pub fn write_private_root(
    _layers: &[&dyn LayerSource],
    dest: &Path,
    size: u64,
    _progress: &dyn Fn(u64),
) -> Result<BaseInfo, DiskError> {
    Err(DiskError::DiskSize { size, reason: format!("{dest:?} is not written yet") })
}
