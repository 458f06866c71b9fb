//! Locks on disk images as QEMU takes them, so that two machines never write to one disk, whatever runs them.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Bytes at which QEMU says what it does with an image (`block/file-posix.c`): this one plus the permission's number.
const USED: i64 = 100;
/// Bytes at which it says what others must not do.
const DENIED: i64 = 200;
/// Numbers of permissions: reading what was written, writing, resizing.
const CONSISTENT_READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;

/// Locks the image for as long as it stays open; an error when another machine's use of it forbids this one's.
pub(crate) fn lock(image: &File, is_read_only: bool) -> io::Result<()> {
    let used: &[i64] = if is_read_only { &[CONSISTENT_READ] } else { &[CONSISTENT_READ, WRITE, RESIZE] };
    let denied: &[i64] = &[WRITE, RESIZE];
    // Said first and looked at afterwards: of two that come at once, at least one sees the other.
    for byte in
        used.iter().map(|permission| USED + permission).chain(denied.iter().map(|permission| DENIED + permission))
    {
        control(image, libc::F_OFD_SETLK, libc::F_RDLCK, byte)?;
    }
    for byte in
        used.iter().map(|permission| DENIED + permission).chain(denied.iter().map(|permission| USED + permission))
    {
        if control(image, libc::F_OFD_GETLK, libc::F_WRLCK, byte)? != libc::F_UNLCK {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "another machine uses it"));
        }
    }
    Ok(())
}

/// One `fcntl` on one byte; the kind of lock that it leaves in the structure.
fn control(image: &File, command: libc::c_int, kind: libc::c_int, byte: i64) -> io::Result<libc::c_int> {
    // SAFETY: all zeroes is a valid `flock`; open file description locks want `l_pid` zero.
    let mut flock: libc::flock = unsafe { std::mem::zeroed() };
    flock.l_type = kind as libc::c_short;
    flock.l_whence = libc::SEEK_SET as libc::c_short;
    flock.l_start = byte;
    flock.l_len = 1;
    // SAFETY: the descriptor is open and the structure outlives the call.
    match unsafe { libc::fcntl(image.as_raw_fd(), command, &raw mut flock) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(libc::c_int::from(flock.l_type)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    #[test]
    fn one_writes_or_many_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || OpenOptions::new().read(true).write(true).open(file.path()).unwrap();
        let (first, second, third) = (open(), open(), open());
        lock(&first, true).unwrap();
        lock(&second, true).unwrap();
        assert!(lock(&third, false).is_err(), "others read");
        drop((first, second, third));
        let (first, second) = (open(), open());
        lock(&first, false).unwrap();
        assert!(lock(&second, false).is_err() && lock(&open(), true).is_err(), "another writes");
        drop((first, second));
        lock(&open(), false).unwrap();
    }
}
