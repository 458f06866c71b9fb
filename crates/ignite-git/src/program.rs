//! Runs git once: bounded in time and output, and never outlived by what it starts.

use crate::GitError;
use crate::error::told;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// Most of git's standard output that is read: the listing of the largest tree that is taken fits.
const MAX_OUTPUT: u64 = 8 << 20;
/// Most of its standard error.
const MAX_ERRORS: u64 = 256 << 10;

/// Where and with what git runs.
#[derive(Debug)]
pub(crate) struct Git<'a> {
    /// The repository (`GIT_DIR`).
    pub(crate) git_dir: &'a Path,
    /// Its whole environment.
    pub(crate) environment: &'a [(OsString, OsString)],
    /// Inherited by git and all it starts: while one of them runs the lock is held, whatever becomes of us.
    pub(crate) lock: BorrowedFd<'a>,
    /// When it is given up.
    pub(crate) deadline: Duration,
}

/// What git did.
#[derive(Debug)]
pub(crate) struct Finished {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Standard output.
    pub(crate) output: Vec<u8>,
    /// Standard error.
    pub(crate) errors: Vec<u8>,
}

impl Finished {
    /// Its output as text; what is not UTF-8 is replaced.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).trim_end().to_owned()
    }
}

impl Git<'_> {
    /// Runs it and takes an exit code other than 0 for a failure. `what` is the subcommand.
    pub(crate) async fn must<I, S>(&self, what: &'static str, arguments: I) -> Result<Finished, GitError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.must_with(what, arguments, &[], b"").await
    }

    /// As [`Git::must`], with more environment and standard input.
    pub(crate) async fn must_with<I, S>(
        &self,
        what: &'static str,
        arguments: I,
        environment: &[(&str, &OsStr)],
        input: &[u8],
    ) -> Result<Finished, GitError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let finished = self.run(what, arguments, environment, input).await?;
        success(what, finished)
    }

    /// Runs it to its end, whatever its exit code is.
    pub(crate) async fn run<I, S>(
        &self,
        what: &'static str,
        arguments: I,
        environment: &[(&str, &OsStr)],
        input: &[u8],
    ) -> Result<Finished, GitError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = Command::new("git");
        command
            .arg(what)
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("GIT_DIR", self.git_dir)
            .envs(environment.iter().copied())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let lock = self.lock.as_raw_fd();
        // SAFETY: one system call on a number, between fork and exec.
        unsafe {
            command.pre_exec(move || {
                if libc::fcntl(lock, libc::F_SETFD, 0) < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
            })
        };
        let child = command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => GitError::ProgramMissing { program: "git" },
            _ => GitError::Failed { what, detail: source.to_string() },
        })?;
        let mut running = Running { child, is_over: false };
        match tokio::time::timeout(self.deadline, talk(&mut running.child, input)).await {
            Ok(Ok(finished)) => {
                running.is_over = true;
                Ok(finished)
            }
            Ok(Err(error)) => Err(GitError::Failed { what, detail: error.to_string() }),
            Err(_) => Err(GitError::Deadline { what, seconds: self.deadline.as_secs() }),
        }
    }
}

fn success(what: &'static str, finished: Finished) -> Result<Finished, GitError> {
    if finished.status.success() {
        Ok(finished)
    } else {
        let words = told(&finished.errors);
        let detail = if words.is_empty() { finished.status.to_string() } else { words };
        Err(GitError::Failed { what, detail })
    }
}

/// A git that is ended, with what it has started, when nobody waits for it any more.
struct Running {
    child: Child,
    is_over: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // Not reaped yet, so the number is still its own; the runtime reaps it later.
        if let Some(group) = self.child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

async fn talk(child: &mut Child, input: &[u8]) -> io::Result<Finished> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        let Some(mut stdin) = stdin else { return Ok(()) };
        match stdin.write_all(input).await {
            // It may fail, or know enough, before it has read all.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    };
    let (written, output, errors) = tokio::join!(write, read(stdout, MAX_OUTPUT), read(stderr, MAX_ERRORS));
    written?;
    let (output, errors) = (output?, errors?);
    Ok(Finished { status: child.wait().await?, output, errors })
}

async fn read(stream: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(limit + 1).read_to_end(&mut bytes).await?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!("it writes more than {limit} bytes")));
        }
    }
    Ok(bytes)
}
