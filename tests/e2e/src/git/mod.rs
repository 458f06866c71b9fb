//! A Git repository that is served over ssh and https, and a clone in which its users work.

// The servers are those of ignite-git's own tests, as they need the same of an origin.
#[path = "../../../../crates/ignite-git/tests/harness/https.rs"]
mod https;
#[path = "../../../../crates/ignite-git/tests/harness/sshd.rs"]
mod sshd;

pub use https::Https;
pub use sshd::Sshd;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A bare repository, and a clone in which its users work.
pub struct Origin {
    root: PathBuf,
}

impl Origin {
    /// An empty repository with branch `main` in a directory that is not there yet.
    pub fn empty(root: PathBuf) -> Origin {
        fs::create_dir_all(&root).expect("make a directory");
        let origin = Origin { root };
        git(&origin.root, &["init", "-q", "--bare", "-b", "main", "origin.git"]);
        git(&origin.root, &["init", "-q", "-b", "main", "work"]);
        git(&origin.work(), &["remote", "add", "origin", "../origin.git"]);
        origin
    }

    /// The bare repository.
    pub fn path(&self) -> PathBuf {
        self.root.join("origin.git")
    }

    /// Scratch space beside it.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// Writes files, commits and pushes to `main`; the commit.
    pub fn commit(&self, files: &[(&str, &str)]) -> String {
        self.commit_with(files, &[])
    }

    /// As `commit`, with options of git-commit(1).
    pub fn commit_with(&self, files: &[(&str, &str)], options: &[&str]) -> String {
        for (name, content) in files {
            let path = self.work().join(name);
            fs::create_dir_all(path.parent().expect("it is below the clone")).expect("make a directory");
            fs::write(path, content).expect("write a file");
        }
        self.git(&["add", "-A"]);
        let mut arguments = vec!["commit", "-q", "--allow-empty", "-m", "a change"];
        arguments.extend(options);
        self.git(&arguments);
        self.push()
    }

    /// Removes a file, commits and pushes.
    pub fn remove(&self, name: &str) -> String {
        self.git(&["rm", "-q", name]);
        self.commit(&[])
    }

    /// Takes back the last commit by another, and pushes.
    pub fn revert(&self) -> String {
        self.git(&["revert", "--no-edit", "HEAD"]);
        self.push()
    }

    /// Pushes by force; the commit.
    pub fn push(&self) -> String {
        self.git(&["push", "-q", "--force", "origin", "HEAD:refs/heads/main"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs git in the users' clone.
    pub fn git(&self, arguments: &[&str]) -> String {
        git(&self.work(), arguments)
    }

    /// Runs git in the bare repository.
    pub fn server_git(&self, arguments: &[&str]) -> String {
        git(&self.path(), arguments)
    }
}

/// Runs git as a user would, with no configuration but a name; what it prints.
fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = run(Command::new("git").arg("-C").arg(directory).args(arguments));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Runs a program that must succeed.
fn run(command: &mut Command) -> Output {
    let output = command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs([("GIT_AUTHOR_NAME", "A User"), ("GIT_AUTHOR_EMAIL", "user@example.org")])
        .envs([("GIT_COMMITTER_NAME", "A User"), ("GIT_COMMITTER_EMAIL", "user@example.org")])
        .output()
        .expect("it can be started");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// An ssh key pair without a pass phrase.
pub fn ssh_key(path: &Path) {
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "a test", "-f"]).arg(path));
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind to loopback");
    listener.local_addr().expect("its address").port()
}
