//! Births the child of a jail: in new namespaces, and from within the network that was made for it where that is entered first.
//!
//! ```text
//!  caller --clone--> midwife: enters the owner of the network, and the network; --clone (CLONE_PARENT)--> child
//!     ^------------------------------- the child's pid -------------------------------'   (ends)
//! ```
//!
//! A network without root belongs to a user namespace of its caller's, and only from in there may it be entered.

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, waitpid};
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// `NS_GET_USERNS`, `_IO(0xb7, 1)` (`linux/nsfs.h`): a descriptor of the user namespace that owns a namespace.
const NS_GET_USERNS: libc::c_ulong = 0xb701;

/// Why there is no child.
#[derive(Debug)]
pub(super) enum BirthError {
    /// The new namespaces, or any process at all.
    Clone(io::Error),
    /// The network that it was to be born in.
    Enter(io::Error),
}

/// Clones this process into new namespaces (`CLONE_NEW…`), the network namespace at `enters` entered before. `None` in the
/// child.
///
/// # Safety
/// The child may make system calls only, and must not return further.
pub(super) unsafe fn bear(enters: Option<&CStr>, namespaces: i32) -> Result<Option<(Pid, OwnedFd)>, BirthError> {
    let Some(network) = enters else {
        // SAFETY: by this function's own contract.
        return unsafe { clone(namespaces) }.map_err(BirthError::Clone);
    };
    let (told, tells) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| BirthError::Clone(errno.into()))?;
    // SAFETY: the midwife and the child make system calls only.
    let midwife = match unsafe { clone(0) }.map_err(BirthError::Clone)? {
        Some((pid, _)) => pid,
        // SAFETY: this is the midwife, and it is new.
        None => return unsafe { deliver(network, namespaces, tells.as_raw_fd()) },
    };
    drop(tells);
    let mut record = [0; RECORD_LEN];
    let is_read = File::from(told).read_exact(&mut record);
    // It is ours and not reaped: nothing else has its pid.
    let _ = waitpid(Some(midwife), WaitOptions::empty());
    is_read.map_err(BirthError::Clone)?;
    let [stage, value @ ..] = record;
    let value = i32::from_le_bytes(value);
    match (stage, Pid::from_raw(value)) {
        // The child is ours, too, by `CLONE_PARENT`.
        (BORN, Some(pid)) => match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Some((pid, pidfd))),
            Err(errno) => {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                let _ = waitpid(Some(pid), WaitOptions::empty());
                Err(BirthError::Clone(errno.into()))
            }
        },
        (NOT_ENTERED, _) => Err(BirthError::Enter(io::Error::from_raw_os_error(value))),
        _ => Err(BirthError::Clone(io::Error::from_raw_os_error(value))),
    }
}

/// What the midwife tells: one of these, and a pid or an errno as i32 LE.
const RECORD_LEN: usize = 5;
const BORN: u8 = 0;
const NOT_ENTERED: u8 = 1;
const NOT_BORN: u8 = 2;

/// The midwife's work. Returns in the child only.
unsafe fn deliver(network: &CStr, namespaces: i32, tells: RawFd) -> Result<Option<(Pid, OwnedFd)>, BirthError> {
    // SAFETY: system calls only, on numbers and on locals that outlive them.
    unsafe {
        let (stage, value) = match enter(network) {
            Err(errno) => (NOT_ENTERED, errno),
            Ok(()) => {
                let flags = libc::CLONE_PARENT | libc::SIGCHLD | namespaces;
                match libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0_usize, 0_usize, 0_usize, 0_usize) {
                    0 => return Ok(None),
                    pid if pid > 0 => (BORN, pid as i32),
                    _ => (NOT_BORN, errno()),
                }
            }
        };
        let [first, second, third, fourth] = value.to_le_bytes();
        let record = [stage, first, second, third, fourth];
        libc::write(tells, record.as_ptr().cast(), record.len());
        libc::_exit(0)
    }
}

unsafe fn enter(network: &CStr) -> Result<(), i32> {
    // SAFETY: system calls only, on numbers and a C string that outlives them.
    unsafe {
        let network = check(libc::open(network.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC))?;
        let owner = check(libc::ioctl(network, NS_GET_USERNS as _))?;
        check(libc::setns(owner, libc::CLONE_NEWUSER))?;
        check(libc::setns(network, libc::CLONE_NEWNET))?;
        libc::close(owner);
        libc::close(network);
        Ok(())
    }
}

/// `clone(2)` as `fork` does it, into new namespaces and with a pidfd. `None` in the child.
unsafe fn clone(namespaces: i32) -> io::Result<Option<(Pid, OwnedFd)>> {
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_PIDFD | libc::SIGCHLD | namespaces;
    // SAFETY: without a stack of its own the child goes on with a copy of this one; the pidfd's place outlives the call.
    // The first three arguments are in this order on every architecture that is built for.
    let result =
        unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0_usize, &raw mut pidfd, 0_usize, 0_usize) };
    match result {
        0 => Ok(None),
        pid if pid > 0 => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
            // SAFETY: the kernel has just opened it for this process.
            Ok(Some((pid, unsafe { OwnedFd::from_raw_fd(pidfd) })))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the caller the only user and group of a child's user namespace, under the same numbers.
pub(super) fn map_caller(pid: Pid) -> io::Result<()> {
    let process = std::path::PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    std::fs::write(process.join("setgroups"), "deny")?;
    std::fs::write(process.join("uid_map"), format!("{uid} {uid} 1"))?;
    std::fs::write(process.join("gid_map"), format!("{gid} {gid} 1"))
}

/// The same for a child that was born in the user namespace that owns its network, where its caller is user 0: it does this
/// itself, because only its parent namespace and itself may.
pub(super) struct OwnMaps([(&'static CStr, String); 3]);

impl OwnMaps {
    /// For the calling user.
    pub(super) fn of_caller() -> OwnMaps {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        OwnMaps([
            (c"/proc/self/setgroups", "deny".to_owned()),
            (c"/proc/self/uid_map", format!("{uid} 0 1")),
            (c"/proc/self/gid_map", format!("{gid} 0 1")),
        ])
    }

    /// Writes them, as the child.
    ///
    /// # Safety
    /// Makes system calls only.
    pub(super) unsafe fn write(&self) -> Result<(), i32> {
        for (path, text) in &self.0 {
            // SAFETY: plain system calls on what outlives them.
            unsafe {
                let fd = check(libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC))?;
                let written = libc::write(fd, text.as_ptr().cast(), text.len());
                let errno = errno();
                libc::close(fd);
                if written < 0 {
                    return Err(errno);
                }
            }
        }
        Ok(())
    }
}

/// A child that has not become the program: killed and reaped when dropped.
pub(super) struct Unborn {
    pub(super) pid: Pid,
    is_needed: bool,
}

impl Unborn {
    pub(super) fn of(pid: Pid) -> Unborn {
        Unborn { pid, is_needed: true }
    }

    pub(super) fn keep(mut self) {
        self.is_needed = false;
    }
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if self.is_needed {
            // It is ours and not reaped: neither call can meet another process.
            let _ = rustix::process::kill_process(self.pid, rustix::process::Signal::KILL);
            let _ = waitpid(Some(self.pid), WaitOptions::empty());
        }
    }
}

fn check(result: i32) -> Result<i32, i32> {
    if result < 0 { Err(errno()) } else { Ok(result) }
}

fn errno() -> i32 {
    // SAFETY: errno is this thread's own.
    unsafe { *libc::__errno_location() }
}
