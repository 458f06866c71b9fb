//! Source `oci:PATH[:TAG]`: an OCI image layout directory.

use super::layout_image::{LayoutBlobs, Request, import, select};
use crate::digest::Digest;
use crate::document::{Descriptor, LayoutIndex};
use crate::limits::MAX_LAYOUT_INDEX_BYTES;
use crate::staging::{StageError, Staged, Staging};
use crate::store::{check_layout_version, read_bounded, verify};
use crate::{ContentStore, OciError, Progress, PullOptions, StoredImage};
use rustix::fs::OFlags;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub(super) fn fetch(
    store: &ContentStore,
    path: &Path,
    tag: Option<&str>,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<StoredImage, OciError> {
    let location = format!("oci:{}", path.display());
    let index = read_index(path, &location)?;
    let mut blobs = DirectoryBlobs { dir: path, store, staging: Staging::new(store)?, staged: HashMap::new() };
    let request = Request { location: &location, path: Some(path), tag, options };
    import(store, &index, &mut blobs, &request, progress)
}

pub(super) fn resolve_digest(path: &Path, tag: Option<&str>, options: &PullOptions) -> Result<String, OciError> {
    let location = format!("oci:{}", path.display());
    let request = Request { location: &location, path: Some(path), tag, options };
    Ok(select(&read_index(path, &location)?, &request)?.0.digest)
}

fn read_index(dir: &Path, location: &str) -> Result<LayoutIndex, OciError> {
    check_layout_version(dir)?;
    let path = dir.join("index.json");
    let read_error = |source| OciError::ReadSource { path: path.clone(), source };
    let bytes = read_bounded(open_regular(&path).map_err(read_error)?, MAX_LAYOUT_INDEX_BYTES).map_err(read_error)?;
    let bytes = bytes.ok_or_else(|| OciError::TooLarge {
        what: format!("index.json of {location}"),
        limit_bytes: MAX_LAYOUT_INDEX_BYTES,
    })?;
    LayoutIndex::parse(&bytes, &path.display().to_string())
}

/// Opens a file without waiting for a fifo's writer. Links are followed: build systems make layouts of links, and what
/// is read must have its digest anyway.
fn open_regular(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

struct DirectoryBlobs<'a> {
    dir: &'a Path,
    store: &'a ContentStore,
    staging: Staging,
    staged: HashMap<Digest, Staged>,
}

impl DirectoryBlobs<'_> {
    fn open(&self, digest: &Digest) -> Result<(File, PathBuf), OciError> {
        let path = self.dir.join("blobs").join(digest.algorithm().name()).join(digest.hex());
        let file = open_regular(&path).map_err(|source| OciError::ReadSource { path: path.clone(), source })?;
        Ok((file, path))
    }
}

impl LayoutBlobs for DirectoryBlobs<'_> {
    fn read(&mut self, digest: &Digest, limit_bytes: u64) -> Result<Vec<u8>, OciError> {
        let (file, path) = self.open(digest)?;
        let bytes =
            read_bounded(file, limit_bytes).map_err(|source| OciError::ReadSource { path: path.clone(), source })?;
        let what = path.display().to_string();
        let bytes = bytes.ok_or_else(|| OciError::TooLarge { what: what.clone(), limit_bytes })?;
        verify(&what, &bytes, digest)?;
        Ok(bytes)
    }

    fn stage(&mut self, blob: &Descriptor) -> Result<(), OciError> {
        let digest = blob.parsed_digest()?;
        if self.staged.contains_key(&digest) || self.store.size_of(&digest)? == Some(blob.size) {
            return Ok(());
        }
        let (mut file, path) = self.open(&digest)?;
        let what = path.display().to_string();
        let present = file.metadata().map_err(|source| OciError::ReadSource { path: path.clone(), source })?.len();
        if present != blob.size {
            return Err(OciError::SizeMismatch { what, expected: blob.size, actual: present });
        }
        let staged = self.staging.add(&mut file, digest.algorithm(), blob.size).map_err(|error| match error {
            StageError::Read(source) => OciError::ReadSource { path, source },
            StageError::TooLarge => OciError::TooLarge { what: what.clone(), limit_bytes: blob.size },
            StageError::Write(error) => error,
        })?;
        if staged.digest != digest {
            let (expected, actual) = (digest.to_string(), staged.digest.to_string());
            return Err(OciError::DigestMismatch { what, expected, actual });
        }
        self.staged.insert(digest, staged);
        Ok(())
    }

    fn commit(&mut self, digest: &Digest) -> Result<bool, OciError> {
        match self.staged.get(digest) {
            Some(staged) => self.staging.commit(staged),
            None => Ok(true),
        }
    }
}
