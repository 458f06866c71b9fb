//! A private directory where an import's blobs wait until all of it is known to be good.

use crate::compression::Compression;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::store::{NEW_PREFIX, lock, sync_parent};
use crate::{ContentStore, OciError};
use rustix::fs::FlockOperation;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// The directory; removed on drop, and after a crash by the next import.
pub(crate) struct Staging {
    store: ContentStore,
    dir: PathBuf,
    /// An open directory can be locked: that shows others that its owner lives.
    _lock: File,
    files: u64,
}

/// Content that waits, hashed.
#[derive(Debug, Clone)]
pub(crate) struct Staged {
    path: PathBuf,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) compression: Compression,
}

/// Why content could not be staged: the two sides need different words.
pub(crate) enum StageError {
    Read(io::Error),
    TooLarge,
    Write(OciError),
}

impl Staging {
    /// Makes a staging directory, after removing those of dead processes.
    pub(crate) fn new(store: &ContentStore) -> Result<Staging, OciError> {
        remove_stale(store)?;
        let ingest = store.ingest_dir();
        loop {
            let unlocked = tempfile::Builder::new()
                .prefix(NEW_PREFIX)
                .tempdir_in(&ingest)
                .map_err(OciError::store("create a directory in", &ingest))?;
            let name = unlocked.path().file_name().unwrap_or_default().to_string_lossy().replace(NEW_PREFIX, "import-");
            let dir = ingest.join(name);
            let take = || -> io::Result<File> {
                let handle = File::open(unlocked.path())?;
                lock(&handle, FlockOperation::LockExclusive)?;
                fs::rename(unlocked.path(), &dir)?;
                Ok(handle)
            };
            match take() {
                Ok(handle) => return Ok(Staging { store: store.clone(), dir, _lock: handle, files: 0 }),
                // Whoever sweeps has taken it for debris before it was locked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(OciError::store("create", &dir)(error)),
            }
        }
    }

    /// Copies `reader` to a file, hashing it.
    pub(crate) fn add(
        &mut self,
        reader: &mut dyn Read,
        algorithm: Algorithm,
        limit_bytes: u64,
    ) -> Result<Staged, StageError> {
        let path = self.dir.join(self.files.to_string());
        self.files += 1;
        let write_error = |source| StageError::Write(OciError::Store { action: "write", path: path.clone(), source });
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path).map_err(write_error)?;
        let mut hasher = Hasher::new(algorithm);
        let mut size = 0;
        let mut start: Vec<u8> = Vec::with_capacity(8);
        let mut buffer = vec![0; 128 << 10];
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(StageError::Read(error)),
            };
            let missing = (8 - start.len()).min(count);
            start.extend_from_slice(&buffer[..missing]);
            size += count as u64;
            if size > limit_bytes {
                return Err(StageError::TooLarge);
            }
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(write_error)?;
        }
        Ok(Staged { path, digest: hasher.finish(), size, compression: Compression::detect(&start) })
    }

    /// Reads staged content again.
    pub(crate) fn read(&self, staged: &Staged, limit_bytes: u64) -> Result<Option<Vec<u8>>, OciError> {
        File::open(&staged.path)
            .and_then(|file| crate::store::read_bounded(file, limit_bytes))
            .map_err(OciError::store("read", &staged.path))
    }

    /// Moves content into the store. True when the store had it already.
    pub(crate) fn commit(&self, staged: &Staged) -> Result<bool, OciError> {
        let target = self.store.path_of(&staged.digest);
        if self.store.size_of(&staged.digest)? == Some(staged.size) {
            return Ok(true);
        }
        File::open(&staged.path).and_then(|file| file.sync_all()).map_err(OciError::store("sync", &staged.path))?;
        fs::rename(&staged.path, &target).map_err(OciError::store("publish", &target))?;
        sync_parent(&target)?;
        Ok(false)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(dir = %self.dir.display(), %error, "cannot remove the staging directory");
        }
    }
}

fn remove_stale(store: &ContentStore) -> Result<(), OciError> {
    let ingest = store.ingest_dir();
    for entry in fs::read_dir(&ingest).map_err(OciError::store("list", &ingest))? {
        let entry = entry.map_err(OciError::store("list", &ingest))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("import-") && !name.starts_with(NEW_PREFIX) {
            continue;
        }
        let path = entry.path();
        let Ok(handle) = File::open(&path) else { continue };
        if lock(&handle, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let is_dir = handle.metadata().is_ok_and(|metadata| metadata.is_dir());
            match if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) } {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(OciError::Store { action: "remove", path, source: error });
                }
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_dead_left_is_removed_and_what_the_living_have_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path()).unwrap();
        let ingest = store.ingest_dir();
        fs::write(ingest.join(".new-file"), "half").unwrap();
        fs::create_dir(ingest.join(".new-dir")).unwrap();
        fs::create_dir(ingest.join("import-dead")).unwrap();
        let living = File::create(ingest.join(".new-living")).unwrap();
        lock(&living, FlockOperation::LockExclusive).unwrap();
        let staging = Staging::new(&store).unwrap();
        let mut left: Vec<_> = fs::read_dir(&ingest).unwrap().map(|entry| entry.unwrap().path()).collect();
        left.sort();
        assert_eq!(left, [ingest.join(".new-living"), staging.dir.clone(), ingest.join("index.lock")]);
    }
}
