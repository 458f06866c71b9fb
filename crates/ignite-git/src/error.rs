//! What following a repository can fail at, and what git's own words mean.

use std::path::PathBuf;
use thiserror::Error;

/// Most of git's words that is kept.
const MAX_TOLD: usize = 600;

/// A failed operation on a repository. The last good tree stays whatever fails.
#[derive(Debug, Error)]
pub enum GitError {
    /// An address is not one that is followed.
    #[error("{url:?} cannot be followed: {reason}")]
    BadUrl {
        /// The address, without a password.
        url: String,
        /// Why.
        reason: &'static str,
    },
    /// A branch's or tag's name is none.
    #[error("{name:?} is no name of a branch or tag")]
    BadReference {
        /// The name.
        name: String,
    },
    /// A commit is not named in full.
    #[error("{text:?} is no commit: 40 or 64 hexadecimal digits are")]
    BadCommit {
        /// What was given.
        text: String,
    },
    /// A path leaves the repository.
    #[error("{path:?} is no path inside a repository")]
    BadPath {
        /// The path.
        path: String,
    },
    /// A file that a source or a key list names cannot be used.
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
    /// A file of keys holds none.
    #[error("{path} holds no key: {reason}")]
    BadKeys {
        /// The file.
        path: PathBuf,
        /// What was expected.
        reason: &'static str,
    },
    /// A program is missing.
    #[error("the program {program} is missing")]
    ProgramMissing {
        /// Its name.
        program: &'static str,
    },
    /// Someone else, or git of someone who has died, works in the directory.
    #[error("{directory} is in use by another process")]
    Busy {
        /// The directory of the checkout.
        directory: PathBuf,
    },
    /// The remote could not be reached.
    #[error("{url} cannot be reached: {detail}")]
    Unreachable {
        /// The remote.
        url: String,
        /// git's words.
        detail: String,
    },
    /// The remote does not know the host's key, or another.
    #[error("the key of {host} is not the one that is known: {detail}")]
    HostKey {
        /// The host.
        host: String,
        /// ssh's words.
        detail: String,
    },
    /// The remote does not let us in, or has no such repository, which it may not tell apart.
    #[error("{url} refuses: {detail}")]
    Denied {
        /// The remote.
        url: String,
        /// git's words.
        detail: String,
    },
    /// The repository has no commit yet.
    #[error("{url} is empty")]
    EmptyRepository {
        /// The remote.
        url: String,
    },
    /// What is followed is not there (any more).
    #[error("{url} has no {wanted}{}", others(.branches))]
    ReferenceMissing {
        /// The remote.
        url: String,
        /// What is followed.
        wanted: String,
        /// Branches that are there; at most ten.
        branches: Vec<String>,
    },
    /// A commit has no good signature by a trusted key.
    #[error("commit {commit} is not signed by a trusted key: {detail}")]
    Unverified {
        /// The commit.
        commit: String,
        /// git's words.
        detail: String,
    },
    /// A commit has no such directory.
    #[error("commit {commit} has no directory {path:?}")]
    PathMissing {
        /// The commit.
        commit: String,
        /// The directory.
        path: String,
    },
    /// What a commit holds is more than manifests are.
    #[error("commit {commit} holds more than {limit}")]
    TooLarge {
        /// The commit.
        commit: String,
        /// The limit that it exceeds.
        limit: String,
    },
    /// The status branch would replace somebody's files.
    #[error("branch {branch} is the repository's own: nothing is pushed to it")]
    StatusBranchTaken {
        /// The branch.
        branch: String,
    },
    /// Someone else pushed to the status branch again and again.
    #[error("{url} did not take branch {branch}: {detail}")]
    PushRefused {
        /// The remote.
        url: String,
        /// The branch.
        branch: String,
        /// git's words.
        detail: String,
    },
    /// A call of git took too long.
    #[error("git {what} took longer than {seconds} s")]
    Deadline {
        /// The call.
        what: &'static str,
        /// The deadline.
        seconds: u64,
    },
    /// A call of git failed in another way.
    #[error("git {what} failed: {detail}")]
    Failed {
        /// The call.
        what: &'static str,
        /// git's words.
        detail: String,
    },
}

