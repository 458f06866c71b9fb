//! One blob on its way into the store: a locked file that survives interruption and is verified before it is named.

use crate::digest::{Digest, Hasher};
use crate::store::{lock, sync_parent};
use crate::{ContentStore, OciError};
use rustix::fs::FlockOperation;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What [`PartialBlob::acquire`] found.
pub(crate) enum Acquired {
    /// The store has the blob, of this many bytes.
    Present(u64),
    /// It does not, and the caller alone may now bring it.
    Missing(PartialBlob),
}

/// What became of a blob that lies on this host already.
pub(crate) enum Adopted {
    /// The store has it, without a copy.
    Linked,
    /// It cannot be linked, and is brought some other way.
    NotHere(Box<PartialBlob>),
}

/// A blob being written. The file is its own lock (`flock`), so a dead process never blocks a living one; what it wrote
/// stays for the next. Dropping keeps the file, [`PartialBlob::discard`] removes it.
pub(crate) struct PartialBlob {
    file: File,
    path: PathBuf,
    target: PathBuf,
    digest: Digest,
    hasher: Hasher,
    written: u64,
}

impl PartialBlob {
    /// Becomes the one who brings `digest`. Blocks while another process does, and then finds it present.
    pub(crate) fn acquire(store: &ContentStore, digest: &Digest) -> Result<Acquired, OciError> {
        let path = store.ingest_dir().join(format!("{}-{}.partial", digest.algorithm().name(), digest.hex()));
        loop {
            if let Some(size) = store.size_of(digest)? {
                return Ok(Acquired::Present(size));
            }
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
                .open(&path)
                .map_err(OciError::store("open", &path))?;
            lock(&file, FlockOperation::LockExclusive).map_err(OciError::store("lock", &path))?;
            // While we waited the file may have become the blob, or have been swept: then this lock means nothing.
            let ours = file.metadata().map_err(OciError::store("look at", &path))?;
            let is_still_named =
                fs::symlink_metadata(&path).is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino()));
            if !is_still_named {
                continue;
            }
            if let Some(size) = store.size_of(digest)? {
                fs::remove_file(&path).map_err(OciError::store("remove", &path))?;
                return Ok(Acquired::Present(size));
            }
            let hasher = Hasher::new(digest.algorithm());
            let target = store.path_of(digest);
            return Ok(Acquired::Missing(PartialBlob {
                file,
                path,
                target,
                digest: digest.clone(),
                hasher,
                written: 0,
            }));
        }
    }

    /// Takes over what an earlier process left: reads and hashes it. Starts over when it is more than `size`.
    pub(crate) fn resume(&mut self, size: u64) -> Result<(), OciError> {
        let present = self.file.metadata().map_err(OciError::store("look at", &self.path))?.len();
        if present > size {
            return self.restart();
        }
        self.hasher = Hasher::new(self.digest.algorithm());
        self.written = 0;
        self.file.rewind().map_err(OciError::store("read", &self.path))?;
        let mut buffer = vec![0; 128 << 10];
        loop {
            let count = self.file.read(&mut buffer).map_err(OciError::store("read", &self.path))?;
            if count == 0 {
                return Ok(());
            }
            self.hasher.update(&buffer[..count]);
            self.written += count as u64;
        }
    }

    /// Makes the file at `source` the blob by a hard link, once its content is what is wanted. A file that is not there,
    /// on another file system, or not ours to link is no error.
    pub(crate) fn adopt(self, source: &Path) -> Result<Adopted, OciError> {
        let open = OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32).open(source);
        let Ok(mut file) = open else { return Ok(Adopted::NotHere(Box::new(self))) };
        let link = self.path.with_file_name(format!(".link-{}", self.digest.hex()));
        // Linked first: what is verified is then what gets the name, whatever happens to the source's.
        let _ = fs::remove_file(&link);
        if fs::hard_link(source, &link).is_err() {
            return Ok(Adopted::NotHere(Box::new(self)));
        }
        let is_same = || -> std::io::Result<bool> {
            let (ours, theirs) = (fs::symlink_metadata(&link)?, file.metadata()?);
            if !theirs.is_file() || (ours.dev(), ours.ino()) != (theirs.dev(), theirs.ino()) {
                return Ok(false);
            }
            let mut hasher = Hasher::new(self.digest.algorithm());
            let mut buffer = vec![0; 128 << 10];
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(hasher.finish() == self.digest),
                    count => hasher.update(&buffer[..count]),
                }
            }
        };
        if !{ is_same }().unwrap_or(false) {
            fs::remove_file(&link).map_err(OciError::store("remove", &link))?;
            return Ok(Adopted::NotHere(Box::new(self)));
        }
        fs::rename(&link, &self.target).map_err(OciError::store("publish", &self.target))?;
        sync_parent(&self.target)?;
        self.discard()?;
        Ok(Adopted::Linked)
    }

    /// Forgets what was written.
    pub(crate) fn restart(&mut self) -> Result<(), OciError> {
        self.file.set_len(0).map_err(OciError::store("truncate", &self.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(OciError::store("truncate", &self.path))?;
        self.hasher = Hasher::new(self.digest.algorithm());
        self.written = 0;
        Ok(())
    }

    /// Appends to the blob.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), OciError> {
        if let Err(source) = self.file.write_all(bytes) {
            if matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) {
                // What cannot be finished must not keep the disk full; whoever waits for the lock sees that the name is gone.
                let _ = fs::remove_file(&self.path);
            }
            return Err(OciError::Store { action: "write", path: self.path.clone(), source });
        }
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// True when what was written is what was wanted.
    pub(crate) fn verify(&self, what: &str) -> Result<(), OciError> {
        let actual = self.hasher.clone().finish();
        if actual == self.digest {
            return Ok(());
        }
        Err(OciError::DigestMismatch {
            what: what.to_owned(),
            expected: self.digest.to_string(),
            actual: actual.to_string(),
        })
    }

    /// Gives the verified blob its name, durably.
    pub(crate) fn commit(self, what: &str) -> Result<(), OciError> {
        self.verify(what)?;
        self.file.sync_all().map_err(OciError::store("sync", &self.path))?;
        fs::rename(&self.path, &self.target).map_err(OciError::store("publish", &self.target))?;
        sync_parent(&self.target)
    }

    /// Gives the blob its name where it is what was wanted, else removes it.
    pub(crate) fn settle(self, what: &str) -> Result<(), OciError> {
        match self.verify(what) {
            Ok(()) => self.commit(what),
            Err(error) => {
                self.discard()?;
                Err(error)
            }
        }
    }

    /// Removes the file.
    pub(crate) fn discard(self) -> Result<(), OciError> {
        fs::remove_file(&self.path).map_err(OciError::store("remove", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(store: &ContentStore, digest: &Digest) -> PartialBlob {
        match PartialBlob::acquire(store, digest).unwrap() {
            Acquired::Missing(blob) => blob,
            Acquired::Present(_) => panic!("the blob is already there"),
        }
    }

    #[test]
    fn what_a_dead_process_left_is_continued() {
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path()).unwrap();
        let digest = Digest::of(b"hello world");
        let mut blob = missing(&store, &digest);
        blob.write(b"hello ").unwrap();
        drop(blob);
        let mut blob = missing(&store, &digest);
        blob.resume(11).unwrap();
        assert_eq!(blob.written(), 6);
        blob.write(b"world").unwrap();
        blob.commit("blob").unwrap();
        assert_eq!(store.read_blob(&digest, 100).unwrap(), b"hello world");
        assert!(matches!(PartialBlob::acquire(&store, &digest).unwrap(), Acquired::Present(11)));
    }

    #[test]
    fn wrong_content_gets_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path()).unwrap();
        let digest = Digest::of(b"hello world");
        let mut blob = missing(&store, &digest);
        blob.write(b"hello moon!").unwrap();
        assert!(matches!(blob.commit("blob"), Err(OciError::DigestMismatch { .. })));
        assert_eq!(store.size_of(&digest).unwrap(), None);
    }

    #[test]
    fn a_second_bringer_waits_and_finds_the_blob() {
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path()).unwrap();
        let digest = Digest::of(b"once");
        let mut first = missing(&store, &digest);
        let waiter = std::thread::spawn({
            let (store, digest) = (store.clone(), digest.clone());
            move || matches!(PartialBlob::acquire(&store, &digest).unwrap(), Acquired::Present(4))
        });
        first.write(b"once").unwrap();
        first.commit("blob").unwrap();
        assert!(waiter.join().unwrap());
        assert_eq!(
            fs::read_dir(store.ingest_dir())
                .unwrap()
                .filter(|entry| { entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".partial") })
                .count(),
            0
        );
    }
}
