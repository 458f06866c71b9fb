//! Signals as a descriptor to poll.

use crate::spawn::owned;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// The blocked signals of this process, read from a descriptor.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Blocks every signal that can be, and takes them from the descriptor. SIGCHLD is one of them, so a child's end
    /// cannot be missed between looking and waiting.
    pub fn open() -> io::Result<Signals> {
        // SAFETY: the set is filled before it is used.
        let fd = unsafe {
            let mut all = std::mem::zeroed();
            libc::sigfillset(&mut all);
            // Faults of this program are not to be put off.
            for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT] {
                libc::sigdelset(&mut all, signal);
            }
            libc::sigprocmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
            libc::signalfd(-1, &all, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        Ok(Signals { fd: owned(fd)? })
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The next signal that has come.
    pub fn next(&self) -> Option<i32> {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.fd, &mut info) {
            Ok(n) if n == info.len() => Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]])),
            Ok(_) | Err(_) => None,
        }
    }
}
