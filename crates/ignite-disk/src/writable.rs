//! Empty writable disks.

use std::path::Path;

use crate::DiskError;
use crate::ext4::{BLOCK, BlockCursor, FsOptions, Geometry, ImageFile, Visibility, finish};
use crate::tree::{Meta, Tree};

/// The smallest disk with a journal.
const MIN_SIZE: u64 = 8 << 20;
/// ext4 without its `64bit` feature.
const MAX_SIZE: u64 = 16 << 40;

/// Makes an empty, sparse ext4 image of `size` bytes (rounded down to whole blocks) at `dest`, mode 0600.
///
/// Takes as long as writing the group descriptors does: milliseconds up to 100 GiB, some 5 MiB of writes at 1 TiB. The
/// root directory is empty (no `lost+found`), mode 0755 and root's. On error nothing is left.
pub fn create_writable_disk(dest: &Path, size: u64, uuid: [u8; 16]) -> Result<(), DiskError> {
    let blocks = disk_blocks(size)?;
    let mut image = ImageFile::create(dest)?;
    let cursor = BlockCursor::new(Geometry::new(blocks));
    let tree = Tree::new(Meta { mode: 0o755, ..Meta::default() });
    let options = FsOptions { size: Some(blocks * BLOCK), uuid, is_writable: true };
    finish(&mut image, cursor, &tree, &options)?;
    image.publish(size, Visibility::Private)
}

/// The blocks that a file system on a disk of `size` bytes has.
pub(crate) fn disk_blocks(size: u64) -> Result<u64, DiskError> {
    if !(MIN_SIZE..MAX_SIZE).contains(&size) {
        let reason = format!("a writable disk has at least {MIN_SIZE} bytes and less than {MAX_SIZE}");
        return Err(DiskError::DiskSize { size, reason });
    }
    Ok(Geometry::usable_blocks(size / BLOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_without_a_file_system_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for size in [0, MIN_SIZE - 1, MAX_SIZE, u64::MAX] {
            let error = create_writable_disk(&dir.path().join("disk"), size, [1; 16]).unwrap_err();
            assert!(matches!(error, DiskError::DiskSize { .. }));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
