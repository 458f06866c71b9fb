//! The bare repository behind a checkout: made, healed, asked, and fetched into.

use crate::commit::CommitId;
use crate::error::{Failure, classify, told};
use crate::program::{Finished, Git};
use crate::{Follow, GitError, RemoteUrl};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// Where the commit that was fetched last is kept from being collected.
const FETCHED: &str = "refs/ignite/fetched";
/// How much history comes with a new commit: enough to tell whether it follows the last one.
const DEPTH: &str = "--depth=50";
/// Branches that an error names.
const MAX_NAMED: usize = 10;

/// What a new commit is to the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// There was none before.
    First,
    /// It follows it, within fifty commits.
    FastForward,
    /// It does not: history was rewritten (a force push), or moved on by more than fifty commits.
    Rewritten,
}

/// A repository and its remote.
#[derive(Debug)]
pub(crate) struct Repository<'a> {
    pub(crate) git: Git<'a>,
    pub(crate) url: &'a RemoteUrl,
}

impl Repository<'_> {
    /// The commit that is wanted now, asked from the remote; nothing is fetched.
    pub(crate) async fn wanted(&self, follow: &Follow) -> Result<CommitId, GitError> {
        let reference = match follow {
            Follow::Commit(id) => return Ok(id.clone()),
            other => other.reference().unwrap_or_default(),
        };
        // The peeled name of an annotated tag follows its own.
        let peeled = format!("{reference}^{{}}");
        let advertised = self.ls_remote(&[&reference, &peeled]).await?;
        let named = |name: &str| advertised.iter().find(|(_, n)| n == name).map(|(id, _)| id.clone());
        if let Some(id) = named(&peeled).or_else(|| named(&reference)) {
            return id.parse();
        }
        let branches = self.ls_remote(&["refs/heads/*"]).await?;
        if branches.is_empty() {
            return Err(GitError::EmptyRepository { url: self.url.to_string() });
        }
        let short = |name: &str| told(name.strip_prefix("refs/heads/").unwrap_or(name).as_bytes());
        Err(GitError::ReferenceMissing {
            url: self.url.to_string(),
            wanted: follow.to_string(),
            branches: branches.iter().take(MAX_NAMED).map(|(_, name)| short(name)).collect(),
        })
    }

    /// The tip of a branch at the remote, unless it is what the remote's `HEAD` names, too.
    pub(crate) async fn status_tip(&self, branch: &str) -> Result<Option<CommitId>, GitError> {
        let full = format!("refs/heads/{branch}");
        let advertised = self.ls_remote(&["HEAD", &full]).await?;
        let find = |wanted: &str| advertised.iter().find(|(_, name)| name == wanted).map(|(id, _)| id);
        match (find("HEAD"), find(&full)) {
            (Some(head), Some(tip)) if head == tip => Err(GitError::StatusBranchTaken { branch: branch.to_owned() }),
            (_, tip) => tip.map(|id| id.parse()).transpose(),
        }
    }

    /// Makes the repository, or makes it anew when it is of another kind or damaged.
    pub(crate) async fn ensure(&self, commit: &CommitId) -> Result<(), GitError> {
        let format = commit.object_format();
        let asked = self.git.run("rev-parse", ["--show-object-format"], &[], b"").await?;
        if asked.status.success() && asked.text() == format {
            return Ok(());
        }
        let git_dir = self.git.git_dir;
        match fs::remove_dir_all(git_dir) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(GitError::Io { action: "remove", path: git_dir.to_owned(), source });
            }
            _ => {}
        }
        let object_format = format!("--object-format={format}");
        self.git.must("init", ["--bare", "--quiet", "--template=", &object_format]).await?;
        Ok(())
    }

    /// Is it there, with everything it names?
    pub(crate) async fn has(&self, commit: &CommitId) -> Result<bool, GitError> {
        let tree = format!("{commit}^{{tree}}");
        Ok(self.git.run("cat-file", ["-e", &tree], &[], b"").await?.status.success())
    }

    /// Brings a commit, unless it is there.
    pub(crate) async fn fetch(&self, follow: &Follow, commit: &CommitId) -> Result<(), GitError> {
        if self.has(commit).await? {
            return self.keep(commit).await;
        }
        let reference = follow.reference().unwrap_or_else(|| commit.to_string());
        let direct = self.fetch_reference(&reference, &[DEPTH]).await;
        match (direct, follow) {
            (Ok(()), _) => {}
            // A server may hand out only what its references name: get them all, and look.
            (Err(GitError::Failed { .. } | GitError::Denied { .. }), Follow::Commit(_)) => {
                self.remote(
                    "fetch",
                    &[
                        "--quiet",
                        "--no-write-fetch-head",
                        "--no-auto-gc",
                        self.url.as_str(),
                        "+refs/heads/*:refs/ignite/all/*",
                    ],
                )
                .await?;
            }
            (Err(error), _) => return Err(error),
        }
        if !self.has(commit).await? {
            // It moved between the question and the fetch, or no reference leads to it.
            return Err(GitError::ReferenceMissing {
                url: self.url.to_string(),
                wanted: format!("commit {}", commit.short()),
                branches: Vec::new(),
            });
        }
        self.keep(commit).await
    }

    async fn fetch_reference(&self, reference: &str, more: &[&str]) -> Result<(), GitError> {
        let refspec = format!("+{reference}:refs/ignite/incoming");
        let mut arguments =
            vec!["--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--update-shallow"];
        arguments.extend(more);
        arguments.extend(["--", self.url.as_str(), &refspec]);
        self.remote("fetch", &arguments).await.map(drop)
    }

    /// Brings the tip of a branch without its history.
    pub(crate) async fn fetch_branch_tip(&self, branch: &str) -> Result<(), GitError> {
        self.fetch_reference(&format!("refs/heads/{branch}"), &["--depth=1"]).await
    }

    /// Protects a commit from being collected; what was protected before is not any more.
    async fn keep(&self, commit: &CommitId) -> Result<(), GitError> {
        self.git.must("update-ref", [FETCHED, commit.as_str()]).await.map(drop)
    }

    /// What `new` is to `old`.
    pub(crate) async fn history(&self, old: Option<&CommitId>, new: &CommitId) -> Result<History, GitError> {
        let Some(old) = old else { return Ok(History::First) };
        let finished = self.git.run("merge-base", ["--is-ancestor", old.as_str(), new.as_str()], &[], b"").await?;
        Ok(if finished.status.success() { History::FastForward } else { History::Rewritten })
    }

    /// First line of a commit's message, cleaned, and its author's time in seconds since 1970.
    pub(crate) async fn describe(&self, commit: &CommitId) -> Result<(String, i64), GitError> {
        let shown = self.git.must("show", ["--no-patch", "--no-notes", "--format=%ct%n%s", commit.as_str()]).await?;
        let text = shown.text();
        let (time, subject) = text.split_once('\n').unwrap_or((&text, ""));
        Ok((told(subject.as_bytes()).chars().take(120).collect(), time.parse().unwrap_or(0)))
    }

    async fn ls_remote(&self, patterns: &[&str]) -> Result<Vec<(String, String)>, GitError> {
        let mut arguments = vec!["--quiet", "--", self.url.as_str()];
        arguments.extend(patterns);
        let listed = self.remote("ls-remote", &arguments).await?;
        let text = String::from_utf8_lossy(&listed.output).into_owned();
        Ok(text
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(id, name)| (id.to_owned(), name.to_owned()))
            .collect())
    }

    /// A call that talks to the remote: its failure is told apart by its words.
    pub(crate) async fn remote(
        &self,
        what: &'static str,
        arguments: &[impl AsRef<OsStr>],
    ) -> Result<Finished, GitError> {
        let finished = self.git.run(what, arguments, &[], b"").await?;
        if finished.status.success() {
            return Ok(finished);
        }
        let detail = told(&finished.errors);
        let url = self.url.to_string();
        Err(match classify(&String::from_utf8_lossy(&finished.errors)) {
            Failure::Unreachable => GitError::Unreachable { url, detail },
            Failure::HostKey => GitError::HostKey { host: self.url.authority().to_owned(), detail },
            Failure::Denied => GitError::Denied { url, detail },
            Failure::Missing(program) => GitError::ProgramMissing { program },
            Failure::Other => GitError::Failed { what, detail },
        })
    }
}

/// Removes the locks and half-made packs that a killed git has left. Nobody runs in the repository: the caller has its lock.
pub(crate) fn heal(git_dir: &Path) {
    let is_stale = |name: &OsStr| {
        let name = name.to_string_lossy();
        name.ends_with(".lock")
            || name.starts_with("tmp_")
            || name.starts_with(".tmp-")
            || name.starts_with("ignite-index")
    };
    let mut waiting = vec![git_dir.to_owned()];
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && !is_stale(&entry.file_name()) {
                waiting.push(entry.path());
            } else if is_stale(&entry.file_name()) {
                let removed =
                    if kind.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
                if let Err(error) = removed {
                    tracing::warn!("remove {}: {error}", entry.path().display());
                }
            }
        }
    }
}
