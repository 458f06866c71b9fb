//! QEMU's process: started with the given descriptors and nothing else, isolated step by step, watched by pidfd.

use crate::boot_spec::IsolationWanted;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// First of the uids machines run under: far above what systems and subordinate ids (`/etc/subuid`) hand out.
const FIRST_UID: u32 = 1_900_000_000;
/// `nobody`, where user ids that high do not exist (in a user namespace).
const NOBODY_UID: u32 = 65_534;

/// One thing done in the child before it becomes QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Measure {
    NetworkNamespace,
    IpcNamespace,
    UtsNamespace,
    UnprivilegedUser,
    NoNewPrivileges,
    NoCoreDumps,
}

const USER_MEASURE: &str = "unprivileged-user";
const MEASURES: [(Measure, &str); 6] = [
    (Measure::NetworkNamespace, "network-namespace"),
    (Measure::IpcNamespace, "ipc-namespace"),
    (Measure::UtsNamespace, "uts-namespace"),
    (Measure::UnprivilegedUser, USER_MEASURE),
    (Measure::NoNewPrivileges, "no-new-privileges"),
    (Measure::NoCoreDumps, "no-core-dumps"),
];

/// What to start and how.
pub(crate) struct Launch<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: &'a [String],
    /// Inherited under their own numbers.
    pub(crate) inherited: &'a [OwnedFd],
    pub(crate) isolation: IsolationWanted,
    pub(crate) user: UserWanted,
}

/// Whom root's machines run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UserWanted {
    /// A user of the machine's own, in this group where a device asks for one.
    Own { group: Option<u32> },
    /// The caller, for this reason.
    Caller(&'static str),
}

/// The running process. Dropping it kills and reaps it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pidfd: AsyncFd<OwnedFd>,
    status: Option<ExitStatus>,
}

