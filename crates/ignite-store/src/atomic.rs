//! Files that are whole or not there: temporary name, fsync, rename.

use crate::error::StoreError;
use std::io::Write;
use std::path::Path;
use tempfile::NamedTempFile;

/// Replaces `path` by `bytes` with mode 0600; a crash leaves the old file or the new one.
///
/// The directory is not synced: after a power cut the old contents may come back, never a mixture.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let file = fill(path, bytes)?;
    file.as_file().sync_data().map_err(|e| StoreError::io("sync", path, e))?;
    replace(path, file)
}

/// The same for a file that means nothing after the host's next boot: whole for every reader, and not synced.
pub fn write_volatile(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    replace(path, fill(path, bytes)?)
}

fn fill(path: &Path, bytes: &[u8]) -> Result<NamedTempFile, StoreError> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new()
        .prefix(".write-")
        .tempfile_in(dir)
        .map_err(|e| StoreError::io("create a temporary file in", dir, e))?;
    file.write_all(bytes).map_err(|e| StoreError::io("write", path, e))?;
    Ok(file)
}

fn replace(path: &Path, file: NamedTempFile) -> Result<(), StoreError> {
    file.persist(path).map_err(|e| StoreError::io("replace", path, e.error))?;
    Ok(())
}

/// Makes a directory and its missing parents, with this mode.
pub fn ensure_dir(path: &Path, mode: u32) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|e| StoreError::io("create directory", path, e))
}

/// Deletes a tree that may already be gone.
pub fn remove_tree(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Deletes a file that may already be gone.
pub fn remove_file(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", path, e)),
        _ => Ok(()),
    }
}
