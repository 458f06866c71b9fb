//! Which process is a VM's VMM: recorded in the run directory, so that another process can see to its end.
//!
//! The kernel kills the VMM when its supervisor dies; the record is for waiting until that has happened, and for the case
//! that it could not.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::time::Duration;

/// Name of the record in a run directory.
const RECORD: &str = "vmm.json";

#[derive(Debug, Serialize, Deserialize)]
struct VmmRecord {
    pid: i32,
    /// Field 22 of `/proc/PID/stat`: tells a process from a later one with its number.
    start_ticks: u64,
}

/// Records the VMM of this run directory.
pub fn write(run_dir: &Path, pid: u32) -> io::Result<()> {
    let Some(start_ticks) = i32::try_from(pid).ok().and_then(start_ticks) else { return Ok(()) };
    let record = VmmRecord { pid: pid.cast_signed(), start_ticks };
    let bytes = serde_json::to_vec(&record).map_err(io::Error::other)?;
    ignite_store::atomic::write_volatile(&run_dir.join(RECORD), &bytes).map_err(io::Error::other)
}

/// The recorded VMM, while it lives.
pub fn pid(run_dir: &Path) -> Option<i32> {
    let record: VmmRecord = serde_json::from_slice(&std::fs::read(run_dir.join(RECORD)).ok()?).ok()?;
    (start_ticks(record.pid) == Some(record.start_ticks)).then_some(record.pid)
}

/// Waits until the recorded VMM is gone; kills it if it has outlived its supervisor.
pub async fn await_end(run_dir: &Path, deadline: Duration) -> io::Result<()> {
    let Ok(bytes) = std::fs::read(run_dir.join(RECORD)) else { return Ok(()) };
    let Ok(record) = serde_json::from_slice::<VmmRecord>(&bytes) else { return Ok(()) };
    let work = move || {
        let Some(pid) = Pid::from_raw(record.pid) else { return Ok(()) };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // Looked at after the descriptor was opened: it is this process or none.
        if start_ticks(record.pid) != Some(record.start_ticks) {
            return Ok(());
        }
        match pidfd_send_signal(&fd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        let timeout = Timespec::try_from(deadline).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout))? {
            0 => Err(io::Error::new(io::ErrorKind::TimedOut, format!("process {} does not end", record.pid))),
            _ => Ok(()),
        }
    };
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn start_ticks(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold anything, parentheses included: fields are counted from the last one.
    let fields = stat.rsplit_once(')')?.1;
    fields.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_recorded_process_is_ended_and_another_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        write(dir.path(), child.id()).expect("record");
        let reaper = std::thread::spawn(move || child.wait());
        await_end(dir.path(), Duration::from_secs(10)).await.expect("ended");
        let status = reaper.join().expect("thread").expect("wait");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));

        let me = VmmRecord { pid: std::process::id().cast_signed(), start_ticks: 1 };
        std::fs::write(dir.path().join(RECORD), serde_json::to_vec(&me).expect("json")).expect("write");
        await_end(dir.path(), Duration::from_secs(10)).await.expect("not this process");
    }

    #[tokio::test]
    async fn no_record_is_no_process() {
        let dir = tempfile::tempdir().expect("a directory");
        await_end(dir.path(), Duration::from_secs(1)).await.expect("nothing to wait for");
    }
}
