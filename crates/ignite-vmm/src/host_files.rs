//! Opens what a machine needs of the host, with the caller's rights.

use crate::boot_spec::Drive;
use crate::machine::VmmError;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;

/// `IFNAMSIZ` without the final zero.
pub(crate) const MAX_INTERFACE_NAME: usize = 15;

pub(crate) fn open_error(path: &Path, source: io::Error) -> VmmError {
    VmmError::Open { path: path.to_owned(), source }
}

/// A VMM opens these again through `/proc/self/fd`, as its own user: a file that only the caller may read is handed over
/// as a copy in memory.
pub(crate) fn open_boot_file(path: &Path) -> Result<OwnedFd, VmmError> {
    let failed = |source| open_error(path, source);
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    if metadata.mode() & 0o004 != 0 {
        return Ok(file.into());
    }
    let memory = rustix::fs::memfd_create("ignite-boot-file", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|errno| failed(errno.into()))?;
    rustix::fs::fchmod(&memory, rustix::fs::Mode::from_raw_mode(0o444)).map_err(|errno| failed(errno.into()))?;
    let mut copy = File::from(memory);
    io::copy(&mut file, &mut copy).map_err(failed)?;
    Ok(copy.into())
}

pub(crate) fn open_drive(drive: &Drive) -> Result<(File, bool), VmmError> {
    let failed = |source| open_error(&drive.path, source);
    let file = OpenOptions::new()
        .read(true)
        .write(!drive.is_read_only)
        .custom_flags(libc::O_NONBLOCK)
        .open(&drive.path)
        .map_err(failed)?;
    let kind = file.metadata().map_err(failed)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "neither a regular file nor a block device")));
    }
    // O_NONBLOCK was for the open only: a fifo in the drive's place must not hang it.
    rustix::fs::fcntl_setfl(file.as_fd(), rustix::fs::OFlags::empty()).map_err(|errno| failed(errno.into()))?;
    Ok((file, kind.is_block_device()))
}

/// Fails unless the caller's network namespace has this interface: TUNSETIFF would make a tap that does not exist.
pub(crate) fn check_tap(name: &str) -> Result<(), VmmError> {
    let failed = |source| open_error(&Path::new("tap").join(name), source);
    // Not looked up in `/sys`, which may show another namespace.
    let any_socket = UnixDatagram::unbound().map_err(failed)?;
    if name.len() > MAX_INTERFACE_NAME || rustix::net::netdevice::name_to_index(&any_socket, name).is_err() {
        return Err(failed(io::ErrorKind::NotFound.into()));
    }
    Ok(())
}

pub(crate) fn stream_pair() -> Result<(UnixStream, UnixStream), VmmError> {
    UnixStream::pair().map_err(|source| open_error(Path::new("socket pair"), source))
}

/// The same socket, for the runtime.
pub(crate) fn into_async(stream: UnixStream) -> io::Result<tokio::net::UnixStream> {
    stream.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(stream)
}
