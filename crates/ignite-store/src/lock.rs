//! Locks that the kernel drops when their holder dies (flock(2)).

use crate::error::StoreError;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// An exclusive lock on a file, held until dropped or until the process dies.
///
/// The descriptor is close-on-exec; whoever inherits it on purpose (the supervisor) shares the same lock.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

/// Who may hold a lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody else.
    Alone,
    /// All who only read.
    Readers,
}

impl FileLock {
    /// Takes the lock if nobody has it; the file is made when missing.
    pub fn try_take(path: &Path) -> Result<Option<FileLock>, StoreError> {
        let file = open(path)?;
        Ok(try_lock(&file, path)?.then_some(FileLock { file }))
    }

    /// Takes the lock if nobody has it; `None` also when the file, or its directory, does not exist.
    pub fn try_take_existing(path: &Path) -> Result<Option<FileLock>, StoreError> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StoreError::io("open", path, e)),
        };
        Ok(try_lock(&file, path)?.then_some(FileLock { file }))
    }

    /// Waits for the lock until the deadline.
    ///
    /// Blocks the thread. The kernel wakes the waiter; the deadline is kept by a helper thread only when the lock is
    /// contended, which is rare and short for every lock here but that of a base disk in the making.
    pub fn take(path: &Path, deadline: Duration) -> Result<FileLock, StoreError> {
        FileLock::take_on(open(path)?, path, Sharing::Alone, deadline)
    }

    /// The same for a file that is open already; `path` is for messages.
    pub fn take_on(file: File, path: &Path, sharing: Sharing, deadline: Duration) -> Result<FileLock, StoreError> {
        let (at_once, waiting) = match sharing {
            Sharing::Alone => (FlockOperation::NonBlockingLockExclusive, FlockOperation::LockExclusive),
            Sharing::Readers => (FlockOperation::NonBlockingLockShared, FlockOperation::LockShared),
        };
        match flock(&file, at_once) {
            Ok(()) => return Ok(FileLock { file }),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(e) => return Err(StoreError::io("lock", path, e.into())),
        }
        let waiter = file.try_clone().map_err(|e| StoreError::io("open", path, e))?;
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // If the receiver has given up, dropping both descriptors here releases the lock again.
            let _ = sender.send(rustix::io::retry_on_intr(|| flock(&waiter, waiting)));
        });
        let started = Instant::now();
        match receiver.recv_timeout(deadline) {
            Ok(Ok(())) => Ok(FileLock { file }),
            Ok(Err(e)) => Err(StoreError::io("lock", path, e.into())),
            Err(_) => Err(StoreError::Locked { path: path.into(), seconds: started.elapsed().as_secs() }),
        }
    }

    /// The locked file; a duplicate of it that is inherited by a child keeps the lock.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Adopts a descriptor on which the lock is already held (inherited from the engine).
    pub fn adopt(file: File) -> FileLock {
        FileLock { file }
    }
}

/// True when someone holds the lock at `path`.
pub fn is_held(path: &Path) -> Result<bool, StoreError> {
    let file = match OpenOptions::new().read(true).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(StoreError::io("open", path, e)),
    };
    // A shared request does not disturb another observer doing the same at this moment.
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(e) => Err(StoreError::io("lock", path, e.into())),
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| StoreError::io("open", path, e))
}

fn try_lock(file: &File, path: &Path) -> Result<bool, StoreError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(StoreError::io("lock", path, e.into())),
    }
}
