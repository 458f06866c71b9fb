//! A directory that follows a source: the last good tree is there from one call to the next, whatever fails.
//!
//! ```text
//!  DIRECTORY/lock            flock: someone works here; git inherits it
//!            current.json    which commit of which source the last good tree is; replaced by rename
//!            trees/<commit>  that tree, read-only by convention
//!            repository.git  objects; can be made anew at any time
//!            keys/           the trusted keys as git reads them
//! ```

use crate::commit::CommitId;
use crate::environment::environment;
use crate::program::Git;
use crate::repository::{self, Repository};
use crate::worktree::materialise;
use crate::{GitError, Source};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

pub use crate::repository::History;

/// Largest record that is read.
const MAX_RECORD: u64 = 64 << 10;

/// The files of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The commit.
    pub commit: CommitId,
    /// First line of its message, without control characters.
    pub subject: String,
    /// When it was committed, in seconds since 1970, as the committer says.
    pub commit_time: i64,
    /// Where its files are, until the next [`Checkout::sync`] that answers [`Synced::Updated`].
    pub directory: PathBuf,
}

/// What a [`Checkout::sync`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Synced {
    /// The remote is where it was.
    Unchanged(Tree),
    /// There is another commit, and its files are there.
    Updated {
        /// The new tree.
        tree: Tree,
        /// What it is to the last one.
        history: History,
    },
}

impl Synced {
    /// The tree, new or not.
    pub fn tree(&self) -> &Tree {
        match self {
            Synced::Unchanged(tree) | Synced::Updated { tree, .. } => tree,
        }
    }
}

/// A directory that follows a source; one process at a time has it open.
#[derive(Debug)]
pub struct Checkout {
    directory: PathBuf,
    source: Source,
    environment: Vec<(OsString, OsString)>,
    lock: File,
    current: Option<Tree>,
}

/// What `current.json` holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    url: String,
    path: String,
    /// The keys it was verified by.
    trusted_keys: Option<String>,
    commit: CommitId,
    subject: String,
    commit_time: i64,
}

impl Checkout {
    /// Opens or makes the directory (mode 0700), heals what a killed process left in it, and finds the last good tree. The
    /// remote is not spoken to.
    ///
    /// A tree of another address or path, or one that was not verified by the source's keys, does not count.
    pub fn open(directory: &Path, source: Source) -> Result<Checkout, GitError> {
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source: std::io::Error| GitError::Io { action, path, source }
        };
        let trees = directory.join("trees");
        DirBuilder::new().recursive(true).mode(0o700).create(&trees).map_err(io("make", &trees))?;
        let lock_path = directory.join("lock");
        let lock = File::options().create(true).append(true).open(&lock_path).map_err(io("open", &lock_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(GitError::Busy { directory: directory.to_owned() }),
            Err(error) => return Err(io("lock", &lock_path)(error.into())),
        }
        let keys_dir = directory.join("keys");
        if let Some(keys) = &source.trusted_keys {
            keys.install(&keys_dir, &source.environment)?;
        }
        let environment = environment(&source, &keys_dir);
        repository::heal(&directory.join("repository.git"));
        let mut checkout = Checkout { directory: directory.to_owned(), source, environment, lock, current: None };
        checkout.current = checkout.read_record();
        checkout.remove_other_trees();
        Ok(checkout)
    }

    /// What it follows.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The last good tree.
    pub fn current(&self) -> Option<&Tree> {
        self.current.as_ref()
    }

