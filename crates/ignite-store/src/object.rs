//! Objects of one kind: listed, read, replaced, published and removed as wholes.

use crate::atomic;
use crate::error::StoreError;
use crate::lock::FileLock;
use ignite_api::{Image, Kernel, ObjectMeta, Uid, Vm};
use serde::{Serialize, de::DeserializeOwned};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest an object's lock is waited for; its holders keep it for milliseconds.
const OBJECT_LOCK_DEADLINE: Duration = Duration::from_secs(10);

/// A kind of object that the store keeps.
pub trait Object: Serialize + DeserializeOwned {
    /// Directory and name of the kind.
    const KIND: Kind;
    /// The object's metadata.
    fn metadata(&self) -> &ObjectMeta;
}

/// Kinds of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Virtual machines.
    Vm,
    /// Imported images.
    Image,
    /// Imported kernels.
    Kernel,
}

impl Kind {
    /// Directory below the data directory.
    pub fn directory(self) -> &'static str {
        match self {
            Kind::Vm => "vm",
            Kind::Image => "image",
            Kind::Kernel => "kernel",
        }
    }
    /// As messages name it.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Vm => "VM",
            Kind::Image => "image",
            Kind::Kernel => "kernel",
        }
    }
}

impl Object for Vm {
    const KIND: Kind = Kind::Vm;
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl Object for Image {
    const KIND: Kind = Kind::Image;
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl Object for Kernel {
    const KIND: Kind = Kind::Kernel;
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

/// All objects of one kind below a data directory.
#[derive(Debug, Clone)]
pub struct Objects<T> {
    dir: PathBuf,
    kind: PhantomData<fn() -> T>,
}

impl<T: Object> Objects<T> {
    /// The objects below this data directory; nothing is made until something is stored.
    pub fn new(data_dir: &Path) -> Objects<T> {
        Objects { dir: data_dir.join(T::KIND.directory()), kind: PhantomData }
    }

    /// An object's directory.
    pub fn dir(&self, uid: &Uid) -> PathBuf {
        self.dir.join(uid.as_str())
    }

    /// Uids of all objects, sorted; a missing directory is an empty one.
    pub fn uids(&self) -> Result<Vec<Uid>, StoreError> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(StoreError::io("list", &self.dir, e)),
        };
        let mut uids: Vec<Uid> =
            entries.filter_map(|entry| Uid::parse(entry.ok()?.file_name().to_str()?).ok()).collect();
        uids.sort();
        Ok(uids)
    }

    /// All objects, sorted by uid; one that vanishes meanwhile is left out, a damaged one is an error in its place.
    pub fn list(&self) -> Result<Vec<Result<T, StoreError>>, StoreError> {
        let results = self.uids()?.into_iter().map(|uid| self.read(&uid));
        Ok(results.filter(|r| !matches!(r, Err(StoreError::Missing { .. }))).collect())
    }

    /// Reads an object.
    pub fn read(&self, uid: &Uid) -> Result<T, StoreError> {
        let path = self.dir(uid).join("metadata.json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(self.missing(uid)),
            Err(e) => return Err(StoreError::io("read", path, e)),
        };
        serde_json::from_slice(&bytes).map_err(|source| StoreError::Damaged { path, source })
    }

    /// Replaces a stored object. The caller holds its lock, or is its live supervisor.
    pub fn write(&self, object: &T) -> Result<(), StoreError> {
        let uid = self.uid_of(object)?;
        let dir = self.dir(uid);
        if !dir.is_dir() {
            return Err(self.missing(uid));
        }
        write_metadata(&dir, object)
    }

    /// Waits for the object's lock. Whoever changes an object holds it; readers need not.
    pub fn lock(&self, uid: &Uid) -> Result<FileLock, StoreError> {
        let dir = self.dir(uid);
        if !dir.is_dir() {
            return Err(self.missing(uid));
        }
        let lock = FileLock::take(&dir.join("lock"), OBJECT_LOCK_DEADLINE)?;
        // It may have been removed while we waited; the lock is then on a file of a deleted directory.
        if dir.join("metadata.json").exists() { Ok(lock) } else { Err(self.missing(uid)) }
    }

    /// Starts making an object: a private directory to fill, which nobody sees until it is published.
    pub fn draft(&self, uid: &Uid) -> Result<Draft, StoreError> {
        let dir = self.dir.join(format!(".new-{uid}"));
        atomic::ensure_dir(&dir, 0o755)?;
        let lock = FileLock::take(&dir.join("lock"), OBJECT_LOCK_DEADLINE)?;
        Ok(Draft { dir, lock: Some(lock) })
    }

    /// Publishes a draft under the object's uid and name, in one step: before it nothing is visible, after it everything.
    /// A draft that could not be published comes back, to be tried again under another name.
    pub fn publish(&self, mut draft: Draft, object: &T) -> Result<(), (Draft, StoreError)> {
        match self.try_publish(&draft, object) {
            Ok(()) => {
                draft.dir = PathBuf::new();
                Ok(())
            }
            Err(error) => Err((draft, error)),
        }
    }

    fn try_publish(&self, draft: &Draft, object: &T) -> Result<(), StoreError> {
        let uid = self.uid_of(object)?;
        let name = &object.metadata().name;
        write_metadata(&draft.dir, object)?;
        let _names = self.lock_names()?;
        self.refuse_taken(name, uid)?;
        // The index first: a link to nothing means nothing, an object without a link could get a namesake.
        self.index_name(name, uid)?;
        let target = self.dir(uid);
        std::fs::rename(&draft.dir, &target).map_err(|e| StoreError::io("publish", target, e))
    }

    fn refuse_taken(&self, name: &str, uid: &Uid) -> Result<(), StoreError> {
        match self.owner_of_name(name)?.filter(|owner| owner != uid) {
            Some(owner) => {
                Err(StoreError::NameTaken { kind: T::KIND.title(), name: name.to_owned(), uid: owner.to_string() })
            }
            None => Ok(()),
        }
    }

    /// Gives a stored object another name. The caller holds its lock.
    pub fn rename(&self, object: &T, old_name: &str) -> Result<(), StoreError> {
        let uid = self.uid_of(object)?;
        let name = &object.metadata().name;
        let _names = self.lock_names()?;
        self.refuse_taken(name, uid)?;
        self.write(object)?;
        self.index_name(name, uid)?;
        if old_name != name {
            atomic::remove_file(&self.name_link(old_name))?;
        }
        Ok(())
    }

    /// Removes an object: it is gone for everyone at once, its files right after.
    pub fn remove(&self, uid: &Uid) -> Result<(), StoreError> {
        let name = self.read(uid).ok().map(|object| object.metadata().name.clone());
        let gone = self.dir.join(format!(".gone-{uid}"));
        atomic::remove_tree(&gone)?;
        match std::fs::rename(self.dir(uid), &gone) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(self.missing(uid)),
            Err(e) => return Err(StoreError::io("remove", self.dir(uid), e)),
            Ok(()) => {}
        }
        if let Some(name) = name {
            let _names = self.lock_names()?;
            if self.link_target(&name).as_ref() == Some(uid) {
                atomic::remove_file(&self.name_link(&name))?;
            }
        }
        atomic::remove_tree(&gone)
    }