/// Starts the program. Forks: call it from the thread that is to outlive the machine.
pub(crate) fn spawn(launch: &Launch) -> io::Result<(Process, ChildStderr, BTreeMap<String, String>)> {
    let (report, report_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let plan = Plan {
        inherited: launch.inherited.iter().map(AsRawFd::as_raw_fd).collect(),
        is_isolated: launch.isolation == IsolationWanted::BestEffort,
        is_root: rustix::process::geteuid().is_root(),
        user: launch.user,
        own_uid: FIRST_UID + std::process::id(),
        report: report_end.as_raw_fd(),
        parent: rustix::process::getpid().as_raw_nonzero().get(),
    };
    let mut command = Command::new(launch.program);
    command
        .args(launch.arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    // SAFETY: `Plan::apply` makes system calls on plain memory only: no allocation, no lock, nothing that another thread
    // of the forked parent could have left half done.
    unsafe { command.pre_exec(move || plan.apply()) };
    let mut child = command.spawn()?;
    drop((command, report_end));
    let (Some(stderr), Ok(pidfd)) = (child.stderr.take(), open_pidfd(&child)) else {
        // Without a pidfd (Linux before 5.3) nobody could watch it.
        let _ = child.kill();
        let _ = child.wait();
        return Err(io::Error::new(io::ErrorKind::Unsupported, "pidfd_open is not available"));
    };
    let mut measures = told_measures(launch.isolation, &read_report(report));
    if let (UserWanted::Caller(reason), IsolationWanted::BestEffort) = (launch.user, launch.isolation) {
        measures.insert(USER_MEASURE.to_owned(), format!("not applied: {reason}"));
    }
    Ok((Process { child, pidfd, status: None }, stderr, measures))
}

fn open_pidfd(child: &Child) -> io::Result<AsyncFd<OwnedFd>> {
    let pid = rustix::process::Pid::from_child(child);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK)?;
    // SAFETY: an `OwnedFd` is one open descriptor until it is dropped, and nothing replaces it in here.
    Ok(unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?)
}

impl Process {
    /// Its pid; `None` once it has been reaped.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.status.is_none().then(|| self.child.id())
    }

    /// Waits for its end. Cancel-safe, and gives the same answer again.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.status {
                return Ok(status);
            }
            self.status = self.child.try_wait()?;
            if self.status.is_none() {
                // Readable for good once the process has ended: readiness never has to be cleared.
                self.pidfd.readable().await?.retain_ready();
            }
        }
    }

    /// Sends SIGKILL; nothing happens to a process that has ended.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        if self.status.is_some() {
            return Ok(());
        }
        self.child.kill()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.is_none() {
            // The child is ours and not reaped, so neither call can fail or meet another process.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What the child does to itself, decided before the fork.
struct Plan {
    inherited: Vec<RawFd>,
    is_isolated: bool,
    is_root: bool,
    user: UserWanted,
    own_uid: u32,
    report: RawFd,
    parent: i32,
}

impl Plan {
    /// Runs between fork and exec: system calls only.
    fn apply(&self) -> io::Result<()> {
        // SAFETY: plain system calls on numbers; the process has just been forked and has one thread.
        unsafe {
            libc::setsid();
            libc::umask(0o077);
            // Nothing is inherited but what is named: whatever the parent or a library of it left open stays out.
            if libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) < 0 {
                return Err(io::Error::last_os_error());
            }
            for &fd in &self.inherited {
                check(libc::fcntl(fd, libc::F_SETFD, 0))?;
            }
            if self.is_isolated {
                self.isolate();
            }
            // Last, because a change of user clears it. It follows the forking thread's death.
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            if libc::getppid() != self.parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
        }
        Ok(())
    }

    /// Applies each measure and reports how it went.
    fn isolate(&self) {
        // A user without rights gets them over new namespaces by a user namespace around these.
        let around = if self.is_root { 0 } else { libc::CLONE_NEWUSER };
        // SAFETY: plain system calls; the limit and the group list outlive theirs.
        unsafe {
            let network = outcome(libc::unshare(around | libc::CLONE_NEWNET));
            self.tell(Measure::NetworkNamespace, network);
            let blocked = if self.is_root { 0 } else { network };
            let unshared = |flag| if blocked == 0 { outcome(libc::unshare(flag)) } else { blocked };
            self.tell(Measure::IpcNamespace, unshared(libc::CLONE_NEWIPC));
            self.tell(Measure::UtsNamespace, unshared(libc::CLONE_NEWUTS));
            match self.user {
                UserWanted::Own { group } if self.is_root => {
                    self.tell(Measure::UnprivilegedUser, self.give_up_root(group));
                }
                UserWanted::Own { .. } | UserWanted::Caller(_) => self.tell(Measure::UnprivilegedUser, 0),
            }
            self.tell(Measure::NoNewPrivileges, outcome(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)));
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            self.tell(Measure::NoCoreDumps, outcome(libc::setrlimit(libc::RLIMIT_CORE, &none)));
        }
    }

    /// Gives up root for a user of this machine's own, else for `nobody`.
    ///
    /// # Safety
    /// Only between fork and exec: it changes the whole process.
    unsafe fn give_up_root(&self, group: Option<u32>) -> i32 {
        let groups = [group.unwrap_or_default()];
        let count = usize::from(group.is_some());
        let mut errno = 0;
        for uid in [self.own_uid, NOBODY_UID] {
            // SAFETY: plain system calls by number: libc's own would tell other threads, of which there are none. The
            // group list outlives its call.
            unsafe {
                errno = outcome(libc::syscall(libc::SYS_setgroups, count, groups.as_ptr()) as i32);
                if errno == 0 {
                    errno = outcome(libc::syscall(libc::SYS_setresgid, uid, uid, uid) as i32);
                }
                if errno == 0 {
                    errno = outcome(libc::syscall(libc::SYS_setresuid, uid, uid, uid) as i32);
                }
            }
            if errno == 0 {
                return 0;
            }
        }
        errno
    }

    /// One record of two bytes: the measure and its errno, which fits (the largest is 133).
    fn tell(&self, measure: Measure, errno: i32) {
        let record = [measure as u8, errno.clamp(0, 255) as u8];
        // SAFETY: the record outlives the call. A failure leaves the measure unreported, which reads as not applied.
        unsafe { libc::write(self.report, record.as_ptr().cast(), record.len()) };
    }
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn outcome(result: i32) -> i32 {
    // SAFETY: errno is this thread's own.
    if result < 0 { unsafe { *libc::__errno_location() } } else { 0 }
}

/// Everything the child wrote: it has become QEMU, so its end is closed.
fn read_report(report: OwnedFd) -> Vec<u8> {
    let mut records = Vec::new();
    let mut file = File::from(report);
    // What could not be read is told as unknown.
    let _ = file.by_ref().take(1024).read_to_end(&mut records);
    records
}

fn told_measures(isolation: IsolationWanted, records: &[u8]) -> BTreeMap<String, String> {
    MEASURES
        .iter()
        .map(|(measure, name)| {
            let told = records.chunks_exact(2).find(|record| record[0] == *measure as u8).map(|record| record[1]);
            let said = match (isolation, told) {
                (IsolationWanted::None, _) => "not applied: isolation is switched off".to_owned(),
                (IsolationWanted::BestEffort, Some(0)) => "applied".to_owned(),
                (IsolationWanted::BestEffort, Some(errno)) => {
                    format!("not applied: {}", io::Error::from_raw_os_error(errno.into()))
                }
                (IsolationWanted::BestEffort, None) => "not applied: unknown reason".to_owned(),
            };
            ((*name).to_owned(), said)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_measure_is_told_as_it_went() {
        let records = [Measure::NetworkNamespace as u8, libc::EPERM as u8, Measure::NoNewPrivileges as u8, 0, 9];
        let told = told_measures(IsolationWanted::BestEffort, &records);
        assert_eq!(told["no-new-privileges"], "applied");
        assert!(told["network-namespace"].contains("Operation not permitted"), "{told:?}");
        assert_eq!(told["uts-namespace"], "not applied: unknown reason");
        assert_eq!(told.len(), MEASURES.len());
        let none = told_measures(IsolationWanted::None, &[]);
        assert!(none.values().all(|said| said.contains("switched off")));
    }
}
