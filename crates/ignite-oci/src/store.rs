//! The content store: an OCI image layout directory whose blobs were verified before they got their name.

use crate::OciError;
use crate::digest::{Algorithm, Digest};
use crate::document::LayoutIndex;
use crate::limits::{DEFAULT_MAX_LAYER_BYTES, MAX_LAYOUT_INDEX_BYTES};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const EMPTY_INDEX: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// A directory of images, shared by any number of processes (OCI image-spec 1.1, image-layout.md).
///
/// Besides the layout's own files it holds `ingest/`: interrupted downloads (`sha256-<hex>.partial`, locked while a
/// process works on them), archives being unpacked (`import-*`), and the locks.
#[derive(Debug, Clone)]
pub struct ContentStore {
    root: PathBuf,
    max_layer_bytes: u64,
}

/// Keeps [`ContentStore::remove_unreferenced`] away from blobs that nothing refers to yet.
///
/// Hold one from before [`crate::fetch`] until the image's user has recorded it. Released on drop and on death.
#[derive(Debug)]
pub struct Lease {
    _lock: File,
}

impl ContentStore {
    /// Opens the store at `dir`, creating it when missing. Blocks on file I/O only.
    pub fn open(dir: &Path) -> Result<ContentStore, OciError> {
        let store = ContentStore { root: dir.to_owned(), max_layer_bytes: DEFAULT_MAX_LAYER_BYTES };
        for algorithm in Algorithm::ALL {
            let blobs = dir.join("blobs").join(algorithm.name());
            fs::create_dir_all(&blobs).map_err(OciError::store("create", blobs))?;
        }
        fs::create_dir_all(store.ingest_dir()).map_err(OciError::store("create", store.ingest_dir()))?;
        let layout = dir.join("oci-layout");
        if layout.exists() {
            check_layout_version(dir)?;
        } else {
            store.write_atomically(&layout, LAYOUT.as_bytes())?;
        }
        let _lock = store.lock_file("index.lock", FlockOperation::LockExclusive)?;
        if !store.index_path().exists() {
            store.write_atomically(&store.index_path(), EMPTY_INDEX.as_bytes())?;
        }
        Ok(store)
    }

    /// The same store with another bound of one layer's (or one archive's) decompressed bytes; the default is
    /// [`DEFAULT_MAX_LAYER_BYTES`].
    #[must_use]
    pub fn with_max_layer_bytes(mut self, max_layer_bytes: u64) -> ContentStore {
        self.max_layer_bytes = max_layer_bytes;
        self
    }

    /// Directory of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the blob `digest` is, or would be.
    pub fn blob_path(&self, digest: &str) -> Result<PathBuf, OciError> {
        Ok(self.path_of(&digest.parse()?))
    }

    /// Takes a lease; waits while another process sweeps, which is short.
    pub fn lease(&self) -> Result<Lease, OciError> {
        Ok(Lease { _lock: self.lock_file("lease.lock", FlockOperation::LockShared)? })
    }