    /// Deletes what interrupted makers and removers left; what a live process still makes is kept.
    pub fn sweep(&self) -> Result<(), StoreError> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return Ok(()) };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let path = entry.path();
            if name.starts_with(".gone-") {
                atomic::remove_tree(&path)?;
            } else if name.starts_with(".new-") {
                // The maker creates the directory a moment before its lock: without one it is too young to judge,
                // unless it is old.
                let lock = path.join("lock");
                let is_debris = match FileLock::try_take_existing(&lock)? {
                    Some(_lock) => true,
                    None => !lock.exists() && is_older_than(&path, OBJECT_LOCK_DEADLINE),
                };
                if is_debris {
                    atomic::remove_tree(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Uid of the object with exactly this name.
    pub fn owner_of_name(&self, name: &str) -> Result<Option<Uid>, StoreError> {
        let Some(uid) = self.link_target(name) else { return Ok(None) };
        match self.read(&uid) {
            Ok(object) if object.metadata().name == name => Ok(Some(uid)),
            Ok(_) | Err(StoreError::Missing { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn lock_names(&self) -> Result<FileLock, StoreError> {
        atomic::ensure_dir(&self.dir.join(".names"), 0o755)?;
        FileLock::take(&self.dir.join(".names.lock"), OBJECT_LOCK_DEADLINE)
    }

    fn name_link(&self, name: &str) -> PathBuf {
        let encoded: String = name
            .chars()
            .map(|c| match c {
                '/' => "%2F".to_owned(),
                '%' => "%25".to_owned(),
                '.' => "%2E".to_owned(),
                c => c.to_string(),
            })
            .collect();
        self.dir.join(".names").join(encoded)
    }

    fn link_target(&self, name: &str) -> Option<Uid> {
        let target = std::fs::read_link(self.name_link(name)).ok()?;
        Uid::parse(target.to_str()?).ok()
    }

    fn index_name(&self, name: &str, uid: &Uid) -> Result<(), StoreError> {
        let link = self.name_link(name);
        if self.link_target(name).as_ref() == Some(uid) {
            return Ok(());
        }
        atomic::remove_file(&link)?;
        std::os::unix::fs::symlink(uid.as_str(), &link).map_err(|e| StoreError::io("index", link, e))
    }

    fn uid_of<'a>(&self, object: &'a T) -> Result<&'a Uid, StoreError> {
        object.metadata().uid.as_ref().ok_or(StoreError::NoUid { kind: T::KIND.title() })
    }

    fn missing(&self, uid: &Uid) -> StoreError {
        StoreError::Missing { kind: T::KIND.title(), uid: uid.to_string() }
    }
}

/// An object in the making. Dropped without being published, it deletes what was made.
#[derive(Debug)]
pub struct Draft {
    dir: PathBuf,
    lock: Option<FileLock>,
}

impl Draft {
    /// The directory to fill.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.dir.as_os_str().is_empty() {
            let _ = atomic::remove_tree(&self.dir);
        }
        self.lock.take();
    }
}

fn write_metadata<T: Object>(dir: &Path, object: &T) -> Result<(), StoreError> {
    let path = dir.join("metadata.json");
    let mut bytes =
        serde_json::to_vec_pretty(object).map_err(|source| StoreError::Damaged { path: path.clone(), source })?;
    bytes.push(b'\n');
    atomic::write(&path, &bytes)
}

fn is_older_than(path: &Path, age: Duration) -> bool {
    let modified = std::fs::metadata(path).and_then(|m| m.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|elapsed| elapsed > age))
}
