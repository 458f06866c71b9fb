//! What the store can fail at.

use std::path::PathBuf;
use thiserror::Error;

/// A failed operation of the store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A system call on a path failed.
    #[error("could not {action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which path.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// An object's file does not hold such an object.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the decoder says.
        #[source]
        source: serde_json::Error,
    },
    /// The object is not there (any more).
    #[error("there is no {kind} {uid}")]
    Missing {
        /// Kind of the object.
        kind: &'static str,
        /// Its uid.
        uid: String,
    },
    /// Another object of the kind has the name.
    #[error("the name {name:?} is taken by {kind} {uid}")]
    NameTaken {
        /// Kind of the object.
        kind: &'static str,
        /// The name.
        name: String,
        /// Who has it.
        uid: String,
    },
    /// A lock was held by someone else until the deadline.
    #[error("{path} is locked by another process for more than {seconds} s")]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The deadline.
        seconds: u64,
    },
    /// An object without a uid was to be stored.
    #[error("the {kind} has no uid")]
    NoUid {
        /// Kind of the object.
        kind: &'static str,
    },
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> StoreError {
        StoreError::Io { action, path: path.into(), source }
    }
}