    /// Asks the remote, and brings what is new. On an error nothing has changed: the last good tree is still there.
    pub async fn sync(&mut self) -> Result<Synced, GitError> {
        let git_dir = self.git_dir();
        let repository = self.repository(&git_dir);
        let commit = repository.wanted(&self.source.follow).await?;
        if let Some(tree) = self.current.as_ref().filter(|tree| tree.commit == commit) {
            return Ok(Synced::Unchanged(tree.clone()));
        }
        repository.ensure(&commit).await?;
        repository.fetch(&self.source.follow, &commit).await?;
        if self.source.trusted_keys.is_some() {
            verify(&repository.git, &commit).await?;
        }
        let history = repository.history(self.current.as_ref().map(|tree| &tree.commit), &commit).await?;
        let (subject, commit_time) = repository.describe(&commit).await?;
        let tree = Tree { directory: self.tree_dir(&commit), commit, subject, commit_time };
        if !tree.directory.exists() {
            materialise(&repository.git, &tree.commit, &self.source.path, &tree.directory).await?;
        }
        self.write_record(&tree)?;
        self.current = Some(tree.clone());
        self.remove_other_trees();
        Ok(Synced::Updated { tree, history })
    }

    pub(crate) fn git_dir(&self) -> PathBuf {
        self.directory.join("repository.git")
    }

    pub(crate) fn repository<'a>(&'a self, git_dir: &'a Path) -> Repository<'a> {
        let git =
            Git { git_dir, environment: &self.environment, lock: self.lock.as_fd(), deadline: self.source.deadline };
        Repository { git, url: &self.source.url }
    }

    fn tree_dir(&self, commit: &CommitId) -> PathBuf {
        self.directory.join("trees").join(commit.as_str())
    }

    fn record_path(&self) -> PathBuf {
        self.directory.join("current.json")
    }

    fn read_record(&self) -> Option<Tree> {
        let path = self.record_path();
        if fs::metadata(&path).ok()?.len() > MAX_RECORD {
            return None;
        }
        let record: Record = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        let keys = self.source.trusted_keys.as_ref().map(|keys| keys.fingerprint());
        let is_of_this = record.url == self.source.url.as_str() && record.path == self.source.path.as_str();
        let is_trusted = keys.is_none() || record.trusted_keys == keys;
        let directory = self.tree_dir(&record.commit);
        let Record { commit, subject, commit_time, .. } = record;
        (is_of_this && is_trusted && directory.is_dir()).then_some(Tree { commit, subject, commit_time, directory })
    }

    fn write_record(&self, tree: &Tree) -> Result<(), GitError> {
        let record = Record {
            url: self.source.url.to_string(),
            path: self.source.path.as_str().to_owned(),
            trusted_keys: self.source.trusted_keys.as_ref().map(|keys| keys.fingerprint()),
            commit: tree.commit.clone(),
            subject: tree.subject.clone(),
            commit_time: tree.commit_time,
        };
        let path = self.record_path();
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.directory)?;
            serde_json::to_writer_pretty(&mut file, &record)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|source| GitError::Io { action: "write", path, source })
    }

    /// Removes every tree but the current one, and what a killed process left half-made.
    fn remove_other_trees(&self) {
        let current = self.current.as_ref().map(|tree| OsString::from(tree.commit.as_str()));
        let remove = |directory: &Path, is_wanted: &dyn Fn(&OsStr) -> bool| {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                if is_wanted(&entry.file_name()) {
                    continue;
                }
                let path = entry.path();
                let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                if let Err(error) = removed {
                    tracing::warn!("remove {}: {error}", path.display());
                }
            }
        };
        remove(&self.directory.join("trees"), &|name| Some(name) == current.as_deref());
        remove(&self.directory, &|name| !name.to_string_lossy().starts_with(".new-"));
    }
}

/// Fails unless a trusted key has signed the commit (git-verify-commit(1)). Its tree is vouched for by that; what was merged
/// into it on the way, by who signed it.
async fn verify(git: &Git<'_>, commit: &CommitId) -> Result<(), GitError> {
    let finished = git.run("verify-commit", [commit.as_str()], &[], b"").await?;
    if finished.status.success() {
        return Ok(());
    }
    let words = crate::error::told(&finished.errors);
    let detail = if words.is_empty() { "it has no signature".to_owned() } else { words };
    Err(GitError::Unverified { commit: commit.short().to_owned(), detail })
}
