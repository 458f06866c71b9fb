//! One directory kept in step with a Git repository, by the `git` program.
//!
//! ```text
//!  Source ── Checkout::open ──> sync ──> ls-remote ── same commit ──────────────> Unchanged
//!                                            └─ fetch ── verify ── materialise ──> Updated
//!                                                  any failure: an error, and the last good tree stays
//! ```
//!
//! Everything from the remote is hostile: no hook, filter, submodule or symbolic link of it takes effect, its size is
//! bounded, and what it says is shortened and cleaned before it is shown. Nothing of the user's or the system's Git
//! configuration is read, so that the same source means the same everywhere; credentials are given by [`Credentials`].

mod checkout;
mod commit;
mod environment;
mod error;
mod keys;
mod program;
mod repository;
mod source;
mod status_branch;
mod url;
mod worktree;

pub use checkout::{Checkout, History, Synced, Tree};
pub use commit::CommitId;
pub use error::GitError;
pub use keys::TrustedKeys;
pub use source::{Credentials, Follow, Source, SubPath};
pub use status_branch::{StatusBranch, StatusFile};
pub use url::{RemoteUrl, Transport};
