//! A jailed process: watched by pidfd, stopped when it goes over a limit, its control groups removed with it.

use super::cgroup::{Breach, Cgroup};
use rustix::process::{Pid, WaitOptions, waitpid};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// The running process. Dropping it kills and reaps it and removes its groups.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    cgroup: Cgroup,
    alarm: Alarm,
    breach: Option<Breach>,
    status: Option<ExitStatus>,
}

/// How it is known that a process or thread was refused.
#[derive(Debug)]
enum Alarm {
    /// It is not: there is no limit, or the end is near.
    Off,
    /// The kernel tells.
    Told(AsyncFd<OwnedFd>),
    /// The kernel (cgroup v1) only counts: looked at from time to time.
    LookAt(Instant),
}

/// Time between two looks at a counter.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl Process {
    pub(super) fn watch(pid: Pid, pidfd: OwnedFd, cgroup: Cgroup) -> io::Result<Process> {
        // SAFETY: an `OwnedFd` is one open descriptor until it is dropped, and nothing replaces it in here.
        let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
        let alarm = match cgroup.task_alarm() {
            // SAFETY: as above.
            Some(fd) => Alarm::Told(unsafe { AsyncFd::register_with_interest(fd, Interest::PRIORITY) }?),
            None if cgroup.limits_tasks() => Alarm::LookAt(Instant::now() + LOOK_INTERVAL),
            None => Alarm::Off,
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
                () = alarmed(&self.alarm) => {
                    self.breach = self.breach.or(self.cgroup.breach());
                    match (self.breach, &self.alarm) {
                        (Some(_), _) => self.kill()?,
                        (None, Alarm::LookAt(_)) => self.alarm = Alarm::LookAt(Instant::now() + LOOK_INTERVAL),
                        // Not ours, and told once: the end will tell.
                        (None, Alarm::Told(_) | Alarm::Off) => self.alarm = Alarm::Off,
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
        self.alarm = Alarm::Off;
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

async fn alarmed(alarm: &Alarm) {
    match alarm {
        Alarm::Told(fd) if fd.ready(Interest::PRIORITY).await.is_ok() => {}
        Alarm::LookAt(moment) => tokio::time::sleep_until(*moment).await,
        Alarm::Told(_) | Alarm::Off => std::future::pending().await,
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
