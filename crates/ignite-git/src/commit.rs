//! The name of a commit.

use crate::GitError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A full object name: 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(String);

impl CommitId {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }

    /// `git init --object-format`'s name of the hash it is of.
    pub(crate) fn object_format(&self) -> &'static str {
        if self.0.len() == 64 { "sha256" } else { "sha1" }
    }
}

impl FromStr for CommitId {
    type Err = GitError;

    fn from_str(text: &str) -> Result<CommitId, GitError> {
        let is_hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_hex && matches!(text.len(), 40 | 64) {
            Ok(CommitId(text.to_owned()))
        } else {
            Err(GitError::BadCommit { text: text.chars().take(80).collect() })
        }
    }
}

impl TryFrom<String> for CommitId {
    type Error = GitError;

    fn try_from(text: String) -> Result<CommitId, GitError> {
        text.parse()
    }
}

impl From<CommitId> for String {
    fn from(id: CommitId) -> String {
        id.0
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_full_lower_case_names_are_commits() {
        let (sha1, sha256) = ("a".repeat(40), "0".repeat(64));
        assert_eq!(sha1.parse::<CommitId>().unwrap().object_format(), "sha1");
        assert_eq!(sha256.parse::<CommitId>().unwrap().object_format(), "sha256");
        for bad in ["", "abc1234", &"A".repeat(40), &"a".repeat(41), "-".repeat(40).as_str(), "ä".repeat(20).as_str()]
        {
            assert!(bad.parse::<CommitId>().is_err(), "{bad}");
        }
    }
}
