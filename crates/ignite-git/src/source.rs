//! What is followed, and with which credentials.

use crate::{CommitId, GitError, RemoteUrl, TrustedKeys};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A repository, and what of it is wanted.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where it is.
    pub url: RemoteUrl,
    /// Which commit of it.
    pub follow: Follow,
    /// Which directory of that commit.
    pub path: SubPath,
    /// With what it is reached.
    pub credentials: Credentials,
    /// Who must have signed a commit before it is taken; absent: nobody.
    pub trusted_keys: Option<TrustedKeys>,
    /// Longest one call of git may take.
    pub deadline: Duration,
    /// The whole environment of git beside what this crate sets: `PATH`, and what of `HOME`, `SSH_AUTH_SOCK` and the
    /// proxies' variables should reach it.
    pub environment: Vec<(OsString, OsString)>,
}

/// Which commit is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follow {
    /// What the remote's `HEAD` names.
    DefaultBranch,
    /// The tip of a branch.
    Branch(String),
    /// What a tag names.
    Tag(String),
    /// That one, for ever.
    Commit(CommitId),
}

impl Follow {
    /// A branch of this name.
    pub fn branch(name: &str) -> Result<Follow, GitError> {
        check_name(name)?;
        Ok(Follow::Branch(name.to_owned()))
    }

    /// A tag of this name.
    pub fn tag(name: &str) -> Result<Follow, GitError> {
        check_name(name)?;
        Ok(Follow::Tag(name.to_owned()))
    }

    /// The full name of the reference at the remote; none for a commit.
    pub(crate) fn reference(&self) -> Option<String> {
        match self {
            Follow::DefaultBranch => Some("HEAD".to_owned()),
            Follow::Branch(name) => Some(format!("refs/heads/{name}")),
            Follow::Tag(name) => Some(format!("refs/tags/{name}")),
            Follow::Commit(_) => None,
        }
    }
}

impl fmt::Display for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Follow::DefaultBranch => f.write_str("the default branch"),
            Follow::Branch(name) => write!(f, "branch {name}"),
            Follow::Tag(name) => write!(f, "tag {name}"),
            Follow::Commit(id) => write!(f, "commit {}", id.short()),
        }
    }
}

/// The rules of git-check-ref-format(1) for a branch's or tag's name.
pub(crate) fn check_name(name: &str) -> Result<(), GitError> {
    let bad = || GitError::BadReference { name: name.chars().filter(|c| !c.is_control()).take(100).collect() };
    let component_is_fine = |c: &str| !c.is_empty() && !c.starts_with('.') && !c.ends_with(".lock");
    let is_fine = name.len() <= 255
        && name != "@"
        && !name.starts_with('-')
        && !name.ends_with('.')
        && !name.contains("..")
        && !name.contains("@{")
        && !name.chars().any(|c| c.is_control() || " ~^:?*[\\".contains(c))
        && name.split('/').all(component_is_fine);
    if is_fine { Ok(()) } else { Err(bad()) }
}

/// A directory inside a repository: relative, without `.` and `..`; empty for the whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubPath(String);

impl SubPath {
    /// With `/` between the components and none at the ends.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SubPath {
    type Err = GitError;

    fn from_str(text: &str) -> Result<SubPath, GitError> {
        let bad = || GitError::BadPath { path: text.chars().filter(|c| !c.is_control()).take(200).collect() };
        if text.len() > 1024 || text.chars().any(|c| c.is_control() || c == '\\') {
            return Err(bad());
        }
        let components: Vec<&str> = text.split('/').filter(|c| !c.is_empty() && *c != ".").collect();
        if components.iter().any(|c| *c == ".." || c.eq_ignore_ascii_case(".git")) {
            return Err(bad());
        }
        Ok(SubPath(components.join("/")))
    }
}

/// With what a remote is reached. Secrets are named by their files and stay there: none is on a command line.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// ssh: private key; absent: the agent of `SSH_AUTH_SOCK`, or the user's default keys.
    pub identity_file: Option<PathBuf>,
    /// ssh: the hosts' keys; absent: the user's `known_hosts`. A host that is not in it is refused.
    pub known_hosts: Option<PathBuf>,
    /// https: user, when the address has none.
    pub username: Option<String>,
    /// https: file that holds the password or token; its trailing line end is not part of it.
    pub password_file: Option<PathBuf>,
    /// https: PEM file of the certificate authorities to trust instead of the system's.
    pub ca_certificate: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_git_check_ref_format() {
        for good in ["main", "feature/a.b", "v1.0", "ünïcode", "a@b"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = "x".repeat(256);
        let bad = [
            "", "-x", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "a//b", "/a", "a/", ".a", "a/.b",
            "a.lock", "a.", "@", "a@{1}", "a\nb", &long,
        ];
        for bad in bad {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_path_stays_inside_the_repository() {
        let table = [("", ""), (".", ""), ("/", ""), ("a", "a"), ("./a//b/", "a/b"), ("/a", "a"), ("ä/b c", "ä/b c")];
        for (text, path) in table {
            assert_eq!(text.parse::<SubPath>().unwrap().as_str(), path, "{text}");
        }
        for bad in ["..", "a/../b", "../a", "a\\b", ".git", "a/.GIT/hooks", "a\nb"] {
            assert!(bad.parse::<SubPath>().is_err(), "{bad:?}");
        }
    }
}
