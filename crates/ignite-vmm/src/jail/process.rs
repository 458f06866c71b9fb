//! A jailed process: watched by pidfd, stopped when it goes over a limit, its control groups removed with it.

use super::cgroup::{Breach, Cgroup};
use rustix::process::{Pid, WaitOptions, waitpid};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The running process. Dropping it kills and reaps it and removes its groups.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    cgroup: Cgroup,
    /// Tells of a process or thread that was refused.
    alarm: Option<AsyncFd<OwnedFd>>,
    breach: Option<Breach>,
    status: Option<ExitStatus>,
}

impl Process {
    pub(super) fn watch(pid: Pid, pidfd: OwnedFd, cgroup: Cgroup) -> io::Result<Process> {
        // SAFETY: an `OwnedFd` is one open descriptor until it is dropped, and nothing replaces it in here.
        let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
        let alarm = match cgroup.task_alarm() {
            // SAFETY: as above.
            Some(fd) => Some(unsafe { AsyncFd::register_with_interest(fd, Interest::PRIORITY) }?),
            None => None,
        };
        Ok(Process { pid, pidfd, cgroup, alarm, breach: None, status: None })
    }

    /// Its pid; `None` once it has been reaped.
    pub fn pid(&self) -> Option<u32> {
        self.status.is_none().then(|| self.pid.as_raw_nonzero().get().cast_unsigned())
    }

    /// The limit it went over; to be asked when it has ended.
    pub fn breach(&self) -> Option<Breach> {
        self.breach
    }

    /// Waits for its end. Cancel-safe, and gives the same answer again. Its groups are gone when this returns.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.status {
                return Ok(status);
            }
            if self.try_reap()? {
                continue;
            }
            tokio::select! {
                // Readable for good once the process has ended: readiness never has to be cleared.
                ready = self.pidfd.readable() => ready?.retain_ready(),
                () = alarmed(self.alarm.as_ref()) => {
                    self.breach = self.breach.or(self.cgroup.breach());
                    match self.breach {
                        Some(_) => self.kill()?,
                        // Not ours, and told once: the end will tell.
                        None => self.alarm = None,
                    }
                }
            }
        }
    }

    /// Sends SIGKILL; nothing happens to a process that has ended.
    pub fn kill(&mut self) -> io::Result<()> {
        if self.status.is_some() {
            return Ok(());
        }
        self.alarm = None;
        Ok(rustix::process::pidfd_send_signal(self.pidfd.get_ref(), rustix::process::Signal::KILL)?)
    }

    fn try_reap(&mut self) -> io::Result<bool> {
        let Some((_, status)) = waitpid(Some(self.pid), WaitOptions::NOHANG)? else { return Ok(false) };
        self.ended(ExitStatus::from_raw(status.as_raw()));
        Ok(true)
    }

    fn ended(&mut self, status: ExitStatus) {
        self.status = Some(status);
        self.breach = self.breach.or(self.cgroup.breach());
        // What cannot be removed now stays in the run directory's record, for whoever cleans up there.
        let _ = self.cgroup.remove();
    }
}

async fn alarmed(alarm: Option<&AsyncFd<OwnedFd>>) {
    match alarm {
        Some(alarm) if alarm.ready(Interest::PRIORITY).await.is_ok() => {}
        Some(_) | None => std::future::pending().await,
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.is_some() {
            return;
        }
        // The child is ours and not reaped, so neither call can fail or meet another process.
        let _ = self.kill();
        if let Ok(Some((_, status))) = waitpid(Some(self.pid), WaitOptions::empty()) {
            self.ended(ExitStatus::from_raw(status.as_raw()));
        }
    }
}
