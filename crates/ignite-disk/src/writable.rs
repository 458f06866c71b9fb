//! Empty writable disks.

use std::path::Path;

use crate::DiskError;

/// Makes an empty, sparse ext4 image of `size` bytes at `dest`.
pub fn create_writable_disk(dest: &Path, size: u64, _uuid: [u8; 16]) -> Result<(), DiskError> {
    Err(DiskError::DiskSize { size, reason: format!("{dest:?} is not written yet") })
}