    /// Removes the blob `digest`, so that the next fetch gets it anew: for a layer whose content turned out damaged.
    pub fn remove_blob(&self, digest: &str) -> Result<(), OciError> {
        let path = self.blob_path(digest)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(OciError::Store { action: "remove", path, source: error })
            }
            _ => Ok(()),
        }
    }

    /// Frees our copy of a blob that `theirs` holds, too, by a hard link; where that cannot be, nothing happens.
    pub(crate) fn replace_by_link(&self, digest: &Digest, theirs: &Path) -> Result<(), OciError> {
        let Some(size) = self.size_of(digest)? else { return Ok(()) };
        let same_size = fs::symlink_metadata(theirs).is_ok_and(|found| found.is_file() && found.len() == size);
        let link = self.ingest_dir().join(format!(".link-{}", digest.hex()));
        let _ = fs::remove_file(&link);
        if !same_size || fs::hard_link(theirs, &link).is_err() {
            return Ok(());
        }
        let target = self.path_of(digest);
        fs::rename(&link, &target).map_err(OciError::store("publish", &target))?;
        // Of two names of one file a rename leaves both.
        let _ = fs::remove_file(&link);
        Ok(())
    }

    pub(crate) fn max_layer_bytes(&self) -> u64 {
        self.max_layer_bytes
    }

    pub(crate) fn path_of(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    pub(crate) fn ingest_dir(&self) -> PathBuf {
        self.root.join("ingest")
    }

    fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }

    /// Size of the blob, when the store has it.
    pub(crate) fn size_of(&self, digest: &Digest) -> Result<Option<u64>, OciError> {
        let path = self.path_of(digest);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => Err(OciError::Store { action: "use", path, source: std::io::ErrorKind::InvalidInput.into() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(OciError::Store { action: "look at", path, source }),
        }
    }

    /// The whole of a small blob, verified again.
    pub(crate) fn read_blob(&self, digest: &Digest, limit_bytes: u64) -> Result<Vec<u8>, OciError> {
        let path = self.path_of(digest);
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(OciError::BlobMissing { digest: digest.to_string() });
            }
            other => other.map_err(OciError::store("open", &path))?,
        };
        let bytes = read_bounded(file, limit_bytes)
            .map_err(OciError::store("read", &path))?
            .ok_or_else(|| OciError::TooLarge { what: digest.to_string(), limit_bytes })?;
        verify("stored blob", &bytes, digest)?;
        Ok(bytes)
    }

    /// Stores a small blob under its digest; nothing happens when it is there already.
    pub(crate) fn put_blob(&self, bytes: &[u8], digest: &Digest) -> Result<(), OciError> {
        verify("blob", bytes, digest)?;
        if self.size_of(digest)? == Some(bytes.len() as u64) {
            return Ok(());
        }
        self.write_atomically(&self.path_of(digest), bytes)
    }

    pub(crate) fn read_index(&self) -> Result<LayoutIndex, OciError> {
        let path = self.index_path();
        let file = File::open(&path).map_err(OciError::store("open", &path))?;
        let bytes =
            read_bounded(file, MAX_LAYOUT_INDEX_BYTES).map_err(OciError::store("read", &path))?.ok_or_else(|| {
                OciError::TooLarge { what: path.display().to_string(), limit_bytes: MAX_LAYOUT_INDEX_BYTES }
            })?;
        LayoutIndex::parse(&bytes, &path.display().to_string())
    }

    /// Changes `index.json` while no other process does.
    pub(crate) fn update_index(&self, change: impl FnOnce(&mut LayoutIndex)) -> Result<(), OciError> {
        let _lock = self.lock_file("index.lock", FlockOperation::LockExclusive)?;
        let mut index = self.read_index()?;
        let before = index.to_json();
        change(&mut index);
        let after = index.to_json();
        if before == after { Ok(()) } else { self.write_atomically(&self.index_path(), &after) }
    }

    /// Opens and locks a file of `ingest/`; `NonBlocking` operations fail with [`OciError::StoreBusy`].
    pub(crate) fn lock_file(&self, name: &str, operation: FlockOperation) -> Result<File, OciError> {
        let path = self.ingest_dir().join(name);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o644)
            .open(&path)
            .map_err(OciError::store("open", &path))?;
        match lock(&file, operation) {
            Ok(()) => Ok(file),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                Err(OciError::StoreBusy { path: self.root.clone() })
            }
            Err(source) => Err(OciError::Store { action: "lock", path, source }),
        }
    }

    /// Writes a file so that readers see the old or the new one, also after a crash.
    fn write_atomically(&self, path: &Path, bytes: &[u8]) -> Result<(), OciError> {
        let mut file = self.new_file()?;
        file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(OciError::store("write", path))?;
        file.persist(path).map_err(|error| OciError::Store {
            action: "write",
            path: path.to_owned(),
            source: error.error,
        })?;
        sync_parent(path)
    }

    /// A file that is about to become another: locked while its owner lives, so that one that is not is debris.
    fn new_file(&self) -> Result<NamedTempFile, OciError> {
        loop {
            let file = tempfile::Builder::new()
                .prefix(NEW_PREFIX)
                .permissions(file_mode())
                .tempfile_in(self.ingest_dir())
                .map_err(OciError::store("create a file in", self.ingest_dir()))?;
            lock(file.as_file(), FlockOperation::LockExclusive).map_err(OciError::store("lock", file.path()))?;
            // Whoever sweeps may have taken it for debris before it was locked.
            if file.path().exists() {
                return Ok(file);
            }
        }
    }
}

/// What the names of unfinished files and directories begin with.
pub(crate) const NEW_PREFIX: &str = ".new-";

/// Mode of files that everyone who may enter the store's directory may read.
fn file_mode() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o644)
}

/// Makes a rename durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), OciError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(OciError::store("sync", parent))
}

/// `flock`, restarted when a signal interrupts it.
pub(crate) fn lock(file: &File, operation: FlockOperation) -> std::io::Result<()> {
    loop {
        match flock(file, operation) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map_err(Into::into),
        }
    }
}

/// All of `reader`, or `None` when that is more than `limit_bytes`.
pub(crate) fn read_bounded(reader: impl Read, limit_bytes: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    reader.take(limit_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit_bytes).then_some(bytes))
}

/// Compares `bytes` with the digest they must have.
pub(crate) fn verify(what: &str, bytes: &[u8], digest: &Digest) -> Result<(), OciError> {
    if digest.matches(bytes) {
        return Ok(());
    }
    Err(OciError::DigestMismatch {
        what: what.to_owned(),
        expected: digest.to_string(),
        actual: Digest::of(bytes).to_string(),
    })
}

/// Refuses a directory that is no layout of version 1.
pub(crate) fn check_layout_version(dir: &Path) -> Result<(), OciError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    let not_a_layout = |reason: String| OciError::NotALayout { path: dir.to_owned(), reason };
    let file =
        File::open(dir.join("oci-layout")).map_err(|error| not_a_layout(format!("its file oci-layout: {error}")))?;
    let bytes = read_bounded(file, 4096).map_err(|error| not_a_layout(format!("its file oci-layout: {error}")))?;
    let layout: Layout = serde_json::from_slice(&bytes.unwrap_or_default())
        .map_err(|error| not_a_layout(format!("its file oci-layout: {error}")))?;
    if !layout.image_layout_version.starts_with("1.") {
        return Err(not_a_layout(format!("version {:?}, expected 1.x", layout.image_layout_version)));
    }
    Ok(())
}
