//! Errors on the machine's console; nothing else is printed.

use rustix::fs::{Mode, OFlags};
use std::os::fd::AsRawFd;

/// Makes the console the standard streams, which an initramfs without device nodes lacks.
pub fn open() {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK;
    let console = ["/dev/console", "/dev/null"].iter().find_map(|p| rustix::fs::open(*p, flags, Mode::empty()).ok());
    let Some(console) = console else { return };
    for standard in 0..=2 {
        // SAFETY: the standard streams belong to nobody yet.
        unsafe { libc::dup2(console.as_raw_fd(), standard) };
    }
    if console.as_raw_fd() <= 2 {
        std::mem::forget(console);
    }
}

/// One line of error.
pub fn error(message: &str) {
    let line = format!("ignite-init: {message}\r\n");
    // SAFETY: the line lives through the call. Nobody can be told when it fails.
    unsafe { libc::write(2, line.as_ptr().cast(), line.len()) };
}
