//! Removing what no image refers to any more.

use crate::digest::{Algorithm, Digest};
use crate::document::{Document, parse_document};
use crate::limits::MAX_MANIFEST_BYTES;
use crate::store::lock;
use crate::{ContentStore, OciError};
use rustix::fs::FlockOperation;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

impl ContentStore {
    /// Removes every blob that the manifests (or blobs) in `keep` do not refer to, what interrupted downloads and
    /// imports left, and the index's entries of removed images. Returns the bytes freed.
    ///
    /// Fails with [`OciError::StoreBusy`] while a fetch runs or a [`crate::Lease`] is held, whose blobs are not referred to
    /// yet; then only the halves of blobs are gone that nobody is bringing.
    pub fn remove_unreferenced(&self, keep: &BTreeSet<String>) -> Result<u64, OciError> {
        let mut freed = self.remove_abandoned()?;
        let _alone = self.lock_file("lease.lock", FlockOperation::NonBlockingLockExclusive)?;
        let kept = self.referred_to(keep)?;
        self.update_index(|index| {
            index.manifests.retain(|entry| entry.parsed_digest().is_ok_and(|digest| kept.contains(&digest)));
        })?;
        for algorithm in Algorithm::ALL {
            let dir = self.root().join("blobs").join(algorithm.name());
            for entry in fs::read_dir(&dir).map_err(OciError::store("list", &dir))? {
                let entry = entry.map_err(OciError::store("list", &dir))?;
                let name = entry.file_name();
                let digest = name.to_str().and_then(|hex| format!("{}:{hex}", algorithm.name()).parse::<Digest>().ok());
                if digest.is_some_and(|digest| !kept.contains(&digest)) {
                    freed += remove(&entry.path())?;
                }
            }
        }
        // With the lease ours alone, nothing in here belongs to anybody living; the locks are asked all the same.
        for entry in fs::read_dir(self.ingest_dir()).map_err(OciError::store("list", self.ingest_dir()))? {
            let path = entry.map_err(OciError::store("list", self.ingest_dir()))?.path();
            if path.extension().is_some_and(|extension| extension == "lock") {
                continue;
            }
            let is_free =
                File::open(&path).is_ok_and(|file| lock(&file, FlockOperation::NonBlockingLockExclusive).is_ok());
            if is_free {
                freed += remove(&path)?;
            }
        }
        Ok(freed)
    }

    /// Removes the halves of blobs that nobody holds. Whoever waits for the lock of one sees that its name is gone.
    fn remove_abandoned(&self) -> Result<u64, OciError> {
        let mut freed = 0;
        for entry in fs::read_dir(self.ingest_dir()).map_err(OciError::store("list", self.ingest_dir()))? {
            let path = entry.map_err(OciError::store("list", self.ingest_dir()))?.path();
            if path.extension().is_none_or(|extension| extension != "partial") {
                continue;
            }
            let Ok(file) = File::open(&path) else { continue };
            let is_ours = lock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
                && match (file.metadata(), fs::symlink_metadata(&path)) {
                    (Ok(locked), Ok(named)) => (locked.dev(), locked.ino()) == (named.dev(), named.ino()),
                    _ => false,
                };
            if is_ours {
                freed += remove(&path)?;
            }
        }
        Ok(freed)
    }

    /// `keep` and all that its manifests and indexes name.
    fn referred_to(&self, keep: &BTreeSet<String>) -> Result<BTreeSet<Digest>, OciError> {
        let mut open: Vec<Digest> = keep.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let mut kept = BTreeSet::new();
        while let Some(digest) = open.pop() {
            if !kept.insert(digest.clone()) || self.size_of(&digest)?.is_none_or(|size| size > MAX_MANIFEST_BYTES) {
                continue;
            }
            let bytes = self.read_blob(&digest, MAX_MANIFEST_BYTES)?;
            match parse_document(&bytes, None, "") {
                Ok(Document::Manifest(manifest)) => {
                    kept.insert(manifest.config.parsed_digest()?);
                    for layer in &manifest.layers {
                        kept.insert(layer.parsed_digest()?);
                    }
                }
                Ok(Document::Index(entries)) => {
                    open.extend(entries.iter().filter_map(|entry| entry.parsed_digest().ok()));
                }
                // A layer or configuration that is kept for itself.
                Err(_) => {}
            }
        }
        Ok(kept)
    }
}

/// Removes a file or directory tree, giving the bytes of its files.
fn remove(path: &Path) -> Result<u64, OciError> {
    let metadata = fs::symlink_metadata(path).map_err(OciError::store("look at", path))?;
    if !metadata.is_dir() {
        fs::remove_file(path).map_err(OciError::store("remove", path))?;
        return Ok(metadata.len());
    }
    let mut bytes = 0;
    for entry in fs::read_dir(path).map_err(OciError::store("list", path))? {
        let entry = entry.map_err(OciError::store("list", path))?;
        bytes += entry.metadata().map_err(OciError::store("look at", entry.path()))?.len();
    }
    fs::remove_dir_all(path).map_err(OciError::store("remove", path))?;
    Ok(bytes)
}
