//! The initramfs: the guest's init and the kernel modules it needs to find its disks.

use std::path::Path;

use crate::DiskError;

/// Writes the initramfs of the kernel imported to `kernel_dir`, with `init_program` as `/init`, to `dest`.
pub fn write_initramfs(kernel_dir: &Path, _init_program: &[u8], _dest: &Path) -> Result<(), DiskError> {
    Err(DiskError::NoKernel { path: kernel_dir.into(), reason: "not written yet".into() })
}
