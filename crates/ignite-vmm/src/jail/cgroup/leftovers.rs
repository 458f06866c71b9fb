//! The record of a VMM's groups, and their removal by whoever comes later.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Name of the record in a run directory: a JSON array of directories.
const RECORD: &str = "cgroups.json";
/// Every group of ours is called so: nothing else is ever removed.
const NAME_PREFIX: &str = "ignite-";
/// Longest that processes of a group take to end once they are killed.
const END_DEADLINE: Duration = Duration::from_secs(10);

pub(super) fn record(run_dir: &Path, dirs: &[&Path]) -> io::Result<()> {
    let text = serde_json::to_vec(&dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>())?;
    let (path, new) = (run_dir.join(RECORD), run_dir.join(".cgroups.json.new"));
    std::fs::write(&new, text)?;
    std::fs::rename(new, path)
}

/// Ends what runs in the groups recorded in `run_dir` and removes them; nothing to do is no error. Blocks until the
/// processes are gone, at most ten seconds.
pub fn remove_leftovers(run_dir: &Path) -> io::Result<()> {
    let path = run_dir.join(RECORD);
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    // A record that is not whole was never renamed into place: what cannot be read is not ours.
    let dirs: Vec<PathBuf> = serde_json::from_slice(&bytes)?;
    remove_all(&dirs)?;
    std::fs::remove_file(path)
}

/// Removes all it can and gives the first error.
pub(super) fn remove_all(dirs: &[PathBuf]) -> io::Result<()> {
    let ours = dirs.iter().filter(|dir| {
        dir.is_absolute() && dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(NAME_PREFIX))
    });
    let deadline = Instant::now() + END_DEADLINE;
    let mut first = Ok(());
    for dir in ours {
        let result = remove(dir, deadline)
            .map_err(|error| io::Error::new(error.kind(), format!("remove the cgroup {}: {error}", dir.display())));
        first = first.and(result);
    }
    first
}

fn remove(dir: &Path, deadline: Instant) -> io::Result<()> {
    loop {
        let error = match std::fs::remove_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => error,
            Ok(()) => return Ok(()),
        };
        if error.kind() != io::ErrorKind::ResourceBusy || Instant::now() >= deadline {
            return Err(error);
        }
        end_processes(dir, deadline)?;
    }
}

/// Kills what is in a group and waits for its end.
fn end_processes(dir: &Path, deadline: Instant) -> io::Result<()> {
    let pids = std::fs::read_to_string(dir.join("cgroup.procs"))?;
    let processes: Vec<_> = pids
        .lines()
        .filter_map(|line| Pid::from_raw(line.parse().ok()?))
        .filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        .collect();
    for process in &processes {
        // It may have ended by itself.
        let _ = pidfd_send_signal(process, Signal::KILL);
    }
    for process in &processes {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout))?;
    }
    if processes.is_empty() {
        // Busy without a process: one is on its way in or out. Nothing tells of its end.
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_recorded_groups_of_ours_are_removed() {
        let run_dir = tempfile::tempdir().unwrap();
        let (ours, other) = (run_dir.path().join("ignite-a1"), run_dir.path().join("system.slice"));
        std::fs::create_dir(&ours).unwrap();
        std::fs::create_dir(&other).unwrap();
        record(run_dir.path(), &[&ours, &other, Path::new("relative/ignite-x"), &run_dir.path().join("ignite-gone")])
            .unwrap();
        remove_leftovers(run_dir.path()).unwrap();
        assert!(!ours.exists() && other.exists());
        remove_leftovers(run_dir.path()).unwrap();
    }

    #[test]
    fn a_record_that_is_no_record_removes_nothing() {
        let run_dir = tempfile::tempdir().unwrap();
        std::fs::write(run_dir.path().join(RECORD), "{").unwrap();
        assert!(remove_leftovers(run_dir.path()).is_err());
    }
}
