//! Real repositories, and real servers for them on loopback.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::print_stdout, reason = "a skipped test says why")]

pub mod https;
pub mod sshd;

use ignite_git::{Checkout, Credentials, Follow, Source, SubPath, TrustedKeys};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// What a program of a test inherits.
pub fn environment() -> Vec<(OsString, OsString)> {
    ["PATH"].iter().filter_map(|name| Some(((*name).into(), std::env::var_os(name)?))).collect()
}

/// A bare repository that is served, and a clone in which its users work.
pub struct Origin {
    root: tempfile::TempDir,
}

impl Origin {
    /// An empty repository with branch `main`.
    pub fn empty() -> Origin {
        Origin::with_format("sha1")
    }

    /// An empty repository of another object format.
    pub fn with_format(format: &str) -> Origin {
        let root = tempfile::Builder::new().prefix("ignite-git-").tempdir().unwrap();
        let origin = Origin { root };
        let format = format!("--object-format={format}");
        git(origin.root.path(), &["init", "-q", "--bare", &format, "-b", "main", "origin.git"]);
        git(origin.root.path(), &["init", "-q", &format, "-b", "main", "work"]);
        git(&origin.work(), &["remote", "add", "origin", origin.path().to_str().unwrap()]);
        origin
    }

    /// A repository with one commit.
    pub fn with(files: &[(&str, &str)]) -> Origin {
        let origin = Origin::empty();
        origin.commit(files);
        origin
    }

    /// The bare repository.
    pub fn path(&self) -> PathBuf {
        self.root.path().join("origin.git")
    }

    /// Scratch space beside it.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    /// Writes files, commits and pushes to `main`; the commit.
    pub fn commit(&self, files: &[(&str, &str)]) -> String {
        self.commit_with(files, &[], "main")
    }

    /// As `commit`, with options of git-commit(1), and to another branch.
    pub fn commit_with(&self, files: &[(&str, &str)], options: &[&str], branch: &str) -> String {
        for (name, content) in files {
            let path = self.work().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        self.git(&["add", "-A"]);
        let mut arguments = vec!["commit", "-q", "--allow-empty", "-m", "a change"];
        arguments.extend(options);
        self.git(&arguments);
        self.git(&["push", "-q", "--force", "origin", &format!("HEAD:refs/heads/{branch}")]);
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

    /// A symbolic link in the users' clone, for the next commit.
    pub fn link(&self, name: &str, target: &str) {
        std::os::unix::fs::symlink(target, self.work().join(name)).unwrap();
    }

    /// A source that follows `main` by its path.
    pub fn source(&self) -> Source {
        source(self.path().to_str().unwrap())
    }

    /// A checkout beside the repository.
    ///
    /// A child that another test has just forked holds the lock of the one before until it executes its program.
    pub fn checkout(&self, source: Source) -> Checkout {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match Checkout::open(&self.scratch("checkout"), source.clone()) {
                Err(error) if error.is_transient() && Instant::now() < deadline => std::thread::yield_now(),
                opened => return opened.unwrap(),
            }
        }
    }
}

/// A source that follows the branch `main`.
pub fn source(url: &str) -> Source {
    Source {
        url: url.parse().unwrap(),
        follow: Follow::branch("main").unwrap(),
        path: SubPath::default(),
        credentials: Credentials::default(),
        trusted_keys: None,
        deadline: Duration::from_secs(120),
        environment: environment(),
    }
}

/// Runs git as a user would, with no configuration but a name; what it prints.
pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = run(Command::new("git").arg("-C").arg(directory).args(arguments));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Runs a program that must succeed.
pub fn run(command: &mut Command) -> Output {
    let output = command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs([("GIT_AUTHOR_NAME", "A User"), ("GIT_AUTHOR_EMAIL", "user@example.org")])
        .envs([("GIT_COMMITTER_NAME", "A User"), ("GIT_COMMITTER_EMAIL", "user@example.org")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// An ssh key pair without a pass phrase.
pub fn ssh_key(path: &Path) {
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "a test", "-f"]).arg(path));
}

/// The origin served over ssh; `None`, with the reason in the output, where it cannot be.
pub fn over_ssh(origin: &Origin) -> Option<sshd::Sshd> {
    sshd::Sshd::start(origin).inspect_err(|reason| println!("skipped: {reason}")).ok()
}

/// Keys of these files.
pub fn trusted(paths: &[PathBuf]) -> Option<TrustedKeys> {
    Some(TrustedKeys::read(paths).unwrap())
}

/// The files of a directory with their content, sorted.
pub fn listing(directory: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            assert!(!path.is_symlink(), "{path:?} is a link");
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// A port of loopback that is free.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