impl GitError {
    /// What to do about it, when that is not plain.
    pub fn hint(&self) -> Option<String> {
        match self {
            GitError::HostKey { host, .. } => {
                let (host, port) = split_port(host);
                let port = port.map(|port| format!(" -p {port}")).unwrap_or_default();
                Some(format!(
                    "compare the host's key with what its owner says, then: ssh-keyscan{port} {host} >> known_hosts"
                ))
            }
            GitError::Denied { .. } => {
                Some("check the address, and the key (--identity-file) or user and password file".to_owned())
            }
            GitError::ProgramMissing { program } => {
                let package = match *program {
                    "ssh" | "ssh-keygen" => "openssh-client",
                    "gpg" => "gpg",
                    _ => "git",
                };
                Some(format!("apt install {package}"))
            }
            GitError::StatusBranchTaken { .. } => {
                Some("give a branch of its own: --status-branch ignite/status".to_owned())
            }
            GitError::BadKeys { .. } => Some(
                "give ssh public keys, an allowed-signers file (ssh-keygen(1)), or armored OpenPGP public keys"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// Is it likely to pass by itself?
    pub fn is_transient(&self) -> bool {
        matches!(self, GitError::Unreachable { .. } | GitError::Deadline { .. } | GitError::Busy { .. })
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host.trim_start_matches('[').trim_end_matches(']'), Some(port))
        }
        _ => (authority, None),
    }
}

fn others(branches: &[String]) -> String {
    if branches.is_empty() { String::new() } else { format!("; there are: {}", branches.join(", ")) }
}

/// What a failure of git at a remote is, by what it wrote to standard error in the C locale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Unreachable,
    HostKey,
    Denied,
    Missing(&'static str),
    Other,
}

/// Reads git's, ssh's and curl's words. The first row that fits counts: the more particular come first.
pub(crate) fn classify(words: &str) -> Failure {
    const TABLE: [(&str, Failure); 30] = [
        ("Host key verification failed", Failure::HostKey),
        ("REMOTE HOST IDENTIFICATION HAS CHANGED", Failure::HostKey),
        ("cannot run ssh", Failure::Missing("ssh")),
        ("ssh: not found", Failure::Missing("ssh")),
        ("ssh: command not found", Failure::Missing("ssh")),
        ("Permission denied", Failure::Denied),
        ("Too many authentication failures", Failure::Denied),
        ("no mutual signature", Failure::Denied),
        ("Authentication failed", Failure::Denied),
        ("could not read Username", Failure::Denied),
        ("could not read Password", Failure::Denied),
        ("HTTP Basic: Access denied", Failure::Denied),
        ("The requested URL returned error: 401", Failure::Denied),
        ("The requested URL returned error: 403", Failure::Denied),
        ("The requested URL returned error: 404", Failure::Denied),
        ("The requested URL returned error: 5", Failure::Unreachable),
        ("not found", Failure::Denied),
        ("does not appear to be a git repository", Failure::Denied),
        ("does not exist", Failure::Denied),
        ("not a git repository", Failure::Denied),
        ("Could not resolve host", Failure::Unreachable),
        ("Could not connect", Failure::Unreachable),
        ("Failed to connect", Failure::Unreachable),
        ("Connection ", Failure::Unreachable),
        ("Operation timed out", Failure::Unreachable),
        ("Operation too slow", Failure::Unreachable),
        ("No route to host", Failure::Unreachable),
        ("early EOF", Failure::Unreachable),
        ("hung up unexpectedly", Failure::Unreachable),
        ("unable to access", Failure::Unreachable),
    ];
    TABLE.iter().find(|(part, _)| words.contains(part)).map_or(Failure::Other, |(_, failure)| *failure)
}

/// git's words as they may be shown: on one line, without control characters, shortened.
pub(crate) fn told(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let joined = lines.join("; ");
    joined.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TOLD).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_has_a_meaning() {
        let table = [
            ("Host key verification failed.\nfatal: Could not read from remote repository.", Failure::HostKey),
            ("git@h: Permission denied (publickey).\nfatal: Could not read from remote", Failure::Denied),
            ("ssh: connect to host h port 22: Connection refused", Failure::Unreachable),
            ("ssh: Could not resolve hostname h: Name or service not known", Failure::Unreachable),
            ("fatal: unable to access 'https://h/': Failed to connect to h port 443", Failure::Unreachable),
            ("fatal: unable to access 'https://h/': The requested URL returned error: 503", Failure::Unreachable),
            ("fatal: Authentication failed for 'https://h/'", Failure::Denied),
            ("remote: Not Found\nfatal: repository 'https://h/x/' not found", Failure::Denied),
            ("fatal: '/srv/x' does not appear to be a git repository", Failure::Denied),
            ("error: cannot run ssh: No such file or directory", Failure::Missing("ssh")),
            ("fatal: the remote end hung up unexpectedly", Failure::Unreachable),
            ("fatal: bad object", Failure::Other),
        ];
        for (words, failure) in table {
            assert_eq!(classify(words), failure, "{words}");
        }
    }

    #[test]
    fn words_of_a_remote_are_cleaned_and_short() {
        assert_eq!(told(b"remote: \x1b[31mno\x1b[0m\n\n  fatal: x\r\n"), "remote:  [31mno [0m; fatal: x");
        assert_eq!(told("ä".repeat(5000).as_bytes()).chars().count(), MAX_TOLD);
    }

    #[test]
    fn the_hint_for_a_host_key_is_a_command() {
        let hint = |host: &str| GitError::HostKey { host: host.to_owned(), detail: String::new() }.hint().unwrap();
        assert!(hint("example.org").ends_with("ssh-keyscan example.org >> known_hosts"));
        assert!(hint("[::1]:2222").ends_with("ssh-keyscan -p 2222 ::1 >> known_hosts"));
    }
}
