//! A branch that tells what is: written by us alone, apart from what users write.

use crate::checkout::Checkout;
use crate::commit::CommitId;
use crate::error::told;
use crate::source::check_name;
use crate::{Follow, GitError, SubPath};
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;

/// Times that a push is tried when somebody else pushes at the same moment.
const ATTEMPTS: usize = 3;
const AUTHOR: &str = "Ignite";
const EMAIL: &str = "ignite@localhost";

/// A branch for status, which is never the one that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusBranch(String);

impl StatusBranch {
    /// A branch of this name, beside what is followed.
    pub fn new(name: &str, follow: &Follow) -> Result<StatusBranch, GitError> {
        check_name(name)?;
        if matches!(follow, Follow::Branch(followed) if followed == name) {
            return Err(GitError::BadReference { name: format!("{name} (it is the branch that is followed)") });
        }
        Ok(StatusBranch(name.to_owned()))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A file of the status branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusFile {
    /// Where it is in the branch.
    pub path: SubPath,
    /// What it holds.
    pub content: Vec<u8>,
}

impl Checkout {
    /// Makes these files the whole content of the branch, by one commit on top of what is there. `None` when it holds them
    /// already: nothing is pushed then. Needs a repository that has been synced once.
    pub async fn push_status(
        &self,
        branch: &StatusBranch,
        files: &[StatusFile],
        message: &str,
    ) -> Result<Option<CommitId>, GitError> {
        let mut refused = String::new();
        for _ in 0..ATTEMPTS {
            match self.push_once(branch, files, message).await? {
                Pushed::Done(commit) => return Ok(commit),
                Pushed::Refused(detail) => refused = detail,
            }
        }
        let (url, branch) = (self.source().url.to_string(), branch.0.clone());
        Err(GitError::PushRefused { url, branch, detail: refused })
    }

    async fn push_once(&self, branch: &StatusBranch, files: &[StatusFile], message: &str) -> Result<Pushed, GitError> {
        let git_dir = self.git_dir();
        let repository = self.repository(&git_dir);
        let git = &repository.git;
        let tip = repository.status_tip(&branch.0).await?;
        if let Some(tip) = &tip
            && !repository.has(tip).await?
        {
            repository.fetch_branch_tip(&branch.0).await?;
            if !repository.has(tip).await? {
                return Ok(Pushed::Refused("it moves".to_owned()));
            }
        }
        let tree = self.write_tree(files).await?;
        if let Some(tip) = &tip
            && git.must("rev-parse", ["--verify", &format!("{tip}^{{tree}}")]).await?.text() == tree
        {
            return Ok(Pushed::Done(None));
        }
        let identity: Vec<(&str, &OsStr)> = [
            ("GIT_AUTHOR_NAME", AUTHOR),
            ("GIT_AUTHOR_EMAIL", EMAIL),
            ("GIT_COMMITTER_NAME", AUTHOR),
            ("GIT_COMMITTER_EMAIL", EMAIL),
        ]
        .map(|(name, value)| (name, OsStr::new(value)))
        .to_vec();
        let mut arguments = vec![tree];
        if let Some(tip) = &tip {
            arguments.extend(["-p".to_owned(), tip.to_string()]);
        }
        let made = git.must_with("commit-tree", &arguments, &identity, message.as_bytes()).await?;
        let commit: CommitId = made.text().parse()?;
        // Only on top of what was seen: `LEASE:` with nothing after it says that there is no such branch.
        let expected = tip.map(String::from).unwrap_or_default();
        let lease = format!("--force-with-lease=refs/heads/{}:{expected}", branch.0);
        let refspec = format!("{commit}:refs/heads/{}", branch.0);
        let pushed = git
            .run("push", ["--quiet", "--porcelain", &lease, "--", repository.url.as_str(), &refspec], &[], b"")
            .await?;
        if pushed.status.success() {
            return Ok(Pushed::Done(Some(commit)));
        }
        let words = String::from_utf8_lossy(&pushed.output).into_owned() + &String::from_utf8_lossy(&pushed.errors);
        if words.contains("stale info") || words.contains("failed to update ref") || words.contains("cannot lock ref") {
            return Ok(Pushed::Refused(told(words.as_bytes())));
        }
        // Not a race: say it as any other failure at the remote.
        let (url, branch) = (repository.url.to_string(), branch.0.clone());
        Err(match crate::error::classify(&words) {
            crate::error::Failure::Unreachable => GitError::Unreachable { url, detail: told(words.as_bytes()) },
            crate::error::Failure::Denied => GitError::Denied { url, detail: told(words.as_bytes()) },
            _ => GitError::PushRefused { url, branch, detail: told(words.as_bytes()) },
        })
    }

    /// A tree of these files, from an index of its own; its name.
    async fn write_tree(&self, files: &[StatusFile]) -> Result<String, GitError> {
        let git_dir = self.git_dir();
        let repository = self.repository(&git_dir);
        let git = &repository.git;
        let index = git_dir.join("ignite-index-status");
        let _ = fs::remove_file(&index);
        let variables = [("GIT_INDEX_FILE", index.as_os_str())];
        let mut entries = String::new();
        for file in files {
            let blob = git.must_with("hash-object", ["-w", "--stdin"], &[], &file.content).await?.text();
            // git-update-index(1), "USING --INDEX-INFO".
            let _ = write!(entries, "100644 {blob}\t{}\0", file.path.as_str());
        }
        let written = async {
            git.must_with("update-index", ["-z", "--index-info"], &variables, entries.as_bytes()).await?;
            git.must_with("write-tree", [] as [&str; 0], &variables, b"").await
        };
        let written = written.await;
        let _ = fs::remove_file(&index);
        Ok(written?.text())
    }
}

enum Pushed {
    /// The branch holds the files; the commit that was needed for it.
    Done(Option<CommitId>),
    /// Somebody else was faster.
    Refused(String),
}
