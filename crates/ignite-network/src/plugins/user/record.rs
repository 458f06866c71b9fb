//! What `attach` started, on disk: enough to end it from another process, and never a process that is not it.

use crate::NetworkError;
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// File of the run directory.
const RECORD_FILE: &str = "network.json";
/// Largest record that is read.
const MAX_RECORD: u64 = 4096;
/// How long a killed process may take to go.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// One process, told from every later one with its pid by when it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Recorded {
    /// Its pid.
    pub(crate) pid: u32,
    /// Field 22 of `/proc/PID/stat`, in clock ticks since boot.
    pub(crate) start_time: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Record {
    plugin: String,
    helper: Option<Recorded>,
}

/// Writes the record atomically; without a process before one is started.
pub(crate) fn write(run_dir: &Path, pid: Option<u32>) -> Result<(), NetworkError> {
    let path = run_dir.join(RECORD_FILE);
    let failed = |source| NetworkError::Io { what: format!("write {}", path.display()), source };
    let helper = pid.and_then(|pid| start_time(pid).map(|start_time| Recorded { pid, start_time }));
    let text = serde_json::to_vec(&Record { plugin: "user".into(), helper }).map_err(|error| failed(error.into()))?;
    let draft = run_dir.join(format!(".{RECORD_FILE}.{}", std::process::id()));
    let written = fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&draft)
        .and_then(|mut file| file.write_all(&text))
        .and_then(|()| fs::rename(&draft, &path));
    written.map_err(failed)
}

/// The recorded process; `None` where nothing is recorded or nothing had been started yet.
pub(crate) fn read(run_dir: &Path) -> Result<Option<Recorded>, NetworkError> {
    let path = run_dir.join(RECORD_FILE);
    let failed = |source| NetworkError::Io { what: format!("read {}", path.display()), source };
    let mut text = Vec::new();
    match File::open(&path) {
        Ok(file) => file.take(MAX_RECORD).read_to_end(&mut text).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let record: Record = serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
    Ok(record.helper)
}

/// Removes the record; there need not be one.
pub(crate) fn remove(run_dir: &Path) -> Result<(), NetworkError> {
    let path = run_dir.join(RECORD_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(NetworkError::Io { what: format!("remove {}", path.display()), source: error })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Kills the recorded process, if it still is that one, and returns when it has ended.
pub(crate) async fn kill(recorded: Recorded) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Io { what: format!("end passt (pid {})", recorded.pid), source };
    let Some(pid) = i32::try_from(recorded.pid).ok().and_then(Pid::from_raw) else {
        return Ok(());
    };
    let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(errno) => return Err(failed(errno.into())),
    };
    // Compared after it is open: from here on the descriptor cannot come to mean another process.
    if start_time(recorded.pid) != Some(recorded.start_time) {
        return Ok(());
    }
    match rustix::process::pidfd_send_signal(&pidfd, Signal::KILL) {
        Ok(()) => {}
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(errno) => return Err(failed(errno.into())),
    }
    // SAFETY: an `OwnedFd` is one open descriptor until it is dropped, and nothing replaces it in here.
    let ended = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
    let ended = ended.map_err(|error| failed(error.into()))?;
    match tokio::time::timeout(END_DEADLINE, ended.readable()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
    }
}

fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(PathBuf::from(format!("/proc/{pid}/stat"))).ok()?;
    parse_start_time(&stat)
}

/// Field 22 of proc_pid_stat(5); the name before it may hold anything, also spaces and brackets.
fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::{Child, Command};

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let rest = "S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 1";
        assert_eq!(parse_start_time(&format!("12 (a b) c) {rest}")), Some(777));
        assert_eq!(parse_start_time("12 (passt"), None);
    }

    #[tokio::test]
    async fn the_recorded_process_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let mut child = sleeper();
        write(directory.path(), Some(child.id())).unwrap();
        kill(read(directory.path()).unwrap().unwrap()).await.unwrap();
        assert!(!child.wait().unwrap().success());
        remove(directory.path()).unwrap();
        remove(directory.path()).unwrap();
        assert_eq!(read(directory.path()).unwrap(), None);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_process_that_only_has_its_pid_is_spared() {
        let mut child = sleeper();
        kill(Recorded { pid: child.id(), start_time: 1 }).await.unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_record_before_the_start_names_no_process() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), None).unwrap();
        assert_eq!(read(directory.path()).unwrap(), None);
    }

    #[test]
    fn a_broken_record_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(RECORD_FILE), b"{\"plugin\":\"user\",\"helper\":{\"pid\":-1}}").unwrap();
        assert!(read(directory.path()).unwrap_err().to_string().contains(RECORD_FILE));
    }

    proptest! {
        #[test]
        fn no_stat_makes_it_panic(stat in ".*") {
            parse_start_time(&stat);
        }
    }
}
